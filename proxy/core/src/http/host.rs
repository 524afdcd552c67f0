//! `Host` and `:authority`: parsed strictly, normalised once, then used for routing, authorization and forwarding alike
//! (RFC 9110 section 7.2, RFC 9112 section 3.2, RFC 9113 section 8.3.1).

use std::borrow::Cow;
use std::net::{IpAddr, Ipv6Addr};

use ::http::header::HOST;
use ::http::uri::Scheme;
use ::http::{HeaderMap, Uri, Version};
use thiserror::Error;

/// Why the authority of a request is refused; each is answered with 400 (in HTTP/2, also by a stream reset).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum HostError {
    /// No `Host` in HTTP/1.1, no authority at all in HTTP/2.
    #[error("the request names no host")]
    Missing,
    /// More than one `Host` field.
    #[error("the request names more than one host")]
    Repeated,
    /// Not `host [":" port]`: userinfo, a path, a list, a bad name, a bad port, or nothing.
    #[error("the host is malformed")]
    Malformed,
    /// `Host` differs from the authority of the target, where it must not.
    #[error("the host differs from the request's authority")]
    Mismatch,
}

/// A host in normal form (lower case, no trailing dot, IPv6 in brackets in its shortest form), and the port that was
/// written, if it is not the default of the scheme.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Authority<'a> {
    /// Borrowed when it came in normal form.
    pub host: Cow<'a, str>,
    /// The port, unless absent or the scheme's default.
    pub port: Option<u16>,
}

impl<'a> Authority<'a> {
    /// Parses `host [":" port]`. `default_port`: the scheme's, which is dropped.
    pub fn parse(text: &'a str, default_port: Option<u16>) -> Result<Self, HostError> {
        let (host, port) = split_port(text)?;
        let host = match host.as_bytes().first() {
            Some(b'[') => ipv6(host)?,
            _ => name(host)?,
        };
        Ok(Authority { host, port: port.filter(|port| Some(*port) != default_port) })
    }

    /// The address, if the host is one.
    pub fn ip(&self) -> Option<IpAddr> {
        self.host.trim_start_matches('[').trim_end_matches(']').parse().ok()
    }

    /// The normal form; borrowed when `text`, from which it was parsed, is that already.
    pub fn rendered<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let same = match self.port {
            None => *text == *self.host,
            Some(port) => text
                .strip_prefix(&*self.host)
                .and_then(|rest| rest.strip_prefix(':'))
                .is_some_and(|digits| !digits.starts_with('0') && digits.parse() == Ok(port)),
        };
        match (same, self.port) {
            (true, _) => Cow::Borrowed(text),
            (false, None) => Cow::Owned(self.host.clone().into_owned()),
            (false, Some(port)) => Cow::Owned(format!("{}:{port}", self.host)),
        }
    }
}

/// The port that a scheme implies.
pub fn default_port(scheme: &Scheme) -> Option<u16> {
    match scheme.as_str() {
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        _ => None,
    }
}

/// The authority that a request is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effective<'a> {
    /// Its authority; `None` only for HTTP/1.0 without `Host`.
    pub authority: Option<Authority<'a>>,
    /// The text it was parsed from, to compare and to forward.
    pub text: &'a str,
    /// Whether `Host` said something else than the target, which won: `Host` must be rewritten.
    pub rewrite_host: bool,
}

/// Finds the authority of a request from its target and its `Host` (`:authority` is the target's in HTTP/2).
///
/// The target's authority wins over `Host`. Where they differ HTTP/2 refuses the request, and so does HTTP/1 where a
/// policy reads hosts (`strict`): nobody can say which of the two the application believes.
pub fn effective<'a>(
    version: Version,
    uri: &'a Uri,
    headers: &'a HeaderMap,
    strict: bool,
) -> Result<Effective<'a>, HostError> {
    let default = default_port(uri.scheme().unwrap_or(&Scheme::HTTP));
    let field = host_field(headers)?;
    let target = uri.authority().map(::http::uri::Authority::as_str);
    let Some(text) = target.or(field) else {
        let excused = version <= Version::HTTP_10;
        let none = Effective { authority: None, text: "", rewrite_host: false };
        return if excused { Ok(none) } else { Err(HostError::Missing) };
    };
    let authority = Authority::parse(text, default)?;
    let differs = match field {
        Some(field) if target.is_some() && field != text => Authority::parse(field, default)? != authority,
        _ => false,
    };
    if differs && (strict || version >= Version::HTTP_2) {
        return Err(HostError::Mismatch);
    }
    let missing = field.is_none() && version == Version::HTTP_11;
    if missing {
        return Err(HostError::Missing);
    }
    Ok(Effective { authority: Some(authority), text, rewrite_host: differs })
}

