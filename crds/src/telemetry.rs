//! Telemetry: what sidecars tell of their traffic.
//!
//! Source of the fields: `telemetry.proto` of Istio's API.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::scalar::Duration;
use crate::shared::{MatchLabels, TargetReference};

/// What sidecars tell of their traffic: spans, metrics, access logs. An object of the root namespace speaks for
/// the mesh, one without a selector for its namespace, one with a selector for the pods that it selects; the
/// narrower is laid over the wider, field by field. Of several of one width the oldest counts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Telemetry {
    /// The pods that it applies to. Left out, all of the namespace, or of the mesh in the root namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<MatchLabels>,
    /// What it is attached to, in place of pods. Deprecated: `targetRefs` says the same.
    #[serde(alias = "target_ref", skip_serializing_if = "Option::is_none")]
    pub target_ref: Option<TargetReference>,
    /// What it is attached to, in place of pods.
    #[serde(alias = "target_refs", skip_serializing_if = "Vec::is_empty")]
    pub target_refs: Vec<TargetReference>,
    /// Which spans are made, and where they go.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tracing: Vec<Tracing>,
    /// Which metrics are shown, and how.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<Metrics>,
    /// Which requests and connections are logged, and where.
    #[serde(alias = "access_logging", skip_serializing_if = "Vec::is_empty")]
    pub access_logging: Vec<AccessLogging>,
}

/// Which spans are made, and where they go. A field that is left out is inherited.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Tracing {
    /// The side that it is about; by default both.
    #[serde(rename = "match", skip_serializing_if = "Option::is_none")]
    pub match_: Option<ModeMatch>,
    /// Where spans go: one of `extensionProviders` of the mesh's settings. One at most.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub providers: Vec<ProviderRef>,
    /// How many of the traces that begin here are sampled, in percent, 0 to 100.
    #[serde(alias = "random_sampling_percentage", skip_serializing_if = "Option::is_none")]
    pub random_sampling_percentage: Option<f64>,
    /// Makes no spans; contexts are passed on all the same.
    #[serde(alias = "disable_span_reporting", skip_serializing_if = "Option::is_none")]
    pub disable_span_reporting: Option<bool>,
    /// Further tags of each span, by name. In place of those that are inherited.
    #[serde(alias = "custom_tags", skip_serializing_if = "BTreeMap::is_empty")]
    pub custom_tags: BTreeMap<String, CustomTag>,
    /// Whether the id of a request decides of its sampling where its client has not.
    #[serde(alias = "use_request_id_for_trace_sampling", skip_serializing_if = "Option::is_none")]
    pub use_request_id_for_trace_sampling: Option<bool>,
    /// Whether spans have the tags `istio.*`. By default they do.
    #[serde(alias = "enable_istio_tags", skip_serializing_if = "Option::is_none")]
    pub enable_istio_tags: Option<bool>,
    /// Passes no context on.
    #[serde(alias = "disable_context_propagation", skip_serializing_if = "Option::is_none")]
    pub disable_context_propagation: Option<bool>,
}

/// The side of an exchange.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ModeMatch {
    /// The side; by default both.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<WorkloadMode>,
}

/// A side of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum WorkloadMode {
    /// Both.
    #[serde(rename = "CLIENT_AND_SERVER")]
    ClientAndServer,
    /// What the workload sends.
    #[serde(rename = "CLIENT")]
    Client,
    /// What the workload is sent.
    #[serde(rename = "SERVER")]
    Server,
}

/// One of `extensionProviders` of the mesh's settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ProviderRef {
    /// Its name. Required.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
}

/// Where a tag's value comes from. Exactly one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct CustomTag {
    /// It is written here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub literal: Option<LiteralTag>,
    /// A variable of the sidecar's environment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<NamedTag>,
    /// A header of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header: Option<NamedTag>,
    /// A text with Envoy's command operators.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub formatter: Option<LiteralTag>,
}

/// A value as it is written.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct LiteralTag {
    /// The value. Required.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub value: String,
}

