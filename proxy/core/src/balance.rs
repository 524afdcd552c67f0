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
    let fresh = Filter::first(cluster, args);
    let found = match (&*cluster.endpoints, fresh.is_open()) {
        ([], _) => None,
        ([only], true) => Some(only),
        (_, true) => by_turn_or_draw(cluster, &fresh),
        (_, false) => by_turn_or_draw(cluster, &fresh).or_else(|| anything(cluster, &fresh)),
    };
    found.cloned()
}

/// The endpoints among which [`pick`] picks for a first try, whatever chance says; of a cluster that dials what the
/// client dialled, all.
pub fn candidates(cluster: &ClusterState, now: Nanos) -> Vec<&Arc<EndpointState>> {
    let args = PickArgs { now, random: 0, tried: &[], original: None };
    let fresh = Filter::first(cluster, &args);
    let those: Vec<_> = cluster.endpoints.iter().filter(|endpoint| fresh.takes(endpoint)).collect();
    if those.is_empty() { cluster.endpoints.iter().collect() } else { those }
}

/// Which endpoints count.
#[derive(Clone, Copy)]
struct Filter<'a> {
    args: &'a PickArgs<'a>,
    heeds_ejections: bool,
    heeds_tried: bool,
}

impl<'a> Filter<'a> {
    /// What counts before anything else is tried.
    fn first(cluster: &ClusterState, args: &'a PickArgs<'a>) -> Self {
        let heeds_ejections = cluster.may_have_ejected(args.now) && !panics(cluster, args.now);
        Self { args, heeds_ejections, heeds_tried: !args.tried.is_empty() }
    }

    fn is_open(&self) -> bool {
        !self.heeds_ejections && !self.heeds_tried
    }

    fn takes(&self, endpoint: &EndpointState) -> bool {
        let ejected = self.heeds_ejections && endpoint.ejected_until(self.args.now).is_some();
        let tried = self.heeds_tried && self.args.tried.contains(&endpoint.id);
        !ejected && !tried
    }
}

