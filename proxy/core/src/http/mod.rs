//! HTTP as bytes and header maps: what a peer may send, and in which form it is matched and forwarded. Pure.

/// What a proxy must know of gRPC.
pub mod grpc;
/// The strict HTTP/1 scanner.
pub mod head;
/// Frames of HTTP/2 that say nothing, counted.
pub mod frames;
/// Hop-by-hop fields, fields that no peer may assert, trailers, lists.
pub mod headers;
/// `Host` and `:authority`.
pub mod host;
/// Path normalisation.
pub mod path;
/// Query parameters.
pub mod query;
/// Forms of the request target.
pub mod target;
/// The head of a request, checked and in normal form.
pub mod request;
