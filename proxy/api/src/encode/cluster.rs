//! Clusters.

use weft_core::model::cluster::{
    Balancer, Cluster, ConnectionPolicy, OutlierDetection, RetryBudget, TcpKeepalive, UpstreamTls,
};

use super::common::{cluster_name, labels, nanos, object_name, optional_text, texts};
use crate::pb::config as pb;

pub(super) fn cluster(cluster: &Cluster) -> pb::Cluster {
    pb::Cluster {
        name: Some(cluster_name(&cluster.name)),
        source: cluster.source.as_ref().map(object_name),
        labels: labels(&cluster.labels),
        balancer: balancer(cluster.balancer).into(),
        connections: Some(connections(&cluster.connections)),
        outlier: cluster.outlier.as_ref().map(outlier),
        tls: Some(tls(&cluster.tls)),
        retry_budget: Some(budget(cluster.retry_budget)),
    }
}

fn balancer(balancer: Balancer) -> pb::Balancer {
    match balancer {
        Balancer::LeastRequest => pb::Balancer::LeastRequest,
        Balancer::RoundRobin => pb::Balancer::RoundRobin,
        Balancer::Random => pb::Balancer::Random,
        Balancer::Passthrough => pb::Balancer::Passthrough,
    }
}

fn connections(policy: &ConnectionPolicy) -> pb::ConnectionPolicy {
    pb::ConnectionPolicy {
        max_connections: policy.max_connections,
        connect_timeout_nanos: nanos(policy.connect_timeout),
        keepalive: policy.keepalive.as_ref().map(keepalive),
        tcp_idle_timeout_nanos: policy.tcp_idle_timeout.map(nanos),
        max_pending_requests: policy.max_pending_requests,
        max_requests: policy.max_requests,
        max_requests_per_connection: policy.max_requests_per_connection,
        max_retries: policy.max_retries,
        http_idle_timeout_nanos: nanos(policy.http_idle_timeout),
        max_concurrent_streams: policy.max_concurrent_streams,
        upgrade_to_http2: policy.upgrade_to_http2,
    }
}

fn keepalive(keepalive: &TcpKeepalive) -> pb::TcpKeepalive {
    pb::TcpKeepalive {
        probes: keepalive.probes,
        time_nanos: keepalive.time.map(nanos),
        interval_nanos: keepalive.interval.map(nanos),
    }
}

fn outlier(outlier: &OutlierDetection) -> pb::OutlierDetection {
    pb::OutlierDetection {
        consecutive_5xx: outlier.consecutive_5xx,
        consecutive_gateway_errors: outlier.consecutive_gateway_errors,
        consecutive_local_origin_failures: outlier.consecutive_local_origin_failures,
        split: outlier.split,
        error_codes: outlier.error_codes.iter().map(|code| u32::from(*code)).collect(),
        interval_nanos: nanos(outlier.interval),
        base_ejection_time_nanos: nanos(outlier.base_ejection_time),
        max_ejection_percent: outlier.max_ejection_percent,
        min_health_percent: outlier.min_health_percent,
    }
}

fn tls(tls: &UpstreamTls) -> pb::UpstreamTls {
    use pb::upstream_tls::Mode;
    let mode = match tls {
        UpstreamTls::Auto => Mode::Auto(true),
        UpstreamTls::Disable => Mode::Disable(true),
        UpstreamTls::Mutual { sans, sni } => {
            Mode::Mutual(pb::MutualTls { sans: texts(sans), sni: optional_text(sni.as_ref()) })
        }
    };
    pb::UpstreamTls { mode: Some(mode) }
}

fn budget(budget: RetryBudget) -> pb::RetryBudget {
    pb::RetryBudget { basis_points: budget.basis_points, min_concurrency: budget.min_concurrency }
}