/// The one `Host` field.
fn host_field(headers: &HeaderMap) -> Result<Option<&str>, HostError> {
    let mut fields = headers.get_all(HOST).iter();
    let first = fields.next();
    if fields.next().is_some() {
        return Err(HostError::Repeated);
    }
    first.map(|value| value.to_str().map_err(|_| HostError::Malformed)).transpose()
}

fn split_port(text: &str) -> Result<(&str, Option<u16>), HostError> {
    let after = if text.starts_with('[') { text.rfind(']').unwrap_or(0) } else { 0 };
    let colon = text[after..].find(':').map(|at| after + at);
    match colon {
        None => Ok((text, None)),
        Some(at) => Ok((&text[..at], port(&text[at + 1..])?)),
    }
}

/// A port of one to five digits that is not 0; an empty one counts as none (RFC 3986 section 6.2.3).
fn port(digits: &str) -> Result<Option<u16>, HostError> {
    if digits.is_empty() {
        return Ok(None);
    }
    let valid = digits.len() <= 5 && digits.bytes().all(|b| b.is_ascii_digit());
    match digits.parse() {
        Ok(port) if valid && port > 0 => Ok(Some(port)),
        _ => Err(HostError::Malformed),
    }
}

/// A DNS name or an IPv4 address: letters, digits, `-`, `_`, `~`, dots between them, at most 253 bytes.
fn name(host: &str) -> Result<Cow<'_, str>, HostError> {
    let host = host.strip_suffix('.').unwrap_or(host);
    let (mut all, mut dots_in_a_row, mut before) = (0, false, DOT);
    for byte in host.bytes() {
        let class = CLASSES[usize::from(byte)];
        all |= class;
        dots_in_a_row |= class & before & DOT != 0;
        before = class;
    }
    if all & OTHER != 0 || dots_in_a_row || before == DOT || host.len() > 253 {
        return Err(HostError::Malformed);
    }
    Ok(if all & UPPER != 0 { Cow::Owned(host.to_ascii_lowercase()) } else { Cow::Borrowed(host) })
}

/// What a byte is in a name.
const CLASSES: [u8; 256] = {
    let mut classes = [OTHER; 256];
    let mut byte = 0;
    while byte < 256 {
        classes[byte] = match byte as u8 {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'~' => 0,
            b'A'..=b'Z' => UPPER,
            b'.' => DOT,
            _ => OTHER,
        };
        byte += 1;
    }
    classes
};
const UPPER: u8 = 1;
const DOT: u8 = 2;
const OTHER: u8 = 4;

