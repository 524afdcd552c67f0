//! Which endpoint of a cluster takes a request.
//!
//! A few draws find an endpoint that is neither ejected nor tried already; only when they fail is every endpoint
//! looked at. If nothing better is left, endpoints that were tried are taken again, and a cluster all of whose
//! endpoints are ejected is treated as if none were (it was a change of membership that left only those: the last
//! healthy one is never ejected).

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::chance::Chance;
use crate::model::cluster::Balancer;
use crate::upstream::{ClusterState, EndpointId, EndpointState, Nanos};

/// How many endpoints are drawn before all are looked at.
const DRAWS: usize = 8;

/// What a pick depends on.
#[derive(Clone, Copy, Debug)]
pub struct PickArgs<'a> {
    /// The time.
    pub now: Nanos,
    /// A random number.
    pub random: u64,
    /// The endpoints that this request has been sent to; empty where they may be taken again.
    pub tried: &'a [EndpointId],
    /// The address that the client dialled, for `PASSTHROUGH`.
    pub original: Option<SocketAddr>,
}

/// Whose turn it is; `None`: the cluster has no endpoint (`no_healthy_upstream`).
pub fn pick(cluster: &ClusterState, args: &PickArgs<'_>) -> Option<Arc<EndpointState>> {
    if cluster.cluster.balancer == Balancer::Passthrough {
        return args.original.map(|address| passthrough(cluster, address));
    }
    let heeds_ejections = cluster.may_have_ejected(args.now) && !panics(cluster, args.now);
    let fresh = Filter { args, heeds_ejections, heeds_tried: !args.tried.is_empty() };
    let found = match (&*cluster.endpoints, fresh.is_open()) {
        ([], _) => None,
        ([only], true) => Some(only),
        (_, true) => by_turn_or_draw(cluster, &fresh),
        (_, false) => by_turn_or_draw(cluster, &fresh).or_else(|| anything(cluster, &fresh)),
    };
    found.cloned()
}

/// Which endpoints count.
#[derive(Clone, Copy)]
struct Filter<'a> {
    args: &'a PickArgs<'a>,
    heeds_ejections: bool,
    heeds_tried: bool,
}

impl Filter<'_> {
    fn is_open(&self) -> bool {
        !self.heeds_ejections && !self.heeds_tried
    }

    fn takes(&self, endpoint: &EndpointState) -> bool {
        !(self.heeds_ejections && endpoint.ejected_until(self.args.now).is_some())
            && !(self.heeds_tried && self.args.tried.contains(&endpoint.id))
    }
}

/// The endpoint at the client's own address, else that address as it is.
fn passthrough(cluster: &ClusterState, address: SocketAddr) -> Arc<EndpointState> {
    let listed = cluster.endpoints.iter().find(|endpoint| endpoint.address == address);
    listed.cloned().unwrap_or_else(|| EndpointState::of_address(address))
}

/// Whether so few endpoints are healthy that ejections are not heeded (`minHealthPercent`).
fn panics(cluster: &ClusterState, now: Nanos) -> bool {
    let floor = cluster.cluster.outlier.as_ref().map_or(0, |o| o.min_health_percent);
    if floor == 0 {
        return false;
    }
    let all = cluster.endpoints.len() as u64;
    let healthy = all - cluster.ejected(now) as u64;
    healthy * 100 < all * u64::from(floor)
}

fn by_turn_or_draw<'c>(cluster: &'c ClusterState, filter: &Filter<'_>) -> Option<&'c Arc<EndpointState>> {
    let mut chance = Chance::new(filter.args.random);
    match cluster.cluster.balancer {
        Balancer::RoundRobin => in_turn(cluster, filter),
        Balancer::Random => drawn(cluster, filter, &mut chance),
        Balancer::LeastRequest | Balancer::Passthrough => less_loaded(cluster, filter, &mut chance),
    }
}

