//! `http[].match[]`: what a request must look like.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::HeaderName;
use weft_core::matching::StringMatch;
use weft_core::model::route::HttpMatch;
use weft_crds::virtual_service::matching::{HttpMatch as Written, StringMatch as WrittenString};

use super::common;
use super::findings::Findings;

/// Keys of `headers` that have fields of their own and are without effect there, as in Istio.
const OWN_FIELDS: [&str; 4] = ["uri", "scheme", "method", "authority"];

/// One block's conditions on the request.
pub fn http_match(findings: &mut Findings, path: &str, block: &Written) -> HttpMatch {
    let mut request = HttpMatch { ignore_uri_case: block.ignore_uri_case, ..HttpMatch::default() };
    let mut one = |field: &str, written: &Option<WrittenString>| {
        written.as_ref().and_then(|w| common::string_match(findings, &format!("{path}.{field}"), w, false))
    };
    request.uri = one("uri", &block.uri);
    request.scheme = one("scheme", &block.scheme);
    request.method = one("method", &block.method);
    request.authority = one("authority", &block.authority);
    if matches!(request.uri, Some(StringMatch::Regex(_))) && block.ignore_uri_case {
        findings
            .warn(format!("{path}.ignoreUriCase"), "has no effect on a regex; write `(?i)` in front of it");
    }
    headers(findings, &format!("{path}.headers"), &block.headers, &mut request);
    request.without_headers = names(findings, &format!("{path}.withoutHeaders"), &block.without_headers);
    for (name, map) in [
        ("headers", &block.headers),
        ("withoutHeaders", &block.without_headers),
        ("queryParams", &block.query_params),
    ] {
        common::part(findings, &format!("{path}.{name}"), map.len());
    }
    request.query = query(findings, &format!("{path}.queryParams"), &block.query_params);
    empty_prefixes(findings, path, &request);
    request
}

/// `:method`, `:path`, `:authority` and `:scheme` among the headers mean the fields of those names.
fn headers(
    findings: &mut Findings,
    path: &str,
    map: &BTreeMap<String, WrittenString>,
    request: &mut HttpMatch,
) {
    for (key, written) in map {
        let at = format!("{path}.{key}");
        if OWN_FIELDS.contains(&key.as_str()) {
            findings.warn(&at, format!("has no effect here; write the field `{key}` of the match"));
            continue;
        }
        let Some(value) = common::string_match(findings, &at, written, true) else { continue };
        match key.as_str() {
            ":method" => request.method = Some(value),
            ":authority" => request.authority = Some(value),
            ":scheme" => request.scheme = Some(value),
            ":path" => request.uri = Some(value),
            _ => request.headers.extend(common::header_name(findings, &at, key).map(|name| (name, value))),
        }
    }
}

fn names(
    findings: &mut Findings,
    path: &str,
    map: &BTreeMap<String, WrittenString>,
) -> Vec<(HeaderName, StringMatch)> {
    let mut all = Vec::new();
    for (key, written) in map {
        let at = format!("{path}.{key}");
        let value = common::string_match(findings, &at, written, true);
        all.extend(common::header_name(findings, &at, key).zip(value));
    }
    all
}

fn query(
    findings: &mut Findings,
    path: &str,
    map: &BTreeMap<String, WrittenString>,
) -> Vec<(Arc<str>, StringMatch)> {
    let read = |(key, written): (&String, &WrittenString)| {
        let value = common::string_match(findings, &format!("{path}.{key}"), written, true)?;
        Some((key.as_str().into(), value))
    };
    map.iter().filter_map(read).collect()
}

/// An empty prefix matches everything: allowed on the path, where people write it, elsewhere a slip.
fn empty_prefixes(findings: &mut Findings, path: &str, request: &HttpMatch) {
    let empty = |m: &StringMatch| matches!(m, StringMatch::Prefix(text) if text.is_empty());
    let fields =
        [("scheme", &request.scheme), ("method", &request.method), ("authority", &request.authority)];
    let single = fields.into_iter().filter_map(|(name, m)| m.as_ref().map(|m| (name.to_owned(), m)));
    let without = request.without_headers.iter().map(|(name, m)| (format!("withoutHeaders.{name}"), m));
    let listed = request.headers.iter().map(|(name, m)| (format!("headers.{name}"), m)).chain(without);
    let query = request.query.iter().map(|(name, m)| (format!("queryParams.{name}"), m));
    for (name, _) in single.chain(listed).chain(query).filter(|(_, m)| empty(m)).collect::<Vec<_>>() {
        findings.error(
            format!("{path}.{name}.prefix"),
            "an empty prefix matches everything; `{}` asks for presence",
        );
    }
}
