use std::sync::Arc;

use super::*;
use crate::fixture::{cluster, running};
use crate::model::cluster::Cluster;
use proptest::prelude::*;

const SECOND: Nanos = 1_000_000_000;

fn with(rules: OutlierDetection, endpoints: usize) -> ClusterState {
    running(Cluster { outlier: Some(rules), ..cluster("a") }, &vec![1; endpoints])
}

fn rules(consecutive_5xx: u32) -> OutlierDetection {
    OutlierDetection { consecutive_5xx, max_ejection_percent: 100, ..Default::default() }
}

fn note(cluster: &ClusterState, at: usize, outcomes: &[Outcome], now: Nanos) -> Option<Event> {
    let endpoint = &cluster.endpoints[at];
    outcomes.iter().fold(None, |event, outcome| record(cluster, endpoint, *outcome, now).or(event))
}

fn fail(cluster: &ClusterState, at: usize, now: Nanos) -> Option<Event> {
    note(cluster, at, &[Outcome::Status(500)], now)
}

#[test]
fn h10_the_nth_error_in_a_row_ejects_on_the_spot() {
    let cluster = with(rules(3), 3);
    let bad = Outcome::Status(503);
    assert_eq!(note(&cluster, 0, &[bad, bad, Outcome::Status(200), bad, bad], 5), None);
    let until = 5 + 30 * SECOND;
    assert_eq!(note(&cluster, 0, &[bad], 5), Some(Event::Ejected { until, times: 1 }));
    assert_eq!(cluster.endpoints[0].ejected_until(5), Some(until));
    assert_eq!((cluster.ejected(5), cluster.ejected(until)), (1, 0), "back when its time is up");
}

#[test]
fn what_happens_while_ejected_does_not_count() {
    let cluster = with(rules(3), 3);
    note(&cluster, 0, &[Outcome::Status(500); 3], 0).unwrap();
    let back = 30 * SECOND;
    assert_eq!(note(&cluster, 0, &[Outcome::Status(500); 9], back - 1), None);
    assert_eq!(note(&cluster, 0, &[Outcome::Status(500); 2], back), None);
    assert!(fail(&cluster, 0, back).is_some());
}

#[test]
fn h11_ejections_grow_with_each_and_are_lived_down() {
    let cluster = with(rules(1), 2);
    let lengths = |now: Nanos| match fail(&cluster, 0, now).unwrap() {
        Event::Ejected { until, times } => ((until - now) / SECOND, times),
    };
    assert_eq!(lengths(0), (30, 1));
    assert_eq!(lengths(30 * SECOND), (60, 2));
    assert_eq!(lengths(90 * SECOND), (90, 3));
    // Back at 180 s; two intervals of 10 s in health take two off.
    assert_eq!(lengths(200 * SECOND), (60, 2));
    assert_eq!(lengths(10_000 * SECOND), (30, 1));
}

#[test]
fn h11_no_ejection_is_longer_than_five_minutes_or_the_base() {
    let long = |base, times| {
        let base_ejection_time = Duration::from_secs(base);
        let cluster = with(OutlierDetection { base_ejection_time, ..rules(1) }, 2);
        let mut now = 0;
        for _ in 1..times {
            let Some(Event::Ejected { until, .. }) = fail(&cluster, 0, now) else { panic!() };
            now = until;
        }
        let Some(Event::Ejected { until, .. }) = fail(&cluster, 0, now) else { panic!() };
        (until - now) / SECOND
    };
    assert_eq!((long(30, 10), long(30, 11), long(30, 40)), (300, 300, 300));
    assert_eq!((long(400, 1), long(400, 5)), (400, 400));
}

#[test]
fn h12_at_least_one_endpoint_may_be_ejected() {
    let cluster = with(OutlierDetection { max_ejection_percent: 10, ..rules(1) }, 4);
    assert!(fail(&cluster, 0, 0).is_some());
    assert!(fail(&cluster, 1, 0).is_none());
    assert!(fail(&cluster, 1, 30 * SECOND).is_some(), "room again");
    let none = with(OutlierDetection { max_ejection_percent: 0, ..rules(1) }, 4);
    assert!(fail(&none, 0, 0).is_none());
}

