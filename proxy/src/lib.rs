//! The sidecar: sockets, TLS, HTTP, pools, telemetry.
//!
//! `outbound` and `inbound` are the spines of the two directions and read in the order of events.
//! The modules stand in dependency order, a module uses only those above it.

/// One type for every connection: plain or TLS, with bytes that were looked at.
pub mod io;
/// The one place that makes outgoing sockets.
pub mod dial;
