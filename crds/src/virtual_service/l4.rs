//! Rules for TCP connections and for TLS connections that are passed on unopened.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::scalar::Int;
use crate::shared::Destination;

/// One rule for TLS connections that are passed on unopened.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TlsRoute {
    /// Conditions, at least one block. The blocks are alternatives, within a block all conditions hold.
    #[serde(rename = "match", skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<TlsMatch>,
    /// Where a connection goes, by weight.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub route: Vec<RouteDestination>,
}

/// Conditions on a TLS connection that must all hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TlsMatch {
    /// Server names that the client asks for, each within the object's `hosts`. Required.
    #[serde(alias = "sni_hosts", skip_serializing_if = "Vec::is_empty")]
    pub sni_hosts: Vec<String>,
    /// Addresses or ranges (CIDR) that the client connects to.
    #[serde(alias = "destination_subnets", skip_serializing_if = "Vec::is_empty")]
    pub destination_subnets: Vec<String>,
    /// The port of the service that the client addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<Int>,
    /// Only clients whose pods carry these labels get the rule.
    #[serde(alias = "source_labels", skip_serializing_if = "BTreeMap::is_empty")]
    pub source_labels: BTreeMap<String, String>,
    /// Only these of the object's `gateways` get the rule.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gateways: Vec<String>,
    /// Only clients in this namespace get the rule.
    #[serde(alias = "source_namespace", skip_serializing_if = "String::is_empty")]
    pub source_namespace: String,
}

/// One rule for opaque TCP connections.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TcpRoute {
    /// Conditions. The blocks are alternatives, within a block all conditions hold. None means every
    /// connection.
    #[serde(rename = "match", skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<L4Match>,
    /// Where a connection goes, by weight.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub route: Vec<RouteDestination>,
}

/// Conditions on a TCP connection that must all hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct L4Match {
    /// Addresses or ranges (CIDR) that the client connects to.
    #[serde(alias = "destination_subnets", skip_serializing_if = "Vec::is_empty")]
    pub destination_subnets: Vec<String>,
    /// The port of the service that the client addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<Int>,
    /// An address or range (CIDR) of the client.
    #[serde(alias = "source_subnet", skip_serializing_if = "String::is_empty")]
    pub source_subnet: String,
    /// Only clients whose pods carry these labels get the rule.
    #[serde(alias = "source_labels", skip_serializing_if = "BTreeMap::is_empty")]
    pub source_labels: BTreeMap<String, String>,
    /// Only these of the object's `gateways` get the rule.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gateways: Vec<String>,
    /// Only clients in this namespace get the rule.
    #[serde(alias = "source_namespace", skip_serializing_if = "String::is_empty")]
    pub source_namespace: String,
}

/// One destination of a TCP or TLS rule. The choice is made once per connection.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RouteDestination {
    /// The service, subset and port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination: Option<Destination>,
    /// The share of this destination among the sum of all weights. 0 gets nothing; a single destination
    /// needs none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<Int>,
}