#[test]
fn g13_the_last_healthy_endpoint_is_never_ejected() {
    let cluster = with(rules(1), 3);
    let ejected = (0..3).filter(|at| fail(&cluster, *at, 0).is_some()).count();
    assert_eq!((ejected, cluster.ejected(0)), (2, 2));
    assert!(fail(&with(rules(1), 1), 0, 0).is_none());
}

#[test]
fn gateway_errors_are_counted_apart() {
    let cluster = with(OutlierDetection { consecutive_gateway_errors: 2, ..rules(0) }, 2);
    let (gateway, other) = (Outcome::Status(502), Outcome::Status(500));
    assert_eq!(note(&cluster, 0, &[other, other, gateway, other, gateway], 0), None);
    assert!(note(&cluster, 0, &[gateway], 0).is_some());
}

#[test]
fn h15_local_failures_count_as_5xx_unless_split() {
    let local = [Outcome::ConnectFailure, Outcome::Reset, Outcome::Timeout];
    let gateway = OutlierDetection { consecutive_gateway_errors: 3, ..rules(0) };
    assert!(note(&with(rules(3), 2), 0, &local, 0).is_some());
    assert!(note(&with(gateway, 2), 0, &local, 0).is_some());
    let split = OutlierDetection { split: true, consecutive_local_origin_failures: 3, ..rules(1) };
    assert!(note(&with(split.clone(), 2), 0, &local, 0).is_some());
    let interrupted = [local[0], local[1], Outcome::Status(404), local[0], Outcome::Connected, local[0]];
    assert!(note(&with(split.clone(), 2), 0, &interrupted, 0).is_none());
    let off = OutlierDetection { consecutive_local_origin_failures: 0, ..split };
    assert!(note(&with(off, 2), 0, &local, 0).is_none());
}

#[test]
fn h16_error_codes_replace_5xx() {
    let cluster = with(OutlierDetection { error_codes: Arc::new([429]), ..rules(2) }, 2);
    assert!(note(&cluster, 0, &[Outcome::Status(500); 9], 0).is_none());
    assert!(
        note(&cluster, 0, &[Outcome::Status(429), Outcome::Status(503), Outcome::Status(429)], 0).is_none()
    );
    assert!(note(&cluster, 0, &[Outcome::Status(429)], 0).is_some());
    let connect = with(OutlierDetection { error_codes: Arc::new([429]), ..rules(1) }, 2);
    assert!(note(&connect, 0, &[Outcome::ConnectFailure], 0).is_some());
}

#[test]
fn grpc_statuses_count_as_their_http_statuses() {
    let ejects = |status| note(&with(rules(1), 2), 0, &[Outcome::Grpc(status)], 0).is_some();
    let bad: Vec<u8> = (0..20).filter(|status| ejects(*status)).collect();
    assert_eq!(bad, [2, 4, 12, 13, 14, 15, 17, 18, 19]);
}

#[test]
fn opaque_connections_that_succeed_clear_the_counts() {
    let cluster = with(rules(2), 2);
    let (made, failed) = (Outcome::Connected, Outcome::ConnectFailure);
    assert!(note(&cluster, 0, &[failed, made, failed], 0).is_none());
    assert!(note(&cluster, 0, &[failed], 0).is_some());
}

#[test]
fn h14_without_the_block_nothing_is_ejected() {
    let cluster = running(cluster("a"), &[1, 1]);
    assert!(note(&cluster, 0, &[Outcome::Status(500); 99], 0).is_none());
}

