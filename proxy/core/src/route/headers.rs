//! Header operations, and the authority that is sent.
//!
//! The rule's operations come first, the destination's after them: where both set a header, the destination's value
//! stays, whether there is one destination or several. Within one set: remove, set, add.
//! `host` is no header here: it becomes the authority of the request, and responses have none.

use http::header::HOST;
use http::{HeaderMap, HeaderValue};

use super::{RuleState, Target};
use crate::model::route::{Destination, HeaderOps};

/// Applies the request operations of a rule, then those of the destination.
pub fn apply_to_request(headers: &mut HeaderMap, rule: &RuleState, destination: Option<&Destination>) {
    apply(headers, &rule.rule.request_headers);
    if let Some(destination) = destination {
        apply(headers, &destination.request_headers);
    }
}

/// Applies the response operations of a rule, then those of the destination.
pub fn apply_to_response(headers: &mut HeaderMap, rule: &RuleState, destination: Option<&Destination>) {
    apply(headers, &rule.rule.response_headers);
    if let Some(destination) = destination {
        apply(headers, &destination.response_headers);
    }
}

/// The authority that replaces the request's: `rewrite.authority`, else a `host` that the rule sets or adds, else one
/// that the destination does.
pub fn new_authority<'a>(rule: &'a RuleState, target: &Target<'a>) -> Option<&'a HeaderValue> {
    let written = target.forward.rewrite.authority.as_ref();
    let by_rule = || host(&rule.rule.request_headers);
    written.or_else(by_rule).or_else(|| host(&target.destination.request_headers))
}

fn apply(headers: &mut HeaderMap, ops: &HeaderOps) {
    for name in ops.remove.iter().filter(|name| *name != HOST) {
        headers.remove(name);
    }
    for (name, value) in ops.set.iter().filter(|(name, _)| name != HOST) {
        headers.insert(name, value.clone());
    }
    for (name, value) in ops.add.iter().filter(|(name, _)| name != HOST) {
        headers.append(name, value.clone());
    }
}

fn host(ops: &HeaderOps) -> Option<&HeaderValue> {
    let named =
        |pairs: &'_ Vec<(http::HeaderName, HeaderValue)>| pairs.iter().position(|(name, _)| name == HOST);
    let set = named(&ops.set).map(|i| &ops.set[i].1);
    set.or_else(|| named(&ops.add).map(|i| &ops.add[i].1))
}
