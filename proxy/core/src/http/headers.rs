//! Fields that mean one thing to this connection, or that no peer may assert: taken away before the mesh's own are
//! added and before any policy looks (RFC 9110 section 7.6.1).

use std::borrow::Cow;

use ::http::header::{CONNECTION, EXPECT, HeaderName, HeaderValue, TE, UPGRADE};
use ::http::{HeaderMap, Version};
use smallvec::SmallVec;
use thiserror::Error;

/// `Connection` names a field that it must not take away, or something that is no field name. Answered with 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the Connection field names a field that belongs to the whole path")]
pub struct Nominated;

/// What the hop-by-hop fields of a message said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hop {
    /// `Connection: close`.
    pub close: bool,
    /// `Connection: keep-alive`, which HTTP/1.0 needs.
    pub keep_alive: bool,
    /// The `Upgrade` value that may be passed on: named by `Connection`, in HTTP/1.1, and not `h2c`, which is ignored.
    pub upgrade: Option<HeaderValue>,
    /// `TE: trailers`: the sender takes trailers (gRPC needs it passed on).
    pub trailers: bool,
}

/// Removes the hop-by-hop fields and those that `Connection` nominates; what they said is returned.
///
/// `protected` tells the fields that policies of the workload read: nominating one of these, or one that carries
/// framing, addressing, credentials or identity, is an attempt to make it vanish, and refused.
pub fn strip_hop_by_hop(
    headers: &mut HeaderMap,
    version: Version,
    protected: impl Fn(&HeaderName) -> bool,
) -> Result<Hop, Nominated> {
    let present = names_where(headers, is_hop_by_hop);
    if present.is_empty() {
        return Ok(Hop::default());
    }
    let mut hop = Hop { trailers: takes_trailers(headers), ..Hop::default() };
    let mut upgrade = false;
    let mut nominated: SmallVec<[HeaderName; 4]> = SmallVec::new();
    for token in tokens(headers, &CONNECTION) {
        match token {
            _ if token.eq_ignore_ascii_case(b"close") => hop.close = true,
            _ if token.eq_ignore_ascii_case(b"keep-alive") => hop.keep_alive = true,
            _ if token.eq_ignore_ascii_case(b"upgrade") => upgrade = true,
            _ => nominated.push(nominate(token, &protected)?),
        }
    }
    if upgrade && version == Version::HTTP_11 {
        hop.upgrade = upgrade_of(headers);
    }
    for name in nominated.iter().chain(&present) {
        headers.remove(name);
    }
    Ok(hop)
}

/// Removes what only the mesh itself may say of a request: identities, its own fields, and the fields by which Envoy is
/// steered (those that an Istio sidecar takes from its callers too). Underscores count as dashes: servers behind CGI
/// rules cannot tell them apart. For trailers as well. Returns how many names went.
pub fn strip_asserted(headers: &mut HeaderMap) -> usize {
    remove_where(headers, |name| is_asserted(name.as_str()))
}

/// Removes the mesh's own fields from a response: an application cannot forge them. Returns how many names went.
pub fn strip_own(headers: &mut HeaderMap) -> usize {
    remove_where(headers, |name| has_prefix(name.as_str(), "x-weft-"))
}

/// Removes fields that differ only by underscores from one that a policy names: the application might read them as that
/// one. Returns how many names went.
pub fn strip_lookalikes(headers: &mut HeaderMap, named: &[HeaderName]) -> usize {
    let lookalike = |name: &str| named.iter().any(|n| n.as_str() != name && same(name, n.as_str()));
    remove_where(headers, |name| name.as_str().contains('_') && lookalike(name.as_str()))
}

/// Removes from trailers what does not belong there: framing, addressing, credentials, what describes the body, and
/// everything that a peer may not assert (RFC 9110 section 6.5.1). Returns how many names went, to be counted.
pub fn strip_trailers(trailers: &mut HeaderMap) -> usize {
    remove_where(trailers, |name| is_forbidden_trailer(name.as_str()))
}

