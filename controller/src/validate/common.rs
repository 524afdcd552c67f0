//! Checks that several kinds share.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use ipnet::IpNet;
use serde_json::Value;
use weft_api::limits;
use weft_core::matching::{Pattern, StringMatch};
use weft_core::model::metadata::Labels;
use weft_core::model::route::HeaderOps;
use weft_crds::scalar;
use weft_crds::virtual_service::action::HeaderChanges;
use weft_crds::virtual_service::matching as written;

use super::findings::Findings;
use crate::fragment::mesh::CLUSTER_DOMAIN;
use crate::fragment::meta::{Selector, Visibility};

/// The most entries of one list (hosts, rules, subsets, values).
pub const LIST_LIMIT: usize = 4096;
/// The most conditions, destinations, header operations or labels of one rule: what a sidecar takes.
pub const PART_LIMIT: usize = limits::MAX_CONDITIONS;
/// The largest object of the mesh's own kinds, in bytes of its texts: what the API server takes.
pub const OBJECT_LIMIT: usize = 3 << 19;
/// The longest text that is matched or written, in bytes.
pub const TEXT_LIMIT: usize = 8192;

/// A host, fully qualified and in lower case; a short name stands in the object's namespace.
pub fn host(findings: &mut Findings, path: &str, text: &str, namespace: &str) -> Option<Arc<str>> {
    let lower = text.trim_end_matches('.').to_ascii_lowercase();
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let name = lower.strip_prefix("*.").unwrap_or(&lower);
    let ip = std::net::IpAddr::from_str(&lower).is_ok();
    match lower.as_str() {
        "" => {
            findings.error(
                path,
                "missing; write a service's name, such as `reviews` or `reviews.shop.svc.cluster.local`",
            );
            None
        }
        "*" => Some("*".into()),
        _ if ip => Some(lower.into()),
        _ if lower.len() > 253 || !name.split('.').all(label) => {
            findings.error(
                path,
                format!("`{text}` is no host: letters, digits, `-` and dots, with `*.` at most in front"),
            );
            None
        }
        short if !short.contains('.') => Some(format!("{short}.{namespace}.svc.{CLUSTER_DOMAIN}").into()),
        _ => Some(lower.into()),
    }
}

/// A duration, of at most ten years.
pub fn duration(findings: &mut Findings, path: &str, text: &scalar::Duration) -> Option<Duration> {
    let value = findings.take(path, text.parse())?;
    if value > limits::MAX_DURATION {
        findings.error(path, format!("`{text}` is longer than ten years; leave it out to mean for ever"));
        return None;
    }
    Some(value)
}

/// A duration that is at least a millisecond, where there is one.
pub fn positive(findings: &mut Findings, path: &str, text: Option<&scalar::Duration>) -> Option<Duration> {
    let value = duration(findings, path, text?)?;
    if value < Duration::from_millis(1) {
        findings.error(path, format!("`{}` is too short; the least is 1ms", text?));
        return None;
    }
    Some(value)
}

/// A number from `min` to `max`, where there is one.
pub fn number(
    findings: &mut Findings,
    path: &str,
    value: Option<scalar::Int>,
    range: (i64, i64),
) -> Option<u32> {
    let number = findings.take(path, value?.within(range.0, range.1))?;
    u32::try_from(number).ok()
}

/// A port, where there is one.
pub fn port(findings: &mut Findings, path: &str, value: Option<scalar::Int>) -> Option<u16> {
    findings.take(path, value?.port())
}

/// Labels that select, checked as Kubernetes checks them.
pub fn selector(findings: &mut Findings, path: &str, labels: &BTreeMap<String, String>) -> Selector {
    part(findings, path, labels.len());
    for (key, value) in labels {
        if key.is_empty() || key.len() > 317 {
            findings.error(format!("{path}.{key}"), "a label's key has 1 to 317 characters");
        }
        if value.contains('*') {
            findings.error(
                format!("{path}.{key}"),
                "labels are matched as they are, `*` stands for itself and is in no label",
            );
        }
    }
    Selector(labels.iter().map(|(key, value)| (key.as_str().into(), value.as_str().into())).collect())
}

/// Labels in the order of the model.
pub fn labels(labels: &BTreeMap<String, String>) -> Labels {
    labels.iter().map(|(key, value)| (key.as_str().into(), value.as_str().into())).collect()
}

