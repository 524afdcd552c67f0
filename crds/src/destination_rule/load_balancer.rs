//! How an endpoint is chosen.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::scalar::{Duration, Int};

/// How endpoints are chosen. At most one of `simple` and `consistentHash`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct LoadBalancer {
    /// One of the plain algorithms. `LEAST_REQUEST` by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub simple: Option<SimpleLb>,
    /// Requests that are alike in one property go to the same endpoint.
    #[serde(alias = "consistent_hash", skip_serializing_if = "Option::is_none")]
    pub consistent_hash: Option<ConsistentHash>,
    /// Shares traffic over localities, or orders them for failover.
    #[serde(alias = "locality_lb_setting", skip_serializing_if = "Option::is_none")]
    pub locality_lb_setting: Option<LocalitySetting>,
    /// Keeps traffic in the client's zone as far as its endpoints can take it.
    #[serde(alias = "zone_aware_lb_setting", skip_serializing_if = "Option::is_none")]
    pub zone_aware_lb_setting: Option<ZoneAwareSetting>,
    /// Deprecated spelling of `warmup.duration`.
    #[serde(alias = "warmup_duration_secs", skip_serializing_if = "Option::is_none")]
    pub warmup_duration_secs: Option<Duration>,
    /// New endpoints get a growing share of the traffic at first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warmup: Option<Warmup>,
}

/// The plain load balancing algorithms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SimpleLb {
    /// Nothing chosen: `LEAST_REQUEST`.
    #[serde(rename = "UNSPECIFIED")]
    Unspecified,
    /// Deprecated spelling of `LEAST_REQUEST`.
    #[serde(rename = "LEAST_CONN")]
    LeastConn,
    /// Any endpoint with equal chance.
    #[serde(rename = "RANDOM")]
    Random,
    /// The address that the client connected to, without any choice.
    #[serde(rename = "PASSTHROUGH")]
    Passthrough,
    /// Each endpoint in turn.
    #[serde(rename = "ROUND_ROBIN")]
    RoundRobin,
    /// Of two endpoints taken by chance the one with fewer requests under way.
    #[serde(rename = "LEAST_REQUEST")]
    LeastRequest,
}

/// Requests that are alike in one property go to the same endpoint. Exactly one property, at most one
/// algorithm.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ConsistentHash {
    /// The value of this header.
    #[serde(alias = "http_header_name", skip_serializing_if = "Option::is_none")]
    pub http_header_name: Option<String>,
    /// The value of a cookie.
    #[serde(alias = "http_cookie", skip_serializing_if = "Option::is_none")]
    pub http_cookie: Option<HttpCookie>,
    /// The client's address. The only property that also works for TCP.
    #[serde(alias = "use_source_ip", skip_serializing_if = "Option::is_none")]
    pub use_source_ip: Option<bool>,
    /// The value of this query parameter.
    #[serde(alias = "http_query_parameter_name", skip_serializing_if = "Option::is_none")]
    pub http_query_parameter_name: Option<String>,
    /// Endpoints on a ring of hashes. The default algorithm.
    #[serde(alias = "ring_hash", skip_serializing_if = "Option::is_none")]
    pub ring_hash: Option<RingHash>,
    /// Endpoints in a lookup table after Maglev.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maglev: Option<Maglev>,
    /// Deprecated spelling of `ringHash.minimumRingSize`.
    #[serde(alias = "minimum_ring_size", skip_serializing_if = "Option::is_none")]
    pub minimum_ring_size: Option<Int>,
}

/// A cookie that ties a client to an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpCookie {
    /// The name of the cookie. Required.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The path that is set with the cookie.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// Its lifetime. If given, the sidecar makes the cookie where it is missing; `0s` makes a session
    /// cookie.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl: Option<Duration>,
    /// Further attributes that are set with the cookie.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attributes: Vec<CookieAttribute>,
}

/// An attribute of a cookie, such as `SameSite=Strict`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct CookieAttribute {
    /// The name of the attribute.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The value; empty for attributes that have none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub value: String,
}

/// Settings of the ring of hashes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RingHash {
    /// The least number of entries on the ring, 1024 by default. More entries share the traffic more
    /// evenly.
    #[serde(alias = "minimum_ring_size", skip_serializing_if = "Option::is_none")]
    pub minimum_ring_size: Option<Int>,
}

/// Settings of the Maglev table.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Maglev {
    /// The size of the table, a prime number below 5000011; 65537 by default.
    #[serde(alias = "table_size", skip_serializing_if = "Option::is_none")]
    pub table_size: Option<Int>,
}

/// How traffic is shared over localities. At most one of `distribute` and `failover`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct LocalitySetting {
    /// Shares of the traffic, by the client's locality.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub distribute: Vec<LocalityDistribute>,
    /// Which region takes over when the client's own is not healthy.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failover: Vec<LocalityFailover>,
    /// Labels, in order, by which endpoints that are like the client are preferred. `key=value` compares
    /// with a fixed value.
    #[serde(alias = "failover_priority", skip_serializing_if = "Vec::is_empty")]
    pub failover_priority: Vec<String>,
    /// Turns the setting on or off, whatever the mesh-wide setting says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
}

/// The shares of traffic that starts in one locality.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct LocalityDistribute {
    /// The client's locality, `region/zone/sub-zone`, with `*` at the end.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub from: String,
    /// Percents by the endpoints' locality. The sum is 100.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub to: BTreeMap<String, Int>,
}

/// A region and the one that takes over for it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct LocalityFailover {
    /// The region that is not healthy.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub from: String,
    /// The region that takes over.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub to: String,
}

/// Keeps traffic in the client's zone as far as its endpoints can take it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ZoneAwareSetting {
    /// Turns zone-aware routing on or off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Which region takes over when the client's own is not healthy.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failover: Vec<LocalityFailover>,
    /// Labels, in order, by which endpoints that are like the client are preferred.
    #[serde(alias = "failover_priority", skip_serializing_if = "Vec::is_empty")]
    pub failover_priority: Vec<String>,
    /// With fewer endpoints than this zones are ignored; 6 by default.
    #[serde(alias = "min_cluster_size", skip_serializing_if = "Option::is_none")]
    pub min_cluster_size: Option<Int>,
}

/// The slow start of new endpoints. Only with `ROUND_ROBIN` and `LEAST_REQUEST`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Warmup {
    /// How long an endpoint counts as new. Required.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration: Option<Duration>,
    /// The share it starts with, in percent of a full one; 10 by default.
    #[serde(alias = "minimum_percent", skip_serializing_if = "Option::is_none")]
    pub minimum_percent: Option<f64>,
    /// How fast the share grows; 1 is linear and the default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aggression: Option<f64>,
}
