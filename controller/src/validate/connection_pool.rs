//! `connectionPool`. A `0` means zero, except for `maxRequestsPerConnection`, where Istio defines it as unlimited.

use weft_core::model::cluster::{ConnectionPolicy, TcpKeepalive};
use weft_crds::destination_rule::connection_pool as written;

use super::common;
use super::findings::Findings;

const LIMIT: (i64, i64) = (0, i32::MAX as i64);

/// What a `connectionPool` means.
pub fn policy(findings: &mut Findings, path: &str, pool: &written::ConnectionPool) -> ConnectionPolicy {
    if pool.tcp.is_none() && pool.http.is_none() {
        findings.error(path, "says nothing; write tcp or http");
    }
    if pool.http.as_ref().is_some_and(|http| *http == written::HttpSettings::default()) {
        findings.error(format!("{path}.http"), "says nothing; write one of its fields, or leave it out");
    }
    let mut policy = ConnectionPolicy::default();
    if let Some(tcp) = &pool.tcp {
        self::tcp(findings, &format!("{path}.tcp"), tcp, &mut policy);
    }
    if let Some(http) = &pool.http {
        self::http(findings, &format!("{path}.http"), http, &mut policy);
    }
    policy
}

fn tcp(findings: &mut Findings, path: &str, tcp: &written::TcpSettings, policy: &mut ConnectionPolicy) {
    policy.max_connections =
        common::number(findings, &format!("{path}.maxConnections"), tcp.max_connections, LIMIT);
    let connect = common::positive(findings, &format!("{path}.connectTimeout"), tcp.connect_timeout.as_ref());
    policy.connect_timeout = connect.unwrap_or(policy.connect_timeout);
    if let Some(idle) = &tcp.idle_timeout {
        let idle = common::duration(findings, &format!("{path}.idleTimeout"), idle);
        policy.tcp_idle_timeout = idle.filter(|idle| !idle.is_zero());
    }
    policy.keepalive =
        tcp.tcp_keepalive.as_ref().map(|k| keepalive(findings, &format!("{path}.tcpKeepalive"), k));
}

fn keepalive(findings: &mut Findings, path: &str, written: &written::TcpKeepalive) -> TcpKeepalive {
    TcpKeepalive {
        probes: common::number(findings, &format!("{path}.probes"), written.probes, (1, 127)),
        time: common::positive(findings, &format!("{path}.time"), written.time.as_ref()),
        interval: common::positive(findings, &format!("{path}.interval"), written.interval.as_ref()),
    }
}

fn http(findings: &mut Findings, path: &str, http: &written::HttpSettings, policy: &mut ConnectionPolicy) {
    let mut limit = |name: &str, value| common::number(findings, &format!("{path}.{name}"), value, LIMIT);
    policy.max_pending_requests = limit("http1MaxPendingRequests", http.http1_max_pending_requests);
    policy.max_requests = limit("http2MaxRequests", http.http2_max_requests);
    let per_connection = limit("maxRequestsPerConnection", http.max_requests_per_connection);
    policy.max_requests_per_connection = per_connection.filter(|n| *n > 0);
    policy.max_retries = limit("maxRetries", http.max_retries);
    policy.max_concurrent_streams =
        limit("maxConcurrentStreams", http.max_concurrent_streams).filter(|n| *n > 0);
    let idle = common::positive(findings, &format!("{path}.idleTimeout"), http.idle_timeout.as_ref());
    policy.http_idle_timeout = idle.unwrap_or(policy.http_idle_timeout);
    policy.upgrade_to_http2 = http.h2_upgrade_policy == Some(written::H2UpgradePolicy::Upgrade);
}