/// `exportTo`.
pub fn visibility(findings: &mut Findings, path: &str, list: &[String], namespace: &str) -> Visibility {
    let everyone = list.iter().any(|entry| entry == "*");
    if everyone && list.len() > 1 {
        findings.error(path, "`*` stands alone: it is every namespace");
    }
    if list.is_empty() || everyone {
        return Visibility::Everyone;
    }
    let one = |entry: &String| match entry.as_str() {
        "." => namespace.into(),
        "~" => "".into(),
        name => name.into(),
    };
    Visibility::Namespaces(list.iter().map(one).collect())
}

/// Notes a list that is too long.
pub fn bounded<T>(findings: &mut Findings, path: &str, list: &[T]) {
    at_most(findings, path, list.len(), LIST_LIMIT, "entries");
}

/// Notes a part of a rule that is too long.
pub fn part(findings: &mut Findings, path: &str, length: usize) {
    at_most(findings, path, length, PART_LIMIT, "entries");
}

fn at_most(findings: &mut Findings, path: &str, count: usize, most: usize, what: &str) {
    if count > most {
        findings.error(path, format!("has {count} {what}; the most is {most}"));
    }
}

/// Notes more regular expressions than a sidecar takes of one service.
pub fn few_regexes(findings: &mut Findings, path: &str, rules: &Value) {
    at_most(findings, path, regexes(rules), limits::MAX_REGEXES, "regular expressions");
}

fn regexes(value: &Value) -> usize {
    let is_regex =
        |name: &str, value: &Value| matches!(name, "regex" | "uriRegexRewrite") && !value.is_null();
    match value {
        Value::Array(list) => list.iter().map(regexes).sum(),
        Value::Object(map) => {
            map.iter().map(|(name, value)| usize::from(is_regex(name, value)) + regexes(value)).sum()
        }
        _ => 0,
    }
}

/// How many bytes the texts of a value have, names of fields among them, about as they are written.
pub fn weight(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len() + 2,
        Value::Array(list) => list.iter().map(|item| weight(item) + 1).sum::<usize>() + 2,
        Value::Object(map) => map.iter().map(|(key, item)| key.len() + 4 + weight(item)).sum::<usize>() + 2,
        Value::Null | Value::Bool(_) | Value::Number(_) => 4,
    }
}

/// A network or a single address.
pub fn network(findings: &mut Findings, path: &str, text: &str) -> Option<IpNet> {
    let parsed =
        text.parse::<IpNet>().ok().or_else(|| text.parse::<std::net::IpAddr>().ok().map(IpNet::from));
    if parsed.is_none() {
        findings.error(path, format!("`{text}` is no network; write `10.0.0.0/8`, or one address"));
    }
    parsed.map(|net| net.trunc())
}

/// A header's name in lower case; pseudo-headers are not headers here.
pub fn header_name(findings: &mut Findings, path: &str, text: &str) -> Option<HeaderName> {
    let name = HeaderName::from_str(text);
    if name.is_err() {
        findings.error(path, format!("`{text}` is no header name"));
    }
    name.ok()
}

/// `exact`, `prefix`, `regex`, or nothing, which is presence where `presence` says that it makes sense.
pub fn string_match(
    findings: &mut Findings,
    path: &str,
    written: &written::StringMatch,
    presence: bool,
) -> Option<StringMatch> {
    let too_long = |text: &Option<String>| text.as_ref().is_some_and(|t| t.len() > TEXT_LIMIT);
    if too_long(&written.exact) || too_long(&written.prefix) {
        findings.error(path, format!("longer than {TEXT_LIMIT} bytes"));
        return None;
    }
    match (&written.exact, &written.prefix, &written.regex) {
        (None, None, None) if presence => Some(StringMatch::Present),
        (Some(text), None, None) => Some(StringMatch::Exact(text.as_str().into())),
        (None, Some(text), None) => Some(StringMatch::Prefix(text.as_str().into())),
        (None, None, Some(text)) if text == "*" && presence => Some(StringMatch::Present),
        (None, None, Some(text)) => {
            findings.take(&format!("{path}.regex"), Pattern::new(text)).map(StringMatch::Regex)
        }
        (None, None, None) => {
            findings.error(path, "says nothing; write one of exact, prefix, regex");
            None
        }
        _ => {
            findings.error(path, "says several things; write one of exact, prefix, regex");
            None
        }
    }
}

