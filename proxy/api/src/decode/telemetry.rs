//! What a sidecar tells of its traffic.

use std::sync::Arc;

use weft_core::access_log::filter::Filter;
use weft_core::access_log::template::Template;
use weft_core::model::telemetry::{
    AccessLog, Collector, CollectorProtocol, LabelOverride, LogFormat, LogTarget, Metric, Metrics, Sides,
    Tag, TagValue, Telemetry, Tracing,
};

use super::common::port_ref;
use super::value::{
    At, Result, chosen, fail, header_name, header_value, list, optional, port, span, text, variant, word,
};
use crate::error::DecodeError;
use crate::limits::{MAX_CONDITIONS, MAX_HEADER_OPS};
use crate::pb::config as pb;

pub(super) fn telemetry(telemetry: Option<&pb::Telemetry>) -> Result<Telemetry> {
    let Some(it) = telemetry else { return Ok(Telemetry::default()) };
    Ok(Telemetry {
        tracing: Sides {
            client: tracing(it.client_tracing.as_ref()).at("client_tracing")?,
            server: tracing(it.server_tracing.as_ref()).at("server_tracing")?,
        },
        access_log: Sides {
            client: list("client_access_log", &it.client_access_log, MAX_CONDITIONS, access_log)?,
            server: list("server_access_log", &it.server_access_log, MAX_CONDITIONS, access_log)?,
        },
        metrics: Sides {
            client: metrics(it.client_metrics.as_ref()).at("client_metrics")?,
            server: metrics(it.server_metrics.as_ref()).at("server_metrics")?,
        },
    })
}

fn tracing(tracing: Option<&pb::Tracing>) -> Result<Tracing> {
    let Some(it) = tracing else { return Ok(Tracing::default()) };
    if !(0.0..=100.0).contains(&it.sampling) {
        return fail(format!("{} is no percentage from 0 to 100", it.sampling)).at("sampling");
    }
    Ok(Tracing {
        collector: optional("collector", it.collector.as_ref(), collector)?.map(Arc::new),
        sampling: it.sampling,
        report: !it.silent,
        propagate: !it.isolated,
        istio_tags: !it.plain,
        tags: list("tags", &it.tags, MAX_CONDITIONS, tag)?,
    })
}

fn tag(tag: &pb::Tag) -> Result<Tag> {
    use pb::tag::Value;
    let default = text(&tag.default).at("default")?;
    let value = match chosen(tag.value.as_ref())? {
        Value::Literal(literal) => TagValue::Literal(text(literal).at("literal")?),
        Value::Environment(name) => TagValue::Environment { name: word(name).at("environment")?, default },
        Value::Header(name) => TagValue::Header { name: header_name(name).at("header")?, default },
    };
    Ok(Tag { name: word(&tag.name).at("name")?, value })
}

fn collector(it: &pb::Collector) -> Result<Collector> {
    let header = |header: &pb::ExportHeader| {
        Ok((header_name(&header.name).at("name")?, header_value(&header.value).at("value")?))
    };
    let path = optional("http_path", it.http_path.as_ref(), |path| word(path))?;
    Ok(Collector {
        name: word(&it.name).at("name")?,
        host: word(&it.host).at("host")?,
        port: port(it.port).at("port")?,
        service: optional("service", it.service.as_ref(), port_ref)?,
        protocol: path.map_or(CollectorProtocol::Grpc, |path| CollectorProtocol::Http { path }),
        headers: list("headers", &it.headers, MAX_HEADER_OPS, header)?,
        timeout: span(it.timeout_nanos).at("timeout_nanos")?,
    })
}

fn access_log(log: &pb::AccessLog) -> Result<AccessLog> {
    let to = match variant(log.to).at("to")? {
        pb::LogTarget::Unspecified | pb::LogTarget::Stdout => LogTarget::Stdout,
        pb::LogTarget::Stderr => LogTarget::Stderr,
    };
    let filter = |source: &String| Filter::parse(source).map_err(DecodeError::invalid);
    Ok(AccessLog { to, format: format(log)?, filter: optional("filter", log.filter.as_ref(), filter)? })
}

fn format(log: &pb::AccessLog) -> Result<LogFormat> {
    use pb::access_log::Format;
    Ok(match chosen(log.format.as_ref()).at("format")? {
        Format::DefaultText(_) => LogFormat::DefaultText,
        Format::DefaultJson(_) => LogFormat::DefaultJson,
        Format::Text(source) => LogFormat::Text(template(source).at("text")?),
        Format::Json(json) => {
            let field = |field: &pb::LogField| {
                Ok((word(&field.name).at("name")?, template(&field.template).at("template")?))
            };
            LogFormat::Json(list("json", &json.fields, MAX_CONDITIONS, field)?)
        }
    })
}

fn template(source: &str) -> Result<Template> {
    Template::parse(source).map_err(DecodeError::invalid)
}

fn metrics(metrics: Option<&pb::Metrics>) -> Result<Metrics> {
    let Some(it) = metrics else { return Ok(Metrics::default()) };
    let label = |label: &pb::LabelOverride| {
        Ok(LabelOverride {
            metric: metric(&label.metric).at("metric")?,
            label: word(&label.label).at("label")?,
            value: optional("value", label.value.as_ref(), |value| text(value))?,
        })
    };
    Ok(Metrics {
        disabled: list("disabled", &it.disabled, MAX_CONDITIONS, |name| metric(name))?,
        labels: list("labels", &it.labels, MAX_CONDITIONS, label)?,
    })
}

fn metric(name: &str) -> Result<Metric> {
    let known = Metric::ALL.iter().find(|metric| metric.istio_name() == name);
    known.copied().ok_or_else(|| DecodeError::not_understood(format!("{name:?} is unknown")))
}
