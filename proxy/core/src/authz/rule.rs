//! Whether a rule matches.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::facts::{HttpFacts, Reading, RequestFacts};
use super::template;
use crate::identity::SpiffeId;
use crate::matching::Wildcard;
use crate::model::policy::{Condition, Operation, PathPattern, Rule, Source, ValueMatch};

/// Whether someone of `from` does something of `to` and all of `when` holds; `denies` is the sense of the policy.
pub(super) fn matches(rule: &Rule, facts: &RequestFacts<'_>, denies: bool) -> bool {
    let asked = Asked { facts, denies };
    (rule.from.is_empty() || rule.from.iter().any(|source| asked.source(source)))
        && (rule.to.is_empty() || rule.to.iter().any(|operation| asked.operation(operation)))
        && rule.when.iter().all(|condition| asked.condition(condition))
}

/// A request or connection, and the sense of the policy that asks.
struct Asked<'a> {
    facts: &'a RequestFacts<'a>,
    denies: bool,
}

impl Asked<'_> {
    fn source(&self, source: &Source) -> bool {
        let facts = self.facts;
        self.principal(&source.principals)
            && self.namespace(&source.namespaces)
            && self.account(&source.service_accounts)
            && self.trust_domain(&source.trust_domains)
            && in_blocks(&source.ip_blocks, facts.source_ip)
            && self.http(&source.remote_ip_blocks, |_, _, net: &IpNet| within(net, facts.remote_ip))
    }

    fn operation(&self, operation: &Operation) -> bool {
        operation.ports.holds(|port| *port == self.facts.destination_port)
            && self.http(&operation.methods, |http, _, method| method.matches(http.method.as_str()))
            && self.http(&operation.paths, |http, reading, pattern| {
                http.path_is(reading, |path| path_matches(pattern, path))
            })
            && self.http(&operation.hosts, |http, reading, host| http.host_is(reading, host))
    }

    fn condition(&self, condition: &Condition) -> bool {
        let facts = self.facts;
        match condition {
            Condition::Header(name, values) => {
                self.http(values, |http, reading, value| http.header_is(reading, name, value))
            }
            Condition::SourceIp(blocks) => in_blocks(blocks, facts.source_ip),
            Condition::RemoteIp(blocks) => self.http(blocks, |_, _, net| within(net, facts.remote_ip)),
            Condition::SourceNamespace(values) => self.namespace(values),
            Condition::SourcePrincipal(values) => self.principal(values),
            Condition::SourceServiceAccount(values) => self.account(values),
            Condition::SourceTrustDomain(values) => self.trust_domain(values),
            Condition::DestinationIp(blocks) => in_blocks(blocks, facts.destination_ip),
            Condition::DestinationPort(ports) => ports.holds(|port| *port == facts.destination_port),
            Condition::Sni(values) => known(values, facts.sni, |value, sni| value.matches_ignoring_case(sni)),
        }
    }

    fn principal(&self, values: &ValueMatch<Wildcard>) -> bool {
        known(values, self.facts.peer.map(SpiffeId::principal), Wildcard::matches)
    }

    fn namespace(&self, values: &ValueMatch<Wildcard>) -> bool {
        let namespace = self.facts.peer.and_then(SpiffeId::service_account).map(|(namespace, _)| namespace);
        known(values, namespace, Wildcard::matches)
    }

    fn account(&self, values: &ValueMatch<(Arc<str>, Arc<str>)>) -> bool {
        let account = self.facts.peer.and_then(SpiffeId::service_account);
        values.holds(|(namespace, name)| account == Some((&**namespace, &**name)))
    }

    fn trust_domain(&self, values: &ValueMatch<Wildcard>) -> bool {
        known(values, self.facts.peer.map(SpiffeId::trust_domain), Wildcard::matches)
    }

    /// A condition that only HTTP requests can be asked about. On an opaque connection it counts as met where the
    /// policy denies, and as failed where it allows.
    ///
    /// What widens the match of a DENY, or narrows that of an ALLOW, may match in any reading.
    fn http<T>(
        &self,
        condition: &ValueMatch<T>,
        matches: impl Fn(&HttpFacts<'_>, Reading, &T) -> bool,
    ) -> bool {
        let Some(http) = &self.facts.http else { return condition.is_empty() || self.denies };
        let (is, is_not) = match self.denies {
            true => (Reading::Any, Reading::Plain),
            false => (Reading::Plain, Reading::Any),
        };
        let (values, not_values) = (&condition.values, &condition.not_values);
        (values.is_empty() || values.iter().any(|value| matches(http, is, value)))
            && !not_values.iter().any(|value| matches(http, is_not, value))
    }
}

/// A condition on something that may be unknown: what is unknown is none of the values.
fn known(
    condition: &ValueMatch<Wildcard>,
    value: Option<&str>,
    matches: impl Fn(&Wildcard, &str) -> bool,
) -> bool {
    condition.holds(|wanted| value.is_some_and(|value| matches(wanted, value)))
}

fn in_blocks(blocks: &ValueMatch<IpNet>, ip: IpAddr) -> bool {
    blocks.holds(|net| within(net, ip))
}

fn within(net: &IpNet, ip: IpAddr) -> bool {
    net.contains(&ip.to_canonical())
}

fn path_matches(pattern: &PathPattern, path: &str) -> bool {
    match pattern {
        PathPattern::Wildcard(wildcard) => wildcard.matches(path),
        PathPattern::Template(segments) => template::matches(segments, path),
    }
}
