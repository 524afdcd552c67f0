//! Which rule a request or a connection takes, and what the rule makes of it.
//!
//! Rules are kept with the clusters they name already found, so that a request hashes no name.

use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderMap, Method};

use crate::chance::Chance;
use crate::model::route::{
    Destination, Forward, HttpAction, HttpMatch, HttpRule, TcpDestination, TcpMatch, TcpRule,
};
use crate::upstream::ClusterState;

/// Whether a request fulfils a block of conditions.
mod matches;
/// What becomes of the path.
pub mod rewrite;
/// Where a redirect leads.
pub mod redirect;
/// Header operations, and the authority that is sent.
pub mod headers;

/// A request as rules see it.
#[derive(Clone, Copy, Debug)]
pub struct RequestView<'a> {
    /// The method.
    pub method: &'a Method,
    /// The normalised path, without the query.
    pub path: &'a str,
    /// The query, without `?`.
    pub query: Option<&'a str>,
    /// Host or `:authority`, with its port unless that is the scheme's default.
    pub authority: &'a str,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// The headers.
    pub headers: &'a HeaderMap,
}

/// A connection as rules see it.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionView<'a> {
    /// The address that the client dialled.
    pub destination: IpAddr,
    /// The server name of the client's TLS hello.
    pub sni: Option<&'a str>,
}

/// A rule for requests, with the clusters it names.
#[derive(Debug)]
pub struct RuleState {
    /// The rule.
    pub rule: Arc<HttpRule>,
    /// The clusters of the destinations, in their order; empty where the rule does not forward.
    clusters: Vec<Option<Arc<ClusterState>>>,
}

/// A rule for connections, with the clusters it names.
#[derive(Debug)]
pub struct TcpRuleState {
    /// The rule.
    pub rule: Arc<TcpRule>,
    clusters: Vec<Option<Arc<ClusterState>>>,
}

/// The rule that a request takes.
#[derive(Clone, Copy, Debug)]
pub struct Matched<'a> {
    /// The rule.
    pub rule: &'a Arc<RuleState>,
    /// The block of conditions that held; `None` where the rule has none.
    pub by: Option<&'a HttpMatch>,
}

/// Where a request goes.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The rule's `route`.
    pub forward: &'a Forward,
    /// The destination that was drawn.
    pub destination: &'a Destination,
    /// Its cluster; `None`: there is none of that name (`no_cluster`).
    pub cluster: Option<&'a Arc<ClusterState>>,
}

/// Where a connection goes.
#[derive(Clone, Copy, Debug)]
pub struct TcpTarget<'a> {
    /// The destination that was drawn.
    pub destination: &'a TcpDestination,
    /// Its cluster; `None`: there is none of that name (`no_cluster`).
    pub cluster: Option<&'a Arc<ClusterState>>,
}

/// The first rule that a request fulfils; none: `no_route`.
pub fn find<'a>(rules: &'a [Arc<RuleState>], request: &RequestView<'_>) -> Option<Matched<'a>> {
    rules.iter().find_map(|rule| {
        let blocks = &rule.rule.matches;
        if blocks.is_empty() {
            return Some(Matched { rule, by: None });
        }
        let by = blocks.iter().find(|block| matches::http(block, request))?;
        Some(Matched { rule, by: Some(by) })
    })
}

/// The first rule that a connection fulfils; none: `no_route`.
pub fn find_tcp<'a>(
    rules: &'a [Arc<TcpRuleState>],
    connection: &ConnectionView<'_>,
) -> Option<&'a Arc<TcpRuleState>> {
    let holds = |block: &TcpMatch| matches::tcp(block, connection);
    rules.iter().find(|r| r.rule.matches.is_empty() || r.rule.matches.iter().any(holds))
}

impl RuleState {
    /// A rule, with the clusters of its destinations in their order.
    pub(crate) fn new(rule: Arc<HttpRule>, clusters: Vec<Option<Arc<ClusterState>>>) -> Arc<Self> {
        Arc::new(Self { rule, clusters })
    }

    /// Draws a destination by weight; `None` where the rule does not forward.
    pub fn pick(&self, random: u64) -> Option<Target<'_>> {
        let HttpAction::Forward(forward) = &self.rule.action else { return None };
        let drawn = draw(forward.destinations.iter().map(|d| d.weight), random);
        let destination = forward.destinations.get(drawn)?;
        Some(Target { forward, destination, cluster: self.clusters.get(drawn)?.as_ref() })
    }
}

impl TcpRuleState {
    /// A rule, with the clusters of its destinations in their order.
    pub(crate) fn new(rule: Arc<TcpRule>, clusters: Vec<Option<Arc<ClusterState>>>) -> Arc<Self> {
        Arc::new(Self { rule, clusters })
    }

    /// Draws a destination by weight.
    pub fn pick(&self, random: u64) -> Option<TcpTarget<'_>> {
        let drawn = draw(self.rule.destinations.iter().map(|d| d.weight), random);
        let destination = self.rule.destinations.get(drawn)?;
        Some(TcpTarget { destination, cluster: self.clusters.get(drawn)?.as_ref() })
    }
}

/// The index of a weight, each with its share of chance. The weight of a single one does not count; of several, one
/// with weight 0 is never drawn.
fn draw(weights: impl ExactSizeIterator<Item = u32> + Clone, random: u64) -> usize {
    if weights.len() <= 1 {
        return 0;
    }
    let total = weights.clone().map(u64::from).sum();
    let mut left = Chance::new(random).below(total);
    let before = |weight: u32| {
        let here = left < u64::from(weight);
        left = left.saturating_sub(u64::from(weight));
        here
    };
    weights.map(before).position(|here| here).unwrap_or(0)
}

#[cfg(test)]
mod tests;