/// Headers that frame a message or belong to one connection: the proxy writes them.
const FRAMING: [&str; 8] = [
    "connection",
    "content-length",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// `headers.request`.
pub fn request_ops(findings: &mut Findings, path: &str, changes: Option<&HeaderChanges>) -> HeaderOps {
    header_ops(findings, &format!("{path}.request"), changes)
}

/// `headers.response`: a response has no Host to change.
pub fn response_ops(findings: &mut Findings, path: &str, changes: Option<&HeaderChanges>) -> HeaderOps {
    let path = format!("{path}.response");
    for (list, map) in changes.iter().flat_map(|changes| [("set", &changes.set), ("add", &changes.add)]) {
        for name in map.keys().filter(|name| is_host(name)) {
            findings.error(
                format!("{path}.{list}.{name}"),
                format!("`{name}` is of requests, a response has none"),
            );
        }
    }
    header_ops(findings, &path, changes)
}

/// `remove`, `set`, `add`.
fn header_ops(findings: &mut Findings, path: &str, changes: Option<&HeaderChanges>) -> HeaderOps {
    let Some(changes) = changes else { return HeaderOps::default() };
    let lists = [("set", &changes.set), ("add", &changes.add)];
    let names =
        lists.iter().flat_map(|(list, map)| map.keys().map(move |name| (format!("{list}.{name}"), name)));
    let removed = changes.remove.iter().enumerate().map(|(i, name)| (format!("remove[{i}]"), name));
    for (at, name) in names.chain(removed) {
        if FRAMING.contains(&name.to_ascii_lowercase().as_str()) {
            findings.error(
                format!("{path}.{at}"),
                format!("`{name}` frames the message, and is the proxy's to write"),
            );
        }
    }
    let mut ops = HeaderOps::default();
    part(findings, &format!("{path}.remove"), changes.remove.len());
    for (i, name) in changes.remove.iter().enumerate() {
        let at = format!("{path}.remove[{i}]");
        refuse_host(findings, &at, name, "cannot be removed");
        ops.remove.extend(header_name(findings, &at, name));
    }
    ops.set = values(findings, &format!("{path}.set"), &changes.set);
    ops.add = values(findings, &format!("{path}.add"), &changes.add);
    ops
}

fn values(
    findings: &mut Findings,
    path: &str,
    map: &BTreeMap<String, String>,
) -> Vec<(HeaderName, HeaderValue)> {
    let mut all = Vec::new();
    part(findings, path, map.len());
    for (name, text) in map {
        let at = format!("{path}.{name}");
        // `:authority` is another spelling of Host, which a header operation may rewrite.
        let name = if name == ":authority" { "host" } else { name };
        let value = literal(findings, &at, text).and_then(|text| {
            let value = HeaderValue::from_str(&text);
            findings.take(&at, value.map_err(|_| format!("`{text}` is no header value")))
        });
        all.extend(header_name(findings, &at, name).zip(value));
    }
    all
}

/// The value with `%%` as `%`; Envoy's format operators (`%REQ(x)%`) are not honoured yet.
fn literal(findings: &mut Findings, path: &str, text: &str) -> Option<String> {
    let plain = text.replace("%%", "\u{0}");
    if plain.contains('%') {
        findings.unhonoured(
            path,
            format!("`{text}` has a format operator; a plain percent sign is written `%%`"),
        );
        return None;
    }
    Some(plain.replace('\u{0}', "%"))
}

fn is_host(name: &str) -> bool {
    name.eq_ignore_ascii_case("host") || name == ":authority"
}

fn refuse_host(findings: &mut Findings, path: &str, name: &str, what: &str) {
    if is_host(name) || name.starts_with(':') {
        findings.error(path, format!("`{name}` {what}: every request has it"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_stand_in_the_objects_namespace() {
        let mut findings = Findings::default();
        let mut shown = |text: &str| host(&mut findings, "h", text, "shop").map(|h| h.to_string());
        assert_eq!(shown("Reviews").as_deref(), Some("reviews.shop.svc.cluster.local"));
        assert_eq!(shown("reviews.prod").as_deref(), Some("reviews.prod"));
        assert_eq!(shown("*.example.com.").as_deref(), Some("*.example.com"));
        assert_eq!(shown("10.0.0.1").as_deref(), Some("10.0.0.1"));
        for bad in ["", "a..b", "a b", "*x.com", "x.*.com", "-a.b", "a/b", "a:80"] {
            assert_eq!(shown(bad), None, "{bad}");
        }
        assert_eq!(findings.errors.len(), 8);
    }

    #[test]
    fn percent_signs_are_doubled_or_not_honoured() {
        let mut findings = Findings::default();
        assert_eq!(literal(&mut findings, "v", "100%%").as_deref(), Some("100%"));
        assert_eq!(literal(&mut findings, "v", "%REQ(x)%"), None);
        assert_eq!(findings.unhonoured.len(), 1);
    }
}
