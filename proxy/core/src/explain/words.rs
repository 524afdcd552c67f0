//! Conditions, actions and policies in words.

use std::fmt::Display;
use std::time::Duration;

use crate::matching::StringMatch;
use crate::model::policy::{Condition, Operation, PathPattern, Rule, Source, TemplateSegment, ValueMatch};
use crate::model::protocol::Protocol;
use crate::model::route::{Forward, HeaderOps, HttpMatch, RetryPolicy, RuleSource};

/// The conditions of a block, each in words and as a block of its own.
pub fn conditions(block: &HttpMatch) -> Vec<(String, HttpMatch)> {
    let mut all = Vec::new();
    let mut put = |text: String, one: HttpMatch| all.push((text, one));
    if let Some(uri) = &block.uri {
        let case = if block.ignore_uri_case { ", whatever its case" } else { "" };
        let one = HttpMatch { uri: block.uri.clone(), ignore_uri_case: block.ignore_uri_case, ..none() };
        put(format!("path {}{case}", is(uri)), one);
    }
    if let Some(method) = &block.method {
        put(format!("method {}", is(method)), HttpMatch { method: block.method.clone(), ..none() });
    }
    if let Some(authority) = &block.authority {
        put(
            format!("authority {}", is(authority)),
            HttpMatch { authority: block.authority.clone(), ..none() },
        );
    }
    if let Some(scheme) = &block.scheme {
        put(format!("scheme {}", is(scheme)), HttpMatch { scheme: block.scheme.clone(), ..none() });
    }
    for pair in &block.headers {
        put(
            format!("header {} {}", pair.0, is(&pair.1)),
            HttpMatch { headers: vec![pair.clone()], ..none() },
        );
    }
    for pair in &block.without_headers {
        let one = HttpMatch { without_headers: vec![pair.clone()], ..none() };
        put(format!("not: header {} {}", pair.0, is(&pair.1)), one);
    }
    for pair in &block.query {
        put(format!("query {} {}", pair.0, is(&pair.1)), HttpMatch { query: vec![pair.clone()], ..none() });
    }
    all
}

fn none() -> HttpMatch {
    HttpMatch::default()
}

/// `path begins with "/api" and method is "GET"`; `everything` for a block without conditions.
pub fn block(block: &HttpMatch) -> String {
    let all: Vec<String> = conditions(block).into_iter().map(|(text, _)| text).collect();
    if all.is_empty() { "everything".to_owned() } else { all.join(" and ") }
}

/// `VirtualService default/reviews, http[1]`.
pub fn source(source: &RuleSource) -> String {
    let name = if source.name.is_empty() || source.object.is_none() {
        String::new()
    } else {
        format!(" (`{}`)", source.name)
    };
    match &source.object {
        Some(object) => format!("VirtualService {object}, {}{name}", source.path),
        None => "no VirtualService speaks of it: the service itself".to_owned(),
    }
}

fn is(condition: &StringMatch) -> String {
    match condition {
        StringMatch::Present => "is there".to_owned(),
        StringMatch::Exact(text) => format!("is {text:?}"),
        StringMatch::Prefix(text) => format!("begins with {text:?}"),
        StringMatch::Regex(pattern) => format!("matches {}", pattern.as_str()),
    }
}

/// What is declared of a port.
pub fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Auto => "of no declared protocol",
        Protocol::Http => "HTTP",
        Protocol::Http2 => "HTTP/2",
        Protocol::Grpc => "gRPC",
        Protocol::Tcp => "TCP",
        Protocol::Tls => "TLS",
        Protocol::Udp => "UDP",
    }
}

/// Timeout and retries.
pub fn times(forward: &Forward) -> String {
    let timeout = forward.timeout.map_or_else(|| "no timeout".to_owned(), |t| format!("timeout {}", time(t)));
    format!("{timeout}; {}", retries(&forward.retries))
}

