//! Clusters.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use weft_core::model::cluster::{
    Balancer, Cluster, ConnectionPolicy, OutlierDetection, RetryBudget, TcpKeepalive, UpstreamTls,
};

use super::value::{cluster_name, duration, labels, object_name, span, word};

/// A cluster.
pub fn cluster() -> impl Strategy<Value = Cluster> {
    let what = (cluster_name(), option::of(object_name()), labels(), balancer());
    let how = (connections(), option::of(outlier()), tls(), budget());
    (what, how).prop_map(|((name, source, labels, balancer), (connections, outlier, tls, retry_budget))| {
        Cluster { name, source, labels, balancer, connections, outlier, tls, retry_budget }
    })
}

fn balancer() -> impl Strategy<Value = Balancer> {
    use Balancer::{LeastRequest, Passthrough, Random, RoundRobin};
    prop::sample::select(vec![LeastRequest, RoundRobin, Random, Passthrough])
}

fn connections() -> impl Strategy<Value = ConnectionPolicy> {
    let limits = [(); 6].map(|()| option::of(any::<u32>()));
    let times = (span(), option::of(duration()), duration());
    (limits, times, option::of(keepalive()), any::<bool>()).prop_map(|(limits, times, keepalive, upgrade)| {
        ConnectionPolicy {
            max_connections: limits[0],
            connect_timeout: times.0,
            keepalive,
            tcp_idle_timeout: times.1,
            max_pending_requests: limits[1],
            max_requests: limits[2],
            max_requests_per_connection: limits[3],
            max_retries: limits[4],
            http_idle_timeout: times.2,
            max_concurrent_streams: limits[5],
            upgrade_to_http2: upgrade,
        }
    })
}

fn keepalive() -> impl Strategy<Value = TcpKeepalive> {
    let parts = (option::of(any::<u32>()), option::of(duration()), option::of(duration()));
    parts.prop_map(|(probes, time, interval)| TcpKeepalive { probes, time, interval })
}

fn outlier() -> impl Strategy<Value = OutlierDetection> {
    let counts = any::<[u32; 3]>();
    let codes = vec(100..=999u16, 0..3);
    (counts, any::<bool>(), codes, span(), span(), [0..=100u32, 0..=100u32]).prop_map(
        |(counts, split, codes, interval, base_ejection_time, percents)| OutlierDetection {
            consecutive_5xx: counts[0],
            consecutive_gateway_errors: counts[1],
            consecutive_local_origin_failures: counts[2],
            split,
            error_codes: codes.into(),
            interval,
            base_ejection_time,
            max_ejection_percent: percents[0],
            min_health_percent: percents[1],
        },
    )
}

fn tls() -> impl Strategy<Value = UpstreamTls> {
    let mutual = (vec(word(), 0..3), option::of(word()));
    prop_oneof![
        Just(UpstreamTls::Auto),
        Just(UpstreamTls::Disable),
        mutual.prop_map(|(sans, sni)| UpstreamTls::Mutual { sans: sans.into(), sni }),
    ]
}

fn budget() -> impl Strategy<Value = RetryBudget> {
    (0..=10_000u32, any::<u32>())
        .prop_map(|(basis_points, min_concurrency)| RetryBudget { basis_points, min_concurrency })
}
