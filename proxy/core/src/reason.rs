//! The closed list of reasons for every answer that a sidecar itself makes.
//!
//! One table holds, for each reason, its name, the status an HTTP client sees and the flag that access logs
//! show beside it (the letters are Envoy's, so that existing parsers work).

/// Why the mesh answered, refused or cut in the application's stead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Reason {
    /// No route rule of the service matched the request.
    NoRoute,
    /// The route names a cluster (subset, port) that does not exist.
    NoCluster,
    /// No endpoint is there to take the request.
    NoHealthyUpstream,
    /// A limit of the connection pool was reached: connections, pending requests, active requests.
    Overflow,
    /// The connection to the upstream could not be made.
    ConnectFailure,
    /// The upstream closed or reset the connection before its response was complete.
    UpstreamReset,
    /// The upstream's response broke the rules of HTTP framing.
    UpstreamFraming,
    /// The route's time was up.
    Timeout,
    /// One try's time was up, and no other try was left.
    PerTryTimeout,
    /// The destination is in no service, and the outbound mode is registry only.
    BlackHole,
    /// The controller has not answered what this address means, and guessing is not safe.
    ConfigUnavailable,
    /// A policy denied the request.
    PolicyDenied,
    /// No ALLOW policy matched the request.
    PolicyNotAllowed,
    /// Plaintext arrived where only mTLS is accepted.
    PlaintextDenied,
    /// The peer's certificate does not say who the destination must be.
    PeerIdentity,
    /// The TLS handshake failed.
    TlsHandshake,
    /// The request breaks the rules of HTTP.
    BadRequest,
    /// The path cannot be normalised, or is ambiguous where a policy reads it.
    BadPath,
    /// The head of the request is too large, or has too many fields.
    HeadTooLarge,
    /// The request's target is too long.
    UriTooLong,
    /// The client did not send its request in time.
    RequestTimeout,
    /// The client did not take the response in time: its stream ended before its end.
    Unread,
    /// A method that the mesh does not pass on (CONNECT, TRACE).
    MethodRefused,
    /// The connection is addressed to the sidecar itself.
    Loop,
    /// There is no original destination: the connection was not redirected.
    NoOriginalDestination,
    /// The application refused the connection.
    ApplicationUnreachable,
    /// The pod is ending and its application no longer accepts: nothing was sent to it.
    NotSent,
    /// A route answered by itself.
    DirectResponse,
    /// A route redirected.
    Redirect,
    /// A route's `corsPolicy` answered a browser's preflight request.
    Preflight,
    /// A fault of the route answered (`fault.abort`).
    FaultInjected,
    /// The sidecar is draining.
    Draining,
    /// The sidecar is at its own limits.
    Overloaded,
    /// A defect of the sidecar: the request's task panicked.
    Internal,
}

/// One row of the table of reasons.
struct Row {
    name: &'static str,
    status: u16,
    flag: &'static str,
}

impl Reason {
    /// Every reason, in the order of the table.
    pub const ALL: [Self; 34] = [
        Self::NoRoute,
        Self::NoCluster,
        Self::NoHealthyUpstream,
        Self::Overflow,
        Self::ConnectFailure,
        Self::UpstreamReset,
        Self::UpstreamFraming,
        Self::Timeout,
        Self::PerTryTimeout,
        Self::BlackHole,
        Self::ConfigUnavailable,
        Self::PolicyDenied,
        Self::PolicyNotAllowed,
        Self::PlaintextDenied,
        Self::PeerIdentity,
        Self::TlsHandshake,
        Self::BadRequest,
        Self::BadPath,
        Self::HeadTooLarge,
        Self::UriTooLong,
        Self::RequestTimeout,
        Self::Unread,
        Self::MethodRefused,
        Self::Loop,
        Self::NoOriginalDestination,
        Self::ApplicationUnreachable,
        Self::NotSent,
        Self::DirectResponse,
        Self::Redirect,
        Self::Preflight,
        Self::FaultInjected,
        Self::Draining,
        Self::Overloaded,
        Self::Internal,
    ];

    /// The name in headers, logs and metrics.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// The HTTP status with which the mesh answers; 0 where the connection is closed without one.
    pub fn status(self) -> u16 {
        self.row().status
    }

    /// Envoy's response flag for the same event; `-` where it has none.
    pub fn flag(self) -> &'static str {
        self.row().flag
    }

    fn row(self) -> Row {
        let (name, status, flag) = match self {
            Self::NoRoute => ("no_route", 404, "NR"),
            Self::NoCluster => ("no_cluster", 503, "NC"),
            Self::NoHealthyUpstream => ("no_healthy_upstream", 503, "UH"),
            Self::Overflow => ("overflow", 503, "UO"),
            Self::ConnectFailure => ("connect_failure", 503, "UF"),
            Self::UpstreamReset => ("upstream_reset", 503, "UC"),
            Self::UpstreamFraming => ("upstream_framing", 502, "UPE"),
            Self::Timeout => ("timeout", 504, "UT"),
            Self::PerTryTimeout => ("per_try_timeout", 504, "UT"),
            Self::BlackHole => ("black_hole", 502, "NR"),
            Self::ConfigUnavailable => ("config_unavailable", 503, "NC"),
            Self::PolicyDenied => ("policy_denied", 403, "-"),
            Self::PolicyNotAllowed => ("policy_not_allowed", 403, "-"),
            Self::PlaintextDenied => ("plaintext_denied", 0, "-"),
            Self::PeerIdentity => ("peer_identity", 502, "UF"),
            Self::TlsHandshake => ("tls_handshake", 503, "UF"),
            Self::BadRequest => ("bad_request", 400, "DPE"),
            Self::BadPath => ("bad_path", 400, "DPE"),
            Self::HeadTooLarge => ("head_too_large", 431, "DPE"),
            Self::UriTooLong => ("uri_too_long", 414, "DPE"),
            Self::RequestTimeout => ("request_timeout", 408, "SI"),
            Self::Unread => ("unread", 0, "SI"),
            Self::MethodRefused => ("method_refused", 405, "DPE"),
            Self::Loop => ("loop", 508, "-"),
            Self::NoOriginalDestination => ("no_original_destination", 0, "-"),
            Self::ApplicationUnreachable => ("application_unreachable", 503, "UF"),
            Self::NotSent => ("not_sent", 503, "UF"),
            Self::DirectResponse => ("direct_response", 0, "-"),
            Self::Redirect => ("redirect", 0, "-"),
            Self::Preflight => ("preflight", 0, "-"),
            Self::FaultInjected => ("fault_injected", 0, "FI"),
            Self::Draining => ("draining", 503, "-"),
            Self::Overloaded => ("overloaded", 503, "OM"),
            Self::Internal => ("internal", 500, "-"),
        };
        Row { name, status, flag }
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_machine_readable() {
        let names: BTreeSet<_> = Reason::ALL.iter().map(|r| r.name()).collect();
        assert_eq!(names.len(), Reason::ALL.len());
        assert!(names.iter().all(|n| n.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')));
    }
}
