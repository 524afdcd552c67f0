//! What an HTTP rule does with a request: rewrite it, answer it, repeat it, harm it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::matching::StringMatch;
use crate::scalar::{Duration, Int};
use crate::shared::Percent;

/// Changes to the headers of requests and responses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct HeaderOperations {
    /// Changes before the request is forwarded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<HeaderChanges>,
    /// Changes before the response is handed back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response: Option<HeaderChanges>,
}

/// Changes to a set of headers: first `remove`, then `set`, then `add`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct HeaderChanges {
    /// Headers that replace whatever was there.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub set: BTreeMap<String, String>,
    /// Headers that are added to those that are there.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub add: BTreeMap<String, String>,
    /// Names of headers to take away.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<String>,
}

/// A redirection that is answered instead of forwarding.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Redirect {
    /// The new path, in place of the whole path.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uri: String,
    /// The text that takes the place of the prefix which the rule matched. Not together with `uri`.
    #[serde(alias = "prefix_rewrite", skip_serializing_if = "String::is_empty")]
    pub prefix_rewrite: String,
    /// The new host, with a port if it needs one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub authority: String,
    /// The new port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<Int>,
    /// How the port is found where `port` does not say it.
    #[serde(alias = "derive_port", skip_serializing_if = "Option::is_none")]
    pub derive_port: Option<RedirectPort>,
    /// The new scheme, `http` or `https`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub scheme: String,
    /// The status: 301, 302, 303, 307 or 308. 301 by default.
    #[serde(alias = "redirect_code", skip_serializing_if = "Option::is_none")]
    pub redirect_code: Option<Int>,
}

/// Where the port of a redirection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RedirectPort {
    /// The usual port of the scheme: 80 for http, 443 for https.
    #[serde(rename = "FROM_PROTOCOL_DEFAULT")]
    FromProtocolDefault,
    /// The port of the request.
    #[serde(rename = "FROM_REQUEST_PORT")]
    FromRequestPort,
}

/// An answer that the sidecar gives itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct DirectResponse {
    /// The status, from 200 to 599. Required.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<Int>,
    /// The body; empty by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<ResponseBody>,
}

/// The body of a fixed answer: one of the fields.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ResponseBody {
    /// The body as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub string: Option<String>,
    /// The body in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<String>,
}

/// The VirtualService that takes over.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Delegate {
    /// Its name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its namespace, by default that of the object that delegates.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
}

/// What is changed in a request before it is forwarded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpRewrite {
    /// The text that takes the place of the matched prefix, or of the whole path where the rule matches the
    /// path otherwise.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uri: String,
    /// The new Host.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub authority: String,
    /// A substitution in the path. Not together with `uri`.
    #[serde(alias = "uri_regex_rewrite", skip_serializing_if = "Option::is_none")]
    pub uri_regex_rewrite: Option<RegexRewrite>,
}

/// A substitution by regular expression in the path, without the query.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RegexRewrite {
    /// An RE2 expression; every part of the path that it matches is replaced.
    #[serde(rename = "match", skip_serializing_if = "String::is_empty")]
    pub matches: String,
    /// The replacement; `\\1` to `\\9` stand for groups of the expression.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub rewrite: String,
}

/// When and how often a try that failed is repeated.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpRetry {
    /// The number of retries after the first try. 0, or left out here, turns retries off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts: Option<Int>,
    /// Time for each try, such as `2s`. By default only the rule's `timeout` applies.
    #[serde(alias = "per_try_timeout", skip_serializing_if = "Option::is_none")]
    pub per_try_timeout: Option<Duration>,
    /// Failures that are retried, separated by commas: Envoy's names such as `5xx` or `connect-failure`,
    /// and status codes.
    #[serde(alias = "retry_on", skip_serializing_if = "String::is_empty")]
    pub retry_on: String,
    /// Whether a retry may go to another locality than the first try.
    #[serde(alias = "retry_remote_localities", skip_serializing_if = "Option::is_none")]
    pub retry_remote_localities: Option<bool>,
    /// Whether a retry avoids endpoints that failed already. True by default.
    #[serde(alias = "retry_ignore_previous_hosts", skip_serializing_if = "Option::is_none")]
    pub retry_ignore_previous_hosts: Option<bool>,
    /// The pause before the first retry, which grows with each; 25 ms by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backoff: Option<Duration>,
}