/// `[` IPv6 address `]`, without a zone.
fn ipv6(host: &str) -> Result<Cow<'_, str>, HostError> {
    let inner = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).ok_or(HostError::Malformed)?;
    let address: Ipv6Addr = inner.parse().map_err(|_| HostError::Malformed)?;
    let normal = format!("[{address}]");
    Ok(if normal == host { Cow::Borrowed(host) } else { Cow::Owned(normal) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<(String, Option<u16>), HostError> {
        Authority::parse(text, Some(80)).map(|a| (a.host.into_owned(), a.port))
    }

    fn headers(hosts: &[&'static str]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for host in hosts {
            map.append(HOST, ::http::HeaderValue::from_static(host));
        }
        map
    }

    fn of(
        version: Version,
        uri: &'static str,
        hosts: &[&'static str],
        strict: bool,
    ) -> Result<(String, bool), HostError> {
        let (uri, headers) = (Uri::from_static(uri), headers(hosts));
        let found = effective(version, &uri, &headers, strict)?;
        Ok((
            found.authority.map(|a| a.rendered(found.text).into_owned()).unwrap_or_default(),
            found.rewrite_host,
        ))
    }

    #[test]
    fn b1_two_host_fields() {
        assert_eq!(of(Version::HTTP_11, "/", &["a", "b"], false), Err(HostError::Repeated));
        assert_eq!(of(Version::HTTP_11, "/", &["a", "a"], false), Err(HostError::Repeated));
    }

    #[test]
    fn b2_no_host() {
        assert_eq!(of(Version::HTTP_11, "/", &[], false), Err(HostError::Missing));
        assert_eq!(of(Version::HTTP_11, "http://a/", &[], false), Err(HostError::Missing));
        assert_eq!(of(Version::HTTP_2, "/", &[], false), Err(HostError::Missing));
        assert_eq!(of(Version::HTTP_10, "/", &[], false), Ok((String::new(), false)));
    }

    #[test]
    fn b3_the_authority_of_an_absolute_target_wins() {
        assert_eq!(of(Version::HTTP_11, "http://a/", &["b"], false), Ok(("a".into(), true)));
        assert_eq!(of(Version::HTTP_11, "http://a/", &["b"], true), Err(HostError::Mismatch));
        assert_eq!(of(Version::HTTP_11, "http://A:80/", &["a."], true), Ok(("a".into(), false)));
        assert_eq!(of(Version::HTTP_11, "http://a/", &["b c"], false), Err(HostError::Malformed));
    }

    #[test]
    fn b4_host_that_differs_from_the_pseudo_header() {
        assert_eq!(of(Version::HTTP_2, "http://a/", &["b"], false), Err(HostError::Mismatch));
        assert_eq!(of(Version::HTTP_2, "http://a/", &["A:80"], false), Ok(("a".into(), false)));
        assert_eq!(of(Version::HTTP_2, "/", &["a"], false), Ok(("a".into(), false)));
    }

    #[test]
    fn b5_hosts_that_are_none() {
        for text in [
            "",
            ".",
            "a..b",
            ".a",
            "u@a",
            "u:p@a",
            "a/b",
            "a?b",
            "a#b",
            "a b",
            "a,b",
            "a:99999",
            "a:0",
            "a:65536",
            "a:-1",
            "a:+1",
            "a:1:2",
            "a:8x",
            ":80",
            "[::1",
            "::1",
            "[::1]a",
            "[::1]]",
            "[fe80::1%25eth0]",
            "[1.2.3.4]",
            "[]",
            "a%2e",
            "\u{e9}",
            "a\t",
            "a\\b",
            "*.a",
            "a:000080",
        ] {
            assert_eq!(parse(text), Err(HostError::Malformed), "{text:?}");
        }
        assert_eq!(parse(&"a".repeat(254)), Err(HostError::Malformed));
        assert_eq!(of(Version::HTTP_11, "/", &[""], false), Err(HostError::Malformed));
        assert_eq!(of(Version::HTTP_11, "http://u@a/", &["a"], false), Err(HostError::Malformed));
    }

    #[test]
    fn b6_one_normal_form() {
        for text in [
            "Reviews.Default",
            "reviews.default.",
            "REVIEWS.default:80",
            "reviews.default.:80",
            "reviews.default:",
        ] {
            assert_eq!(parse(text), Ok(("reviews.default".into(), None)), "{text}");
        }
        assert_eq!(parse("a:9080"), Ok(("a".into(), Some(9080))));
        assert_eq!(parse("a:00443"), Ok(("a".into(), Some(443))));
        assert_eq!(parse("[2001:DB8:0::1]:80"), Ok(("[2001:db8::1]".into(), None)));
        assert_eq!(parse("my_svc.ns"), Ok(("my_svc.ns".into(), None)));
        assert_eq!(Authority::parse("a:443", Some(443)).map(|a| a.port), Ok(None));
    }

    #[test]
    fn b6_a_normal_form_is_borrowed() {
        for text in ["reviews:9080", "reviews", "[::1]:15000", "10.0.0.1"] {
            let authority = Authority::parse(text, Some(80)).unwrap();
            assert!(matches!(authority.host, Cow::Borrowed(_)), "{text}");
            assert!(matches!(authority.rendered(text), Cow::Borrowed(_)), "{text}");
        }
    }

    #[test]
    fn addresses_are_recognised() {
        let ip = |text| Authority::parse(text, None).ok().and_then(|a| a.ip());
        assert_eq!(ip("10.0.0.1:80"), Some(IpAddr::from([10, 0, 0, 1])));
        assert_eq!(ip("[::1]"), Some(IpAddr::V6(Ipv6Addr::LOCALHOST)));
        assert_eq!(ip("010.0.0.1"), None);
    }

    proptest! {
        #[test]
        fn the_normal_form_is_its_own(text in "[A-Za-z0-9._:\\[\\]@-]{0,20}") {
            if let Ok(authority) = Authority::parse(&text, Some(80)) {
                let normal = authority.rendered(&text).into_owned();
                prop_assert_eq!(Authority::parse(&normal, Some(80)), Ok(authority));
            }
        }
    }
}