fn retries(policy: &RetryPolicy) -> String {
    if policy.attempts == 0 {
        return "no retries".to_owned();
    }
    let each = policy.per_try_timeout.map(|t| format!(", each try at most {}", time(t))).unwrap_or_default();
    let on = &policy.on;
    let named = [
        (on.safe_default, "what is safe to repeat (Weft's default)"),
        (on.server_error, "5xx"),
        (on.gateway_error, "gateway-error"),
        (on.reset, "reset"),
        (on.reset_before_request, "reset-before-request"),
        (on.connect_failure, "connect-failure"),
        (on.refused_stream, "refused-stream"),
        (on.retriable_4xx, "retriable-4xx"),
    ];
    let mut causes: Vec<String> =
        named.iter().filter(|(said, _)| *said).map(|(_, name)| (*name).to_owned()).collect();
    causes.extend(on.statuses.iter().map(ToString::to_string));
    causes.extend(on.grpc_statuses.iter().map(|status| format!("gRPC {status}")));
    format!("at most {} retries on {}{each}", policy.attempts, causes.join(", "))
}

/// `1.5s`, `250ms`.
pub fn time(time: Duration) -> String {
    format!("{time:?}")
}

/// Header operations; `None` where there are none.
pub fn header_operations(ops: &HeaderOps) -> Option<String> {
    let remove = ops.remove.iter().map(|name| format!("remove {name}"));
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let set = ops.set.iter().map(|(name, value)| format!("set {name}: {}", text(value)));
    let add = ops.add.iter().map(|(name, value)| format!("add {name}: {}", text(value)));
    let all: Vec<String> = remove.chain(set).chain(add).collect();
    (!all.is_empty()).then(|| all.join(", "))
}

/// Of whom a rule speaks; `None`: of everyone.
pub fn who(rule: &Rule) -> Option<String> {
    let sources: Vec<String> = rule.from.iter().map(source_of).collect();
    let anyone = rule.from.is_empty() || sources.iter().any(String::is_empty);
    let of_when = rule.when.iter().filter(|c| is_about_who(c)).map(condition);
    let from = (!anyone).then(|| sources.join(" or "));
    let all: Vec<String> = from.into_iter().chain(of_when).collect();
    (!all.is_empty()).then(|| all.join(" and "))
}

/// What a rule speaks of; `None`: of everything.
pub fn what(rule: &Rule) -> Option<String> {
    let operations: Vec<String> = rule.to.iter().map(operation_of).collect();
    let anything = rule.to.is_empty() || operations.iter().any(String::is_empty);
    (!anything).then(|| operations.join(" or "))
}

/// The other conditions of a rule; `None` where there are none.
pub fn when(rule: &Rule) -> Option<String> {
    let all: Vec<String> = rule.when.iter().filter(|c| !is_about_who(c)).map(condition).collect();
    (!all.is_empty()).then(|| all.join(" and "))
}

/// Whether a condition is about who the caller is.
pub fn is_about_who(condition: &Condition) -> bool {
    matches!(
        condition,
        Condition::SourceIp(_)
            | Condition::RemoteIp(_)
            | Condition::SourceNamespace(_)
            | Condition::SourcePrincipal(_)
            | Condition::SourceServiceAccount(_)
            | Condition::SourceTrustDomain(_)
    )
}

/// A source in words; empty where it asks nothing.
pub fn source_of(source: &Source) -> String {
    joined([
        values("principal", &source.principals),
        values("namespace", &source.namespaces),
        accounts(&source.service_accounts),
        values("trust domain", &source.trust_domains),
        values("address", &source.ip_blocks),
        values("original address", &source.remote_ip_blocks),
    ])
}

/// An operation in words; empty where it asks nothing.
pub fn operation_of(operation: &Operation) -> String {
    let paths = ValueMatch {
        values: operation.paths.values.iter().map(pattern).collect(),
        not_values: operation.paths.not_values.iter().map(pattern).collect(),
    };
    joined([
        values("method", &operation.methods),
        values("path", &paths),
        values("host", &operation.hosts),
        values("port", &operation.ports),
    ])
}

