//! Who may do what (AuthorizationPolicy).
//!
//! First every DENY, then the ALLOWs: a policy that could not be understood denies everything, one DENY that matches
//! denies, no ALLOW at all allows, else one ALLOW must match. Policies on dry run have no say; what they would have
//! said is told beside the decision.
//!
//! Where a condition can be read in two ways, each policy takes the reading that keeps out: a DENY matches if any
//! reading does, an ALLOW only if the plain one does. On opaque connections conditions on HTTP never let an ALLOW
//! match, and never keep a DENY from matching.

use std::sync::Arc;

use http::HeaderName;

use crate::http::path::PathRules;
use crate::http::request::Strictness;
use crate::model::name::ObjectName;
use crate::model::policy::{Action, AuthorizationPolicy, Condition, Operation, Rule, Source};
use crate::model::workload::Inbound;
use crate::reason::Reason;

pub use facts::{HttpFacts, NormalAuthority, RequestFacts};

/// What a policy is asked about, and how it is read.
mod facts;
/// URI templates.
mod template;
/// Whether a rule matches.
mod rule;

/// A policy, and the rule of it that matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct By<'p> {
    /// The policy.
    pub policy: &'p ObjectName,
    /// The place of the rule in the policy; `None` where it is no single rule that decided.
    pub rule: Option<usize>,
}

/// Whether a request or connection is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision<'p> {
    /// Let in.
    Allow {
        /// The ALLOW rule that matched; `None`: there is no ALLOW policy.
        by: Option<By<'p>>,
    },
    /// Kept out.
    Deny {
        /// [`Reason::PolicyDenied`] or [`Reason::PolicyNotAllowed`].
        reason: Reason,
        /// What denied; where no ALLOW matched, the first ALLOW policy, without rule.
        by: By<'p>,
    },
}

/// A decision, and what policies on dry run would have decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict<'p> {
    /// What holds.
    pub decision: Decision<'p>,
    /// What the policies on dry run alone would have decided; `None`: there are none.
    pub dry_run: Option<Decision<'p>>,
}

impl Decision<'_> {
    /// Whether it is let in.
    pub fn is_allow(&self) -> bool {
        matches!(self, Self::Allow { .. })
    }
}

/// Decides on a request, or on a connection where the facts have no HTTP.
pub fn authorize<'p>(policies: &'p [Arc<AuthorizationPolicy>], facts: &RequestFacts<'_>) -> Verdict<'p> {
    let dry_run = policies.iter().any(|policy| policy.dry_run);
    Verdict {
        decision: decide(policies, facts, false),
        dry_run: dry_run.then(|| decide(policies, facts, true)),
    }
}

/// Whether a policy reads paths: then paths that two parties could read in two ways are refused before.
pub fn requires_paths(policies: &[Arc<AuthorizationPolicy>]) -> bool {
    operations(policies).any(|operation| !operation.paths.is_empty())
}

/// How strictly a server's sidecar reads requests: as its policies need it.
pub fn strictness(inbound: &Inbound) -> Strictness {
    Strictness {
        paths: PathRules::new(inbound.path_normalization, requires_paths(&inbound.policies)),
        hosts: operations(&inbound.policies).any(|operation| !operation.hosts.is_empty()),
    }
}

/// The headers that policies read.
pub fn read_headers(policies: &[Arc<AuthorizationPolicy>]) -> Vec<HeaderName> {
    let conditions = policies.iter().flat_map(|policy| &policy.rules).flat_map(|rule| &rule.when);
    let named = conditions.filter_map(|condition| match condition {
        Condition::Header(name, _) => Some(name.clone()),
        _ => None,
    });
    named.collect()
}

/// Whether a policy reads anything that only HTTP requests have.
pub fn needs_http(policies: &[Arc<AuthorizationPolicy>]) -> bool {
    policies.iter().flat_map(|policy| &policy.rules).any(rule_needs_http)
}

fn decide<'p>(
    policies: &'p [Arc<AuthorizationPolicy>],
    facts: &RequestFacts<'_>,
    dry_run: bool,
) -> Decision<'p> {
    let those = || policies.iter().filter(move |policy| policy.dry_run == dry_run);
    if let Some(by) = those().find_map(|policy| denies(policy, facts)) {
        return Decision::Deny { reason: Reason::PolicyDenied, by };
    }
    let mut allows = those().filter(|policy| policy.action == Action::Allow);
    let Some(first) = allows.next() else { return Decision::Allow { by: None } };
    match std::iter::once(first).chain(allows).find_map(|policy| matching(policy, facts)) {
        Some(by) => Decision::Allow { by: Some(by) },
        None => {
            let by = By { policy: &first.name, rule: None };
            Decision::Deny { reason: Reason::PolicyNotAllowed, by }
        }
    }
}

fn denies<'p>(policy: &'p AuthorizationPolicy, facts: &RequestFacts<'_>) -> Option<By<'p>> {
    match policy.action {
        Action::FailClosed => Some(By { policy: &policy.name, rule: None }),
        Action::Deny => matching(policy, facts),
        Action::Allow => None,
    }
}

fn matching<'p>(policy: &'p AuthorizationPolicy, facts: &RequestFacts<'_>) -> Option<By<'p>> {
    let denies = policy.action == Action::Deny;
    let rule = policy.rules.iter().position(|rule| rule::matches(rule, facts, denies))?;
    Some(By { policy: &policy.name, rule: Some(rule) })
}

fn operations(policies: &[Arc<AuthorizationPolicy>]) -> impl Iterator<Item = &Operation> {
    policies.iter().flat_map(|policy| &policy.rules).flat_map(|rule| &rule.to)
}

fn rule_needs_http(rule: &Rule) -> bool {
    let source = |source: &Source| !source.remote_ip_blocks.is_empty();
    let operation = |o: &Operation| !(o.hosts.is_empty() && o.methods.is_empty() && o.paths.is_empty());
    let condition = |c: &Condition| matches!(c, Condition::Header(..) | Condition::RemoteIp(_));
    rule.from.iter().any(source) || rule.to.iter().any(operation) || rule.when.iter().any(condition)
}

#[cfg(test)]
mod tests;
