//! The rule that a request takes, those that it does not, and what the rule changes, in words.

use std::sync::Arc;

use http::request::Parts;

use crate::http::request::authority;
use crate::model::name::ClusterName;
use crate::model::route::HttpMatch;
use crate::route::{self, Matched, RequestView, RuleState, Target};
use crate::snapshot::PortState;

use super::told::{RouteTaken, Step};
use super::{bytes, words};

/// The rules before the one that is taken, and what each asks that the request has not.
pub(super) fn passed_over(port: &PortState, request: &RequestView<'_>) -> Vec<Step> {
    let taken = route::find(&port.rules, request).map(|matched| Arc::as_ptr(matched.rule));
    let before = port.rules.iter().take_while(|rule| Some(Arc::as_ptr(rule)) != taken);
    let tell = |rule: &Arc<RuleState>| {
        let lacks = |block: &HttpMatch| {
            let failed = words::conditions(block).into_iter().filter(|(_, one)| !route::holds(one, request));
            failed.map(|(text, _)| text).collect::<Vec<_>>().join(" and ")
        };
        let lacks: Vec<String> = rule.rule.matches.iter().map(lacks).collect();
        let says =
            format!("not {}, which asks for {}", words::source(&rule.rule.source), lacks.join(", or "));
        Step::client("passed over", says)
    };
    before.map(tell).collect()
}

pub(super) fn route_of(matched: &Matched<'_>) -> RouteTaken {
    let source = &matched.rule.rule.source;
    RouteTaken {
        object: source.object.as_ref().map(ToString::to_string),
        rule: source.path.to_string(),
        name: source.object.as_ref().map(|_| source.name.to_string()).unwrap_or_default(),
    }
}

pub(super) fn taken(matched: &Matched<'_>) -> String {
    let source = words::source(&matched.rule.rule.source);
    match matched.by {
        Some(block) => format!("{source}, because {}", words::block(block)),
        None => source,
    }
}

/// `subset v1 of reviews.default.svc.cluster.local`.
pub(super) fn short(name: &ClusterName) -> String {
    match &name.subset {
        Some(subset) => format!("subset {subset} of {}", name.service.host),
        None => format!("{} port {}", name.service.host, name.port),
    }
}

/// What the rule changes in the request.
pub(super) fn rewritten(matched: &Matched<'_>, target: &Target<'_>, parts: &Parts) -> Vec<Step> {
    let mut steps = Vec::new();
    if target.forward.rewrite.path.is_some() {
        steps.push(Step::client("rewrite", format!("the path becomes {}", bytes::target(parts))));
    }
    if route::headers::new_authority(matched.rule, target).is_some() {
        let to = authority(&parts.uri, &parts.headers);
        steps.push(Step::client("rewrite", format!("the authority becomes {to}")));
    }
    let both = [&matched.rule.rule.request_headers, &target.destination.request_headers];
    let headers: Vec<String> = both.into_iter().filter_map(words::header_operations).collect();
    if !headers.is_empty() {
        steps.push(Step::client("headers", headers.join("; then ")));
    }
    steps
}
