//! A request as it is counted and logged: once, whatever becomes of it.

use std::rc::Rc;
use std::time::Duration;

use http::request::Parts;
use http::{HeaderValue, Response, StatusCode, Version};
use http_body::Body as _;
use tokio::time::Instant;
use weft_core::http::grpc::is_grpc;
use weft_core::reason::Reason;
use weft_core::snapshot::Snapshot;

use crate::downstream::Downstream;
use crate::http::answer::{Asker, POLICY, answer_with, status_of};
use crate::http::body::{Body, End, Summary, grpc_status};
use crate::http::head::Refusal;
use crate::http::upload::Upload;
use crate::local::Local;
use crate::pool::Lease;
use crate::telemetry::{AccessEntry, AppProtocol, Logs, Reporter, RequestRecord, Scope, Span, SpanEnd, Text};

/// The record of a request. A request that is dropped unfinished was left by its client: counted as such.
pub struct Recording {
    local: Rc<Local>,
    record: Option<RequestRecord>,
    /// It is one of the requests under way that the sidecar has a limit for.
    entered: bool,
    /// Its span; `None`: it is not traced.
    span: Option<Box<Span>>,
}

impl Recording {
    /// A request that begins.
    pub fn begin(local: &Rc<Local>, snapshot: &Snapshot, side: Reporter, parts: &Parts) -> Self {
        let mut record = RequestRecord::begin(Instant::now());
        record.outcome.protocol = if is_grpc(&parts.headers) { AppProtocol::Grpc } else { AppProtocol::Http };
        let told = snapshot.workload().map(|workload| &workload.telemetry);
        let shared = local.telemetry.shared();
        record.tapped = shared.taps.want(parts.method.as_str(), target(parts));
        let logs = shared.access_log.logs(told, side);
        let logs = logs.or_else(|| record.tapped.then(|| shared.access_log.none(side)));
        record.log = logs.map(|logs| Box::new(entry(local, logs, parts)));
        Self { local: Rc::clone(local), record: Some(record), entered: false, span: None }
    }

    /// What never became a request.
    pub fn of_refused(local: &Rc<Local>) -> Self {
        Self {
            local: Rc::clone(local),
            record: Some(RequestRecord::begin(Instant::now())),
            entered: false,
            span: None,
        }
    }

    /// Takes its place among the requests under way; false: there is none.
    pub fn enter(&mut self) -> bool {
        self.entered = self.entered || self.local.overload.enter();
        self.entered
    }

    /// It is traced.
    pub fn trace(&mut self, span: Box<Span>) {
        self.span = Some(span);
    }

    /// Whether it is traced.
    pub fn is_traced(&self) -> bool {
        self.span.is_some()
    }

    /// What only its span tells.
    pub fn span(&mut self, tell: impl FnOnce(&mut Span)) {
        if let Some(span) = self.span.as_deref_mut() {
            tell(span);
        }
    }

    /// Whether it is gRPC.
    pub fn is_grpc(&self) -> bool {
        self.record.as_ref().is_some_and(|record| record.outcome.protocol == AppProtocol::Grpc)
    }

    /// When it began.
    pub fn started(&self) -> Instant {
        self.record.as_ref().map_or_else(Instant::now, |record| record.started)
    }

    /// Between whom it is.
    pub fn between(&mut self, scope: Rc<Scope>) {
        self.change(|record| record.scope = Some(scope));
    }

    /// The head of its response.
    pub fn answered(&mut self, status: StatusCode, grpc_status: Option<u8>) {
        self.change(|record| {
            record.outcome.status = status.as_u16();
            record.outcome.grpc_status = grpc_status;
        });
    }

    /// Why the mesh answered, or cut it.
    pub fn because(&mut self, reason: Reason) {
        self.change(|record| record.outcome.reason = Some(reason));
    }

    /// A fault holds it up.
    pub fn delayed(&mut self) {
        self.change(|record| record.outcome.delayed = true);
    }

    /// The policy that refused it.
    pub fn denied_by(&mut self, policy: &weft_core::model::name::ObjectName) {
        self.change(|record| record.policy = Some(policy.to_string().into()));
    }

    fn policy(&self) -> Option<HeaderValue> {
        let policy = self.record.as_ref()?.policy.as_deref()?;
        HeaderValue::from_str(policy).ok()
    }

