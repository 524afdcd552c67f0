//! HTTP of one connection: what stands between the libraries and the spines.

/// The HTTP of one connection, and the bounds of HTTP/2.
pub mod version;
/// What ends a message, or a connection, before its end.
pub mod fault;
/// The time as HTTP writes it.
pub mod date;
/// Frames of HTTP/2 that go out together.
pub mod cork;
/// The writing half of guards.
mod through;
/// The strict scanner of what clients send.
pub mod guard;
/// Floods of HTTP/2 frames.
pub mod frame_guard;
/// The strict scanner of what upstreams answer.
pub mod client_guard;
/// How long a body may take.
pub mod patience;
/// Bodies that come over a connection.
pub mod incoming;
/// A body on its way into a stream of HTTP/2.
pub mod pipe;
/// Response bodies.
pub mod body;
/// The upstream's word on `Expect: 100-continue`.
pub mod permission;
/// Request bodies.
pub mod upload;
/// The head of a request.
pub mod head;
/// The headers by which sidecars tell of themselves.
pub mod mark;
/// Every answer that the sidecar itself makes.
pub mod answer;
/// One connection from a client.
pub mod serve;
/// Bytes after an upgrade.
pub mod tunnel;
