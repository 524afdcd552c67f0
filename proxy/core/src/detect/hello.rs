//! The ClientHello of TLS (RFC 8446 section 4.1.2), read without answering it: the server's name and the protocols that
//! the client offers. It may be cut into as many records as the client likes.

use crate::detect::alpn;
use crate::http::host::Authority;

/// Bytes of a ClientHello, records' headers included, that are looked at. A longer one is not taken for TLS.
pub const LARGEST: usize = 64 << 10;

/// What a ClientHello says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// The server's name in normal form. `None` when absent, an address, or no DNS name.
    pub sni: Option<Box<str>>,
    /// The protocols offered, in the client's order.
    pub alpn: Vec<Box<[u8]>>,
}

/// What a prefix of a connection says about TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hello {
    /// A whole ClientHello.
    Whole(ClientHello),
    /// It may become one.
    Partial,
    /// It is none.
    Other,
}

impl ClientHello {
    /// Whether a sidecar sent it: it offers one of the mesh's own protocol names.
    pub fn is_mesh(&self) -> bool {
        self.alpn.iter().any(|name| alpn::is_mesh(name))
    }
}

/// Reads the ClientHello at the front of a connection.
pub fn client_hello(bytes: &[u8]) -> Hello {
    match gather(&bytes[..bytes.len().min(LARGEST)]) {
        Gathered::Whole(message) => parse(&message).map_or(Hello::Other, Hello::Whole),
        Gathered::Partial if bytes.len() < LARGEST => Hello::Partial,
        Gathered::Partial | Gathered::Other => Hello::Other,
    }
}

enum Gathered {
    Whole(Vec<u8>),
    Partial,
    Other,
}

/// Puts the handshake message together from its records.
fn gather(mut bytes: &[u8]) -> Gathered {
    let mut message = Vec::new();
    loop {
        let Some((header, rest)) = bytes.split_first_chunk::<5>() else {
            return if begins_record(bytes) { Gathered::Partial } else { Gathered::Other };
        };
        let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
        if !begins_record(header) || !(1..=1 << 14).contains(&length) {
            return Gathered::Other;
        }
        message.extend_from_slice(&rest[..length.min(rest.len())]);
        match expected(&message) {
            Some(whole) if whole > LARGEST => return Gathered::Other,
            Some(whole) if message.len() >= whole => {
                message.truncate(whole);
                return Gathered::Whole(message);
            }
            None if message.first().is_some_and(|kind| *kind != 1) => return Gathered::Other,
            _ if rest.len() < length => return Gathered::Partial,
            _ => bytes = &rest[length..],
        }
    }
}

/// Whether the bytes are how a handshake record begins: type 22, version 3.0 to 3.4.
fn begins_record(bytes: &[u8]) -> bool {
    let fits = |at: usize, rule: fn(u8) -> bool| bytes.get(at).is_none_or(|b| rule(*b));
    fits(0, |b| b == 22) && fits(1, |b| b == 3) && fits(2, |b| b <= 4)
}

/// The length of a ClientHello with its header; `None` while the header is not there, or if it is another message.
fn expected(message: &[u8]) -> Option<usize> {
    match message {
        [1, a, b, c, ..] => Some(4 + usize::from(*a) * 65536 + usize::from(*b) * 256 + usize::from(*c)),
        _ => None,
    }
}

fn parse(message: &[u8]) -> Option<ClientHello> {
    let mut reader = Reader(&message[4..]);
    reader.take(2 + 32)?;
    reader.short_vector()?;
    reader.vector()?;
    reader.short_vector()?;
    if reader.0.is_empty() {
        return Some(ClientHello::default());
    }
    let mut extensions = Reader(reader.vector()?);
    reader.0.is_empty().then(|| read_extensions(&mut extensions))?
}

/// `None` if an extension is malformed, or one of the two that matter is repeated: the server might read the other.
fn read_extensions(extensions: &mut Reader<'_>) -> Option<ClientHello> {
    let mut hello = ClientHello::default();
    let (mut names, mut protocols) = (0, 0);
    while !extensions.0.is_empty() {
        let kind = extensions.short()?;
        let body = Reader(extensions.vector()?);
        match kind {
            0 => (hello.sni, names) = (server_name(body)?, names + 1),
            16 => (hello.alpn, protocols) = (protocol_names(body)?, protocols + 1),
            _ => {}
        }
    }
    (names <= 1 && protocols <= 1).then_some(hello)
}

/// The host name in the list of server names (RFC 6066 section 3), if it is a DNS name.
fn server_name(mut body: Reader<'_>) -> Option<Option<Box<str>>> {
    let mut list = Reader(body.vector()?);
    while !list.0.is_empty() {
        let kind = list.take(1)?[0];
        let name = list.vector()?;
        if kind == 0 {
            return Some(dns_name(name));
        }
    }
    Some(None)
}

fn dns_name(bytes: &[u8]) -> Option<Box<str>> {
    let text = std::str::from_utf8(bytes).ok().filter(|text| !text.contains(':'))?;
    let authority = Authority::parse(text, None).ok()?;
    authority.ip().is_none().then(|| authority.host.into())
}

fn protocol_names(mut body: Reader<'_>) -> Option<Vec<Box<[u8]>>> {
    let mut list = Reader(body.vector()?);
    let mut names = Vec::new();
    while !list.0.is_empty() {
        names.push(list.short_vector()?.into());
    }
    Some(names)
}

