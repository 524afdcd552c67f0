//! The delta protocol, without input or output: whoever owns a stream feeds messages in and sends what comes out.
//!
//! A sidecar's `client::Session` outlives its streams; a controller makes a `server::Session` for each stream.
//!
//! * The sidecar subscribes to names and says which versions it holds. The controller answers each name once, with
//!   the resource or with its absence, and again whenever that changes. What the sidecar holds already is not resent.
//! * A response is answered with its nonce and with an error for each resource that was refused; the others are in
//!   force. For each type at most one response is without an answer: changes meanwhile are gathered.
//! * A response says `as_of`, the resource version that it is at least as new as. The controller says nothing before it
//!   knows the whole world (`as_of` 0), nor while it is behind what the sidecar has seen; a sidecar takes in no such thing.
//! * Messages of a stream keep their order. A stream that breaks takes what was under way with it: the next one begins
//!   with what the sidecar holds, and both ends agree again.

/// The sidecar's end.
pub mod client;
/// The controller's end.
pub mod server;

#[cfg(test)]
mod tests;
