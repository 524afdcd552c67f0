//! Telemetries, and what the mesh's settings say of telemetry.

use std::sync::Arc;

use weft_core::access_log::filter::Filter;
use weft_core::model::telemetry::{AccessLog, Collector, Metric, Sides, Tag};

use super::meta::{Meta, Selector};

/// A Telemetry that is understood.
#[derive(Clone, Debug, PartialEq)]
pub struct Telemetry {
    /// Name, age, origin.
    pub meta: Meta,
    /// `selector`; `None` speaks for the namespace, or in the root namespace for the mesh.
    pub selector: Option<Selector>,
    /// `targetRefs` name gateways only: it says nothing to sidecars.
    pub elsewhere: bool,
    /// `tracing`.
    pub tracing: Vec<Tracing>,
    /// `metrics`.
    pub metrics: Vec<Metrics>,
    /// `accessLogging`.
    pub access_logging: Vec<AccessLogging>,
}

/// The sides that an entry is about.
pub type Mode = Sides<bool>;

/// One of `tracing`; what is `None` is inherited.
#[derive(Clone, Debug, PartialEq)]
pub struct Tracing {
    /// `match.mode`.
    pub mode: Mode,
    /// `providers[0].name`.
    pub provider: Option<Arc<str>>,
    /// `randomSamplingPercentage`.
    pub sampling: Option<f64>,
    /// `disableSpanReporting`.
    pub silent: Option<bool>,
    /// `disableContextPropagation`.
    pub isolated: Option<bool>,
    /// `enableIstioTags`.
    pub istio_tags: Option<bool>,
    /// `customTags`.
    pub tags: Option<Vec<Tag>>,
}

/// One of `metrics`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// `providers`; empty: whoever there is.
    pub providers: Vec<Arc<str>>,
    /// `overrides`, in order.
    pub overrides: Vec<MetricOverride>,
}

/// One of `metrics[].overrides`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricOverride {
    /// `match.mode`.
    pub mode: Mode,
    /// `match.metric`; `None` is all.
    pub metric: Option<Metric>,
    /// `disabled`.
    pub disabled: Option<bool>,
    /// `tagOverrides`: labels, and the text that they get; `None` leaves the label out.
    pub labels: Vec<(Arc<str>, Option<Arc<str>>)>,
}

/// One of `accessLogging`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLogging {
    /// `match.mode`.
    pub mode: Mode,
    /// `providers`; empty: those that are inherited.
    pub providers: Vec<Arc<str>>,
    /// `disabled`.
    pub disabled: bool,
    /// `filter.expression`.
    pub filter: Option<Filter>,
}

/// What the mesh's settings say of telemetry.
#[derive(Clone, Debug, PartialEq)]
pub struct TelemetrySettings {
    /// `extensionProviders[].opentelemetry`; whether a service is behind one is seen when it is compiled.
    pub collectors: Vec<Arc<Collector>>,
    /// `extensionProviders[].envoyFileAccessLog`, and Istio's own `envoy`, by name.
    pub logs: Vec<(Arc<str>, AccessLog)>,
    /// `extensionProviders[].prometheus`, by name; `prometheus` always is one.
    pub prometheus: Vec<Arc<str>>,
    /// `defaultProviders.tracing[0]`.
    pub default_tracing: Option<Arc<str>>,
    /// `defaultProviders.accessLogging`; where that is empty and `accessLogFile` is set, `envoy`.
    pub default_logs: Vec<Arc<str>>,
    /// `enableTracing`.
    pub enable_tracing: Option<bool>,
    /// `defaultConfig.tracing.sampling`, in percent.
    pub sampling: Option<f64>,
}

/// There always are `envoy`, Istio's own line, and `prometheus`.
impl Default for TelemetrySettings {
    fn default() -> Self {
        Self {
            collectors: Vec::new(),
            logs: vec![("envoy".into(), AccessLog::default())],
            prometheus: vec!["prometheus".into()],
            default_tracing: None,
            default_logs: Vec::new(),
            enable_tracing: None,
            sampling: None,
        }
    }
}

impl TelemetrySettings {
    /// The collector of a provider.
    pub fn collector(&self, name: &str) -> Option<&Arc<Collector>> {
        self.collectors.iter().find(|collector| *collector.name == *name)
    }

    /// Whether a provider is Prometheus.
    pub fn is_prometheus(&self, name: &str) -> bool {
        self.prometheus.iter().any(|known| **known == *name)
    }

    /// The log of a provider.
    pub fn log(&self, name: &str) -> Option<&AccessLog> {
        self.logs.iter().find(|(known, _)| **known == *name).map(|(_, log)| log)
    }
}