/// A value that is found by a name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct NamedTag {
    /// The name. Required.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The value where nothing is found; empty, there is no tag then.
    #[serde(alias = "default_value", skip_serializing_if = "String::is_empty")]
    pub default_value: String,
}

/// Which metrics are shown, and how.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Metrics {
    /// Who is told: `prometheus`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub providers: Vec<ProviderRef>,
    /// What is not as usual, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub overrides: Vec<MetricOverride>,
    /// How often connections that last are counted: every `5s`.
    #[serde(alias = "reporting_interval", skip_serializing_if = "Option::is_none")]
    pub reporting_interval: Option<Duration>,
}

/// What is not as usual in some metrics.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MetricOverride {
    /// The metrics; by default all of both sides.
    #[serde(rename = "match", skip_serializing_if = "Option::is_none")]
    pub match_: Option<MetricMatch>,
    /// Shows them not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
    /// What becomes of labels, by name.
    #[serde(alias = "tag_overrides", skip_serializing_if = "BTreeMap::is_empty")]
    pub tag_overrides: BTreeMap<String, TagOverride>,
}

/// Metrics, by name and side.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MetricMatch {
    /// One of Istio's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metric: Option<StandardMetric>,
    /// Any other, by its name.
    #[serde(alias = "custom_metric", skip_serializing_if = "String::is_empty")]
    pub custom_metric: String,
    /// The side; by default both.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<WorkloadMode>,
}

/// Istio's metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum StandardMetric {
    /// All of them.
    #[serde(rename = "ALL_METRICS")]
    All,
    /// `istio_requests_total`.
    #[serde(rename = "REQUEST_COUNT")]
    RequestCount,
    /// `istio_request_duration_milliseconds`.
    #[serde(rename = "REQUEST_DURATION")]
    RequestDuration,
    /// `istio_request_bytes`.
    #[serde(rename = "REQUEST_SIZE")]
    RequestSize,
    /// `istio_response_bytes`.
    #[serde(rename = "RESPONSE_SIZE")]
    ResponseSize,
    /// `istio_tcp_connections_opened_total`.
    #[serde(rename = "TCP_OPENED_CONNECTIONS")]
    TcpOpenedConnections,
    /// `istio_tcp_connections_closed_total`.
    #[serde(rename = "TCP_CLOSED_CONNECTIONS")]
    TcpClosedConnections,
    /// `istio_tcp_sent_bytes_total`.
    #[serde(rename = "TCP_SENT_BYTES")]
    TcpSentBytes,
    /// `istio_tcp_received_bytes_total`.
    #[serde(rename = "TCP_RECEIVED_BYTES")]
    TcpReceivedBytes,
    /// `istio_request_messages_total`.
    #[serde(rename = "GRPC_REQUEST_MESSAGES")]
    GrpcRequestMessages,
    /// `istio_response_messages_total`.
    #[serde(rename = "GRPC_RESPONSE_MESSAGES")]
    GrpcResponseMessages,
}

/// What becomes of a label.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TagOverride {
    /// Whether it is written or left out; by default written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<TagOperation>,
    /// What is written: a text in quotes, such as `"'blue'"`. A label that followed the traffic would make a series of
    /// each request: expressions are not taken.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub value: String,
}

/// What becomes of a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TagOperation {
    /// It is written, in place of what it was.
    #[serde(rename = "UPSERT")]
    Upsert,
    /// It is left out.
    #[serde(rename = "REMOVE")]
    Remove,
}

/// Which requests and connections are logged, and where. What is left out is inherited.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct AccessLogging {
    /// The side that it is about; by default both.
    #[serde(rename = "match", skip_serializing_if = "Option::is_none")]
    pub match_: Option<ModeMatch>,
    /// Where lines go: some of `extensionProviders` of the mesh's settings, or `envoy`, Istio's line on standard
    /// output.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub providers: Vec<ProviderRef>,
    /// Logs nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
    /// Which requests are logged; by default all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<LogFilter>,
}

/// Which requests are logged.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct LogFilter {
    /// What is true of them, such as `response.code >= 400`: comparisons of Envoy's attributes, joined by `&&`, `||`
    /// and `!`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub expression: String,
}
