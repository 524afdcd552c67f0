//! The pure half of the mesh: what a sidecar is told, and every decision it takes on it.
//!
//! Nothing here does input or output, reads a clock or rolls dice: time and chance are arguments.
//! The modules stand in dependency order, a module uses only those above it.

/// Maps for the request path.
pub mod hash;
/// Chance as an argument.
pub mod chance;
/// SPIFFE identities and trust domains.
pub mod identity;
/// How a string, a header, a name in a policy is matched.
pub mod matching;
/// The access log's templates and filters.
pub mod access_log;
/// What the controller tells a sidecar.
pub mod model;
/// The closed list of reasons for every answer that a sidecar itself makes.
pub mod reason;
/// HTTP as it arrives: framing, targets, hosts, paths, queries, headers, gRPC.
pub mod http;
/// Trace context: what a request brings, and what the next hop is told.
pub mod trace;
/// Header values, authorities and hosts as texts to match.
pub mod text;
/// Limits of a cluster, exact over all workers.
pub mod admission;
/// What a sidecar does before its memory is used up, and how many requests it takes at once.
pub mod overload;
/// How an endpoint is dialled, and who must answer there.
pub mod transport;
/// Clusters and endpoints as they run.
pub mod upstream;
/// Which endpoint of a cluster takes a request.
pub mod balance;
/// When an endpoint is set aside, and for how long.
pub mod outlier;
/// Whether a request is sent again, when, and until when.
pub mod retry;
/// Which rule a request or a connection takes, and what the rule makes of it.
pub mod route;
/// Who may do what.
pub mod authz;
/// One immutable view of the configuration, held for the length of a request.
pub mod snapshot;
/// What a connection carries, from its first bytes.
pub mod detect;
/// What PeerAuthentication says of one connection.
pub mod peer_auth;
/// Which service a connection or a request to an address belongs to.
pub mod meaning;
/// Why a request goes where it goes, or nowhere.
pub mod explain;
/// Small parts of the model, for tests.
#[cfg(test)]
mod fixture;
