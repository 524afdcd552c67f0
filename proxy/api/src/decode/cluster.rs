//! Clusters.

use std::time::Duration;

use weft_core::model::cluster::{
    Balancer, Cluster, ConnectionPolicy, OutlierDetection, RetryBudget, TcpKeepalive, UpstreamTls,
};

use super::common::{cluster_name, labels, object_name};
use super::value::{
    At, Result, at_most, chosen, duration, list, optional, required, span, status, variant, word,
};
use crate::limits::MAX_VALUES;
use crate::pb::config as pb;

pub(super) fn cluster(cluster: &pb::Cluster) -> Result<Cluster> {
    Ok(Cluster {
        name: cluster_name(cluster.name.as_ref()).at("name")?,
        source: optional("source", cluster.source.as_ref(), object_name)?,
        labels: labels(&cluster.labels)?,
        balancer: balancer(cluster.balancer).at("balancer")?,
        connections: required(cluster.connections.as_ref()).and_then(connections).at("connections")?,
        outlier: optional("outlier", cluster.outlier.as_ref(), outlier)?,
        tls: required(cluster.tls.as_ref()).and_then(tls).at("tls")?,
        retry_budget: required(cluster.retry_budget.as_ref()).and_then(budget).at("retry_budget")?,
    })
}

fn balancer(balancer: i32) -> Result<Balancer> {
    Ok(match variant(balancer)? {
        pb::Balancer::Unspecified | pb::Balancer::LeastRequest => Balancer::LeastRequest,
        pb::Balancer::RoundRobin => Balancer::RoundRobin,
        pb::Balancer::Random => Balancer::Random,
        pb::Balancer::Passthrough => Balancer::Passthrough,
    })
}

fn connections(policy: &pb::ConnectionPolicy) -> Result<ConnectionPolicy> {
    Ok(ConnectionPolicy {
        max_connections: policy.max_connections,
        connect_timeout: span(policy.connect_timeout_nanos).at("connect_timeout_nanos")?,
        keepalive: optional("keepalive", policy.keepalive.as_ref(), keepalive)?,
        tcp_idle_timeout: time("tcp_idle_timeout_nanos", policy.tcp_idle_timeout_nanos)?,
        max_pending_requests: policy.max_pending_requests,
        max_requests: policy.max_requests,
        max_requests_per_connection: policy.max_requests_per_connection,
        max_retries: policy.max_retries,
        http_idle_timeout: duration(policy.http_idle_timeout_nanos).at("http_idle_timeout_nanos")?,
        max_concurrent_streams: policy.max_concurrent_streams,
        upgrade_to_http2: policy.upgrade_to_http2,
    })
}

fn keepalive(keepalive: &pb::TcpKeepalive) -> Result<TcpKeepalive> {
    Ok(TcpKeepalive {
        probes: keepalive.probes,
        time: time("time_nanos", keepalive.time_nanos)?,
        interval: time("interval_nanos", keepalive.interval_nanos)?,
    })
}

fn time(field: &str, nanos: Option<u64>) -> Result<Option<Duration>> {
    nanos.map(duration).transpose().at(field)
}

fn outlier(outlier: &pb::OutlierDetection) -> Result<OutlierDetection> {
    let code = |code: &u32| status(*code, 100..=999).map(|status| status.as_u16());
    Ok(OutlierDetection {
        consecutive_5xx: outlier.consecutive_5xx,
        consecutive_gateway_errors: outlier.consecutive_gateway_errors,
        consecutive_local_origin_failures: outlier.consecutive_local_origin_failures,
        split: outlier.split,
        error_codes: list("error_codes", &outlier.error_codes, MAX_VALUES, code)?.into(),
        interval: span(outlier.interval_nanos).at("interval_nanos")?,
        base_ejection_time: span(outlier.base_ejection_time_nanos).at("base_ejection_time_nanos")?,
        max_ejection_percent: at_most(100, outlier.max_ejection_percent).at("max_ejection_percent")?,
        min_health_percent: at_most(100, outlier.min_health_percent).at("min_health_percent")?,
    })
}

fn tls(tls: &pb::UpstreamTls) -> Result<UpstreamTls> {
    use pb::upstream_tls::Mode;
    Ok(match chosen(tls.mode.as_ref())? {
        Mode::Auto(_) => UpstreamTls::Auto,
        Mode::Disable(_) => UpstreamTls::Disable,
        Mode::Mutual(it) => mutual(it).at("mutual")?,
    })
}

fn mutual(mutual: &pb::MutualTls) -> Result<UpstreamTls> {
    Ok(UpstreamTls::Mutual {
        sans: list("sans", &mutual.sans, MAX_VALUES, |san| word(san))?.into(),
        sni: optional("sni", mutual.sni.as_ref(), |sni| word(sni))?,
    })
}

fn budget(budget: &pb::RetryBudget) -> Result<RetryBudget> {
    let basis_points = at_most(10_000, budget.basis_points).at("basis_points")?;
    Ok(RetryBudget { basis_points, min_concurrency: budget.min_concurrency })
}
