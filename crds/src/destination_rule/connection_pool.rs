//! Limits and timeouts of connections.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::scalar::{Duration, Int};

/// Limits and timeouts of connections, for each client pod and service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ConnectionPool {
    /// For all connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpSettings>,
    /// For HTTP/1.1, HTTP/2 and gRPC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpSettings>,
}

/// Settings of all connections.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TcpSettings {
    /// The greatest number of HTTP/1.1 and TCP connections at a time.
    #[serde(alias = "max_connections", skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<Int>,
    /// Time to connect, at least 1 ms; 10 s by default.
    #[serde(alias = "connect_timeout", skip_serializing_if = "Option::is_none")]
    pub connect_timeout: Option<Duration>,
    /// TCP keepalive probes.
    #[serde(alias = "tcp_keepalive", skip_serializing_if = "Option::is_none")]
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// The greatest age of a connection, at least 1 ms. Unbounded by default.
    #[serde(alias = "max_connection_duration", skip_serializing_if = "Option::is_none")]
    pub max_connection_duration: Option<Duration>,
    /// A TCP connection without traffic is closed after this; `0s` never, 1 h by default.
    #[serde(alias = "idle_timeout", skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<Duration>,
}

/// TCP keepalive probes; what is left out is up to the operating system.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TcpKeepalive {
    /// Unanswered probes after which a connection is dead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probes: Option<Int>,
    /// Silence before the first probe.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<Duration>,
    /// Time between probes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<Duration>,
}

/// Settings of HTTP connections.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpSettings {
    /// The greatest number of requests that wait for a connection.
    #[serde(alias = "http1_max_pending_requests", skip_serializing_if = "Option::is_none")]
    pub http1_max_pending_requests: Option<Int>,
    /// The greatest number of requests under way at a time, HTTP/1.1 and HTTP/2.
    #[serde(alias = "http2_max_requests", skip_serializing_if = "Option::is_none")]
    pub http2_max_requests: Option<Int>,
    /// Requests after which a connection is not used again. 0, the default, means unlimited; 1 turns
    /// keep-alive off.
    #[serde(alias = "max_requests_per_connection", skip_serializing_if = "Option::is_none")]
    pub max_requests_per_connection: Option<Int>,
    /// The greatest number of retries under way at a time.
    #[serde(alias = "max_retries", skip_serializing_if = "Option::is_none")]
    pub max_retries: Option<Int>,
    /// A connection without requests is closed after this; 1 h by default.
    #[serde(alias = "idle_timeout", skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<Duration>,
    /// Whether HTTP/1.1 requests travel over HTTP/2.
    #[serde(alias = "h2_upgrade_policy", skip_serializing_if = "Option::is_none")]
    pub h2_upgrade_policy: Option<H2UpgradePolicy>,
    /// Uses the client's version of HTTP towards the service too, and never upgrades.
    #[serde(alias = "use_client_protocol", skip_serializing_if = "std::ops::Not::not")]
    pub use_client_protocol: bool,
    /// The greatest number of streams on one HTTP/2 connection.
    #[serde(alias = "max_concurrent_streams", skip_serializing_if = "Option::is_none")]
    pub max_concurrent_streams: Option<Int>,
    /// HTTP/2 pings on idle connections.
    #[serde(alias = "http2_keep_alive", skip_serializing_if = "Option::is_none")]
    pub http2_keep_alive: Option<Http2KeepAlive>,
}

/// HTTP/2 pings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Http2KeepAlive {
    /// Time between pings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<Duration>,
    /// Time to wait for the answer before the connection is dead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
}

/// Whether HTTP/1.1 requests travel over HTTP/2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum H2UpgradePolicy {
    /// As the mesh-wide setting says.
    #[serde(rename = "DEFAULT")]
    Default,
    /// They stay HTTP/1.1.
    #[serde(rename = "DO_NOT_UPGRADE")]
    DoNotUpgrade,
    /// They travel over HTTP/2.
    #[serde(rename = "UPGRADE")]
    Upgrade,
}
