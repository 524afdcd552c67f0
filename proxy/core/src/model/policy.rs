//! Authorization policies (AuthorizationPolicy, resolved for one workload).

use std::sync::Arc;

use http::HeaderName;
use ipnet::IpNet;

use super::name::ObjectName;
use crate::matching::Wildcard;

/// One policy that applies to the workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorizationPolicy {
    /// The object.
    pub name: ObjectName,
    /// What a match means.
    pub action: Action,
    /// `istio.io/dry-run`: logged and counted, without effect.
    pub dry_run: bool,
    /// Any of these must match; none matches nothing.
    pub rules: Vec<Rule>,
}

/// What a match means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Lets in.
    Allow,
    /// Keeps out; before any ALLOW.
    Deny,
    /// The policy could not be understood or honoured whole: everything is denied.
    FailClosed,
}

/// `from` and `to` and `when`, all of which must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// Any of these; empty is anyone.
    pub from: Vec<Source>,
    /// Any of these; empty is anything.
    pub to: Vec<Operation>,
    /// All of these.
    pub when: Vec<Condition>,
}

/// Values of which one must match, and values of which none may; both empty: no condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueMatch<T> {
    /// Any of these; empty is no condition.
    pub values: Vec<T>,
    /// None of these.
    pub not_values: Vec<T>,
}

/// `source`: every field that is written must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// `principals`, without `spiffe://`.
    pub principals: ValueMatch<Wildcard>,
    /// `namespaces`, of the peer's identity; `*` may stand at one end.
    pub namespaces: ValueMatch<Wildcard>,
    /// `serviceAccounts`, as namespace and account.
    pub service_accounts: ValueMatch<(Arc<str>, Arc<str>)>,
    /// `trustDomains`.
    pub trust_domains: ValueMatch<Wildcard>,
    /// `ipBlocks`: the connection's peer.
    pub ip_blocks: ValueMatch<IpNet>,
    /// `remoteIpBlocks`: the original client, as `x-forwarded-for` says where that is trusted.
    pub remote_ip_blocks: ValueMatch<IpNet>,
}

/// `operation`: every field that is written must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Operation {
    /// `hosts`: case does not count; the authority as sent, with its port.
    pub hosts: ValueMatch<Wildcard>,
    /// `ports`: of the workload.
    pub ports: ValueMatch<u16>,
    /// `methods`: case counts.
    pub methods: ValueMatch<Wildcard>,
    /// `paths`: normalised, without the query.
    pub paths: ValueMatch<PathPattern>,
}

/// A pattern of `paths`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathPattern {
    /// A text with at most one `*`, at one end.
    Wildcard(Wildcard),
    /// A URI template.
    Template(Vec<TemplateSegment>),
}

/// One segment of a URI template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TemplateSegment {
    /// This text.
    Literal(Arc<str>),
    /// `{*}`: one segment that is not empty.
    One,
    /// `{**}`: any number of segments; only literal segments may follow it.
    Rest,
}

/// `when`: one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// `request.headers[name]`.
    Header(HeaderName, ValueMatch<Wildcard>),
    /// `source.ip`.
    SourceIp(ValueMatch<IpNet>),
    /// `remote.ip`.
    RemoteIp(ValueMatch<IpNet>),
    /// `source.namespace`.
    SourceNamespace(ValueMatch<Wildcard>),
    /// `source.principal`.
    SourcePrincipal(ValueMatch<Wildcard>),
    /// `source.serviceAccount`.
    SourceServiceAccount(ValueMatch<(Arc<str>, Arc<str>)>),
    /// `source.trustDomain`.
    SourceTrustDomain(ValueMatch<Wildcard>),
    /// `destination.ip`.
    DestinationIp(ValueMatch<IpNet>),
    /// `destination.port`.
    DestinationPort(ValueMatch<u16>),
    /// `connection.sni`.
    Sni(ValueMatch<Wildcard>),
}

impl<T> Default for ValueMatch<T> {
    fn default() -> Self {
        Self { values: Vec::new(), not_values: Vec::new() }
    }
}

impl<T> ValueMatch<T> {
    /// Whether nothing is written.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty() && self.not_values.is_empty()
    }

    /// Whether a value for which `matches` speaks fulfils both lists.
    pub fn holds(&self, mut matches: impl FnMut(&T) -> bool) -> bool {
        (self.values.is_empty() || self.values.iter().any(&mut matches))
            && !self.not_values.iter().any(matches)
    }
}
