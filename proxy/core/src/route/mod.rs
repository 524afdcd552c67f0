//! Which rule a request or a connection takes, and what the rule makes of it.
//!
//! Rules are kept with the clusters they name already found, so that a request hashes no name.

use std::net::IpAddr;
use std::sync::Arc;

use http::request::Parts;
use http::{HeaderMap, Method};

use crate::chance::Chance;
use crate::http::path::PathRules;
use crate::http::request::{Strictness, authority, set_authority, set_path};
use crate::model::route::{
    Destination, Forward, HttpAction, HttpMatch, HttpRule, TcpDestination, TcpMatch, TcpRule,
};
use crate::model::workload::{Inbound, PathNormalization};
use crate::upstream::ClusterState;

/// Whether a request fulfils a block of conditions.
mod matches;
/// What becomes of the path.
pub mod rewrite;
/// Where a redirect leads.
pub mod redirect;
/// Header operations, and the authority that is sent.
pub mod headers;
/// Which requests are harmed on purpose.
pub mod fault;
/// Which cross-origin requests a rule allows.
pub mod cors;

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

/// How a client's sidecar reads requests: the path as the mesh is told to, no more; the server's knows its policies.
pub fn strictness(own: Option<&Inbound>) -> Strictness {
    let mode = own.map_or(PathNormalization::Base, |inbound| inbound.path_normalization);
    Strictness { paths: PathRules { mode, refuse_encoded_slash: false }, hosts: false }
}

/// What a rule makes of the head of a request that it forwards: path, authority, headers. `None`: the new path can
/// stand in no target (`bad_path`).
pub fn apply(parts: &mut Parts, matched: &Matched<'_>, target: &Target<'_>) -> Option<()> {
    if let Some(rewrite) = &target.forward.rewrite.path {
        let new = rewrite::rewrite_path(rewrite, matched.by, parts.uri.path()).into_owned();
        set_path(parts, &new)?;
    }
    if let Some(authority) = headers::new_authority(matched.rule, target) {
        set_authority(parts, authority);
    }
    headers::apply_to_request(&mut parts.headers, matched.rule, Some(target.destination));
    Some(())
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

impl<'a> RequestView<'a> {
    /// A request that was checked.
    pub fn of(parts: &'a Parts) -> Self {
        Self {
            method: &parts.method,
            path: parts.uri.path(),
            query: parts.uri.query(),
            authority: authority(&parts.uri, &parts.headers),
            scheme: "http",
            headers: &parts.headers,
        }
    }
}

impl RuleState {
    /// A rule, with the clusters of its destinations in their order.
    pub(crate) fn new(rule: Arc<HttpRule>, clusters: Vec<Option<Arc<ClusterState>>>) -> Arc<Self> {
        Arc::new(Self { rule, clusters })
    }

    /// Draws a destination by weight; `None` where the rule does not forward.
    pub fn pick(&self, random: u64) -> Option<Target<'_>> {
        let HttpAction::Forward(forward) = &self.rule.action else { return None };
        self.target(forward, draw(forward.destinations.iter().map(|d| d.weight), random))
    }

    /// Every destination, in the order of the rule; none where it does not forward.
    pub fn targets(&self) -> impl Iterator<Item = Target<'_>> {
        let forward = match &self.rule.action {
            HttpAction::Forward(forward) => Some(&**forward),
            HttpAction::Redirect(_) | HttpAction::Respond(_) => None,
        };
        let all = forward.into_iter().flat_map(|f| (0..f.destinations.len()).map(move |at| (f, at)));
        all.filter_map(|(forward, at)| self.target(forward, at))
    }

    fn target<'a>(&'a self, forward: &'a Forward, at: usize) -> Option<Target<'a>> {
        let destination = forward.destinations.get(at)?;
        Some(Target { forward, destination, cluster: self.clusters.get(at)?.as_ref() })
    }
}

impl TcpRuleState {
    /// A rule, with the clusters of its destinations in their order.
    pub(crate) fn new(rule: Arc<TcpRule>, clusters: Vec<Option<Arc<ClusterState>>>) -> Arc<Self> {
        Arc::new(Self { rule, clusters })
    }

    /// Draws a destination by weight.
    pub fn pick(&self, random: u64) -> Option<TcpTarget<'_>> {
        self.target(draw(self.rule.destinations.iter().map(|d| d.weight), random))
    }

    /// Every destination, in the order of the rule.
    pub fn targets(&self) -> impl Iterator<Item = TcpTarget<'_>> {
        (0..self.rule.destinations.len()).filter_map(|at| self.target(at))
    }

    fn target(&self, at: usize) -> Option<TcpTarget<'_>> {
        let destination = self.rule.destinations.get(at)?;
        Some(TcpTarget { destination, cluster: self.clusters.get(at)?.as_ref() })
    }
}

/// Whether a request fulfils a block of conditions.
pub fn holds(block: &HttpMatch, request: &RequestView<'_>) -> bool {
    matches::http(block, request)
}

/// The share of each of these weights, in percent: what [`RuleState::pick`] draws by. One alone has all.
pub fn shares(weights: &[u32]) -> Vec<f64> {
    let total: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
    let share = |weight: &u32| match (weights.len(), total) {
        (1, _) => 100.0,
        (_, 0) => 0.0,
        _ => f64::from(*weight) * 100.0 / total as f64,
    };
    weights.iter().map(share).collect()
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
