//! Trace context: what a request says of the trace that it is part of, whether it is traced, and what the next hop
//! is told. W3C (`traceparent`, `tracestate`; `baggage` passes as it is) and B3, in one field or in several.

/// Names of traces and spans, and their hexadecimal digits.
pub mod id;
/// `traceparent` and `tracestate` (W3C Trace Context).
pub mod w3c;
/// `b3` and `x-b3-*` (Zipkin).
pub mod b3;
/// What a request brings.
pub mod arrived;
/// Whether it is traced, and what the next hop is told.
pub mod begin;

pub use arrived::Arrived;
pub use begin::{Begun, begin};
pub use id::{SpanId, TraceId};
