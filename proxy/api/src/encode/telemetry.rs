//! What a sidecar tells of its traffic.

use weft_core::model::telemetry::{
    AccessLog, Collector, CollectorProtocol, LabelOverride, LogFormat, LogTarget, Metric, Metrics, Sides,
    Tag, TagValue, Telemetry, Tracing,
};

use super::common::{nanos, optional_text, port_ref};
use crate::pb::config as pb;

/// Absent where everything has its default.
pub(super) fn telemetry(telemetry: &Telemetry) -> Option<pb::Telemetry> {
    let Sides { client: client_log, server: server_log } = &telemetry.access_log;
    (*telemetry != Telemetry::default()).then(|| pb::Telemetry {
        client_tracing: Some(tracing(&telemetry.tracing.client)),
        server_tracing: Some(tracing(&telemetry.tracing.server)),
        client_access_log: client_log.iter().map(access_log).collect(),
        server_access_log: server_log.iter().map(access_log).collect(),
        client_metrics: Some(metrics(&telemetry.metrics.client)),
        server_metrics: Some(metrics(&telemetry.metrics.server)),
    })
}

fn tracing(tracing: &Tracing) -> pb::Tracing {
    pb::Tracing {
        collector: tracing.collector.as_deref().map(collector),
        sampling: tracing.sampling,
        silent: !tracing.report,
        isolated: !tracing.propagate,
        plain: !tracing.istio_tags,
        tags: tracing.tags.iter().map(tag).collect(),
    }
}

fn tag(tag: &Tag) -> pb::Tag {
    use pb::tag::Value;
    let (value, default) = match &tag.value {
        TagValue::Literal(text) => (Value::Literal(text.to_string()), String::new()),
        TagValue::Environment { name, default } => {
            (Value::Environment(name.to_string()), default.to_string())
        }
        TagValue::Header { name, default } => (Value::Header(name.to_string()), default.to_string()),
    };
    pb::Tag { name: tag.name.to_string(), default, value: Some(value) }
}

fn collector(collector: &Collector) -> pb::Collector {
    let header = |(name, value): &(http::HeaderName, http::HeaderValue)| pb::ExportHeader {
        name: name.to_string(),
        value: bytes::Bytes::copy_from_slice(value.as_bytes()),
    };
    pb::Collector {
        name: collector.name.to_string(),
        host: collector.host.to_string(),
        port: collector.port.into(),
        service: collector.service.as_ref().map(port_ref),
        http_path: match &collector.protocol {
            CollectorProtocol::Grpc => None,
            CollectorProtocol::Http { path } => Some(path.to_string()),
        },
        headers: collector.headers.iter().map(header).collect(),
        timeout_nanos: nanos(collector.timeout),
    }
}

fn access_log(log: &AccessLog) -> pb::AccessLog {
    use pb::access_log::Format;
    let to = match log.to {
        LogTarget::Stdout => pb::LogTarget::Stdout,
        LogTarget::Stderr => pb::LogTarget::Stderr,
    };
    let format = match &log.format {
        LogFormat::DefaultText => Format::DefaultText(true),
        LogFormat::DefaultJson => Format::DefaultJson(true),
        LogFormat::Text(template) => Format::Text(template.source().to_string()),
        LogFormat::Json(fields) => {
            let fields = fields.iter().map(|(name, template)| pb::LogField {
                name: name.to_string(),
                template: template.source().to_string(),
            });
            Format::Json(pb::LogFields { fields: fields.collect() })
        }
    };
    let filter = optional_text(log.filter.as_ref().map(|filter| filter.source()));
    pb::AccessLog { to: to.into(), format: Some(format), filter }
}

fn metrics(metrics: &Metrics) -> pb::Metrics {
    let name = |metric: &Metric| metric.istio_name().to_owned();
    let label = |label: &LabelOverride| pb::LabelOverride {
        metric: name(&label.metric),
        label: label.label.to_string(),
        value: optional_text(label.value.as_ref()),
    };
    pb::Metrics {
        disabled: metrics.disabled.iter().map(name).collect(),
        labels: metrics.labels.iter().map(label).collect(),
    }
}
