//! What a sidecar tells of its traffic: traces, the access log, metrics (Istio's Telemetry, as it holds for one pod).

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use super::address::ServicePortRef;
use crate::access_log::filter::Filter;
use crate::access_log::template::Template;

/// Sampling where nobody says anything, in percent.
pub const DEFAULT_SAMPLING: f64 = 1.0;

/// What holds for the client's side of an exchange and for the server's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sides<T> {
    /// What goes out (`CLIENT`).
    pub client: T,
    /// What comes in (`SERVER`).
    pub server: T,
}

/// What a sidecar tells of its traffic.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Telemetry {
    /// Spans.
    pub tracing: Sides<Tracing>,
    /// Logs of requests and connections; none: nothing is logged.
    pub access_log: Sides<Vec<AccessLog>>,
    /// Istio's standard metrics.
    pub metrics: Sides<Metrics>,
}

/// Which spans are made, and where they go.
#[derive(Clone, Debug, PartialEq)]
pub struct Tracing {
    /// Where spans go; `None`: contexts are passed on, and nothing is told.
    pub collector: Option<Arc<Collector>>,
    /// How many of the traces that begin here are sampled, in percent, 0 to 100 (`randomSamplingPercentage`).
    pub sampling: f64,
    /// Whether spans are told (`disableSpanReporting`, reversed).
    pub report: bool,
    /// Whether contexts are passed on (`disableContextPropagation`, reversed).
    pub propagate: bool,
    /// Whether spans have Istio's own tags, such as `istio.canonical_service` (`enableIstioTags`).
    pub istio_tags: bool,
    /// Further tags (`customTags`), by name.
    pub tags: Vec<Tag>,
}

/// A tag of every span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    /// Its name.
    pub name: Arc<str>,
    /// Where its value comes from.
    pub value: TagValue,
}

/// Where a tag's value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TagValue {
    /// It is written.
    Literal(Arc<str>),
    /// A variable of the sidecar's environment, or else a default; an empty one gives no tag.
    Environment {
        /// The variable.
        name: Arc<str>,
        /// Where there is none.
        default: Arc<str>,
    },
    /// A header of the request, or else a default; an empty one gives no tag.
    Header {
        /// The header.
        name: HeaderName,
        /// Where there is none.
        default: Arc<str>,
    },
}

/// A collector of spans, by OTLP (`extensionProviders[].opentelemetry`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collector {
    /// The provider's name.
    pub name: Arc<str>,
    /// Its host: a name or an IP address.
    pub host: Arc<str>,
    /// Its port.
    pub port: u16,
    /// The service of the mesh that the host is, where it is one.
    pub service: Option<ServicePortRef>,
    /// How it is spoken to.
    pub protocol: CollectorProtocol,
    /// Headers of every export.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The longest that an export may take.
    pub timeout: Duration,
}

/// OTLP's transports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CollectorProtocol {
    /// gRPC.
    Grpc,
    /// Protobuf over HTTP.
    Http {
        /// Such as `/v1/traces`.
        path: Arc<str>,
    },
}

/// One log of requests and connections (`extensionProviders[].envoyFileAccessLog`, `accessLogFile`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLog {
    /// Where lines go.
    pub to: LogTarget,
    /// What they look like.
    pub format: LogFormat,
    /// Which requests are logged; `None`: all.
    pub filter: Option<Filter>,
}

/// Where lines go: a container has these two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum LogTarget {
    /// `/dev/stdout`.
    #[default]
    Stdout,
    /// `/dev/stderr`.
    Stderr,
}

/// What a line looks like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Istio's line, with reason and policy at its end.
    #[default]
    DefaultText,
    /// Istio's fields, with reason and policy.
    DefaultJson,
    /// A line of the user's.
    Text(Template),
    /// Fields of the user's, in order.
    Json(Vec<(Arc<str>, Template)>),
}

/// Which standard metrics are shown, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metrics {
    /// Metrics that are not shown.
    pub disabled: Vec<Metric>,
    /// Labels that are not as Istio has them, in order of metric and label.
    pub labels: Vec<LabelOverride>,
}

/// One label of one metric (`tagOverrides`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LabelOverride {
    /// The metric.
    pub metric: Metric,
    /// The label.
    pub label: Arc<str>,
    /// The text that it always has; `None`: the label is left out.
    pub value: Option<Arc<str>>,
}

macro_rules! metrics {
    ($($(#[$doc:meta])* $variant:ident = $istio:literal $name:literal,)*) => {
        /// Istio's standard metrics.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Metric { $($(#[$doc])* $variant,)* }

        impl Metric {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// As a Telemetry names it: `REQUEST_COUNT`.
            pub fn istio_name(self) -> &'static str {
                match self { $(Self::$variant => $istio,)* }
            }

            /// As Prometheus sees it: `istio_requests_total`.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

metrics! {
    /// Requests.
    RequestCount = "REQUEST_COUNT" "istio_requests_total",
    /// How long they took.
    RequestDuration = "REQUEST_DURATION" "istio_request_duration_milliseconds",
    /// Sizes of their bodies.
    RequestSize = "REQUEST_SIZE" "istio_request_bytes",
    /// Sizes of their responses' bodies.
    ResponseSize = "RESPONSE_SIZE" "istio_response_bytes",
    /// Connections that were opened.
    TcpOpenedConnections = "TCP_OPENED_CONNECTIONS" "istio_tcp_connections_opened_total",
    /// Connections that were closed.
    TcpClosedConnections = "TCP_CLOSED_CONNECTIONS" "istio_tcp_connections_closed_total",
    /// Bytes of responses on connections.
    TcpSentBytes = "TCP_SENT_BYTES" "istio_tcp_sent_bytes_total",
    /// Bytes of requests on connections.
    TcpReceivedBytes = "TCP_RECEIVED_BYTES" "istio_tcp_received_bytes_total",
    /// Messages of gRPC's requests.
    GrpcRequestMessages = "GRPC_REQUEST_MESSAGES" "istio_request_messages_total",
    /// Messages of gRPC's responses.
    GrpcResponseMessages = "GRPC_RESPONSE_MESSAGES" "istio_response_messages_total",
}

impl Default for Tracing {
    fn default() -> Self {
        Self {
            collector: None,
            sampling: DEFAULT_SAMPLING,
            report: true,
            propagate: true,
            istio_tags: true,
            tags: Vec::new(),
        }
    }
}

impl Default for AccessLog {
    fn default() -> Self {
        Self { to: LogTarget::Stdout, format: LogFormat::default(), filter: None }
    }
}

impl Metrics {
    /// Whether a metric is shown.
    pub fn shows(&self, metric: Metric) -> bool {
        !self.disabled.contains(&metric)
    }

    /// The labels of a metric that are not as Istio has them.
    pub fn overrides(&self, metric: Metric) -> impl Iterator<Item = &LabelOverride> {
        self.labels.iter().filter(move |label| label.metric == metric)
    }
}
