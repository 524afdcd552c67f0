//! What PeerAuthentication says of one connection: whether mTLS may come, must come, and what its first bytes lead to.

use crate::detect::Rules;
use crate::detect::alpn::Inside;
use crate::detect::sniff::Detected;
use crate::identity::SpiffeId;
use crate::model::protocol::Protocol;
use crate::model::workload::{MtlsMode, Workload};
use crate::reason::Reason;

/// What a connection's first bytes lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// mTLS of the mesh: shake hands.
    MeshTls,
    /// No mTLS: this, as it is.
    Plain(Detected),
}

/// How the first bytes of a connection to a port are looked at.
pub fn rules(mode: MtlsMode, protocol: Protocol) -> Rules {
    Rules { protocol, tls: mode != MtlsMode::Disable, may_dial: mode != MtlsMode::Strict }
}

/// How the bytes inside mTLS are looked at: a declared protocol holds, whatever the client named; an undeclared one
/// is what the client named.
pub fn rules_inside(protocol: Protocol, named: Option<Inside>) -> Rules {
    let protocol = match (protocol, named) {
        (Protocol::Auto, Some(Inside::Http1 | Inside::Http2)) => Protocol::Http,
        (Protocol::Auto, Some(Inside::Opaque)) | (Protocol::Tls, _) => Protocol::Tcp,
        (declared, _) => declared,
    };
    Rules { protocol, tls: false, may_dial: true }
}

/// What becomes of a connection whose first bytes are known.
///
/// # Errors
/// [`Reason::PlaintextDenied`] where only mTLS is let in. [`Reason::BadRequest`] where an application's own TLS comes
/// to a port that is declared HTTP.
pub fn arrival(mode: MtlsMode, protocol: Protocol, detected: Detected) -> Result<Arrival, Reason> {
    match (mode, detected) {
        (MtlsMode::Strict, Detected::Tls(_)) => Ok(Arrival::MeshTls),
        (MtlsMode::Strict, _) => Err(Reason::PlaintextDenied),
        (MtlsMode::Permissive, Detected::Tls(hello)) if hello.is_mesh() => Ok(Arrival::MeshTls),
        (_, Detected::Tls(_)) if protocol.is_http() => Err(Reason::BadRequest),
        (_, detected) => Ok(Arrival::Plain(detected)),
    }
}

/// Whether a connection that stands may stay after the mode has changed.
///
/// # Errors
/// [`Reason::PlaintextDenied`] for plaintext where only mTLS is let in.
pub fn may_stay(mode: MtlsMode, is_mutual: bool) -> Result<(), Reason> {
    if mode == MtlsMode::Strict && !is_mutual { Err(Reason::PlaintextDenied) } else { Ok(()) }
}

/// Whether a peer is believed: its trust domain is one of those that the workload is told of; plaintext has none.
///
/// # Errors
/// [`Reason::PeerIdentity`] where it is not.
pub fn believes(workload: &Workload, peer: Option<&SpiffeId>) -> Result<(), Reason> {
    let Some(peer) = peer else { return Ok(()) };
    let believed = workload.trust.iter().any(|bundle| bundle.domain.as_str() == peer.trust_domain());
    if believed { Ok(()) } else { Err(Reason::PeerIdentity) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::hello::ClientHello;

    fn tls(alpn: &[u8]) -> Detected {
        Detected::Tls(ClientHello { sni: None, alpn: vec![alpn.into()] })
    }

    #[test]
    fn d1_plaintext_is_refused_where_only_mtls_is_let_in() {
        for plain in [Detected::Http1, Detected::Http2, Detected::Opaque] {
            let refused = arrival(MtlsMode::Strict, Protocol::Auto, plain);
            assert_eq!(refused, Err(Reason::PlaintextDenied));
        }
        assert!(!rules(MtlsMode::Strict, Protocol::Tcp).may_dial);
        assert_eq!(may_stay(MtlsMode::Strict, false), Err(Reason::PlaintextDenied));
        assert_eq!(may_stay(MtlsMode::Strict, true), Ok(()));
    }

    #[test]
    fn tls_of_the_mesh_is_told_by_its_protocols_where_both_may_come() {
        let permissive = |detected| arrival(MtlsMode::Permissive, Protocol::Tcp, detected);
        assert_eq!(permissive(tls(b"istio")), Ok(Arrival::MeshTls));
        assert_eq!(permissive(tls(b"h2")), Ok(Arrival::Plain(tls(b"h2"))));
        assert_eq!(arrival(MtlsMode::Strict, Protocol::Tcp, tls(b"h2")), Ok(Arrival::MeshTls));
        assert_eq!(arrival(MtlsMode::Permissive, Protocol::Http, tls(b"h2")), Err(Reason::BadRequest));
        let disabled = arrival(MtlsMode::Disable, Protocol::Tcp, tls(b"istio"));
        assert_eq!(disabled, Ok(Arrival::Plain(tls(b"istio"))));
    }

    #[test]
    fn a_declared_port_stays_http_whatever_the_client_names() {
        for named in [None, Some(Inside::Opaque), Some(Inside::Http2)] {
            assert_eq!(rules_inside(Protocol::Http, named).protocol, Protocol::Http);
        }
        assert_eq!(rules_inside(Protocol::Auto, Some(Inside::Http1)).protocol, Protocol::Http);
        assert_eq!(rules_inside(Protocol::Auto, Some(Inside::Opaque)).protocol, Protocol::Tcp);
        assert_eq!(rules_inside(Protocol::Auto, None).protocol, Protocol::Auto);
    }
}
