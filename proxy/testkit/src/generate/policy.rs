//! Policies.

use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use weft_core::model::policy::{
    Action, AuthorizationPolicy, Condition, Operation, PathPattern, Rule, Source, TemplateSegment, ValueMatch,
};

use super::value::{header_name, namespace, network, object_name, port, text, wildcard, word};

/// A policy.
pub fn policy() -> impl Strategy<Value = AuthorizationPolicy> {
    let action = prop::sample::select(vec![Action::Allow, Action::Deny, Action::FailClosed]);
    (object_name(), action, any::<bool>(), vec(rule(), 0..3))
        .prop_map(|(name, action, dry_run, rules)| AuthorizationPolicy { name, action, dry_run, rules })
}

fn rule() -> impl Strategy<Value = Rule> {
    let parts = (vec(source(), 0..2), vec(operation(), 0..2), vec(condition(), 0..2));
    parts.prop_map(|(from, to, when)| Rule { from, to, when })
}

fn source() -> impl Strategy<Value = Source> {
    let names = (values(wildcard()), values(wildcard()), values(account()), values(wildcard()));
    (names, values(network()), values(network())).prop_map(|(names, ip_blocks, remote_ip_blocks)| {
        let (principals, namespaces, service_accounts, trust_domains) = names;
        Source { principals, namespaces, service_accounts, trust_domains, ip_blocks, remote_ip_blocks }
    })
}

fn operation() -> impl Strategy<Value = Operation> {
    (values(wildcard()), values(port()), values(wildcard()), values(path()))
        .prop_map(|(hosts, ports, methods, paths)| Operation { hosts, ports, methods, paths })
}

fn condition() -> impl Strategy<Value = Condition> {
    prop_oneof![
        (header_name(), values(wildcard())).prop_map(|(name, values)| Condition::Header(name, values)),
        values(network()).prop_map(Condition::SourceIp),
        values(network()).prop_map(Condition::RemoteIp),
        values(wildcard()).prop_map(Condition::SourceNamespace),
        values(wildcard()).prop_map(Condition::SourcePrincipal),
        values(account()).prop_map(Condition::SourceServiceAccount),
        values(wildcard()).prop_map(Condition::SourceTrustDomain),
        values(network()).prop_map(Condition::DestinationIp),
        values(port()).prop_map(Condition::DestinationPort),
        values(wildcard()).prop_map(Condition::Sni),
    ]
}

fn values<T: std::fmt::Debug>(one: impl Strategy<Value = T> + Clone) -> impl Strategy<Value = ValueMatch<T>> {
    (vec(one.clone(), 0..2), vec(one, 0..2))
        .prop_map(|(values, not_values)| ValueMatch { values, not_values })
}

fn account() -> impl Strategy<Value = (Arc<str>, Arc<str>)> + Clone {
    (namespace(), word())
}

fn path() -> impl Strategy<Value = PathPattern> + Clone {
    let segment = prop_oneof![text().prop_map(TemplateSegment::Literal), Just(TemplateSegment::One)];
    let literals = vec(text().prop_map(TemplateSegment::Literal), 0..2);
    let template =
        (vec(segment, 1..3), any::<bool>(), literals).prop_map(|(mut segments, rest, literals)| {
            if rest {
                segments.push(TemplateSegment::Rest);
            }
            segments.extend(literals);
            PathPattern::Template(segments)
        });
    prop_oneof![wildcard().prop_map(PathPattern::Wildcard), template]
}
