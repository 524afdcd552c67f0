//! Clusters: how the endpoints of a service's port are balanced, limited, watched and dialled
//! (DestinationRule `trafficPolicy`, resolved for one port and subset).

use std::sync::Arc;
use std::time::Duration;

use super::metadata::Labels;
use super::name::{ClusterName, ObjectName};

/// One port of a service, or of one of its subsets.
#[derive(Clone, Debug, PartialEq)]
pub struct Cluster {
    /// Its name.
    pub name: ClusterName,
    /// The DestinationRule that shaped it.
    pub source: Option<ObjectName>,
    /// The labels that an endpoint must have.
    pub labels: Labels,
    /// How an endpoint is picked.
    pub balancer: Balancer,
    /// Limits and times of connections.
    pub connections: ConnectionPolicy,
    /// When an endpoint is set aside.
    pub outlier: Option<OutlierDetection>,
    /// How it is dialled.
    pub tls: UpstreamTls,
    /// The most retries under way, against the requests under way.
    pub retry_budget: RetryBudget,
}

/// How an endpoint is picked (`loadBalancer.simple`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Balancer {
    /// Of two at random, the one with fewer requests under way.
    #[default]
    LeastRequest,
    /// In turn.
    RoundRobin,
    /// At random.
    Random,
    /// The address that the client dialled.
    Passthrough,
}

/// `connectionPool`. Limits are exact over all workers of the sidecar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionPolicy {
    /// `tcp.maxConnections`; `None` is no limit, 0 is none at all.
    pub max_connections: Option<u32>,
    /// `tcp.connectTimeout`.
    pub connect_timeout: Duration,
    /// `tcp.tcpKeepalive`; `None` leaves the sidecar's own default on.
    pub keepalive: Option<TcpKeepalive>,
    /// `tcp.idleTimeout`: of a relayed TCP connection; `None` is never.
    pub tcp_idle_timeout: Option<Duration>,
    /// `http.http1MaxPendingRequests`: requests that wait for a connection.
    pub max_pending_requests: Option<u32>,
    /// `http.http2MaxRequests`: requests under way, HTTP/1 and HTTP/2.
    pub max_requests: Option<u32>,
    /// `http.maxRequestsPerConnection`; `None` is no limit.
    pub max_requests_per_connection: Option<u32>,
    /// `http.maxRetries`: retries under way; replaces the budget.
    pub max_retries: Option<u32>,
    /// `http.idleTimeout`: of a pooled connection.
    pub http_idle_timeout: Duration,
    /// `http.maxConcurrentStreams` of one HTTP/2 connection.
    pub max_concurrent_streams: Option<u32>,
    /// `http.h2UpgradePolicy: UPGRADE`, to meshed endpoints.
    pub upgrade_to_http2: bool,
}

/// `tcp.tcpKeepalive`; a part that is `None` is the operating system's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpKeepalive {
    /// Probes without answer before the connection is dead.
    pub probes: Option<u32>,
    /// Idle time before the first probe.
    pub time: Option<Duration>,
    /// Time between probes.
    pub interval: Option<Duration>,
}

/// `outlierDetection`, with defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutlierDetection {
    /// Errors in a row that eject; 0 is off.
    pub consecutive_5xx: u32,
    /// 502, 503, 504 in a row that eject; 0 is off.
    pub consecutive_gateway_errors: u32,
    /// Connect failures and resets in a row that eject, counted apart from statuses when `split` is on; 0 is off.
    pub consecutive_local_origin_failures: u32,
    /// `splitExternalLocalOriginErrors`.
    pub split: bool,
    /// The statuses that count as errors in place of 5xx; empty is 5xx.
    pub error_codes: Arc<[u16]>,
    /// How often the ejection multiplier of a healthy host is let down.
    pub interval: Duration,
    /// Times the number of ejections in a row is how long a host is set aside.
    pub base_ejection_time: Duration,
    /// The most hosts set aside at once, in percent; at least one host may be, never the last healthy one.
    pub max_ejection_percent: u32,
    /// Below this share of healthy hosts ejections are not heeded, in percent.
    pub min_health_percent: u32,
}

/// `trafficPolicy.tls`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum UpstreamTls {
    /// Nothing said: mTLS to endpoints that are meshed, plaintext to the others.
    #[default]
    Auto,
    /// `DISABLE`: plaintext.
    Disable,
    /// `ISTIO_MUTUAL`: the mesh's certificate; the server must be one of `sans`, or its endpoint's own account.
    Mutual {
        /// `subjectAltNames`, SPIFFE URIs.
        sans: Arc<[Arc<str>]>,
        /// `sni`.
        sni: Option<Arc<str>>,
    },
}

/// `retryBudget`: retries under way may be this share of the requests under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryBudget {
    /// Percent of the requests under way, in hundredths of a percent.
    pub basis_points: u32,
    /// Always allowed.
    pub min_concurrency: u32,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self { basis_points: 2_000, min_concurrency: 3 }
    }
}

impl Default for ConnectionPolicy {
    fn default() -> Self {
        Self {
            max_connections: None,
            connect_timeout: Duration::from_secs(10),
            keepalive: None,
            tcp_idle_timeout: Some(Duration::from_secs(3600)),
            max_pending_requests: None,
            max_requests: None,
            max_requests_per_connection: None,
            max_retries: None,
            http_idle_timeout: Duration::from_secs(3600),
            max_concurrent_streams: None,
            upgrade_to_http2: false,
        }
    }
}

impl Default for OutlierDetection {
    fn default() -> Self {
        Self {
            consecutive_5xx: 5,
            consecutive_gateway_errors: 0,
            consecutive_local_origin_failures: 5,
            split: false,
            error_codes: Arc::new([]),
            interval: Duration::from_secs(10),
            base_ejection_time: Duration::from_secs(30),
            max_ejection_percent: 10,
            min_health_percent: 0,
        }
    }
}

impl Cluster {
    /// A cluster as it is where no DestinationRule says anything.
    pub fn plain(name: ClusterName) -> Self {
        Self {
            name,
            source: None,
            labels: Arc::new([]),
            balancer: Balancer::default(),
            connections: ConnectionPolicy::default(),
            outlier: None,
            tls: UpstreamTls::default(),
            retry_budget: RetryBudget::default(),
        }
    }
}
