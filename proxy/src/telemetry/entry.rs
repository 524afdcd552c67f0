//! What the access log shows of one request or connection: gathered on a worker, in one piece of memory, and only
//! while a log is on.

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue};
use weft_core::access_log::filter::{Attribute, Fact, Simple};
use weft_core::access_log::template::Template;
use weft_core::identity::SpiffeId;
use weft_core::model::cluster::Cluster;
use weft_core::model::telemetry::{AccessLog, LogFormat, Telemetry};
use weft_core::reason::Reason;

use super::kept::{Kept, Span, Text, text_of_header};
use super::labels::{AppProtocol, Outcome, Reporter};
use super::text::{MAX_VALUE, cut, known};

/// The logs that hold for one side of an exchange.
#[derive(Clone, Debug)]
pub struct Logs {
    pub(super) told: Arc<Telemetry>,
    pub(super) side: Reporter,
}

/// What the log shows of one request or connection.
#[derive(Clone, Debug)]
pub struct AccessEntry {
    /// Wall time of the beginning.
    pub start_time: SystemTime,
    /// `HTTP/1.1`, `HTTP/2`; empty for connections.
    pub protocol: &'static str,
    /// Name of the route rule.
    pub route_name: Arc<str>,
    /// The cluster.
    pub upstream_cluster: Option<Arc<Cluster>>,
    /// The endpoint.
    pub upstream_host: Option<SocketAddr>,
    /// Our end of the connection to it.
    pub upstream_local_address: Option<SocketAddr>,
    /// Time until the upstream's response head.
    pub upstream_service_time: Option<Duration>,
    /// The address that the client dialled.
    pub downstream_local_address: Option<SocketAddr>,
    /// The client.
    pub downstream_remote_address: Option<SocketAddr>,
    /// The client's identity.
    pub source_principal: Option<SpiffeId>,
    /// The trace that the request is part of, its most significant byte first.
    pub trace_id: Option<[u8; 16]>,
    /// Bytes from the client.
    pub bytes_received: u64,
    /// Bytes to the client.
    pub bytes_sent: u64,
    pub(super) outcome: Outcome,
    pub(super) policy: Option<Arc<str>>,
    pub(super) took: Duration,
    pub(super) logs: Logs,
    /// Which of the logs take it.
    pub(super) admitted: u64,
    kept: Kept,
}

// === impl Logs ===

impl Logs {
    /// The logs of a side; `None` where there is none.
    pub fn of(told: &Arc<Telemetry>, side: Reporter) -> Option<Self> {
        let logs = Self { told: Arc::clone(told), side };
        (!logs.list().is_empty()).then_some(logs)
    }

    /// No log of a side.
    pub fn none(side: Reporter) -> Self {
        static NONE: LazyLock<Arc<Telemetry>> = LazyLock::new(Arc::default);
        Self { told: Arc::clone(&NONE), side }
    }

    pub(super) fn list(&self) -> &[AccessLog] {
        self.side.of(&self.told.access_log).as_slice()
    }
}

// === impl AccessEntry ===

impl AccessEntry {
    /// An entry about which only its beginning is known.
    pub fn begin(start_time: SystemTime, logs: Logs) -> Self {
        Self {
            start_time,
            protocol: "",
            route_name: Arc::default(),
            upstream_cluster: None,
            upstream_host: None,
            upstream_local_address: None,
            upstream_service_time: None,
            downstream_local_address: None,
            downstream_remote_address: None,
            source_principal: None,
            trace_id: None,
            bytes_received: 0,
            bytes_sent: 0,
            outcome: Outcome::default(),
            policy: None,
            took: Duration::ZERO,
            logs,
            admitted: 0,
            kept: Kept::new(),
        }
    }

    /// Keeps a text, its head where it is too long.
    pub fn put(&mut self, what: Text, value: &str) {
        let span = self.kept.keep(value.as_bytes(), cut(value, MAX_VALUE).len());
        self.kept.put(what, span);
    }

    /// Keeps what lines show of a request's headers.
    pub fn put_request(&mut self, headers: &HeaderMap) {
        let Self { kept, logs, .. } = self;
        kept.keep_usual(headers);
        for log in logs.list().iter().filter(|log| log.filter.is_some() || is_own(&log.format)) {
            let filtered = log.filter.iter().flat_map(|filter| filter.request_headers());
            filtered.for_each(|name| kept.capture_request(headers, name));
            for template in templates(&log.format) {
                template.request_headers().for_each(|name| kept.capture_request(headers, name));
            }
        }
    }

    /// Keeps the request's id, which it may have been given after its headers were kept.
    pub fn put_id(&mut self, id: &HeaderValue) {
        if self.span(Text::RequestId).length() == 0 {
            let span = self.kept.keep_value(id);
            self.kept.put(Text::RequestId, span);
        }
    }

    /// Keeps what lines show of a response's headers.
    pub fn put_response(&mut self, headers: &HeaderMap) {
        if self.logs.list().iter().any(|log| is_own(&log.format)) {
            self.put_chosen(headers);
        }
    }