/// The value of a field as policies see it: repeated lines joined with a comma. Allocates only when repeated.
pub fn joined<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<Cow<'a, [u8]>> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?.as_bytes();
    let mut all = Cow::Borrowed(first);
    for value in values {
        let all = all.to_mut();
        all.push(b',');
        all.extend_from_slice(value.as_bytes());
    }
    Some(all)
}

/// The members of a list field: each line split at commas, white space and empty members left out.
pub fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    let lines = headers.get_all(name).iter();
    lines
        .flat_map(|line| line.as_bytes().split(|b| *b == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|m| !m.is_empty())
}

/// What the client expects before it sends the body (RFC 9110 section 10.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expectation {
    /// Nothing.
    None,
    /// `100-continue`: the application's 100 is relayed, the body is not read before.
    Continue,
    /// Anything else: passed on, for the application to answer with 417.
    Other,
}

/// Reads `Expect`.
pub fn expectation(headers: &HeaderMap) -> Expectation {
    match headers.get(EXPECT) {
        None => Expectation::None,
        Some(value) if value.as_bytes().eq_ignore_ascii_case(b"100-continue") => Expectation::Continue,
        Some(_) => Expectation::Other,
    }
}

/// Whether `TE` lists `trailers`.
pub fn takes_trailers(headers: &HeaderMap) -> bool {
    tokens(headers, &TE).any(|token| token.eq_ignore_ascii_case(b"trailers"))
}

fn upgrade_of(headers: &HeaderMap) -> Option<HeaderValue> {
    let clear_http2 = tokens(headers, &UPGRADE).any(|token| token.eq_ignore_ascii_case(b"h2c"));
    headers.get(UPGRADE).filter(|_| !clear_http2).cloned()
}

fn nominate(token: &[u8], protected: impl Fn(&HeaderName) -> bool) -> Result<HeaderName, Nominated> {
    let name = HeaderName::from_bytes(token).map_err(|_| Nominated)?;
    if is_end_to_end(name.as_str()) || protected(&name) { Err(Nominated) } else { Ok(name) }
}

/// The names that the rule tells.
fn names_where(headers: &HeaderMap, rule: impl Fn(&HeaderName) -> bool) -> SmallVec<[HeaderName; 4]> {
    headers.keys().filter(|name| rule(name)).cloned().collect()
}

/// Removes the names that the rule tells; one pass where it tells none.
fn remove_where(headers: &mut HeaderMap, rule: impl Fn(&HeaderName) -> bool) -> usize {
    let doomed = names_where(headers, rule);
    for name in &doomed {
        headers.remove(name);
    }
    doomed.len()
}

fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "http2-settings"
            | "keep-alive"
            | "proxy-connection"
            | "te"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// Fields that no `Connection` may take away: framing, addressing, credentials, identity.
fn is_end_to_end(name: &str) -> bool {
    matches!(
        name,
        "host"
            | "content-length"
            | "content-type"
            | "content-encoding"
            | "authorization"
            | "cookie"
            | "set-cookie"
            | "forwarded"
            | "x-request-id"
            | "traceparent"
            | "via"
    ) || has_prefix(name, "x-forwarded-")
        || is_asserted(name)
}

/// Names that only the mesh may assert.
fn is_asserted(name: &str) -> bool {
    // Most names are told apart by their first letters.
    let may_be = matches!(name.as_bytes(), [b'x', _, b'w' | b'e' | b'f' | b'm', ..] | [b'l', b'5', ..]);
    may_be
        && match name.contains('_') {
            true => is_asserted_plainly(&name.replace('_', "-")),
            false => is_asserted_plainly(name),
        }
}

