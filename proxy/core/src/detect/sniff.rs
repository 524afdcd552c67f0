//! The first bytes of a connection, classified. A verdict on a prefix never changes when more bytes follow.

use crate::detect::hello::{ClientHello, Hello, client_hello};
use crate::http::head::lex::is_token;

/// What a connection carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Detected {
    /// HTTP/1: a request line, whatever its version says; the scanner judges it.
    Http1,
    /// HTTP/2 by prior knowledge.
    Http2,
    /// TLS, with what its first message says.
    Tls(ClientHello),
    /// Anything else.
    Opaque,
}

/// A verdict, or not yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sniff {
    /// The connection is this.
    Known(Detected),
    /// More bytes are needed.
    More,
}

/// The connection preface of HTTP/2 (RFC 9113 section 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bytes of a request line that are waited for.
const LINE: usize = (16 << 10) + 256;
/// The longest method that is believed where nothing declares HTTP.
const METHOD: usize = 32;

/// Classifies the bytes of a connection of which nothing is known.
pub fn sniff(bytes: &[u8]) -> Sniff {
    match bytes.first() {
        None => Sniff::More,
        Some(22) => tls(bytes),
        Some(_) if bytes.starts_with(PREFACE) => Sniff::Known(Detected::Http2),
        Some(_) if PREFACE.starts_with(bytes) => Sniff::More,
        Some(_) => request_line(bytes),
    }
}

/// Classifies where HTTP is declared: HTTP/2 or HTTP/1, nothing else; but for TLS of the mesh where that may come.
pub fn http(bytes: &[u8], mesh_tls: bool) -> Sniff {
    if mesh_tls && bytes.first() == Some(&22) {
        match tls(bytes) {
            Sniff::Known(Detected::Opaque) => {}
            verdict => return verdict,
        }
    }
    match bytes {
        _ if bytes.starts_with(PREFACE) => Sniff::Known(Detected::Http2),
        _ if PREFACE.starts_with(bytes) => Sniff::More,
        _ => Sniff::Known(Detected::Http1),
    }
}

/// Classifies where only TLS is told from the rest.
pub fn tls(bytes: &[u8]) -> Sniff {
    match client_hello(bytes) {
        Hello::Whole(hello) => Sniff::Known(Detected::Tls(hello)),
        Hello::Partial => Sniff::More,
        Hello::Other => Sniff::Known(Detected::Opaque),
    }
}

/// Whether the first line is `method SP ... SP HTTP/...`, in any spelling that a lenient server could take for one.
fn request_line(bytes: &[u8]) -> Sniff {
    let blank = bytes.iter().take(4).take_while(|b| matches!(b, b'\r' | b'\n')).count();
    let line = &bytes[blank..];
    let method = line.iter().take_while(|b| is_token(**b)).count();
    match line.get(method) {
        None if method <= METHOD => return Sniff::More,
        Some(b' ' | b'\t') if (1..=METHOD).contains(&method) => {}
        _ => return Sniff::Known(Detected::Opaque),
    }
    let rest = &line[method..];
    match rest.iter().position(|b| *b == b'\n') {
        Some(end) if names_http(&rest[..end]) => Sniff::Known(Detected::Http1),
        Some(_) => Sniff::Known(Detected::Opaque),
        None if rest.len() > LINE || rest.iter().any(|b| is_binary(*b)) => Sniff::Known(Detected::Opaque),
        None => Sniff::More,
    }
}

fn names_http(line: &[u8]) -> bool {
    !line.iter().any(|b| is_binary(*b)) && line.windows(6).any(|w| w[1..].eq_ignore_ascii_case(b"HTTP/"))
}

fn is_binary(byte: u8) -> bool {
    byte.is_ascii_control() && !matches!(byte, b'\t' | b'\r' | b'\n')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::hello::tests::{alpn_list, records, sni};
    use proptest::prelude::*;

    #[track_caller]
    fn is(bytes: &[u8], expected: Detected) {
        assert_eq!(sniff(bytes), Sniff::Known(expected), "{:?}", String::from_utf8_lossy(bytes));
    }

    #[test]
    fn http1_is_any_request_line() {
        for line in [
            "GET / HTTP/1.1",
            "get /a?b HTTP/1.0",
            "FOO * HTTP/1.1",
            "M-SEARCH * HTTP/1.1",
            "CONNECT a:1 HTTP/1.1",
            "GET http://a/ HTTP/2.0",
            "\r\nGET / HTTP/1.1",
            "GET / http/1.1",
            "GET\t/ HTTP/1.1",
            "GET / HTTP/1.1 ",
        ] {
            is(format!("{line}\r\n").as_bytes(), Detected::Http1);
            is(format!("{line}\n").as_bytes(), Detected::Http1);
        }
    }

    #[test]
    fn other_protocols_are_opaque() {
        for bytes in [
            &b"*1\r\n$4\r\nPING\r\n"[..],
            b"EHLO mail.example.com\r\n",
            b"get foo\r\n",
            b"SSH-2.0-OpenSSH\r\n",
            b"GET /\r\n",
            b"\0\0\0\x08\x04\xd2\x16\x2f",
            b"\x10\x1a\0\x04MQTT",
            b"AMQP\0\0\x09\x01",
            b" GET / HTTP/1.1\r\n",
            b"\xff",
            b"GET /\0 HTTP/1.1\r\n",
            b"CONNECT {\"verbose\":false}\r\n",
            b"HTTP/1.1 200 OK\r\n",
            b"a\0",
        ] {
            is(bytes, Detected::Opaque);
        }
        is(&[b'a'; METHOD + 1], Detected::Opaque);
        is(&[&b"GET /"[..], &[b'a'; LINE]].concat(), Detected::Opaque);
    }

    #[test]
    fn c12_half_a_preface() {
        for length in 0..PREFACE.len() {
            assert_eq!(sniff(&PREFACE[..length]), Sniff::More, "{length}");
        }
        is(PREFACE, Detected::Http2);
        // The scanner refuses its version, and the connection closes.
        is(b"PRI * HTTP/2.0\r\n\r\nGET / HTTP/1.1\r\n", Detected::Http1);
        is(b"POST / HTTP/1.1\r\n", Detected::Http1);
        assert_eq!(http(b"PRI * HTTP/2.0\r\n\r\nXX", false), Sniff::Known(Detected::Http1));
    }

    #[test]
    fn d9_tls_is_known_by_its_first_message() {
        let bytes = records(&[sni(b"a.b"), alpn_list(&[b"istio-h2"])].concat(), 7);
        assert_eq!(sniff(&bytes[..9]), Sniff::More);
        assert!(matches!(sniff(&bytes), Sniff::Known(Detected::Tls(hello)) if hello.is_mesh()));
        assert!(matches!(http(&bytes, true), Sniff::Known(Detected::Tls(_))));
        assert_eq!(http(&bytes, false), Sniff::Known(Detected::Http1));
        is(b"\x16\x03\x01\0\0", Detected::Opaque);
    }

    proptest! {
        #[test]
        fn a_verdict_on_a_prefix_stays(
            bytes in "(\r\n)?(GET|PRI|A{30,36}|\\*)[ \t\0]?(/a| \\* )? ?(HTTP/[12].[01])?(\r\n|\n)?(\r\nSM\r\n\r\n)?.{0,4}",
            cut: prop::sample::Index,
        ) {
            let bytes = bytes.as_bytes();
            let early = sniff(&bytes[..cut.index(bytes.len() + 1)]);
            prop_assert!(early == Sniff::More || early == sniff(bytes));
        }
    }
}