    #[inline(never)]
    fn put_chosen(&mut self, headers: &HeaderMap) {
        let Self { kept, logs, .. } = self;
        for template in logs.list().iter().flat_map(|log| templates(&log.format)) {
            template.response_headers().for_each(|name| kept.capture_response(headers, name));
        }
    }

    /// Which of the values that may be absent are there, those apart that a line shows by name of a header.
    pub(super) fn present(&self) -> u32 {
        let others = [
            self.upstream_host.is_some(),
            self.upstream_local_address.is_some(),
            self.upstream_service_time.is_some(),
            self.downstream_local_address.is_some(),
            self.downstream_remote_address.is_some(),
            self.source_principal.is_some(),
            self.trace_id.is_some(),
            self.policy.is_some(),
        ];
        others.into_iter().fold(0, |all, there| all << 1 | u32::from(there)) << Text::COUNT
            | self.kept.present
    }

    /// All that is kept of what was sent, one after the other; UTF-8.
    pub(super) fn texts(&self) -> &[u8] {
        &self.kept.text
    }

    pub(super) fn get(&self, what: Text) -> &str {
        self.at(self.span(what))
    }

    pub(super) fn span(&self, what: Text) -> Span {
        self.kept.spans[what as usize]
    }

    pub(super) fn at(&self, span: Span) -> &str {
        self.kept.at(span)
    }

    pub(super) fn request_header(&self, name: &HeaderName) -> Span {
        text_of_header(name)
            .map_or_else(|| self.kept.find(|chosen| &chosen.request, name), |text| self.span(text))
    }

    pub(super) fn response_header(&self, name: &HeaderName) -> Span {
        self.kept.find(|chosen| &chosen.response, name)
    }

    /// How it ended; says whether any log takes it.
    pub(super) fn end(&mut self, outcome: Outcome, policy: Option<Arc<str>>, took: Duration) -> bool {
        (self.outcome, self.policy, self.took) = (outcome, policy, took);
        let admits =
            |log: &AccessLog| log.filter.as_ref().is_none_or(|filter| filter.admits(|a| self.fact(a)));
        let admitted = self.logs.list().iter().take(64).enumerate();
        self.admitted = admitted.filter(|(_, log)| admits(log)).fold(0, |all, (i, _)| all | 1 << i);
        self.admitted != 0
    }

    pub(super) fn details(&self) -> &'static str {
        match self.outcome {
            Outcome { reason: Some(reason), .. } => reason.name(),
            Outcome { protocol: AppProtocol::Http | AppProtocol::Grpc, status: 1.., .. } => "via_upstream",
            _ => "",
        }
    }

    fn fact(&self, attribute: &Attribute) -> Option<Fact<'_>> {
        let attribute = match attribute {
            Attribute::RequestHeader(name) => {
                return known(self.at(self.request_header(name))).map(Fact::Text);
            }
            Attribute::Simple(simple) => *simple,
        };
        let number = |number: u64| Some(Fact::Number(i64::try_from(number).unwrap_or(i64::MAX)));
        match attribute {
            Simple::ResponseCode => number(self.outcome.status.into()),
            Simple::GrpcStatus => number(self.outcome.grpc_status?.into()),
            Simple::ResponseSize => number(self.bytes_sent),
            Simple::RequestSize => number(self.bytes_received),
            Simple::Duration => Some(Fact::Time(self.took)),
            Simple::Mtls => Some(Fact::Flag(self.source_principal.is_some())),
            simple => self.text_fact(simple).and_then(known).map(Fact::Text),
        }
    }

    fn text_fact(&self, attribute: Simple) -> Option<&str> {
        Some(match attribute {
            Simple::ResponseCodeDetails => self.details(),
            Simple::Method => self.get(Text::Method),
            Simple::Path => self.get(Text::Path),
            Simple::UrlPath => self.get(Text::Path).split('?').next().unwrap_or_default(),
            Simple::Host => self.get(Text::Authority),
            Simple::Protocol => self.protocol,
            Simple::UserAgent => self.get(Text::UserAgent),
            Simple::Id => self.get(Text::RequestId),
            Simple::ServerName => self.get(Text::ServerName),
            Simple::Peer => self.source_principal.as_ref()?.as_str(),
            Simple::Route => &self.route_name,
            Simple::Reason => self.outcome.reason.map(Reason::name)?,
            Simple::Policy => self.policy.as_deref()?,
            _ => return None,
        })
    }
}

/// Whether a format is the user's own.
fn is_own(format: &LogFormat) -> bool {
    matches!(format, LogFormat::Text(_) | LogFormat::Json(_))
}

/// The templates that are the user's own: the usual lines show nothing that is not kept anyway.
fn templates(format: &LogFormat) -> impl Iterator<Item = &Template> {
    let one = if let LogFormat::Text(template) = format { Some(template) } else { None };
    let many = if let LogFormat::Json(fields) = format { fields.as_slice() } else { &[] };
    one.into_iter().chain(many.iter().map(|(_, template)| template))
}
