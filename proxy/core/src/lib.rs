//! The pure half of the mesh: what a sidecar is told, and every decision it takes on it.
//!
//! Nothing here does input or output, reads a clock or rolls dice: time and chance are arguments.
//! The modules stand in dependency order, a module uses only those above it.

/// SPIFFE identities and trust domains.
pub mod identity;
/// How a string, a header, a name in a policy is matched.
pub mod matching;
/// What the controller tells a sidecar.
pub mod model;
/// The closed list of reasons for every answer that a sidecar itself makes.
pub mod reason;
/// HTTP as it arrives: framing, targets, hosts, paths, queries, headers, gRPC.
pub mod http;
/// How an endpoint is dialled, and who must answer there.
pub mod transport;
