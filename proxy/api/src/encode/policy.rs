//! Authorization policies.

use std::sync::Arc;

use ipnet::IpNet;
use weft_core::matching::Wildcard;
use weft_core::model::policy::{
    Action, AuthorizationPolicy, Condition, Operation, PathPattern, Rule, Source, TemplateSegment, ValueMatch,
};

use super::common::{network, object_name, wildcard};
use crate::pb::config as pb;

pub(super) fn policy(policy: &AuthorizationPolicy) -> pb::AuthorizationPolicy {
    pb::AuthorizationPolicy {
        name: Some(object_name(&policy.name)),
        action: action(policy.action).into(),
        dry_run: policy.dry_run,
        rules: policy.rules.iter().map(rule).collect(),
    }
}

fn action(action: Action) -> pb::Action {
    match action {
        Action::Allow => pb::Action::Allow,
        Action::Deny => pb::Action::Deny,
        Action::FailClosed => pb::Action::FailClosed,
    }
}

fn rule(rule: &Rule) -> pb::Rule {
    pb::Rule {
        from: rule.from.iter().map(source).collect(),
        to: rule.to.iter().map(operation).collect(),
        when: rule.when.iter().map(condition).collect(),
    }
}

fn source(source: &Source) -> pb::Source {
    pb::Source {
        principals: wildcards(&source.principals),
        namespaces: wildcards(&source.namespaces),
        service_accounts: accounts(&source.service_accounts),
        trust_domains: wildcards(&source.trust_domains),
        ip_blocks: networks(&source.ip_blocks),
        remote_ip_blocks: networks(&source.remote_ip_blocks),
    }
}

fn operation(operation: &Operation) -> pb::Operation {
    pb::Operation {
        hosts: wildcards(&operation.hosts),
        ports: ports(&operation.ports),
        methods: wildcards(&operation.methods),
        paths: paths(&operation.paths),
    }
}

fn condition(condition: &Condition) -> pb::Condition {
    use pb::condition::Key;
    let key = match condition {
        Condition::Header(name, values) => {
            Key::Header(pb::HeaderCondition { name: name.as_str().to_owned(), values: wildcards(values) })
        }
        Condition::SourceIp(values) => Key::SourceIp(all_networks(values)),
        Condition::RemoteIp(values) => Key::RemoteIp(all_networks(values)),
        Condition::SourceNamespace(values) => Key::SourceNamespace(all_wildcards(values)),
        Condition::SourcePrincipal(values) => Key::SourcePrincipal(all_wildcards(values)),
        Condition::SourceServiceAccount(values) => Key::SourceServiceAccount(all_accounts(values)),
        Condition::SourceTrustDomain(values) => Key::SourceTrustDomain(all_wildcards(values)),
        Condition::DestinationIp(values) => Key::DestinationIp(all_networks(values)),
        Condition::DestinationPort(values) => Key::DestinationPort(all_ports(values)),
        Condition::Sni(values) => Key::Sni(all_wildcards(values)),
    };
    pb::Condition { key: Some(key) }
}

/// Both lists, each value mapped.
fn both<T, M>(values: &ValueMatch<T>, one: impl Fn(&T) -> M) -> (Vec<M>, Vec<M>) {
    (values.values.iter().map(&one).collect(), values.not_values.iter().map(&one).collect())
}

fn wildcards(values: &ValueMatch<Wildcard>) -> Option<pb::WildcardValues> {
    (!values.is_empty()).then(|| all_wildcards(values))
}

fn all_wildcards(values: &ValueMatch<Wildcard>) -> pb::WildcardValues {
    let (values, not_values) = both(values, wildcard);
    pb::WildcardValues { values, not_values }
}

fn networks(values: &ValueMatch<IpNet>) -> Option<pb::NetworkValues> {
    (!values.is_empty()).then(|| all_networks(values))
}

fn all_networks(values: &ValueMatch<IpNet>) -> pb::NetworkValues {
    let (values, not_values) = both(values, network);
    pb::NetworkValues { values, not_values }
}

fn ports(values: &ValueMatch<u16>) -> Option<pb::PortValues> {
    (!values.is_empty()).then(|| all_ports(values))
}

fn all_ports(values: &ValueMatch<u16>) -> pb::PortValues {
    let (values, not_values) = both(values, |port| u32::from(*port));
    pb::PortValues { values, not_values }
}

fn accounts(values: &ValueMatch<(Arc<str>, Arc<str>)>) -> Option<pb::AccountValues> {
    (!values.is_empty()).then(|| all_accounts(values))
}

fn all_accounts(values: &ValueMatch<(Arc<str>, Arc<str>)>) -> pb::AccountValues {
    let account = |(namespace, name): &(Arc<str>, Arc<str>)| pb::Account {
        namespace: namespace.to_string(),
        name: name.to_string(),
    };
    let (values, not_values) = both(values, account);
    pb::AccountValues { values, not_values }
}

fn paths(values: &ValueMatch<PathPattern>) -> Option<pb::PathValues> {
    let (some, none) = both(values, path);
    (!values.is_empty()).then_some(pb::PathValues { values: some, not_values: none })
}

fn path(pattern: &PathPattern) -> pb::PathPattern {
    use pb::path_pattern::Kind;
    let kind = match pattern {
        PathPattern::Wildcard(it) => Kind::Wildcard(wildcard(it)),
        PathPattern::Template(segments) => {
            Kind::Template(pb::PathTemplate { segments: segments.iter().map(segment).collect() })
        }
    };
    pb::PathPattern { kind: Some(kind) }
}

fn segment(segment: &TemplateSegment) -> pb::TemplateSegment {
    use pb::template_segment::Kind;
    let kind = match segment {
        TemplateSegment::Literal(text) => Kind::Literal(text.to_string()),
        TemplateSegment::One => Kind::One(true),
        TemplateSegment::Rest => Kind::Rest(true),
    };
    pb::TemplateSegment { kind: Some(kind) }
}
