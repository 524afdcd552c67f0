//! Telemetries.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use weft_core::access_log::filter::Filter;
use weft_core::model::telemetry::{Metric, Sides, Tag, TagValue};
use weft_crds::telemetry as written;
use weft_crds::telemetry::{StandardMetric, TagOperation, WorkloadMode};

use super::common;
use super::findings::Findings;
use crate::fragment::mesh::Mesh;
use crate::fragment::meta::{Meta, Selector};
use crate::fragment::telemetry::{AccessLogging, MetricOverride, Metrics, Mode, Telemetry, Tracing};

/// How often connections that last are counted.
const REPORTING_INTERVAL: Duration = Duration::from_secs(5);

/// What a Telemetry means.
pub fn telemetry(findings: &mut Findings, meta: Meta, spec: &written::Telemetry) -> Telemetry {
    let selector = selector(findings, &meta, spec);
    let elsewhere = elsewhere(findings, spec);
    for (path, entries) in [
        ("spec.tracing", spec.tracing.len()),
        ("spec.metrics", spec.metrics.len()),
        ("spec.accessLogging", spec.access_logging.len()),
    ] {
        common::part(findings, path, entries);
    }
    let tracing = spec.tracing.iter().enumerate();
    let tracing = tracing.map(|(i, t)| self::tracing(findings, &format!("spec.tracing[{i}]"), t)).collect();
    let metrics = spec.metrics.iter().enumerate();
    let metrics = metrics.map(|(i, m)| self::metrics(findings, &format!("spec.metrics[{i}]"), m)).collect();
    let logs = spec.access_logging.iter().enumerate();
    let access_logging =
        logs.map(|(i, log)| access_logging(findings, &format!("spec.accessLogging[{i}]"), log)).collect();
    Telemetry { meta, selector, elsewhere, tracing, metrics, access_logging }
}

fn selector(findings: &mut Findings, meta: &Meta, spec: &written::Telemetry) -> Option<Selector> {
    let labels = spec.selector.as_ref().map(|s| &s.match_labels).filter(|labels| !labels.is_empty());
    let selector = labels.map(|l| common::selector(findings, "spec.selector.matchLabels", l));
    if selector.is_some() && Mesh::is_root(&meta.name.namespace) {
        findings.warn(
            "spec.selector",
            "selects pods of the root namespace only: without it the object speaks for the whole mesh",
        );
    }
    if spec.selector.is_some() && !(spec.target_refs.is_empty() && spec.target_ref.is_none()) {
        findings.error("spec.targetRefs", "stands without selector, which says the same in another way");
    }
    selector
}

fn elsewhere(findings: &mut Findings, spec: &written::Telemetry) -> bool {
    let mut targets = spec.target_refs.iter().chain(&spec.target_ref).peekable();
    if targets.peek().is_none() {
        return false;
    }
    let gateways = targets.all(|target| matches!(target.kind.as_str(), "Gateway" | "GatewayClass"));
    if gateways {
        findings.warn("spec.targetRefs", "is for gateways and waypoints: it says nothing to sidecars");
    }
    gateways
}

fn mode(written: Option<WorkloadMode>) -> Mode {
    match written {
        None | Some(WorkloadMode::ClientAndServer) => Sides { client: true, server: true },
        Some(WorkloadMode::Client) => Sides { client: true, server: false },
        Some(WorkloadMode::Server) => Sides { client: false, server: true },
    }
}

fn providers(findings: &mut Findings, path: &str, written: &[written::ProviderRef]) -> Vec<Arc<str>> {
    common::part(findings, path, written.len());
    for (i, _) in written.iter().enumerate().filter(|(_, provider)| provider.name.is_empty()) {
        findings.error(format!("{path}[{i}].name"), "missing; write one of the mesh's extensionProviders");
    }
    written.iter().map(|provider| provider.name.as_str().into()).collect()
}

// === tracing ===

fn tracing(findings: &mut Findings, path: &str, written: &written::Tracing) -> Tracing {
    let providers = providers(findings, &format!("{path}.providers"), &written.providers);
    if providers.len() > 1 {
        findings.error(format!("{path}.providers[1]"), "is one too many: spans go to one provider");
    }
    let sampling = written.random_sampling_percentage;
    if sampling.is_some_and(|percent| !(0.0..=100.0).contains(&percent)) {
        findings.error(
            format!("{path}.randomSamplingPercentage"),
            format!("{} is no percentage, 0 to 100", sampling.unwrap_or_default()),
        );
    }
    let tags = (!written.custom_tags.is_empty())
        .then(|| tags(findings, &format!("{path}.customTags"), &written.custom_tags));
    Tracing {
        mode: mode(written.match_.as_ref().and_then(|m| m.mode)),
        provider: providers.into_iter().next(),
        sampling,
        silent: written.disable_span_reporting,
        isolated: written.disable_context_propagation,
        istio_tags: written.enable_istio_tags,
        tags,
    }
}

fn tags(findings: &mut Findings, path: &str, written: &BTreeMap<String, written::CustomTag>) -> Vec<Tag> {
    common::part(findings, path, written.len());
    let tag = |(name, tag): (&String, &written::CustomTag)| {
        let path = format!("{path}.{name}");
        if name.is_empty() {
            findings.error(&path, "has no name");
        }
        Some(Tag { name: name.as_str().into(), value: tag_value(findings, &path, tag)? })
    };
    written.iter().filter_map(tag).collect()
}

