//! Header values, authorities and hosts as texts that conditions are asked about.

use http::{HeaderMap, HeaderName};

use crate::http::headers::joined;

/// Gives `ask` the value of a header as Envoy and Istio see it: repeated fields joined with a comma. Bytes that are
/// no UTF-8 are shown as replacement characters, so that they match no text that a user wrote.
pub fn with_header<R>(headers: &HeaderMap, name: &HeaderName, ask: impl FnOnce(Option<&str>) -> R) -> R {
    match joined(headers, name) {
        None => ask(None),
        Some(value) => ask(Some(&String::from_utf8_lossy(&value))),
    }
}

/// Whether a host is one that a pattern means: itself, `*.x` for every name under `x`, `*` for all. Case does not count.
pub fn host_matches(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix('*') {
        Some("") => true,
        Some(suffix) => host.len().checked_sub(suffix.len()).is_some_and(|start| {
            start > 0 && host.as_bytes()[start..].eq_ignore_ascii_case(suffix.as_bytes())
        }),
        None => host.eq_ignore_ascii_case(pattern),
    }
}

/// An authority without its port: `[::1]:80` is `[::1]`.
pub fn without_port(authority: &str) -> &str {
    split_port(authority).0
}

/// An authority's host and port; what follows the last `:` is a port only if it is a number.
pub fn split_port(authority: &str) -> (&str, Option<u16>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => match port.parse() {
            Ok(port) => (host, Some(port)),
            Err(_) => (authority, None),
        },
        _ => (authority, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn b8_repeated_headers_are_one_text() {
        let name = HeaderName::from_static("x-a");
        let mut headers = HeaderMap::new();
        assert!(with_header(&headers, &name, |v| v.is_none()));
        headers.append(&name, HeaderValue::from_static("1"));
        headers.append(&name, HeaderValue::from_static("2"));
        assert!(with_header(&headers, &name, |v| v == Some("1,2")));
        headers.insert(&name, HeaderValue::from_bytes(b"a\xff").unwrap());
        assert!(with_header(&headers, &name, |v| v == Some("a\u{fffd}")));
    }

    #[test]
    fn a8_a_wildcard_host_does_not_mean_the_name_itself() {
        assert!(host_matches("*.foo.com", "a.FOO.com") && host_matches("*", "x") && host_matches("A", "a"));
        assert!(!host_matches("*.foo.com", "foo.com") && !host_matches("*.foo.com", ".foo.com"));
        assert!(!host_matches("*.foo.com", "xfoo.com") && !host_matches("a", "ab"));
    }

    #[test]
    fn ports_are_told_from_addresses() {
        assert_eq!(split_port("a:80"), ("a", Some(80)));
        assert_eq!(split_port("[::1]:80"), ("[::1]", Some(80)));
        assert_eq!(split_port("[::1]"), ("[::1]", None));
        assert_eq!(split_port("::1"), ("::1", None));
        assert_eq!(split_port("a:"), ("a:", None));
        assert_eq!(split_port("a:99999"), ("a:99999", None));
    }
}
