//! Attributes of spans: the stable HTTP conventions of OpenTelemetry, Istio's tags, and `weft.*`. Whatever a peer sends
//! is cut to a length before it becomes a value.

use std::borrow::Cow;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, Method, Version};
use opentelemetry::{KeyValue, Value};
use weft_core::model::metadata::WorkloadMetadata;

use crate::telemetry::text::{MAX_VALUE, cut};

/// Parameters of a query that sign it: the conventions have them redacted.
const SIGNATURES: [&str; 4] = ["AWSAccessKeyId", "Signature", "sig", "X-Goog-Signature"];

/// An attribute of a text that the mesh knows.
pub fn known(key: &'static str, text: &Arc<str>) -> KeyValue {
    KeyValue::new(key, Value::from(Arc::clone(text)))
}

/// An attribute of a text that somebody sent.
pub fn sent(key: &'static str, text: &str) -> KeyValue {
    KeyValue::new(key, cut(text, MAX_VALUE).to_owned())
}

/// A header's value as text, cut; `None` where there is none.
pub fn header(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let bytes = headers.get(name)?.as_bytes();
    let bytes = bytes.get(..MAX_VALUE).unwrap_or(bytes);
    Some(String::from_utf8_lossy(bytes).into_owned())
}

/// `http.request.method`: a method of the standard, or `_OTHER` with what was sent beside it.
pub fn method(method: &Method) -> (&'static str, Option<KeyValue>) {
    let standard = match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "DELETE" => "DELETE",
        "CONNECT" => "CONNECT",
        "OPTIONS" => "OPTIONS",
        "TRACE" => "TRACE",
        "PATCH" => "PATCH",
        other => return ("_OTHER", Some(sent("http.request.method_original", other))),
    };
    (standard, None)
}

/// `network.protocol.version`.
pub fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        _ => "1.1",
    }
}

/// `server.address` and `server.port` of an authority.
pub fn server(authority: &str) -> (&str, i64) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port.parse().unwrap_or(80)),
        _ => (authority, 80),
    }
}

/// A query with the values of signatures taken out.
pub fn redacted(query: &str) -> Cow<'_, str> {
    let signs = |pair: &&str| {
        let name = pair.split_once('=').map_or(*pair, |(name, _)| name);
        SIGNATURES.contains(&name)
    };
    if !query.split('&').any(|pair| signs(&pair)) {
        return Cow::Borrowed(query);
    }
    let hide = |pair: &str| match pair.split_once('=') {
        Some((name, _)) if signs(&pair) => format!("{name}=REDACTED"),
        _ => pair.to_owned(),
    };
    Cow::Owned(query.split('&').map(hide).collect::<Vec<_>>().join("&"))
}

/// Istio's tags of the workload whose sidecar tells.
pub fn istio(own: &WorkloadMetadata) -> [KeyValue; 4] {
    [
        known("istio.canonical_service", &own.canonical_service),
        known("istio.canonical_revision", &own.canonical_revision),
        known("istio.namespace", &own.namespace),
        known("istio.cluster_id", &own.cluster),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_redacted_and_nothing_else() {
        assert!(matches!(redacted("a=b&signature=1"), Cow::Borrowed(_)));
        assert_eq!(redacted("a=b&sig=secret&c"), "a=b&sig=REDACTED&c");
        assert_eq!(redacted("X-Goog-Signature=s=s&Signature"), "X-Goog-Signature=REDACTED&Signature");
    }

    #[test]
    fn what_is_sent_is_cut() {
        let KeyValue { value, .. } = sent("a", &"é".repeat(MAX_VALUE));
        assert_eq!(value.as_str().len(), MAX_VALUE);
        let mut headers = HeaderMap::new();
        headers.insert("a", http::HeaderValue::from_bytes(&[0xff; 5000]).unwrap());
        let text = header(&headers, &HeaderName::from_static("a")).unwrap();
        assert_eq!(text.chars().count(), MAX_VALUE);
    }

    #[test]
    fn methods_and_servers_are_told_by_the_conventions() {
        assert_eq!(method(&Method::GET).0, "GET");
        let (other, original) = method(&Method::from_bytes(b"BREW").unwrap());
        assert_eq!((other, original.unwrap().value.as_str().as_ref()), ("_OTHER", "BREW"));
        assert_eq!(server("reviews:9080"), ("reviews", 9080));
        assert_eq!(server("reviews"), ("reviews", 80));
        assert_eq!(server("[fd00::1]"), ("[fd00::1]", 80));
        assert_eq!(server("[fd00::1]:81"), ("[fd00::1]", 81));
    }
}