/// A condition of `when` in words.
pub fn condition(condition: &Condition) -> String {
    let text = match condition {
        Condition::Header(name, all) => values(&format!("header {name}"), all),
        Condition::SourceIp(all) => values("source.ip", all),
        Condition::RemoteIp(all) => values("remote.ip", all),
        Condition::SourceNamespace(all) => values("source.namespace", all),
        Condition::SourcePrincipal(all) => values("source.principal", all),
        Condition::SourceServiceAccount(all) => accounts(all),
        Condition::SourceTrustDomain(all) => values("source.trustDomain", all),
        Condition::DestinationIp(all) => values("destination.ip", all),
        Condition::DestinationPort(all) => values("destination.port", all),
        Condition::Sni(all) => values("connection.sni", all),
    };
    text.unwrap_or_default()
}

fn joined<const N: usize>(parts: [Option<String>; N]) -> String {
    parts.into_iter().flatten().collect::<Vec<_>>().join(" and ")
}

fn accounts(all: &ValueMatch<(std::sync::Arc<str>, std::sync::Arc<str>)>) -> Option<String> {
    let shown = |list: &[(std::sync::Arc<str>, std::sync::Arc<str>)]| {
        list.iter().map(|(namespace, name)| format!("{namespace}/{name}")).collect()
    };
    let all = ValueMatch { values: shown(&all.values), not_values: shown(&all.not_values) };
    values("service account", &all)
}

fn values<T: Display>(of: &str, all: &ValueMatch<T>) -> Option<String> {
    let list = |list: &[T]| list.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match (all.values.is_empty(), all.not_values.is_empty()) {
        (true, true) => None,
        (false, true) => Some(format!("{of} {}", list(&all.values))),
        (true, false) => Some(format!("{of} not {}", list(&all.not_values))),
        (false, false) => Some(format!("{of} {} but not {}", list(&all.values), list(&all.not_values))),
    }
}

fn pattern(pattern: &PathPattern) -> String {
    match pattern {
        PathPattern::Wildcard(wildcard) => wildcard.to_string(),
        PathPattern::Template(segments) => segments.iter().fold(String::new(), |text, segment| {
            let word = match segment {
                TemplateSegment::Literal(word) => word,
                TemplateSegment::One => "{*}",
                TemplateSegment::Rest => "{**}",
            };
            text + "/" + word
        }),
    }
}

/// Some of these, and how many more there are.
pub fn listed(all: &[String], most: usize) -> String {
    let first = all.iter().take(most).cloned().collect::<Vec<_>>().join(", ");
    match all.len().saturating_sub(most) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matching::Wildcard;

    fn any(values: &[&str]) -> ValueMatch<Wildcard> {
        ValueMatch { values: values.iter().map(|v| Wildcard::parse(v)).collect(), not_values: vec![] }
    }

    #[test]
    fn blocks_are_told_condition_by_condition() {
        let exact = StringMatch::Exact("premium".into());
        let it = HttpMatch {
            uri: Some(StringMatch::Prefix("/api".into())),
            headers: vec![(http::HeaderName::from_static("end-user"), exact)],
            ..HttpMatch::default()
        };
        assert_eq!(block(&it), "path begins with \"/api\" and header end-user is \"premium\"");
        assert_eq!(block(&HttpMatch::default()), "everything");
        assert!(conditions(&it).iter().all(|(_, one)| conditions(one).len() == 1));
    }

    #[test]
    fn rules_of_policies_say_who_what_and_when() {
        let source = Source { principals: any(&["a/ns/b/sa/c"]), ..Source::default() };
        let operation = Operation { methods: any(&["GET", "POST"]), ..Operation::default() };
        let header = Condition::Header(http::header::AUTHORIZATION, any(&["Bearer *"]));
        let rule = Rule { from: vec![source], to: vec![operation], when: vec![header] };
        assert_eq!(who(&rule).as_deref(), Some("principal a/ns/b/sa/c"));
        assert_eq!(what(&rule).as_deref(), Some("method GET, POST"));
        assert_eq!(when(&rule).as_deref(), Some("header authorization Bearer *"));
        let open = Rule { from: vec![Source::default()], ..Rule::default() };
        assert_eq!((who(&open), what(&open), when(&open)), (None, None, None));
    }
}
