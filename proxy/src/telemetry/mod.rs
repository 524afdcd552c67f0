//! What the sidecar tells of itself: metrics, the access log, its own log.
//!
//! `Telemetry` is shared by all threads. Each worker makes itself a `WorkerTelemetry`, which resolves the labels
//! of an exchange to a `Scope` once, keeps it, and counts on it without locks, hashing of labels or formatting.

/// Texts as telemetry keeps and shows them.
mod text;
/// The labels of Istio's metrics.
pub mod labels;
/// What an entry keeps of what was sent.
mod kept;
/// What the access log shows of one request or connection.
pub mod entry;
/// Room for lines of the access log.
mod room;
/// Formats of the access log, compiled.
mod format;
/// Lines of the access log.
mod line;
/// Formats for kinds of requests.
mod kinds;
/// The access log, written by a thread of its own.
pub mod access_log;
/// The sidecar's own log.
pub mod log;
/// Memory, CPU and descriptors of the process.
pub mod process;
/// Series that nothing is added to any more.
mod idle;
/// Metrics of the sidecar itself.
pub mod metrics;
/// Spans of requests that are traced.
pub mod spans;
/// A scrape, part by part.
mod parts;
/// Series as a Telemetry wants them shown.
mod shown;
/// Time series of requests and connections.
pub mod series;
/// Requests as they end, for people who watch.
pub mod tap;
/// What all threads share.
pub mod shared;
/// What a worker resolves and counts on.
pub mod scope;
/// What is known of one request or connection when it ends.
pub mod record;
/// Clusters as they stand.
pub mod clusters;

pub use access_log::AccessLog;
pub use entry::{AccessEntry, Logs};
pub use kept::Text;
pub use labels::{AppProtocol, Outcome, PeerRef, Reporter, ScopeRef, Security, ServiceLabels};
pub use metrics::Metrics;
pub use record::{RequestRecord, TcpRecord};
pub use scope::{Scope, WorkerTelemetry};
pub use shared::{Telemetry, sweep_forever};
pub use spans::{Span, SpanEnd, Spans, Story};