/// Faults put in on purpose.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct FaultInjection {
    /// Holds requests up before they are forwarded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay: Option<FaultDelay>,
    /// Answers requests with an error instead of forwarding them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub abort: Option<FaultAbort>,
}

/// Holds requests up.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct FaultDelay {
    /// Deprecated spelling of `percentage`, whole percents from 0 to 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percent: Option<Int>,
    /// How long, at least 1 ms.
    #[serde(alias = "fixed_delay", skip_serializing_if = "Option::is_none")]
    pub fixed_delay: Option<Duration>,
    /// The mean of a random delay. Reserved by the API, never in use.
    #[serde(alias = "exponential_delay", skip_serializing_if = "Option::is_none")]
    pub exponential_delay: Option<Duration>,
    /// The share of requests that is held up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percentage: Option<Percent>,
}

/// Answers requests with an error: one of the statuses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct FaultAbort {
    /// The HTTP status.
    #[serde(alias = "http_status", skip_serializing_if = "Option::is_none")]
    pub http_status: Option<Int>,
    /// The name of a gRPC status, such as `UNAVAILABLE`.
    #[serde(alias = "grpc_status", skip_serializing_if = "Option::is_none")]
    pub grpc_status: Option<String>,
    /// An HTTP/2 error. Reserved by the API, never in use.
    #[serde(alias = "http2_error", skip_serializing_if = "Option::is_none")]
    pub http2_error: Option<String>,
    /// The share of requests that is answered so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percentage: Option<Percent>,
}

/// Answers to cross-origin requests of browsers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct CorsPolicy {
    /// Deprecated spelling of `allowOrigins`: exact origins, or `*`.
    #[serde(alias = "allow_origin", skip_serializing_if = "Vec::is_empty")]
    pub allow_origin: Vec<String>,
    /// Origins that are allowed.
    #[serde(alias = "allow_origins", skip_serializing_if = "Vec::is_empty")]
    pub allow_origins: Vec<StringMatch>,
    /// Methods named in `Access-Control-Allow-Methods`.
    #[serde(alias = "allow_methods", skip_serializing_if = "Vec::is_empty")]
    pub allow_methods: Vec<String>,
    /// Headers named in `Access-Control-Allow-Headers`.
    #[serde(alias = "allow_headers", skip_serializing_if = "Vec::is_empty")]
    pub allow_headers: Vec<String>,
    /// Headers named in `Access-Control-Expose-Headers`.
    #[serde(alias = "expose_headers", skip_serializing_if = "Vec::is_empty")]
    pub expose_headers: Vec<String>,
    /// How long a browser may keep the answer, in whole seconds.
    #[serde(alias = "max_age", skip_serializing_if = "Option::is_none")]
    pub max_age: Option<Duration>,
    /// Whether requests may carry credentials.
    #[serde(alias = "allow_credentials", skip_serializing_if = "Option::is_none")]
    pub allow_credentials: Option<bool>,
    /// What happens to a preflight request of an origin that is not allowed.
    #[serde(alias = "unmatched_preflights", skip_serializing_if = "Option::is_none")]
    pub unmatched_preflights: Option<UnmatchedPreflights>,
}

/// What happens to a preflight request of an origin that is not allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum UnmatchedPreflights {
    /// Nothing chosen: forwarded.
    #[serde(rename = "UNSPECIFIED")]
    Unspecified,
    /// Forwarded to the destination.
    #[serde(rename = "FORWARD")]
    Forward,
    /// Answered without the headers that would allow it.
    #[serde(rename = "IGNORE")]
    Ignore,
}
