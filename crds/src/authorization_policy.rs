//! AuthorizationPolicy: who may send what to a workload.
//!
//! An absent list and an empty one mean different things here: `rules` left out matches nothing, an empty
//! rule matches everything, and an empty `from`, `to` or `source` is an error that would read as
//! "anyone". The lists that matter so are `Option<Vec<_>>`. Source of the fields:
//! `authorization_policy.proto` of Istio's API.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::shared::{MatchLabels, TargetReference};

/// Who may send what to a workload. It is applied by the sidecar of the server. DENY is looked at before
/// ALLOW; where a workload has any ALLOW policy, what none of them allows is refused.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct AuthorizationPolicy {
    /// The pods that the policy protects. Left out, all of the namespace, or of the mesh in the root
    /// namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<MatchLabels>,
    /// Deprecated spelling of `targetRefs` with one entry.
    #[serde(alias = "target_ref", skip_serializing_if = "Option::is_none")]
    pub target_ref: Option<TargetReference>,
    /// Gateways or Services that the policy protects, at most 16. Not together with `selector`.
    #[serde(alias = "target_refs", skip_serializing_if = "Vec::is_empty")]
    pub target_refs: Vec<TargetReference>,
    /// Alternatives, at most 512. Left out, the policy matches nothing; an ALLOW then refuses everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rules: Option<Vec<Rule>>,
    /// What happens to a request that a rule matches. `ALLOW` by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<Action>,
    /// The service that decides, with `CUSTOM`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<ExtensionProvider>,
}

/// A service that decides about requests.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ExtensionProvider {
    /// Its name in the mesh-wide settings.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
}

/// What happens to a request that a rule matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Action {
    /// It is let through.
    #[serde(rename = "ALLOW")]
    Allow,
    /// It is refused.
    #[serde(rename = "DENY")]
    Deny,
    /// It is written down; the verdict does not change.
    #[serde(rename = "AUDIT")]
    Audit,
    /// A service outside decides.
    #[serde(rename = "CUSTOM")]
    Custom,
}

/// Conditions on a request. What is left out holds always, so an empty rule matches everything.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Rule {
    /// Where the request comes from: alternatives.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Vec<RuleFrom>>,
    /// What the request does: alternatives.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Vec<RuleTo>>,
    /// Further conditions, which must all hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub when: Option<Vec<Condition>>,
}

/// Where a request comes from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RuleFrom {
    /// Conditions on the client, which must all hold. Required.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
}

/// Conditions on the client. The fields must all hold; within a field the values are alternatives. Values
/// may be exact, `prefix*`, `*suffix` or `*` (anything but empty), where nothing else is said.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Source {
    /// Identities from mutual TLS, as `trust-domain/ns/namespace/sa/account`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub principals: Vec<String>,
    /// Identities that do not match. A client without an identity is none of them.
    #[serde(alias = "not_principals", skip_serializing_if = "Vec::is_empty")]
    pub not_principals: Vec<String>,
    /// Identities from a JSON web token, as `issuer/subject`.
    #[serde(alias = "request_principals", skip_serializing_if = "Vec::is_empty")]
    pub request_principals: Vec<String>,
    /// Identities from a JSON web token that do not match.
    #[serde(alias = "not_request_principals", skip_serializing_if = "Vec::is_empty")]
    pub not_request_principals: Vec<String>,
    /// Namespaces, from the identity of mutual TLS.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<String>,
    /// Namespaces that do not match. A client without an identity is in none of them.
    #[serde(alias = "not_namespaces", skip_serializing_if = "Vec::is_empty")]
    pub not_namespaces: Vec<String>,
    /// Addresses or ranges (CIDR) of the peer that connects.
    #[serde(alias = "ip_blocks", skip_serializing_if = "Vec::is_empty")]
    pub ip_blocks: Vec<String>,
    /// Addresses or ranges of the peer that do not match.
    #[serde(alias = "not_ip_blocks", skip_serializing_if = "Vec::is_empty")]
    pub not_ip_blocks: Vec<String>,
    /// Addresses or ranges (CIDR) of the original client, from `X-Forwarded-For` or the PROXY protocol.
    #[serde(alias = "remote_ip_blocks", skip_serializing_if = "Vec::is_empty")]
    pub remote_ip_blocks: Vec<String>,
    /// Addresses or ranges of the original client that do not match.
    #[serde(alias = "not_remote_ip_blocks", skip_serializing_if = "Vec::is_empty")]
    pub not_remote_ip_blocks: Vec<String>,
    /// Service accounts, as `namespace/account` or `account` in the policy's namespace. Exact values only,
    /// at most 16.
    #[serde(alias = "service_accounts", skip_serializing_if = "Vec::is_empty")]
    pub service_accounts: Vec<String>,
    /// Service accounts that do not match.
    #[serde(alias = "not_service_accounts", skip_serializing_if = "Vec::is_empty")]
    pub not_service_accounts: Vec<String>,
    /// Trust domains, from the identity of mutual TLS.
    #[serde(alias = "trust_domains", skip_serializing_if = "Vec::is_empty")]
    pub trust_domains: Vec<String>,
    /// Trust domains that do not match.
    #[serde(alias = "not_trust_domains", skip_serializing_if = "Vec::is_empty")]
    pub not_trust_domains: Vec<String>,
}

/// What a request does.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RuleTo {
    /// Conditions on the request, which must all hold. Required.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<Operation>,
}

/// Conditions on the request. The fields must all hold; within a field the values are alternatives. Values
/// may be exact, `prefix*`, `*suffix` or `*` (anything but empty). All but ports are for HTTP only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Operation {
    /// The Host header, in any case and with the port if the client sent one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// Hosts that do not match.
    #[serde(alias = "not_hosts", skip_serializing_if = "Vec::is_empty")]
    pub not_hosts: Vec<String>,
    /// The port that the workload listens on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<String>,
    /// Ports that do not match.
    #[serde(alias = "not_ports", skip_serializing_if = "Vec::is_empty")]
    pub not_ports: Vec<String>,
    /// Methods, in capitals. gRPC is always `POST`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// Methods that do not match.
    #[serde(alias = "not_methods", skip_serializing_if = "Vec::is_empty")]
    pub not_methods: Vec<String>,
    /// Paths without the query, also with `{*}` for one segment and `{**}` for any number. For gRPC
    /// `/package.Service/Method`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
    /// Paths that do not match.
    #[serde(alias = "not_paths", skip_serializing_if = "Vec::is_empty")]
    pub not_paths: Vec<String>,
}

/// A further condition on a request. `values`, `notValues` or both.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Condition {
    /// The property, such as `request.headers[name]`, `source.ip`, `destination.port` or `connection.sni`.
    /// Required.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub key: String,
    /// Values of which one must match.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
    /// Values of which none may match.
    #[serde(alias = "not_values", skip_serializing_if = "Vec::is_empty")]
    pub not_values: Vec<String>,
}