/// The endpoint at the client's own address, else that address as it is.
fn passthrough(cluster: &ClusterState, address: SocketAddr) -> Arc<EndpointState> {
    cluster.endpoint_at(address).cloned().unwrap_or_else(|| EndpointState::of_address(address))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{cluster, running};
    use crate::model::cluster::{Cluster, OutlierDetection};
    use proptest::prelude::*;

    fn with(balancer: Balancer, weights: &[u32]) -> ClusterState {
        let outlier = Some(OutlierDetection::default());
        running(Cluster { balancer, outlier, ..cluster("a") }, weights)
    }

    fn args(random: u64, tried: &[EndpointId]) -> PickArgs<'_> {
        PickArgs { now: 10, random: Chance::new(random).draw(), tried, original: None }
    }

    fn eject(cluster: &ClusterState, at: usize) {
        cluster.endpoints[at].shared.ejected_until.store(100, Relaxed);
        cluster.shared.all_back_at.fetch_max(100, Relaxed);
    }

    fn picks(cluster: &ClusterState, count: u64, tried: &[EndpointId]) -> Vec<u64> {
        let mut seen = vec![0; cluster.endpoints.len()];
        for random in 0..count {
            let chosen = pick(cluster, &args(random, tried)).unwrap();
            seen[cluster.endpoints.iter().position(|e| e.id == chosen.id).unwrap()] += 1;
        }
        seen
    }

    fn about(seen: &[u64], expected: &[u64]) -> bool {
        seen.iter().zip(expected).all(|(n, e)| n.abs_diff(*e) <= e / 10)
    }

    #[test]
    fn h9_least_request_prefers_the_idle() {
        let cluster = with(Balancer::LeastRequest, &[1, 1]);
        let _busy = cluster.endpoints[0].begin();
        let seen = picks(&cluster, 1000, &[]);
        assert!(seen[0] < 20, "{seen:?}");
    }

    #[test]
    fn weights_are_kept_by_every_balancer() {
        for balancer in [Balancer::LeastRequest, Balancer::Random, Balancer::RoundRobin] {
            let seen = picks(&with(balancer, &[1, 2, 5]), 8000, &[]);
            assert!(about(&seen, &[1000, 2000, 5000]), "{balancer:?} {seen:?}");
            let seen = picks(&with(balancer, &[3, 3, 3]), 6000, &[]);
            assert!(about(&seen, &[2000, 2000, 2000]), "{balancer:?} {seen:?}");
        }
    }

    #[test]
    fn round_robin_spreads_each_round() {
        let cluster = with(Balancer::RoundRobin, &[3, 1]);
        let round = |_| picks(&cluster, 4, &[]);
        assert!((0..5).map(round).all(|seen| seen == [3, 1]));
        let one = |random| pick(&cluster, &args(random, &[])).unwrap().weight;
        let order: Vec<_> = (0..8).map(one).collect();
        assert!(!order.windows(4).any(|w| w == [3, 3, 3, 3]), "{order:?}");
    }

    #[test]
    fn ejected_and_tried_endpoints_are_passed_over() {
        for balancer in [Balancer::LeastRequest, Balancer::Random, Balancer::RoundRobin] {
            let cluster = with(balancer, &[1, 1, 1, 1]);
            eject(&cluster, 0);
            let seen = picks(&cluster, 3000, &[cluster.endpoints[1].id]);
            assert!(seen[0] + seen[1] == 0 && seen[2] > 700 && seen[3] > 700, "{balancer:?} {seen:?}");
        }
    }

    #[test]
    fn what_is_left_of_a_large_cluster_is_found() {
        for balancer in [Balancer::LeastRequest, Balancer::Random, Balancer::RoundRobin] {
            let cluster = with(balancer, &[1; 500]);
            (0..500).filter(|at| *at != 77 && *at != 400).for_each(|at| eject(&cluster, at));
            let seen = picks(&cluster, 600, &[]);
            assert_eq!(seen[77] + seen[400], 600);
            assert!(seen[77] > 60 && seen[400] > 60, "{balancer:?} {} {}", seen[77], seen[400]);
        }
    }

    #[test]
    fn a_retry_takes_a_tried_endpoint_before_an_ejected_one() {
        let cluster = with(Balancer::LeastRequest, &[1, 1]);
        eject(&cluster, 0);
        let seen = picks(&cluster, 100, &[cluster.endpoints[1].id]);
        assert_eq!(seen, [0, 100]);
    }

    #[test]
    fn g13_a_cluster_that_is_ejected_whole_is_used_and_an_empty_one_is_not() {
        let cluster = with(Balancer::Random, &[1, 1]);
        (0..2).for_each(|at| eject(&cluster, at));
        assert_eq!(picks(&cluster, 1000, &[]).iter().sum::<u64>(), 1000);
        assert!(pick(&with(Balancer::Random, &[]), &args(1, &[])).is_none());
    }

    #[test]
    fn g13_below_min_health_percent_ejections_are_not_heeded() {
        let mut rules = OutlierDetection { min_health_percent: 50, ..Default::default() };
        let of = |rules: &OutlierDetection| {
            let outlier = Some(rules.clone());
            let cluster = running(Cluster { outlier, ..cluster("a") }, &[1; 10]);
            (0..6).for_each(|at| eject(&cluster, at));
            picks(&cluster, 1000, &[])[..6].iter().sum::<u64>()
        };
        assert!(of(&rules) > 500);
        rules.min_health_percent = 40;
        assert_eq!(of(&rules), 0);
    }

    #[test]
    fn h20_passthrough_dials_what_the_client_dialled() {
        let cluster = with(Balancer::Passthrough, &[1, 1]);
        let at = |original| pick(&cluster, &PickArgs { original, ..args(0, &[]) });
        let listed = cluster.endpoints[1].address;
        assert_eq!(at(Some(listed)).unwrap().id, cluster.endpoints[1].id);
        let other = ([192, 0, 2, 1], 99).into();
        assert_eq!(at(Some(other)).unwrap().id, EndpointId::Address(other));
        assert!(at(None).is_none());
    }

    #[test]
    fn without_outlier_detection_old_ejections_do_not_count() {
        let cluster = running(cluster("a"), &[1, 1]);
        eject(&cluster, 0);
        assert!(picks(&cluster, 100, &[])[0] > 20);
    }

    #[test]
    fn candidates_are_those_that_are_ever_picked() {
        for ejected in 0..=4 {
            let cluster = with(Balancer::Random, &[1, 2, 3, 1]);
            (0..ejected).for_each(|at| eject(&cluster, at));
            let told: Vec<_> = candidates(&cluster, 10).iter().map(|e| e.id).collect();
            let seen = picks(&cluster, 2000, &[]);
            let ever = cluster.endpoints.iter().zip(seen).filter(|(_, n)| *n > 0).map(|(e, _)| e.id);
            assert_eq!(told, ever.collect::<Vec<_>>(), "{ejected} ejected");
        }
        assert!(candidates(&with(Balancer::Random, &[]), 10).is_empty());
    }

    proptest! {
        #[test]
        fn a_better_endpoint_is_never_passed_over(
            weights in prop::collection::vec(1u32..20, 1..12),
            marks in prop::collection::vec((any::<bool>(), any::<bool>()), 12),
            kind in 0usize..3,
            random in any::<u64>(),
        ) {
            let balancer = [Balancer::LeastRequest, Balancer::Random, Balancer::RoundRobin][kind];
            let cluster = with(balancer, &weights);
            let rank = |at: usize| match marks[at] {
                (false, false) => 0,
                (false, true) => 1,
                (true, false) => 2,
                (true, true) => 3,
            };
            (0..weights.len()).filter(|at| marks[*at].0).for_each(|at| eject(&cluster, at));
            let tried: Vec<_> = cluster.endpoints.iter().zip(&marks).filter(|(_, m)| m.1).map(|(e, _)| e.id).collect();
            let chosen = pick(&cluster, &args(random, &tried)).unwrap();
            let at = cluster.endpoints.iter().position(|e| e.id == chosen.id).unwrap();
            prop_assert_eq!(rank(at), (0..weights.len()).map(rank).min().unwrap());
        }
    }
}