fn tag_value(findings: &mut Findings, path: &str, tag: &written::CustomTag) -> Option<TagValue> {
    match (&tag.literal, &tag.environment, &tag.header, &tag.formatter) {
        (Some(literal), None, None, None) => Some(TagValue::Literal(literal.value.as_str().into())),
        (None, Some(named), None, None) => {
            let name = named_tag(findings, &format!("{path}.environment"), named)?;
            Some(TagValue::Environment { name: name.into(), default: named.default_value.as_str().into() })
        }
        (None, None, Some(named), None) => {
            let path = format!("{path}.header");
            let name = named_tag(findings, &path, named)?;
            let name = common::header_name(findings, &format!("{path}.name"), name)?;
            Some(TagValue::Header { name, default: named.default_value.as_str().into() })
        }
        (None, None, None, Some(_)) => {
            findings.unhonoured(
                format!("{path}.formatter"),
                "is not honoured yet; literal, environment and header are",
            );
            None
        }
        _ => {
            findings.error(path, "write one of literal, environment, header");
            None
        }
    }
}

fn named_tag<'a>(findings: &mut Findings, path: &str, named: &'a written::NamedTag) -> Option<&'a str> {
    if named.name.is_empty() {
        findings.error(format!("{path}.name"), "missing");
    }
    Some(named.name.as_str()).filter(|name| !name.is_empty())
}

// === metrics ===

fn metrics(findings: &mut Findings, path: &str, written: &written::Metrics) -> Metrics {
    let providers = providers(findings, &format!("{path}.providers"), &written.providers);
    let interval = written.reporting_interval.as_ref();
    let interval = interval.and_then(|d| common::duration(findings, &format!("{path}.reportingInterval"), d));
    if interval.is_some_and(|interval| interval != REPORTING_INTERVAL) {
        findings.unhonoured(format!("{path}.reportingInterval"), "is always 5s; leave it out");
    }
    common::part(findings, &format!("{path}.overrides"), written.overrides.len());
    let overrides = written.overrides.iter().enumerate();
    let overrides =
        overrides.map(|(i, o)| metric_override(findings, &format!("{path}.overrides[{i}]"), o)).collect();
    Metrics { providers, overrides }
}

fn metric_override(findings: &mut Findings, path: &str, written: &written::MetricOverride) -> MetricOverride {
    let match_ = written.match_.as_ref();
    let metric = match_.and_then(|m| m.metric).and_then(standard);
    let path = format!("{path}.tagOverrides");
    common::part(findings, &path, written.tag_overrides.len());
    let label =
        |(name, tag): (&String, &written::TagOverride)| label(findings, &format!("{path}.{name}"), name, tag);
    MetricOverride {
        mode: mode(match_.and_then(|m| m.mode)),
        metric,
        disabled: written.disabled,
        labels: written.tag_overrides.iter().filter_map(label).collect(),
    }
}

fn label(
    findings: &mut Findings,
    path: &str,
    name: &str,
    written: &written::TagOverride,
) -> Option<(Arc<str>, Option<Arc<str>>)> {
    let valid = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.starts_with("__") || name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(valid) {
        findings.error(path, format!("`{name}` is no label's name: letters, digits and `_`"));
        return None;
    }
    match written.operation.unwrap_or(TagOperation::Upsert) {
        TagOperation::Remove => Some((name.into(), None)),
        TagOperation::Upsert => {
            let value = constant(findings, &format!("{path}.value"), &written.value)?;
            Some((name.into(), Some(value.into())))
        }
    }
}

/// A text in quotes: what follows the traffic would make a series of each request.
fn constant<'a>(findings: &mut Findings, path: &str, value: &'a str) -> Option<&'a str> {
    let quoted = ['\'', '"'].iter().find_map(|q| value.strip_prefix(*q)?.strip_suffix(*q));
    let plain = quoted.filter(|text| !text.contains(['\\', '\'', '"']));
    match (plain, value) {
        (Some(text), _) => Some(text),
        (None, "") => {
            findings.error(path, "missing; write a text in quotes, such as \"'blue'\"");
            None
        }
        (None, _) => {
            findings.unhonoured(
                path,
                format!("`{value}` is an expression, which is not honoured; a text in quotes is"),
            );
            None
        }
    }
}

/// `None` for all of them.
fn standard(metric: StandardMetric) -> Option<Metric> {
    Some(match metric {
        StandardMetric::All => return None,
        StandardMetric::RequestCount => Metric::RequestCount,
        StandardMetric::RequestDuration => Metric::RequestDuration,
        StandardMetric::RequestSize => Metric::RequestSize,
        StandardMetric::ResponseSize => Metric::ResponseSize,
        StandardMetric::TcpOpenedConnections => Metric::TcpOpenedConnections,
        StandardMetric::TcpClosedConnections => Metric::TcpClosedConnections,
        StandardMetric::TcpSentBytes => Metric::TcpSentBytes,
        StandardMetric::TcpReceivedBytes => Metric::TcpReceivedBytes,
        StandardMetric::GrpcRequestMessages => Metric::GrpcRequestMessages,
        StandardMetric::GrpcResponseMessages => Metric::GrpcResponseMessages,
    })
}

// === access logs ===

fn access_logging(findings: &mut Findings, path: &str, written: &written::AccessLogging) -> AccessLogging {
    let filter = written.filter.as_ref().and_then(|filter| {
        let path = format!("{path}.filter.expression");
        if filter.expression.is_empty() {
            findings.error(path, "missing; write such as `response.code >= 400`");
            return None;
        }
        match Filter::parse(&filter.expression) {
            Ok(filter) => Some(filter),
            Err(error) => {
                findings.unhonoured(path, format!("`{}` is not honoured: {error}", filter.expression));
                None
            }
        }
    });
    AccessLogging {
        mode: mode(written.match_.as_ref().and_then(|m| m.mode)),
        providers: providers(findings, &format!("{path}.providers"), &written.providers),
        disabled: written.disabled.unwrap_or(false),
        filter,
    }
}