#[test]
fn workers_that_eject_at_once_keep_to_the_limit() {
    for _ in 0..200 {
        let cluster = with(OutlierDetection { max_ejection_percent: 50, ..rules(1) }, 4);
        std::thread::scope(|scope| {
            for at in 0..4 {
                let cluster = &cluster;
                scope.spawn(move || (0..3).filter(|_| fail(cluster, at, 0).is_some()).count());
            }
        });
        assert!(cluster.ejected(0) <= 2);
    }
}

/// The rules in plain words, one event after another.
#[derive(Clone, Default)]
struct Model {
    errors: u32,
    gateway: u32,
    local: u32,
    until: Nanos,
    times: u32,
}

impl Model {
    fn is_out(&self, now: Nanos) -> bool {
        now < self.until
    }

    fn count(&mut self, rules: &OutlierDetection, outcome: Outcome) -> bool {
        let status = match outcome {
            Outcome::Status(status) => Some(status),
            Outcome::Connected => Some(200),
            _ if rules.split => None,
            _ => Some(503),
        };
        let Some(status) = status else {
            self.local += 1;
            return rules.consecutive_local_origin_failures.clamp(1, u32::MAX) <= self.local
                && rules.consecutive_local_origin_failures > 0;
        };
        self.local = 0;
        if matches!(outcome, Outcome::Connected) && rules.split {
            return false;
        }
        self.errors = if status >= 500 { self.errors + 1 } else { 0 };
        self.gateway = if (502..=504).contains(&status) { self.gateway + 1 } else { 0 };
        let full = |limit: u32, count: u32| limit > 0 && count >= limit;
        full(rules.consecutive_5xx, self.errors) && status >= 500
            || full(rules.consecutive_gateway_errors, self.gateway)
    }
}

fn outcomes() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        prop::sample::select(vec![200u16, 404, 500, 502, 503]).prop_map(Outcome::Status),
        Just(Outcome::ConnectFailure),
        Just(Outcome::Connected),
    ]
}

fn any_rules() -> impl Strategy<Value = OutlierDetection> {
    let counts = (0u32..4, 0u32..4, 0u32..4, any::<bool>());
    (counts, 1u64..20, 1u64..90, 0u32..=100).prop_map(
        |((five, gateway, local, split), interval, base, percent)| OutlierDetection {
            consecutive_5xx: five,
            consecutive_gateway_errors: gateway,
            consecutive_local_origin_failures: local,
            split,
            interval: Duration::from_secs(interval),
            base_ejection_time: Duration::from_secs(base),
            max_ejection_percent: percent,
            ..Default::default()
        },
    )
}

proptest! {
    #[test]
    fn ejections_follow_the_model(
        rules in any_rules(),
        endpoints in 1usize..8,
        events in prop::collection::vec((0usize..8, outcomes(), 0u64..15), 1..200),
    ) {
        let cluster = with(rules.clone(), endpoints);
        let mut models = vec![Model::default(); endpoints];
        let mut now = 0;
        for (at, outcome, pause) in events {
            let at = at % endpoints;
            now += pause * SECOND;
            let event = record(&cluster, &cluster.endpoints[at], outcome, now);
            let out = models.iter().filter(|m| m.is_out(now)).count();
            let most = if rules.max_ejection_percent == 0 { 0 } else {
                (endpoints * rules.max_ejection_percent as usize / 100).max(1)
            };
            let model = &mut models[at];
            let mut expected = None;
            if !model.is_out(now) && model.count(&rules, outcome) && out < most && out + 1 < endpoints {
                let healthy = (now - model.until) / (rules.interval.as_secs() * SECOND);
                let base = rules.base_ejection_time.as_secs();
                let times = (u64::from(model.times).saturating_sub(healthy) + 1).min(300u64.div_ceil(base));
                let until = now + (base * times).min(300.max(base)) * SECOND;
                *model = Model { until, times: times as u32, ..Model::default() };
                expected = Some(Event::Ejected { until, times: times as u32 });
            }
            prop_assert_eq!(event, expected);
            prop_assert!(cluster.ejected(now) < endpoints);
        }
    }
}
