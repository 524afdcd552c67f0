//! Spans: one for each side of a request that is traced, handed to a bounded queue and exported off the workers.
//!
//! Nothing here exists while no collector is configured, and a request that is not traced only finds that out.

/// Attributes by OpenTelemetry's semantic conventions, and those of the mesh.
pub mod attributes;
/// What happens to a request on its way.
pub mod story;
/// Connections to a collector.
pub mod connect;
/// OTLP over HTTP.
pub mod http;
/// Spans on their way to a collector.
pub mod queue;
/// Exporters by OTLP.
pub mod export;
/// Where each side's spans go.
pub mod sinks;
/// The span of one request.
pub mod span;

pub use queue::Queue;
pub use sinks::{Sink, Spans};
pub use span::{Span, SpanEnd};
pub use story::Story;
