//! The protocol names (ALPN, RFC 7301) that sidecars use between each other.
//!
//! A client offers Istio's names beside the plain ones, so that a sidecar of either mesh recognises mesh TLS and knows
//! what is inside. `istio-peer-exchange`, which would put a metadata message before the bytes, is recognised as a mark
//! of the mesh and never selected.

/// What a protocol name says is inside the TLS connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Inside {
    /// HTTP/1.1 or 1.0.
    Http1,
    /// HTTP/2.
    Http2,
    /// Any bytes.
    Opaque,
}

/// What a server accepts inside the mesh, best first.
pub const SERVER: &[&[u8]] =
    &[b"istio-h2", b"istio-http/1.1", b"istio-http/1.0", b"h2", b"http/1.1", b"istio"];

/// What a client offers for what it is about to send.
pub fn offer(inside: Inside) -> &'static [&'static [u8]] {
    match inside {
        Inside::Http1 => &[b"istio-http/1.1", b"istio", b"http/1.1"],
        Inside::Http2 => &[b"istio-h2", b"istio", b"h2"],
        Inside::Opaque => &[b"istio"],
    }
}

/// What the selected name says; `None` for a name that the mesh does not use. Where a port is declared HTTP the
/// declaration wins over the name.
pub fn inside(name: &[u8]) -> Option<Inside> {
    match name {
        b"istio-http/1.1" | b"istio-http/1.0" | b"http/1.1" | b"http/1.0" => Some(Inside::Http1),
        b"istio-h2" | b"h2" => Some(Inside::Http2),
        b"istio" => Some(Inside::Opaque),
        _ => None,
    }
}

/// Whether offering this name tells a sidecar of the mesh from an application that speaks TLS by itself.
pub fn is_mesh(name: &[u8]) -> bool {
    matches!(name, b"istio" | b"istio-peer-exchange" | b"istio-http/1.0" | b"istio-http/1.1" | b"istio-h2")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_and_a_server_agree_on_what_is_inside() {
        for what in [Inside::Http1, Inside::Http2, Inside::Opaque] {
            let offered = offer(what);
            let selected = SERVER.iter().find(|name| offered.contains(name)).unwrap();
            assert_eq!(inside(selected), Some(what));
            assert!(offered.iter().any(|name| is_mesh(name)));
        }
    }

    #[test]
    fn peer_exchange_marks_the_mesh_and_is_never_selected() {
        assert!(is_mesh(b"istio-peer-exchange") && !SERVER.contains(&&b"istio-peer-exchange"[..]));
        assert!(!is_mesh(b"h2") && !is_mesh(b"http/1.1") && !is_mesh(b""));
        assert_eq!(inside(b"istio-peer-exchange"), None);
    }
}