fn is_asserted_plainly(name: &str) -> bool {
    matches!(
        name,
        "l5d-client-id"
            | "x-envoy-decorator-operation"
            | "x-envoy-downstream-service-cluster"
            | "x-envoy-downstream-service-node"
            | "x-envoy-expected-rq-timeout-ms"
            | "x-envoy-external-address"
            | "x-envoy-force-trace"
            | "x-envoy-hedge-on-per-try-timeout"
            | "x-envoy-internal"
            | "x-envoy-ip-tags"
            | "x-envoy-max-retries"
            | "x-envoy-original-host"
            | "x-envoy-original-path"
            | "x-envoy-original-url"
            | "x-envoy-peer-metadata"
            | "x-envoy-peer-metadata-id"
            | "x-envoy-retriable-header-names"
            | "x-envoy-retriable-status-codes"
            | "x-envoy-retry-grpc-on"
            | "x-envoy-retry-on"
            | "x-envoy-upstream-alt-stat-name"
            | "x-envoy-upstream-rq-per-try-timeout-ms"
            | "x-envoy-upstream-rq-timeout-alt-response"
            | "x-envoy-upstream-rq-timeout-ms"
            | "x-forwarded-client-cert"
            | "x-mesh-identity"
    ) || name.starts_with("x-weft-")
}

fn is_forbidden_trailer(name: &str) -> bool {
    matches!(
        name,
        "age"
            | "authorization"
            | "cache-control"
            | "connection"
            | "content-encoding"
            | "content-length"
            | "content-range"
            | "content-type"
            | "cookie"
            | "date"
            | "expect"
            | "expires"
            | "forwarded"
            | "host"
            | "keep-alive"
            | "location"
            | "max-forwards"
            | "pragma"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "range"
            | "retry-after"
            | "set-cookie"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "vary"
            | "via"
            | "warning"
            | "www-authenticate"
            | "x-request-id"
    ) || has_prefix(name, "x-forwarded-")
        || has_prefix(name, "x-b3-")
        || has_prefix(name, "x-envoy-")
        || is_asserted(name)
}

/// Whether the names are the same once underscores count as dashes; `plain` has none.
fn same(name: &str, plain: &str) -> bool {
    name.len() == plain.len() && has_prefix(name, plain)
}

