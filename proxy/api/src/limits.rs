//! How much one message may hold. Whatever is beyond is refused with its field's path, and the last good state stays.

use std::time::Duration;

/// The largest message on the configuration stream, in bytes.
pub const MAX_MESSAGE_BYTES: usize = 4 << 20;
/// The largest resource, in bytes of its encoding.
pub const MAX_RESOURCE_BYTES: usize = 3 << 20;
/// A response is closed when it has this many bytes; what remains follows when it has been answered.
pub const RESPONSE_BYTES: usize = 512 << 10;
/// Names in one request.
pub const MAX_NAMES_PER_REQUEST: usize = 4096;
/// Names that one sidecar may be subscribed to at a time.
pub const MAX_SUBSCRIPTIONS: usize = 100_000;
/// Names of types that the controller does not know and has not answered yet, in bytes of memory.
pub const MAX_UNKNOWN_BYTES: usize = 1 << 20;

/// Ports of a service, ports of a workload, listeners.
pub const MAX_PORTS: usize = 10_000;
/// HTTP or TCP rules of one port.
pub const MAX_RULES: usize = 20_000;
/// Alternatives or conditions in one rule, in each list.
pub const MAX_CONDITIONS: usize = 1_000;
/// Destinations of one rule.
pub const MAX_DESTINATIONS: usize = 1_000;
/// Header operations in each list.
pub const MAX_HEADER_OPS: usize = 1_000;
/// Clusters of one service.
pub const MAX_CLUSTERS: usize = 20_000;
/// Slices of one service's endpoints.
pub const MAX_SLICES: u32 = 1_000;
/// Endpoints in one slice.
pub const MAX_ENDPOINTS: usize = 10_000;
/// Policies that apply to one workload.
pub const MAX_POLICIES: usize = 1_000;
/// Rules of one policy.
pub const MAX_POLICY_RULES: usize = 10_000;
/// Values in one list of a policy, of host names, of addresses, of networks.
pub const MAX_VALUES: usize = 10_000;
/// Labels of one workload or cluster.
pub const MAX_LABELS: usize = 1_000;
/// Trust domains, and roots of each.
pub const MAX_ROOTS: usize = 100;
/// Regular expressions in one resource; each compiles to at most [`weft_core::matching::REGEX_SIZE_LIMIT`].
pub const MAX_REGEXES: usize = 1_000;

/// A text such as a path, a value to match or a label, in bytes.
pub const MAX_TEXT_BYTES: usize = 16 << 10;
/// A host name, in bytes.
pub const MAX_HOST_BYTES: usize = 255;
/// A namespace, in bytes.
pub const MAX_NAMESPACE_BYTES: usize = 63;
/// The body of a direct response, in bytes.
pub const MAX_BODY_BYTES: usize = 1 << 20;
/// A root certificate, in bytes of DER.
pub const MAX_CERTIFICATE_BYTES: usize = 64 << 10;
/// The longest duration: ten years.
pub const MAX_DURATION: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