/// The fallbacks: tried again but not ejected, then ejected but not tried, then any.
fn anything<'c>(cluster: &'c ClusterState, filter: &Filter<'_>) -> Option<&'c Arc<EndpointState>> {
    let again = Filter { heeds_tried: false, ..*filter };
    let ejected = Filter { heeds_ejections: false, ..*filter };
    let any = Filter { heeds_ejections: false, heeds_tried: false, ..*filter };
    [again, ejected, any].iter().find_map(|filter| by_turn_or_draw(cluster, filter))
}

/// Of two drawn, the one with fewer requests under way for its weight.
fn less_loaded<'c>(
    cluster: &'c ClusterState,
    filter: &Filter<'_>,
    chance: &mut Chance,
) -> Option<&'c Arc<EndpointState>> {
    let first = drawn(cluster, filter, chance)?;
    let others = draws(cluster, chance).filter(|other| !Arc::ptr_eq(other, first));
    let Some(second) = first_that(others, filter).or_else(|| drawn_of_all(cluster, filter, chance)) else {
        return Some(first);
    };
    let load = |of: &EndpointState, other: &EndpointState| u64::from(of.active()) * u64::from(other.weight);
    Some(if load(second, first) < load(first, second) { second } else { first })
}

/// An endpoint by chance and weight.
fn drawn<'c>(
    cluster: &'c ClusterState,
    filter: &Filter<'_>,
    chance: &mut Chance,
) -> Option<&'c Arc<EndpointState>> {
    first_that(draws(cluster, chance), filter).or_else(|| drawn_of_all(cluster, filter, chance))
}

fn draws<'c>(cluster: &'c ClusterState, chance: &mut Chance) -> impl Iterator<Item = &'c Arc<EndpointState>> {
    (0..DRAWS).filter_map(|_| cluster.endpoints.get(at_random(cluster, chance.draw())))
}

fn first_that<'c>(
    mut endpoints: impl Iterator<Item = &'c Arc<EndpointState>>,
    filter: &Filter<'_>,
) -> Option<&'c Arc<EndpointState>> {
    endpoints.find(|endpoint| filter.takes(endpoint))
}

/// An endpoint by chance and weight, of those that count; looks at all of them.
fn drawn_of_all<'c>(
    cluster: &'c ClusterState,
    filter: &Filter<'_>,
    chance: &mut Chance,
) -> Option<&'c Arc<EndpointState>> {
    let those = || cluster.endpoints.iter().filter(|endpoint| filter.takes(endpoint));
    let mut left = chance.below(those().map(|e| u64::from(e.weight)).sum());
    let mut last = None;
    for endpoint in those() {
        last = Some(endpoint);
        if left < u64::from(endpoint.weight) {
            break;
        }
        left -= u64::from(endpoint.weight);
    }
    last
}

/// The next in turn that counts. In every round each endpoint has as many turns as its weight, spread over the round.
fn in_turn<'c>(cluster: &'c ClusterState, filter: &Filter<'_>) -> Option<&'c Arc<EndpointState>> {
    let count = cluster.endpoints.len();
    let turns = (0..count.min(DRAWS)).filter_map(|_| {
        let turn = cluster.shared.turn.fetch_add(1, Relaxed);
        cluster.endpoints.get(of_turn(cluster, turn))
    });
    first_that(turns, filter).or_else(|| {
        let from = (cluster.shared.turn.fetch_add(1, Relaxed) % count.max(1) as u64) as usize;
        let (before, after) = cluster.endpoints.split_at(from);
        first_that(after.iter().chain(before), filter)
    })
}

/// The endpoint that a random number means, each as often as its weight.
fn at_random(cluster: &ClusterState, random: u64) -> usize {
    match &cluster.shares {
        None => ((u128::from(random) * cluster.endpoints.len() as u128) >> 64) as usize,
        Some(shares) => shares.at(random),
    }
}

fn of_turn(cluster: &ClusterState, turn: u64) -> usize {
    match &cluster.shares {
        None => (turn % cluster.endpoints.len().max(1) as u64) as usize,
        Some(shares) => shares.in_turn(turn),
    }
}