    /// Notes the ends of the client's connection.
    pub fn note_ends(&mut self, downstream: &Downstream) {
        self.note(|entry| {
            entry.downstream_remote_address = Some(downstream.client);
            entry.downstream_local_address = Some(downstream.destination);
            downstream.sni.iter().for_each(|name| entry.put(Text::ServerName, name));
            entry.source_principal.clone_from(&downstream.peer);
        });
    }

    /// What only the log shows.
    pub fn note(&mut self, note: impl FnOnce(&mut AccessEntry)) {
        self.change(|record| {
            if let Some(entry) = record.log.as_deref_mut() {
                note(entry);
            }
        });
    }

    /// Its response has ended: counts and logs it. Where it is complete its connection is given back, else dropped.
    pub fn ended(mut self, lease: Lease, upload: &Upload, summary: Summary) {
        match summary.end {
            End::Complete => lease.give_back(),
            End::Upstream => self.because(Reason::UpstreamReset),
            End::Time => self.because(Reason::Timeout),
            End::Unread => {
                upload.abandon();
                self.because(Reason::Unread);
            }
            End::Client => {}
        }
        self.change(|record| record.messages = (upload.messages(), summary.messages));
        self.finish(upload.received(), summary.bytes, summary.grpc_status);
    }

    /// Counts and logs it.
    pub fn finish(mut self, request_bytes: u64, response_bytes: u64, grpc_status: Option<u8>) {
        self.change(|record| {
            (record.request_bytes, record.response_bytes) = (request_bytes, response_bytes);
            record.outcome.grpc_status = grpc_status.or(record.outcome.grpc_status);
        });
        self.end();
    }

    fn change(&mut self, change: impl FnOnce(&mut RequestRecord)) {
        if let Some(record) = &mut self.record {
            change(record);
        }
    }

    fn end(&mut self) {
        let Some(record) = self.record.take() else { return };
        if self.entered {
            self.local.overload.leave();
        }
        let took = record.started.elapsed();
        if let Some(span) = self.span.take() {
            self.hand_over(*span, &record, took);
        }
        record.finish(&self.local.telemetry, took);
    }

    fn hand_over(&self, span: Span, record: &RequestRecord, took: Duration) {
        let Some(sink) = self.local.telemetry.shared().spans.sink(span.side) else { return };
        let end = SpanEnd {
            outcome: record.outcome,
            policy: record.policy.clone(),
            took,
            bytes: (record.request_bytes, record.response_bytes),
        };
        sink.queue.push(span.end(&end));
    }
}

/// The client has gone: the record says so by having no status.
impl Drop for Recording {
    fn drop(&mut self) {
        self.end();
    }
}

fn entry(local: &Local, logs: Logs, parts: &Parts) -> AccessEntry {
    let mut entry = AccessEntry::begin(local.telemetry.shared().clock.now(), logs);
    entry.put(Text::Method, parts.method.as_str());
    entry.put(Text::Path, target(parts));
    entry.protocol = match parts.version {
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_10 => "HTTP/1.0",
        _ => "HTTP/1.1",
    };
    // Where the target names none, it is in `Host`.
    if let Some(authority) = parts.uri.authority() {
        entry.put(Text::Authority, authority.as_str());
    }
    entry.put_request(&parts.headers);
    entry
}

/// The path with its query.
fn target(parts: &Parts) -> &str {
    parts.uri.path_and_query().map_or("", |path| path.as_str())
}

/// Answers in the application's stead, and counts it.
pub fn refuse(recording: Option<Recording>, refusal: Refusal, trusted: bool) -> Response<Body> {
    let grpc = recording.as_ref().is_some_and(Recording::is_grpc);
    let status = refusal.status.unwrap_or_else(|| status_of(refusal.reason));
    let mut response = answer_with(refusal.reason, status, Asker { grpc, trusted });
    if let Some(policy) = recording.as_ref().and_then(Recording::policy).filter(|_| trusted) {
        response.headers_mut().insert(POLICY, policy);
    }
    finish_own(recording, response, refusal.reason)
}

/// Counts a response that the mesh made.
pub fn finish_own(recording: Option<Recording>, response: Response<Body>, reason: Reason) -> Response<Body> {
    if let Some(mut recording) = recording {
        recording.because(reason);
        recording.answered(response.status(), grpc_status(response.headers()));
        let bytes = response.body().size_hint().exact().unwrap_or(0);
        recording.finish(0, bytes, None);
    }
    response
}
