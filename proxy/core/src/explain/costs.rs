//! What configuration costs without saying so: rules that no request reaches, subsets without endpoints, ports that do
//! not say what they carry.

use crate::matching::StringMatch;
use crate::model::protocol::Protocol;
use crate::model::route::{HttpAction, HttpMatch};
use crate::snapshot::{PortState, RuleState, ServiceState};

use super::words;

/// All that is worth knowing of a port and its rules.
pub fn of_port(service: &ServiceState, port: &PortState) -> Vec<String> {
    let mut notes: Vec<String> = hidden_protocol(service, port).into_iter().collect();
    notes.extend(shadowed(&port.rules));
    notes.extend(empty_subsets(port));
    notes
}

fn hidden_protocol(service: &ServiceState, port: &PortState) -> Option<String> {
    let of = format!("port {} of {}", port.number, service.service.name.host);
    let name = if port.name.is_empty() { "without a name".into() } else { format!("named `{}`", port.name) };
    match port.protocol {
        Protocol::Auto => Some(format!(
            "{of}, {name}, does not say what it carries: the first bytes of each connection decide; write appProtocol: \
             http, or begin its name with http-"
        )),
        Protocol::Tcp | Protocol::Tls => Some(format!(
            "{of}, {name}, is {}: if it carries HTTP, its name hides that, and no rule for HTTP has an effect",
            words::protocol(port.protocol)
        )),
        _ => None,
    }
}

/// Rules that no request reaches, because an earlier one takes all of theirs.
fn shadowed(rules: &[std::sync::Arc<RuleState>]) -> Vec<String> {
    let hidden = |(at, rule): (usize, &std::sync::Arc<RuleState>)| {
        let by = rules[..at].iter().find(|earlier| takes_all(&earlier.rule.matches, &rule.rule.matches))?;
        let (late, early) = (words::source(&rule.rule.source), words::source(&by.rule.source));
        Some(format!("{late} is shadowed: {early} takes every request that it would"))
    };
    rules.iter().enumerate().filter_map(hidden).collect()
}

/// Whether whatever matches one of `later` matches one of `earlier`, as far as that can be told block by block.
fn takes_all(earlier: &[HttpMatch], later: &[HttpMatch]) -> bool {
    let any = [HttpMatch::default()];
    let later = if later.is_empty() { &any[..] } else { later };
    earlier.is_empty() || later.iter().all(|block| earlier.iter().any(|wide| covers(wide, block)))
}

/// Whether all that fulfils `narrow` fulfils `wide`.
fn covers(wide: &HttpMatch, narrow: &HttpMatch) -> bool {
    let same_case = !narrow.ignore_uri_case || wide.ignore_uri_case || narrow.uri.is_none();
    let pairs = |wide: &[(http::HeaderName, StringMatch)], narrow: &[(http::HeaderName, StringMatch)]| {
        wide.iter().all(|(name, w)| narrow.iter().any(|(n, m)| n == name && includes(w, m)))
    };
    let query =
        wide.query.iter().all(|(name, w)| narrow.query.iter().any(|(n, m)| n == name && includes(w, m)));
    let without = wide.without_headers.iter().all(|pair| narrow.without_headers.contains(pair));
    let each = [
        (&wide.uri, &narrow.uri),
        (&wide.method, &narrow.method),
        (&wide.authority, &narrow.authority),
        (&wide.scheme, &narrow.scheme),
    ];
    let texts = each.iter().all(|(wide, narrow)| match (wide, narrow) {
        (None, _) => true,
        (Some(wide), Some(narrow)) => includes(wide, narrow),
        (Some(wide), None) => *wide == StringMatch::Prefix("/".into()),
    });
    same_case && texts && query && without && pairs(&wide.headers, &narrow.headers)
}

fn includes(wide: &StringMatch, narrow: &StringMatch) -> bool {
    match (wide, narrow) {
        (StringMatch::Present, _) => true,
        (wide, StringMatch::Exact(text)) => wide.matches(text),
        (StringMatch::Prefix(wide), StringMatch::Prefix(narrow)) => narrow.starts_with(&**wide),
        (wide, narrow) => wide == narrow,
    }
}

/// Destinations of any rule that have no endpoint, or no cluster at all.
fn empty_subsets(port: &PortState) -> Vec<String> {
    let mut notes = Vec::new();
    for rule in &port.rules {
        let HttpAction::Forward(_) = &rule.rule.action else { continue };
        for target in rule.targets() {
            let place = words::source(&rule.rule.source);
            let name = &target.destination.cluster;
            let Some(subset) = &name.subset else { continue };
            let empty = target.cluster.is_some_and(|cluster| cluster.endpoints.is_empty());
            if empty {
                let labels = target.cluster.map(|c| shown_labels(&c.cluster.labels)).unwrap_or_default();
                notes.push(format!(
                    "{place}: subset {subset} of {} has no endpoint: no ready pod has the labels {labels}",
                    name.service.host
                ));
            }
        }
    }
    notes
}

/// `version=v1`.
pub fn shown_labels(labels: &[(std::sync::Arc<str>, std::sync::Arc<str>)]) -> String {
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(uri: StringMatch) -> HttpMatch {
        HttpMatch { uri: Some(uri), ..HttpMatch::default() }
    }

    #[test]
    fn a_wider_rule_before_hides_a_narrower_one() {
        let (api, v1) = (StringMatch::Prefix("/api".into()), StringMatch::Exact("/api/v1".into()));
        assert!(takes_all(&[], &[path(v1.clone())]) && takes_all(&[], &[]));
        assert!(takes_all(&[path(api.clone())], &[path(v1.clone())]));
        assert!(!takes_all(&[path(v1.clone())], &[path(api.clone())]));
        assert!(!takes_all(&[path(api.clone())], &[]));
        assert!(!takes_all(&[path(api.clone())], &[path(v1), path(StringMatch::Prefix("/b".into()))]));
        assert!(takes_all(&[path(StringMatch::Prefix("/".into()))], &[HttpMatch::default()]));
        let post = HttpMatch { method: Some(StringMatch::Exact("POST".into())), ..path(api.clone()) };
        assert!(covers(&path(api.clone()), &post) && !covers(&post, &path(api)));
    }
}
