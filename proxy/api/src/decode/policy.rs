//! Authorization policies.

use std::sync::Arc;

use ipnet::IpNet;
use weft_core::matching::Wildcard;
use weft_core::model::policy::{
    Action, AuthorizationPolicy, Condition, Operation, PathPattern, Rule, Source, TemplateSegment, ValueMatch,
};

use super::common::{object_name, wildcard};
use super::value::{
    At, Result, chosen, fail, header_name, list, namespace, network, port, required, text, variant, word,
};
use crate::limits::{MAX_CONDITIONS, MAX_POLICY_RULES, MAX_VALUES};
use crate::pb::config as pb;

pub(super) fn policy(policy: &pb::AuthorizationPolicy) -> Result<AuthorizationPolicy> {
    Ok(AuthorizationPolicy {
        name: required(policy.name.as_ref()).and_then(object_name).at("name")?,
        action: action(policy.action).at("action")?,
        dry_run: policy.dry_run,
        rules: list("rules", &policy.rules, MAX_POLICY_RULES, rule)?,
    })
}

fn action(action: i32) -> Result<Action> {
    Ok(match variant(action)? {
        pb::Action::Allow => Action::Allow,
        pb::Action::Deny => Action::Deny,
        pb::Action::Unspecified | pb::Action::FailClosed => Action::FailClosed,
    })
}

fn rule(rule: &pb::Rule) -> Result<Rule> {
    Ok(Rule {
        from: list("from", &rule.from, MAX_CONDITIONS, source)?,
        to: list("to", &rule.to, MAX_CONDITIONS, operation)?,
        when: list("when", &rule.when, MAX_CONDITIONS, condition)?,
    })
}

fn source(source: &pb::Source) -> Result<Source> {
    Ok(Source {
        principals: wildcards(source.principals.as_ref()).at("principals")?,
        namespaces: wildcards(source.namespaces.as_ref()).at("namespaces")?,
        service_accounts: accounts(source.service_accounts.as_ref()).at("service_accounts")?,
        trust_domains: wildcards(source.trust_domains.as_ref()).at("trust_domains")?,
        ip_blocks: networks(source.ip_blocks.as_ref()).at("ip_blocks")?,
        remote_ip_blocks: networks(source.remote_ip_blocks.as_ref()).at("remote_ip_blocks")?,
    })
}

fn operation(operation: &pb::Operation) -> Result<Operation> {
    Ok(Operation {
        hosts: wildcards(operation.hosts.as_ref()).at("hosts")?,
        ports: ports(operation.ports.as_ref()).at("ports")?,
        methods: wildcards(operation.methods.as_ref()).at("methods")?,
        paths: paths(operation.paths.as_ref()).at("paths")?,
    })
}

fn condition(condition: &pb::Condition) -> Result<Condition> {
    use pb::condition::Key;
    Ok(match chosen(condition.key.as_ref())? {
        Key::Header(it) => header(it).at("header")?,
        Key::SourceIp(it) => Condition::SourceIp(networks(Some(it)).at("source_ip")?),
        Key::RemoteIp(it) => Condition::RemoteIp(networks(Some(it)).at("remote_ip")?),
        Key::SourceNamespace(it) => Condition::SourceNamespace(wildcards(Some(it)).at("source_namespace")?),
        Key::SourcePrincipal(it) => Condition::SourcePrincipal(wildcards(Some(it)).at("source_principal")?),
        Key::SourceServiceAccount(it) => {
            Condition::SourceServiceAccount(accounts(Some(it)).at("source_service_account")?)
        }
        Key::SourceTrustDomain(it) => {
            Condition::SourceTrustDomain(wildcards(Some(it)).at("source_trust_domain")?)
        }
        Key::DestinationIp(it) => Condition::DestinationIp(networks(Some(it)).at("destination_ip")?),
        Key::DestinationPort(it) => Condition::DestinationPort(ports(Some(it)).at("destination_port")?),
        Key::Sni(it) => Condition::Sni(wildcards(Some(it)).at("sni")?),
    })
}

fn header(header: &pb::HeaderCondition) -> Result<Condition> {
    let name = header_name(&header.name).at("name")?;
    Ok(Condition::Header(name, wildcards(header.values.as_ref()).at("values")?))
}

/// The two lists of a condition, each value decoded.
fn both<M, T>(values: &[M], not_values: &[M], one: impl Fn(&M) -> Result<T>) -> Result<ValueMatch<T>> {
    Ok(ValueMatch {
        values: list("values", values, MAX_VALUES, &one)?,
        not_values: list("not_values", not_values, MAX_VALUES, &one)?,
    })
}

fn wildcards(values: Option<&pb::WildcardValues>) -> Result<ValueMatch<Wildcard>> {
    let Some(it) = values else { return Ok(ValueMatch::default()) };
    both(&it.values, &it.not_values, wildcard)
}

fn networks(values: Option<&pb::NetworkValues>) -> Result<ValueMatch<IpNet>> {
    let Some(it) = values else { return Ok(ValueMatch::default()) };
    both(&it.values, &it.not_values, network)
}

fn ports(values: Option<&pb::PortValues>) -> Result<ValueMatch<u16>> {
    let Some(it) = values else { return Ok(ValueMatch::default()) };
    both(&it.values, &it.not_values, |value| port(*value))
}

fn accounts(values: Option<&pb::AccountValues>) -> Result<ValueMatch<(Arc<str>, Arc<str>)>> {
    let Some(it) = values else { return Ok(ValueMatch::default()) };
    both(&it.values, &it.not_values, account)
}

fn account(account: &pb::Account) -> Result<(Arc<str>, Arc<str>)> {
    Ok((namespace(&account.namespace).at("namespace")?, word(&account.name).at("name")?))
}

fn paths(values: Option<&pb::PathValues>) -> Result<ValueMatch<PathPattern>> {
    let Some(it) = values else { return Ok(ValueMatch::default()) };
    both(&it.values, &it.not_values, path)
}

fn path(pattern: &pb::PathPattern) -> Result<PathPattern> {
    use pb::path_pattern::Kind;
    Ok(match chosen(pattern.kind.as_ref())? {
        Kind::Wildcard(it) => PathPattern::Wildcard(wildcard(it).at("wildcard")?),
        Kind::Template(it) => PathPattern::Template(template(it).at("template")?),
    })
}

fn template(template: &pb::PathTemplate) -> Result<Vec<TemplateSegment>> {
    let segments = list("segments", &template.segments, MAX_CONDITIONS, segment)?;
    if segments.is_empty() {
        return fail("empty").at("segments");
    }
    let mut after = segments.iter().skip_while(|it| **it != TemplateSegment::Rest).skip(1);
    if after.any(|it| !matches!(it, TemplateSegment::Literal(_))) {
        return fail("only literals may follow {**}").at("segments");
    }
    Ok(segments)
}

fn segment(segment: &pb::TemplateSegment) -> Result<TemplateSegment> {
    use pb::template_segment::Kind;
    Ok(match chosen(segment.kind.as_ref())? {
        Kind::Literal(literal) => TemplateSegment::Literal(text(literal).at("literal")?),
        Kind::One(_) => TemplateSegment::One,
        Kind::Rest(_) => TemplateSegment::Rest,
    })
}
