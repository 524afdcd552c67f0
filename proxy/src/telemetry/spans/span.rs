//! The span of one request on one side of a hop.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::HeaderName;
use http::request::Parts;
use opentelemetry::trace::{Event, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue, Value};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use weft_core::identity::SpiffeId;
use weft_core::model::metadata::WorkloadMetadata;
use weft_core::model::name::ClusterName;
use weft_core::model::route::RuleSource;
use weft_core::trace::Begun;
use weft_core::upstream::EndpointState;

use super::attributes::{self, known, sent};
use super::sinks::Sink;
use super::story::Story;
use crate::telemetry::labels::{AppProtocol, Outcome, Reporter};

const USER_AGENT: HeaderName = http::header::USER_AGENT;
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const ATTEMPT: HeaderName = HeaderName::from_static("x-envoy-attempt-count");

/// The span of a request that is traced.
#[derive(Debug)]
pub struct Span {
    /// The side that it is of.
    pub side: Reporter,
    begun: Begun,
    start: SystemTime,
    method: &'static str,
    service: Option<Arc<str>>,
    attributes: Vec<KeyValue>,
    events: Vec<Event>,
}

/// How a request ended, as its span tells it.
#[derive(Clone, Debug)]
pub struct SpanEnd {
    /// Status, gRPC status, reason.
    pub outcome: Outcome,
    /// The policy that refused it.
    pub policy: Option<Arc<str>>,
    /// How long it took.
    pub took: Duration,
    /// Bytes of the bodies of request and response.
    pub bytes: (u64, u64),
}

impl Span {
    /// A span that begins.
    pub fn begin(
        side: Reporter,
        begun: Begun,
        start: SystemTime,
        parts: &Parts,
        authority: &str,
    ) -> Box<Self> {
        let (method, original) = attributes::method(&parts.method);
        let (host, port) = attributes::server(authority);
        let mut attributes = Vec::with_capacity(32);
        attributes.extend(original);
        attributes.extend([
            KeyValue::new("http.request.method", method),
            sent("server.address", host),
            KeyValue::new("server.port", port),
            KeyValue::new("network.protocol.name", "http"),
            KeyValue::new("network.protocol.version", attributes::version(parts.version)),
        ]);
        put_url(&mut attributes, side, parts, authority);
        let text = |key, name: &HeaderName| {
            attributes::header(&parts.headers, name).map(|value| KeyValue::new(key, value))
        };
        attributes.extend(text("user_agent.original", &USER_AGENT));
        attributes.extend(text("weft.request_id", &REQUEST_ID));
        let (service, events) = (None, Vec::new());
        Box::new(Self { side, begun, start, method, service, attributes, events })
    }

    /// Adds the tags that the configuration asks for.
    pub fn tag(&mut self, sink: &Sink, parts: &Parts) {
        self.attributes.extend(sink.fixed.iter().cloned());
        for (key, name, default) in &sink.headers {
            let value = attributes::header(&parts.headers, name).filter(|value| !value.is_empty());
            let value = value.map_or_else(|| Value::from(Arc::clone(default)), Value::from);
            if !value.as_str().is_empty() {
                self.attributes.push(KeyValue::new(key.clone(), value));
            }
        }
    }

    /// The rule that it takes, and where that leads.
    pub fn routed(&mut self, rule: &RuleSource, cluster: Option<&ClusterName>) {
        let object = rule.object.as_ref().map_or("default".to_owned(), ToString::to_string);
        self.attributes.push(KeyValue::new("weft.route", format!("{object} {}", rule.path)));
        if !rule.name.is_empty() {
            self.attributes.push(known("weft.route.name", &rule.name));
        }
        let Some(cluster) = cluster else { return };
        self.attributes.push(KeyValue::new("weft.cluster", cluster.to_string()));
        self.attributes.extend(cluster.subset.iter().map(|subset| known("weft.subset", subset)));
    }

    /// The service that it is for.
    pub fn addressed_to(&mut self, host: &Arc<str>) {
        if !host.is_empty() {
            self.attributes.push(known("weft.service", host));
            self.service = Some(Arc::clone(host));
        }
    }

    /// The endpoint that it was sent to last, and how often it was sent.
    pub fn sent_to(&mut self, endpoint: &EndpointState, tries: u32) {
        self.peer(endpoint.address);
        self.other_end("weft.destination", &endpoint.metadata);
        self.principal(endpoint.identity.as_ref().filter(|_| endpoint.is_mutual()));
        self.attributes.push(KeyValue::new("weft.attempt", i64::from(tries)));
        if tries > 1 {
            self.attributes.push(KeyValue::new("http.request.resend_count", i64::from(tries - 1)));
        }
    }

    /// Who sent it.
    pub fn received_from(
        &mut self,
        parts: &Parts,
        client: SocketAddr,
        metadata: &WorkloadMetadata,
        principal: Option<&SpiffeId>,
    ) {
        self.peer(client);
        self.attributes.push(KeyValue::new("client.address", client.ip().to_string()));
        self.other_end("weft.source", metadata);
        self.principal(principal);
        let attempt = parts.headers.get(ATTEMPT).and_then(|value| value.to_str().ok()?.parse::<u32>().ok());
        self.attributes.extend(attempt.map(|n| KeyValue::new("weft.attempt", i64::from(n))));
    }

