//! Application protocols between sidecars, in the spelling of Istio's sidecars and in the plain one.
//!
//! `istio-peer-exchange` is never offered nor chosen: it would begin the stream with bytes that are not the
//! application's.

/// What one connection between sidecars carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Alpn {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
    /// Opaque bytes.
    Tcp,
}

/// What a server agrees to, the dearest first.
const SERVED: [&[u8]; 6] =
    [b"istio-h2", b"istio-http/1.1", b"istio-http/1.0", b"istio", b"h2", b"http/1.1"];

/// What tells a sidecar's ClientHello from an application's.
const MESH: [&[u8]; 5] = [b"istio", b"istio-peer-exchange", b"istio-http/1.0", b"istio-http/1.1", b"istio-h2"];

impl Alpn {
    /// What a client offers, in its order of preference.
    pub fn offer(self) -> Vec<Vec<u8>> {
        let names: &[&[u8]] = match self {
            Self::Http1 => &[b"istio-http/1.1", b"http/1.1"],
            Self::Http2 => &[b"istio-h2", b"h2"],
            Self::Tcp => &[b"istio"],
        };
        owned(names)
    }

    /// What the name that a handshake agreed on stands for.
    pub fn of_name(name: &[u8]) -> Option<Self> {
        match name {
            b"istio-http/1.1" | b"istio-http/1.0" | b"http/1.1" => Some(Self::Http1),
            b"istio-h2" | b"h2" => Some(Self::Http2),
            b"istio" => Some(Self::Tcp),
            _ => None,
        }
    }
}

/// What a server agrees to.
pub fn served() -> Vec<Vec<u8>> {
    owned(&SERVED)
}

/// Whether a ClientHello with this protocol comes from a sidecar of the mesh.
pub fn is_mesh(name: &[u8]) -> bool {
    MESH.contains(&name)
}

fn owned(names: &[&[u8]]) -> Vec<Vec<u8>> {
    names.iter().map(|name| name.to_vec()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_offered_is_served_and_marks_the_mesh() {
        for alpn in [Alpn::Http1, Alpn::Http2, Alpn::Tcp] {
            let offer = alpn.offer();
            assert!(offer.iter().all(|name| served().contains(name)));
            assert!(is_mesh(&offer[0]));
            assert!(offer.iter().all(|name| Alpn::of_name(name) == Some(alpn)));
        }
    }

    #[test]
    fn peer_exchange_marks_the_mesh_and_is_never_served() {
        assert!(is_mesh(b"istio-peer-exchange"));
        assert!(!served().contains(&b"istio-peer-exchange".to_vec()));
        assert!(!is_mesh(b"h2") && !is_mesh(b"http/1.1"));
    }
}
