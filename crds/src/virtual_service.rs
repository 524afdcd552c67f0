//! VirtualService: which requests and connections go where, and what happens to them on the way.
//!
//! The parts of an HTTP rule are in the folder: what it looks at in `matching`, what it does in
//! `action`, the TCP and TLS rules in `l4`. Source of the fields: `virtual_service.proto` of Istio's API.
//!
//! Fields of which only one may be written (`route`, `redirect`, `directResponse`; `mirror`, `mirrors`) are
//! plain optional fields: validation counts them.

/// The conditions of an HTTP rule.
pub mod matching;

/// What an HTTP rule does with a request.
pub mod action;

/// Rules for TCP and for TLS that is passed on.
pub mod l4;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::scalar::{Duration, Int};
use crate::shared::{Destination, Percent};
use action::{
    CorsPolicy, Delegate, DirectResponse, FaultInjection, HeaderOperations, HttpRetry, HttpRewrite, Redirect,
};
use l4::{TcpRoute, TlsRoute};
use matching::HttpMatch;

/// How clients reach one or several hosts: an ordered list of rules for HTTP, TLS and TCP traffic. It is
/// applied by the sidecar of the client.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct VirtualService {
    /// Names that clients address: a full name, a short name of the object's namespace, a `*.` wildcard, or
    /// for TCP an IP address. Left out, the object's own name, if a Service has it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// Where the rules apply. `mesh` means all sidecars and is the default; other entries name a Gateway,
    /// as `name` or `namespace/name`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gateways: Vec<String>,
    /// Rules for HTTP requests, tried in order: the first that matches decides. A request that no rule
    /// matches is answered 404.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub http: Vec<HttpRoute>,
    /// Rules for TLS connections that are passed on unopened, chosen by server name (SNI).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tls: Vec<TlsRoute>,
    /// Rules for opaque TCP connections. The first that matches decides.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tcp: Vec<TcpRoute>,
    /// Namespaces whose clients see this object: `.` is its own, `*` all, and all is the default.
    #[serde(alias = "export_to", skip_serializing_if = "Vec::is_empty")]
    pub export_to: Vec<String>,
}

/// One rule for HTTP requests: conditions, and exactly one of `route`, `redirect`, `directResponse` and
/// `delegate`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpRoute {
    /// A name for logs and metrics; several rules may share it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Conditions. The blocks are alternatives, within a block all conditions hold. None means every
    /// request.
    #[serde(rename = "match", skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<HttpMatch>,
    /// Where a request goes: one destination, or several that share the requests by weight.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub route: Vec<HttpRouteDestination>,
    /// Answers with a redirection instead of forwarding.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redirect: Option<Redirect>,
    /// Answers with a fixed status and body instead of forwarding.
    #[serde(alias = "direct_response", skip_serializing_if = "Option::is_none")]
    pub direct_response: Option<DirectResponse>,
    /// Takes the rules of another VirtualService that has no `hosts` in place of a route. One level deep.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delegate: Option<Delegate>,
    /// Changes path or authority before the request is forwarded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rewrite: Option<HttpRewrite>,
    /// Time for the whole request with all its retries, such as `5s`. None by default; when it is over the
    /// answer is 504.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// When and how often a failed try is repeated. Left out, safe failures are retried twice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries: Option<HttpRetry>,
    /// Faults put in on purpose, to test how clients take them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<FaultInjection>,
    /// A destination that gets a copy of each request; its answers are thrown away.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mirror: Option<Destination>,
    /// Several destinations that get copies. Not together with `mirror`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mirrors: Vec<HttpMirror>,
    /// Deprecated spelling of `mirrorPercentage`, whole percents from 0 to 100.
    #[serde(alias = "mirror_percent", skip_serializing_if = "Option::is_none")]
    pub mirror_percent: Option<Int>,
    /// The share of requests copied to `mirror`. All by default.
    #[serde(alias = "mirror_percentage", skip_serializing_if = "Option::is_none")]
    pub mirror_percentage: Option<Percent>,
    /// Answers to cross-origin requests of browsers.
    #[serde(alias = "cors_policy", skip_serializing_if = "Option::is_none")]
    pub cors_policy: Option<CorsPolicy>,
    /// Changes to headers, for all destinations of the rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headers: Option<HeaderOperations>,
}

/// One destination of an HTTP rule.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpRouteDestination {
    /// The service, subset and port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination: Option<Destination>,
    /// The share of this destination among the sum of all weights. 0 gets nothing; a single destination
    /// needs none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<Int>,
    /// Changes to headers for requests that go to this destination.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headers: Option<HeaderOperations>,
}

/// One destination that gets copies of requests.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpMirror {
    /// The service, subset and port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination: Option<Destination>,
    /// The share of requests that is copied. All by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percentage: Option<Percent>,
}