    /// What happened on its way.
    pub fn happened(&mut self, story: Story) {
        self.events.extend(story.into_events());
    }

    /// The end of its response set the endpoint aside.
    pub fn ejected(&mut self, at: SystemTime, endpoint: SocketAddr) {
        let mut story = Story::new(true);
        story.ejection(at, endpoint);
        self.happened(story);
    }

    /// A fault holds it up.
    pub fn delayed(&mut self, at: SystemTime, time: Duration) {
        let mut story = Story::new(true);
        story.delay(at, time);
        self.happened(story);
    }

    fn peer(&mut self, address: SocketAddr) {
        self.attributes.push(KeyValue::new("network.peer.address", address.ip().to_string()));
        self.attributes.push(KeyValue::new("network.peer.port", i64::from(address.port())));
    }

    fn other_end(&mut self, which: &'static str, of: &WorkloadMetadata) {
        if of.workload.is_empty() {
            return;
        }
        let mut put = |what: &str, value: &Arc<str>| {
            self.attributes.push(KeyValue::new(format!("{which}.{what}"), Value::from(Arc::clone(value))));
        };
        put("workload", &of.workload);
        put("namespace", &of.namespace);
        put("version", &of.canonical_revision);
    }

    fn principal(&mut self, principal: Option<&SpiffeId>) {
        let text = principal.map(ToString::to_string);
        self.attributes.extend(text.map(|text| KeyValue::new("weft.peer.principal", text)));
    }

    /// The whole span, of a request that has ended.
    pub fn end(mut self, end: &SpanEnd) -> SpanData {
        let error = self.error(end);
        self.put_end(end);
        self.attributes.extend(error.clone().map(|error| KeyValue::new("error.type", error)));
        let mut events = SpanEvents::default();
        events.events.extend(self.events);
        let name = match self.method {
            "_OTHER" => "HTTP",
            method => method,
        };
        SpanData {
            span_context: SpanContext::new(
                TraceId::from(self.begun.trace.get()),
                SpanId::from(self.begun.span.get()),
                TraceFlags::SAMPLED,
                false,
                TraceState::NONE,
            ),
            parent_span_id: self.begun.parent.map_or(SpanId::INVALID, |id| SpanId::from(id.get())),
            parent_span_is_remote: self.begun.parent.is_some(),
            span_kind: match self.side {
                Reporter::Source => SpanKind::Client,
                Reporter::Destination => SpanKind::Server,
            },
            name: self.service.map_or(name.into(), |service| format!("{name} {service}").into()),
            start_time: self.start,
            end_time: self.start + end.took,
            attributes: self.attributes,
            dropped_attributes_count: 0,
            events,
            links: SpanLinks::default(),
            status: error.map_or(Status::Unset, Status::error),
            instrumentation_scope: InstrumentationScope::builder("weft").build(),
        }
    }

    fn put_end(&mut self, end: &SpanEnd) {
        let Outcome { status, grpc_status, reason, protocol, .. } = end.outcome;
        let mut put = |key: &'static str, value: Value| self.attributes.push(KeyValue::new(key, value));
        if status > 0 {
            put("http.response.status_code", i64::from(status).into());
        }
        if protocol == AppProtocol::Grpc {
            put("rpc.system", "grpc".into());
        }
        if let Some(status) = grpc_status {
            put("rpc.grpc.status_code", i64::from(status).into());
        }
        if let Some(reason) = reason {
            put("weft.reason", reason.name().into());
        }
        if reason.is_some() || end.outcome.delayed {
            put("weft.response_flags", end.outcome.flags().into());
        }
        if let Some(policy) = &end.policy {
            put("weft.policy", Arc::clone(policy).into());
        }
        put("http.request.body.size", size(end.bytes.0));
        put("http.response.body.size", size(end.bytes.1));
    }

    /// `error.type`: why the request failed, as this side sees it.
    fn error(&self, end: &SpanEnd) -> Option<String> {
        let Outcome { status, grpc_status, reason, .. } = end.outcome;
        let least = if self.side == Reporter::Source { 400 } else { 500 };
        let failed_grpc = |code: u8| match self.side {
            Reporter::Source => code != 0,
            Reporter::Destination => matches!(code, 2 | 4 | 12..=15),
        };
        let cut = reason.filter(|reason| reason.status() != 0);
        match (cut, status, grpc_status) {
            (None, 0, _) => Some("client_disconnected".to_owned()),
            (Some(reason), ..) if status >= least || status == 0 => Some(reason.name().to_owned()),
            (_, status, _) if status >= least => Some(status.to_string()),
            (_, _, Some(code)) if failed_grpc(code) => Some(code.to_string()),
            _ => None,
        }
    }
}

fn put_url(attributes: &mut Vec<KeyValue>, side: Reporter, parts: &Parts, authority: &str) {
    let path = parts.uri.path();
    let query = parts.uri.query().map(attributes::redacted);
    if side == Reporter::Source {
        let query = query.map_or_else(String::new, |query| format!("?{query}"));
        attributes.push(sent("url.full", &format!("http://{authority}{path}{query}")));
        return;
    }
    attributes.push(KeyValue::new("url.scheme", "http"));
    attributes.push(sent("url.path", path));
    attributes.extend(query.map(|query| sent("url.query", &query)));
}

fn size(bytes: u64) -> Value {
    i64::try_from(bytes).unwrap_or(i64::MAX).into()
}
