//! DestinationRule: how connections to a service are made, shared out and given up.
//!
//! The settings are in the folder: `load_balancer`, `connection_pool`, `outlier`, `tls`. Source of the
//! fields: `destination_rule.proto` of Istio's API.

/// How an endpoint is chosen.
pub mod load_balancer;

/// Limits and timeouts of connections.
pub mod connection_pool;

/// When an endpoint that fails is left out.
pub mod outlier;

/// TLS towards a service.
pub mod tls;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::scalar::{Duration, Int};
use crate::shared::{MatchLabels, PortSelector};
use connection_pool::ConnectionPool;
use load_balancer::LoadBalancer;
use outlier::OutlierDetection;
use tls::ClientTls;

/// What clients do with a service after routing: subsets, load balancing, limits, ejection, TLS. It is
/// applied by the sidecar of the client.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct DestinationRule {
    /// The service: a full name, a short name of the object's namespace, or a `*.` wildcard. Required.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub host: String,
    /// Settings for all ports and subsets.
    #[serde(alias = "traffic_policy", skip_serializing_if = "Option::is_none")]
    pub traffic_policy: Option<TrafficPolicy>,
    /// Named groups of the service's endpoints, for routes to choose from.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subsets: Vec<Subset>,
    /// Namespaces whose clients see this object: `.` is its own, `*` all, and all is the default.
    #[serde(alias = "export_to", skip_serializing_if = "Vec::is_empty")]
    pub export_to: Vec<String>,
    /// Only client pods of the object's namespace with these labels use it.
    #[serde(alias = "workload_selector", skip_serializing_if = "Option::is_none")]
    pub workload_selector: Option<MatchLabels>,
}

/// A named group of a service's endpoints.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Subset {
    /// The name that routes use. Unique within the host. Required.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Labels that the endpoints of the subset carry. None means all endpoints.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Settings for this subset; each block takes the place of the same block above.
    #[serde(alias = "traffic_policy", skip_serializing_if = "Option::is_none")]
    pub traffic_policy: Option<TrafficPolicy>,
}

/// Settings for connections to a service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TrafficPolicy {
    /// How endpoints are chosen.
    #[serde(alias = "load_balancer", skip_serializing_if = "Option::is_none")]
    pub load_balancer: Option<LoadBalancer>,
    /// Limits and timeouts of connections.
    #[serde(alias = "connection_pool", skip_serializing_if = "Option::is_none")]
    pub connection_pool: Option<ConnectionPool>,
    /// When an endpoint that fails is left out for a while.
    #[serde(alias = "outlier_detection", skip_serializing_if = "Option::is_none")]
    pub outlier_detection: Option<OutlierDetection>,
    /// TLS towards the service. Left out, mutual TLS is used with every endpoint that has a sidecar.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<ClientTls>,
    /// Settings for single ports. Such an entry takes the place of everything above for its port, nothing
    /// is inherited.
    #[serde(alias = "port_level_settings", skip_serializing_if = "Vec::is_empty")]
    pub port_level_settings: Vec<PortTrafficPolicy>,
    /// Carries TCP through an HTTP tunnel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tunnel: Option<Tunnel>,
    /// Sends a PROXY protocol header before the data.
    #[serde(alias = "proxy_protocol", skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<ProxyProtocol>,
    /// The share of active requests that may be retries.
    #[serde(alias = "retry_budget", skip_serializing_if = "Option::is_none")]
    pub retry_budget: Option<RetryBudget>,
}

/// Settings for one port of the service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PortTrafficPolicy {
    /// The service's port. Required.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<PortSelector>,
    /// How endpoints are chosen.
    #[serde(alias = "load_balancer", skip_serializing_if = "Option::is_none")]
    pub load_balancer: Option<LoadBalancer>,
    /// Limits and timeouts of connections.
    #[serde(alias = "connection_pool", skip_serializing_if = "Option::is_none")]
    pub connection_pool: Option<ConnectionPool>,
    /// When an endpoint that fails is left out for a while.
    #[serde(alias = "outlier_detection", skip_serializing_if = "Option::is_none")]
    pub outlier_detection: Option<OutlierDetection>,
    /// TLS towards the service on this port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<ClientTls>,
}

/// An HTTP tunnel for TCP and TLS routes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Tunnel {
    /// `CONNECT`, the default, or `POST`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub protocol: String,
    /// The host at the far end of the tunnel. Required.
    #[serde(alias = "target_host", skip_serializing_if = "String::is_empty")]
    pub target_host: String,
    /// The port at the far end of the tunnel. Required.
    #[serde(alias = "target_port", skip_serializing_if = "Option::is_none")]
    pub target_port: Option<Int>,
}

/// The PROXY protocol header that goes before the data.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ProxyProtocol {
    /// The version of the header, `V1` by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<ProxyProtocolVersion>,
}

/// Versions of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ProxyProtocolVersion {
    /// The readable form.
    #[serde(rename = "V1")]
    V1,
    /// The binary form.
    #[serde(rename = "V2")]
    V2,
}

/// A bound on retries that grows with the traffic.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RetryBudget {
    /// The share of active requests that may be retries, from 0 to 100; 20 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percent: Option<f64>,
    /// Retries that are always allowed at a time; 3 by default.
    #[serde(alias = "min_retry_concurrency", skip_serializing_if = "Option::is_none")]
    pub min_retry_concurrency: Option<Int>,
    /// The stretch of time over which requests are counted; only those under way by default.
    #[serde(alias = "budget_interval", skip_serializing_if = "Option::is_none")]
    pub budget_interval: Option<Duration>,
}
