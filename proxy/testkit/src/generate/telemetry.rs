//! What a sidecar tells of its traffic.

use std::sync::Arc;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use weft_core::access_log::filter::Filter;
use weft_core::access_log::template::Template;
use weft_core::model::telemetry::{
    AccessLog, Collector, CollectorProtocol, LabelOverride, LogFormat, LogTarget, Metric, Metrics, Sides,
    Tag, TagValue, Telemetry, Tracing,
};

use super::value::{header_name, header_value, port, port_ref, span, text, word};

/// What a sidecar tells of its traffic, often the default.
pub fn telemetry() -> impl Strategy<Value = Arc<Telemetry>> {
    let full = (sides(tracing()), sides(vec(access_log(), 0..3)), sides(metrics()))
        .prop_map(|(tracing, access_log, metrics)| Telemetry { tracing, access_log, metrics });
    prop_oneof![Just(Telemetry::default()), full].prop_map(Arc::new)
}

fn sides<S: Strategy + Clone>(of: S) -> impl Strategy<Value = Sides<S::Value>> {
    (of.clone(), of).prop_map(|(client, server)| Sides { client, server })
}

fn tracing() -> impl Strategy<Value = Tracing> + Clone {
    let flags = (any::<bool>(), any::<bool>(), any::<bool>());
    (option::of(collector()), 0.0..=100.0, flags, vec(tag(), 0..3)).prop_map(
        |(collector, sampling, (report, propagate, istio_tags), tags)| Tracing {
            collector: collector.map(Arc::new),
            sampling,
            report,
            propagate,
            istio_tags,
            tags,
        },
    )
}

fn tag() -> impl Strategy<Value = Tag> + Clone {
    let value = prop_oneof![
        text().prop_map(TagValue::Literal),
        (word(), text()).prop_map(|(name, default)| TagValue::Environment { name, default }),
        (header_name(), text()).prop_map(|(name, default)| TagValue::Header { name, default }),
    ];
    (word(), value).prop_map(|(name, value)| Tag { name, value })
}

fn collector() -> impl Strategy<Value = Collector> + Clone {
    let protocol =
        prop_oneof![Just(CollectorProtocol::Grpc), word().prop_map(|path| CollectorProtocol::Http { path }),];
    let headers = vec((header_name(), header_value()), 0..3);
    (word(), word(), port(), option::of(port_ref()), protocol, headers, span()).prop_map(
        |(name, host, port, service, protocol, headers, timeout)| Collector {
            name,
            host,
            port,
            service,
            protocol,
            headers,
            timeout,
        },
    )
}

fn access_log() -> impl Strategy<Value = AccessLog> + Clone {
    let sources = ["", "a %REQ(:METHOD)% b", "%RESPONSE_CODE%", "100%%"];
    let template = prop::sample::select(sources.to_vec())
        .prop_map(|source| Template::parse(source).expect("a valid template"));
    let format = prop_oneof![
        Just(LogFormat::DefaultText),
        Just(LogFormat::DefaultJson),
        template.clone().prop_map(LogFormat::Text),
        vec((word(), template), 0..3).prop_map(LogFormat::Json),
    ];
    let filters = vec!["response.code >= 400", "connection.mtls || !has(request.headers['x'])"];
    let filter = prop::sample::select(filters).prop_map(|it| Filter::parse(it).expect("a valid expression"));
    let to = prop::sample::select(vec![LogTarget::Stdout, LogTarget::Stderr]);
    (to, format, option::of(filter)).prop_map(|(to, format, filter)| AccessLog { to, format, filter })
}

fn metrics() -> impl Strategy<Value = Metrics> + Clone {
    let metric = prop::sample::select(Metric::ALL.to_vec());
    let label = (metric.clone(), word(), option::of(text()))
        .prop_map(|(metric, label, value)| LabelOverride { metric, label, value });
    (vec(metric, 0..3), vec(label, 0..3)).prop_map(|(disabled, labels)| Metrics { disabled, labels })
}