fn has_prefix(name: &str, plain: &str) -> bool {
    let dash = |b: u8| if b == b'_' { b'-' } else { b };
    name.len() >= plain.len() && name.bytes().zip(plain.bytes()).all(|(n, p)| n == p || dash(n) == dash(p))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn names(headers: &HeaderMap) -> Vec<&str> {
        let mut names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    fn strip(headers: &mut HeaderMap) -> Result<Hop, Nominated> {
        strip_hop_by_hop(headers, Version::HTTP_11, |name| name == "x-authz")
    }

    #[test]
    fn a20_hop_by_hop_fields_go() {
        let mut headers = map(&[
            ("connection", "close, x-local ,,TE"),
            ("connection", "keep-alive"),
            ("x-local", "1"),
            ("te", "gzip, trailers"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "x"),
            ("transfer-encoding", "chunked"),
            ("host", "a"),
            ("x-other", "1"),
        ]);
        let hop = strip(&mut headers).unwrap();
        assert_eq!(hop, Hop { close: true, keep_alive: true, upgrade: None, trailers: true });
        assert_eq!(names(&headers), ["host", "x-other"]);
    }

    #[test]
    fn a20_nominating_a_field_that_matters_is_refused() {
        for name in [
            "x-authz",
            "close, host",
            "Content-Length",
            "authorization",
            "X-Forwarded-For",
            "x_weft_peer",
            "b\"d",
        ] {
            let mut headers = map(&[("connection", name), ("x-authz", "1")]);
            assert_eq!(strip(&mut headers), Err(Nominated), "{name}");
            assert!(headers.contains_key("x-authz"));
        }
        assert_eq!(strip(&mut map(&[("x-authz", "1")])), Ok(Hop::default()));
    }

    #[test]
    fn a21_expectations() {
        assert_eq!(expectation(&map(&[("expect", "100-Continue")])), Expectation::Continue);
        assert_eq!(expectation(&map(&[("expect", "tea")])), Expectation::Other);
        assert_eq!(expectation(&map(&[])), Expectation::None);
    }

    #[test]
    fn a23_forbidden_trailers_go() {
        let mut trailers = map(&[
            ("grpc-status", "0"),
            ("grpc-message", "x"),
            ("content-length", "5"),
            ("host", "a"),
            ("x-forwarded-for", "1"),
            ("x_forwarded_client_cert", "1"),
            ("x-weft-reason", "1"),
            ("x-checksum", "1"),
        ]);
        assert_eq!(strip_trailers(&mut trailers), 5);
        assert_eq!(names(&trailers), ["grpc-message", "grpc-status", "x-checksum"]);
    }

    #[test]
    fn b16_repeated_lines_are_joined() {
        let headers = map(&[("x-role", "user"), ("x-role", "admin"), ("x-one", "1")]);
        let name = |n| HeaderName::from_static(n);
        assert_eq!(joined(&headers, &name("x-role")).as_deref(), Some(&b"user,admin"[..]));
        assert!(matches!(joined(&headers, &name("x-one")), Some(Cow::Borrowed(b"1"))));
        assert_eq!(joined(&headers, &name("x-none")), None);
        let members: Vec<_> = tokens(&headers, &name("x-role")).collect();
        assert_eq!(members, [&b"user"[..], b"admin"]);
    }

    #[test]
    fn b17_lookalikes_of_policy_fields_go() {
        let mut headers =
            map(&[("x_role", "admin"), ("x-role", "user"), ("x_other", "1"), ("a_b", "1"), ("a-b", "1")]);
        let named = [HeaderName::from_static("x-role"), HeaderName::from_static("a_b")];
        assert_eq!(strip_lookalikes(&mut headers, &named), 1);
        assert_eq!(names(&headers), ["a-b", "a_b", "x-role", "x_other"]);
    }

    #[test]
    fn c12_an_upgrade_to_clear_http2_is_ignored() {
        let upgrade = |value: &str, version| {
            let mut headers = map(&[
                ("connection", "Upgrade, HTTP2-Settings"),
                ("upgrade", value),
                ("http2-settings", "x"),
            ]);
            let hop = strip_hop_by_hop(&mut headers, version, |_| false).unwrap();
            assert!(headers.is_empty());
            hop.upgrade.map(|v| v.to_str().unwrap().to_owned())
        };
        assert_eq!(upgrade("h2c", Version::HTTP_11), None);
        assert_eq!(upgrade("websocket, H2C", Version::HTTP_11), None);
        assert_eq!(upgrade("websocket", Version::HTTP_10), None);
        assert_eq!(upgrade("websocket", Version::HTTP_11).as_deref(), Some("websocket"));
        assert_eq!(upgrade("my-own/1.0", Version::HTTP_11).as_deref(), Some("my-own/1.0"));
        let mut unnamed = map(&[("upgrade", "websocket")]);
        assert_eq!(strip(&mut unnamed).unwrap().upgrade, None);
    }

    #[test]
    fn d15_no_peer_asserts_an_identity() {
        let mut headers = map(&[
            ("x-forwarded-client-cert", "By=x"),
            ("x_forwarded_client_cert", "By=x"),
            ("x-forwarded_client-cert", "By=x"),
            ("x-mesh-identity", "x"),
            ("l5d-client-id", "x"),
            ("x-weft-reason", "x"),
            ("x_weft_anything", "x"),
            ("x-envoy-max-retries", "9"),
            ("x-envoy-peer-metadata", "9"),
            ("x-envoy-attempt-count", "1"),
            ("x-b3-traceid", "1"),
            ("x-forwarded-for", "1"),
            ("x-weftless", "1"),
            ("host", "a"),
        ]);
        assert_eq!(strip_asserted(&mut headers), 9);
        assert_eq!(
            names(&headers),
            ["host", "x-b3-traceid", "x-envoy-attempt-count", "x-forwarded-for", "x-weftless"]
        );
        let mut response = map(&[("x-weft-reason", "x"), ("x_weft_reason", "x"), ("server", "a")]);
        assert_eq!(strip_own(&mut response), 2);
        assert_eq!(names(&response), ["server"]);
    }
}