/// The presentation language of TLS, as far as a ClientHello needs it.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(front)
    }

    fn short(&mut self) -> Option<u16> {
        self.take(2).map(|b| u16::from_be_bytes([b[0], b[1]]))
    }

    /// A vector with a length of one byte.
    fn short_vector(&mut self) -> Option<&'a [u8]> {
        let length = self.take(1)?[0];
        self.take(usize::from(length))
    }

    /// A vector with a length of two bytes.
    fn vector(&mut self) -> Option<&'a [u8]> {
        let length = self.short()?;
        self.take(usize::from(length))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    fn vector(body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [&length[..], body].concat()
    }

    fn extension(kind: u16, body: &[u8]) -> Vec<u8> {
        [&kind.to_be_bytes()[..], &vector(body)].concat()
    }

    pub(in crate::detect) fn sni(name: &[u8]) -> Vec<u8> {
        extension(0, &vector(&[&[0][..], &vector(name)].concat()))
    }

    pub(in crate::detect) fn alpn_list(names: &[&[u8]]) -> Vec<u8> {
        let list: Vec<u8> = names.iter().flat_map(|n| [&[n.len() as u8][..], n].concat()).collect();
        extension(16, &vector(&list))
    }

    fn message(extensions: &[u8]) -> Vec<u8> {
        let body = [&[3, 3][..], &[7; 32], &[0], &vector(&[0x13, 1]), &[1, 0], &vector(extensions)].concat();
        [&[1, (body.len() >> 16) as u8, (body.len() >> 8) as u8, body.len() as u8][..], &body].concat()
    }

    /// A ClientHello cut into records of at most `size` bytes.
    pub(in crate::detect) fn records(extensions: &[u8], size: usize) -> Vec<u8> {
        message(extensions).chunks(size).flat_map(|c| [&[22, 3, 1][..], &vector(c)].concat()).collect()
    }

    fn read(extensions: &[Vec<u8>]) -> Hello {
        client_hello(&records(&extensions.concat(), 1 << 14))
    }

    #[test]
    fn d9_a_hello_in_records_of_one_byte() {
        let extensions = [sni(b"Reviews.default"), alpn_list(&[b"istio-http/1.1", b"istio"])].concat();
        let whole = client_hello(&records(&extensions, 1 << 14));
        let Hello::Whole(hello) = &whole else { panic!("{whole:?}") };
        assert_eq!(hello.sni.as_deref(), Some("reviews.default"));
        assert_eq!(hello.alpn, [Box::from(&b"istio-http/1.1"[..]), Box::from(&b"istio"[..])]);
        assert!(hello.is_mesh());
        assert_eq!(client_hello(&records(&extensions, 1)), whole);
    }

    #[test]
    fn d9_a_prefix_is_never_a_verdict() {
        let bytes = records(&[sni(b"a.b"), alpn_list(&[b"h2"])].concat(), 20);
        for length in 0..bytes.len() {
            assert_eq!(client_hello(&bytes[..length]), Hello::Partial, "{length}");
        }
        assert!(matches!(client_hello(&bytes), Hello::Whole(hello) if !hello.is_mesh()));
    }

    #[test]
    fn d9_a_hundred_extensions() {
        let many: Vec<Vec<u8>> = (100..200).map(|kind| extension(kind, b"x")).collect();
        assert!(matches!(read(&many), Hello::Whole(hello) if hello == ClientHello::default()));
    }

    #[test]
    fn d9_a_hello_too_large() {
        let huge = extension(21, &vec![0; 65_000]);
        assert!(matches!(client_hello(&records(&huge, 1 << 14)), Hello::Whole(_)));
        assert_eq!(client_hello(&records(&huge, 1)[..LARGEST]), Hello::Other);
        assert_eq!(client_hello(&records(&huge, 1)[..LARGEST - 1]), Hello::Partial);
        assert_eq!(client_hello(&[22, 3, 1, 0, 4, 1, 1, 0, 0]), Hello::Other);
    }

    #[test]
    fn d9_server_names_that_are_none() {
        let long = [b"a.".repeat(130), b"b".to_vec()].concat();
        for name in [&b"10.0.0.1"[..], b"::1", b"[::1]", b"", &long, b"a b", b"\xff", b"a:443", b"a/b"] {
            assert!(matches!(read(&[sni(name)]), Hello::Whole(hello) if hello.sni.is_none()), "{name:?}");
        }
        assert!(matches!(read(&[]), Hello::Whole(hello) if hello.sni.is_none()));
    }

    #[test]
    fn d9_a_repeated_or_broken_extension_is_no_hello() {
        assert_eq!(read(&[sni(b"a"), sni(b"b")]), Hello::Other);
        assert_eq!(read(&[extension(16, &[0, 9, 1])]), Hello::Other);
        assert_eq!(read(&[vec![0, 0, 0, 9]]), Hello::Other);
    }

    #[test]
    fn d7_what_is_no_tls() {
        for bytes in [
            &b"GET"[..],
            b"\x80\x2e\x01\x03",
            b"\x16\x02",
            b"\x16\x03\x05",
            b"\x16\x03\x01\0\0",
            b"\x17\x03\x03",
        ] {
            assert_eq!(client_hello(bytes), Hello::Other, "{bytes:?}");
        }
        assert_eq!(client_hello(&[22, 3, 1, 0, 4, 2]), Hello::Other);
        assert_eq!(client_hello(&[22, 3, 1, 0x40, 1]), Hello::Other);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            mut bytes in Just(records(&[sni(b"a.b"), alpn_list(&[b"h2"])].concat(), 30)),
            edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        ) {
            for (index, byte) in edits {
                let at = index.index(bytes.len());
                bytes[at] = byte;
            }
            let _ = client_hello(&bytes);
        }
    }
}
