//! Values of AuthorizationPolicies: patterns, accounts, networks, ports, paths.

use std::sync::Arc;

use ipnet::IpNet;
use weft_core::matching::Wildcard;
use weft_core::model::policy::{PathPattern, TemplateSegment, ValueMatch};

use super::common;
use super::findings::Findings;

/// A field and its `not` twin, read by `read`.
pub fn values<T>(
    findings: &mut Findings,
    path: &str,
    (name, yes): (&str, &[String]),
    no: &[String],
    read: impl Fn(&mut Findings, &str, &[String]) -> Vec<T>,
) -> ValueMatch<T> {
    let (first, rest) = name.split_at(1);
    let not_name = format!("{path}.not{}{rest}", first.to_ascii_uppercase());
    ValueMatch {
        values: read(findings, &format!("{path}.{name}"), yes),
        not_values: read(findings, &not_name, no),
    }
}

/// Patterns, and those of the `not` twin.
pub fn texts(
    findings: &mut Findings,
    path: &str,
    field: (&str, &[String]),
    no: &[String],
) -> ValueMatch<Wildcard> {
    values(findings, path, field, no, wildcards)
}

/// Patterns with at most one `*`, at one end.
pub fn wildcards(findings: &mut Findings, path: &str, list: &[String]) -> Vec<Wildcard> {
    common::bounded(findings, path, list);
    for (i, text) in list.iter().enumerate() {
        if text.is_empty() {
            findings.error(format!("{path}[{i}]"), "is empty and would match nothing");
        } else if text.len() > 1 && text.trim_matches('*').contains('*') {
            findings.warn(
                format!("{path}[{i}]"),
                format!("`{text}` has a `*` in its middle, which stands for itself"),
            );
        }
    }
    list.iter().map(|text| Wildcard::parse(text)).collect()
}

/// Service accounts, `[namespace/]account`.
pub fn accounts_of(
    findings: &mut Findings,
    path: &str,
    list: &[String],
    namespace: &str,
) -> Vec<(Arc<str>, Arc<str>)> {
    let mut all = Vec::new();
    common::bounded(findings, path, list);
    for (i, text) in list.iter().enumerate() {
        let (of, account) = text.split_once('/').unwrap_or((namespace, text));
        if of.is_empty() || account.is_empty() || account.contains('/') || text.contains('*') {
            findings.error(
                format!("{path}[{i}]"),
                format!("`{text}` is no service account; write `name` or `namespace/name`, without `*`"),
            );
        }
        all.push((of.into(), account.into()));
    }
    all
}

/// Networks and addresses.
pub fn networks_of(findings: &mut Findings, path: &str, list: &[String]) -> Vec<IpNet> {
    common::bounded(findings, path, list);
    let all = list.iter().enumerate();
    all.filter_map(|(i, text)| common::network(findings, &format!("{path}[{i}]"), text)).collect()
}

/// Ports, written as text.
pub fn ports(findings: &mut Findings, path: &str, list: &[String]) -> Vec<u16> {
    common::bounded(findings, path, list);
    let read = |(i, text): (usize, &String)| {
        let port = text.parse::<u16>().ok().filter(|port| *port > 0);
        if port.is_none() {
            findings.error(format!("{path}[{i}]"), format!("`{text}` is no port, 1 to 65535"));
        }
        port
    };
    list.iter().enumerate().filter_map(read).collect()
}

/// A path: a text with at most one `*` at one end, or a template with `{*}` and `{**}`.
pub fn path_pattern(findings: &mut Findings, path: &str, text: &str) -> Option<PathPattern> {
    if text.is_empty() {
        findings.error(path, "is empty and would match nothing");
        return None;
    }
    if !text.contains('{') && !text.contains('}') {
        return Some(PathPattern::Wildcard(Wildcard::parse(text)));
    }
    let Some(rest) = text.strip_prefix('/') else {
        findings.error(path, format!("the template `{text}` does not begin with `/`"));
        return None;
    };
    let mut segments = Vec::new();
    for segment in rest.split('/') {
        segments.push(match segment {
            "{*}" => TemplateSegment::One,
            "{**}" => TemplateSegment::Rest,
            literal if literal.contains(['{', '}', '*']) => {
                findings.error(
                    path,
                    format!("`{literal}` is no segment of a template: a text, `{{*}}` or `{{**}}`"),
                );
                return None;
            }
            literal => TemplateSegment::Literal(literal.into()),
        });
    }
    let first_rest = segments.iter().position(|s| *s == TemplateSegment::Rest);
    let operators = |s: &TemplateSegment| !matches!(s, TemplateSegment::Literal(_));
    if first_rest.is_some_and(|at| segments[at + 1..].iter().any(operators)) {
        findings.error(path, format!("in `{text}` an operator follows `{{**}}`, which is the last"));
        return None;
    }
    Some(PathPattern::Template(segments))
}
