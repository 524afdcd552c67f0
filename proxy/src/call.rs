//! One request while it is served, and the way of its response: the same in both directions.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use http::{Response, StatusCode};
use hyper::upgrade::OnUpgrade;
use tokio::time::Instant;
use weft_core::http::headers::{Expectation, Hop, expectation, strip_hop_by_hop, strip_own};
use weft_core::reason::Reason;
use weft_core::snapshot::Snapshot;
use weft_core::trace::{Begun, begin};

use crate::downstream::Downstream;
use crate::http::body::{Body, Finish, grpc_status};
use crate::http::head::{Refusal, authority};
use crate::http::incoming::Incoming;
use crate::http::mark::mark_response;
use crate::http::patience::Patience;
use crate::http::tunnel::switch;
use crate::http::upload::Upload;
use crate::local::Local;
use crate::recording::{Recording, finish_own, refuse};
use crate::telemetry::{AccessEntry, Reporter, Scope, Span};

/// The longest time that a request's body may stand still before it is answered (hardening A15).
const IDLE_BODY: Duration = Duration::from_secs(300);

/// The response to a request, or why it gets none of an upstream.
pub type Answer = Result<Response<Body>, Refusal>;

/// A request while it is served.
pub struct Call {
    /// The configuration by which it is served, from its beginning to its end.
    pub snapshot: Arc<Snapshot>,
    /// What its hop-by-hop fields said.
    pub hop: Hop,
    /// The client's half of the upgrade that it asks for.
    pub upgrade: Option<OnUpgrade>,
    /// For how many milliseconds a fault held it up: no part of its route's time.
    pub held_ms: u32,
    recording: Option<Recording>,
}

impl Call {
    /// A request that begins, on one side of the exchange.
    pub fn begin(local: &Rc<Local>, side: Reporter, from: &Downstream, parts: &mut Parts) -> Self {
        let snapshot = local.mesh.snapshot();
        let mut recording = Recording::begin(local, &snapshot, side, parts);
        recording.note_ends(from);
        let (hop, upgrade) = (Hop::default(), parts.extensions.remove());
        Self { snapshot, hop, upgrade, held_ms: 0, recording: Some(recording) }
    }

    /// Takes its place among the requests under way.
    ///
    /// # Errors
    /// [`Reason::Overloaded`]: there are as many as the sidecar can do, or memory is short (hardening G3, G4).
    pub fn enter(&mut self) -> Result<(), Refusal> {
        match self.recording.as_mut().is_none_or(Recording::enter) {
            true => Ok(()),
            false => Err(Reason::Overloaded.into()),
        }
    }

    /// Whether it is gRPC.
    pub fn is_grpc(&self) -> bool {
        self.recording.as_ref().is_some_and(Recording::is_grpc)
    }

    /// When it began.
    pub fn started(&self) -> Instant {
        self.recording.as_ref().map_or_else(Instant::now, Recording::started)
    }

    /// A fault holds it up for so long.
    pub fn hold(&mut self, local: &Local, time: Duration) {
        self.held_ms = time.as_millis().try_into().unwrap_or(u32::MAX);
        self.record(|recording| {
            recording.delayed();
            recording.span(|span| span.delayed(local.now(), time));
        });
    }

    /// Between whom it is.
    pub fn between(&mut self, scope: Rc<Scope>) {
        self.record(|recording| recording.between(scope));
    }

    /// What only the log shows.
    pub fn note(&mut self, note: impl FnOnce(&mut AccessEntry)) {
        self.record(|recording| recording.note(note));
    }

    /// Begins its span where it is traced, and tells the next hop. Costs one branch where no spans are wanted.
    pub fn trace(&mut self, local: &Local, side: Reporter, parts: &mut Parts) {
        let Some(workload) = self.snapshot.workload() else { return };
        let tracing = side.of(&workload.telemetry.tracing);
        if tracing.collector.is_none() || !tracing.report {
            return;
        }
        if let Some(begun) = begin(&parts.headers, tracing.sampling, || local.random()) {
            let propagate = tracing.propagate;
            self.begin_span(local, side, begun, parts);
            if propagate && self.is_traced() {
                begun.write(&mut parts.headers);
            }
        }
    }

    #[inline(never)]
    fn begin_span(&mut self, local: &Local, side: Reporter, begun: Begun, parts: &Parts) {
        let telemetry = local.telemetry.shared();
        let (Some(sink), Some(recording)) = (telemetry.spans.sink(side), &mut self.recording) else { return };
        let start = telemetry.clock.now() - recording.started().elapsed();
        let mut span = Span::begin(side, begun, start, parts, authority(&parts.uri, &parts.headers));
        span.tag(&sink, parts);
        recording.trace(span);
        recording.note(|entry| entry.trace_id = Some(begun.trace.get().to_be_bytes()));
    }

    /// Whether it is traced.
    pub fn is_traced(&self) -> bool {
        self.recording.as_ref().is_some_and(Recording::is_traced)
    }

    /// What only its span tells.
    pub fn span(&mut self, tell: impl FnOnce(&mut Span)) {
        self.record(|recording| recording.span(tell));
    }

    /// Changes what is recorded of it.
    pub fn record(&mut self, change: impl FnOnce(&mut Recording)) {
        if let Some(recording) = &mut self.recording {
            change(recording);
        }
    }

    /// Its body. `again`: it may have to be sent more than once.
    pub fn upload(&self, parts: &Parts, body: Incoming, deadline: Option<Instant>, again: bool) -> Upload {
        let idle = (!self.is_grpc()).then_some(IDLE_BODY);
        let upload = Upload::new(body, Patience::new(idle, deadline), again).counting(self.is_grpc());
        match expectation(&parts.headers) {
            Expectation::Continue => upload.expecting(),
            Expectation::None | Expectation::Other => upload,
        }
    }

    /// Answers in the application's stead.
    pub fn refuse(&mut self, refusal: Refusal, trusted: bool) -> Response<Body> {
        refuse(self.recording.take(), refusal, trusted)
    }

    /// Answers with what a route makes.
    pub fn reply(&mut self, response: Response<Body>, reason: Reason) -> Response<Body> {
        finish_own(self.recording.take(), response, reason)
    }

    /// Passes an upstream's response on. `told` makes, of the record, who is told of the end of it; `believed`: what
    /// it says of the mesh comes from a sidecar.
    pub fn pass_on(
        &mut self,
        response: Response<Incoming>,
        believed: bool,
        deadline: Option<Instant>,
        told: impl FnOnce(Recording) -> Box<dyn Finish>,
    ) -> Answer {
        let (mut head, body) = response.into_parts();
        let hop = strip_hop_by_hop(&mut head.headers, head.version, |_| false);
        let hop = hop.map_err(|_| Refusal::from(Reason::UpstreamFraming))?;
        if !believed {
            strip_own(&mut head.headers);
        }
        let switches = head.status == StatusCode::SWITCHING_PROTOCOLS;
        let client = self.upgrade.take().filter(|_| switches);
        if switches && client.is_none() {
            return Err(Reason::UpstreamFraming.into());
        }
        let Some(mut recording) = self.recording.take() else { return Err(Reason::Internal.into()) };
        let took = recording.started().elapsed();
        mark_response(&mut head.headers, took);
        recording.note(|entry| {
            entry.upstream_service_time = Some(took);
            entry.put_response(&head.headers);
        });
        recording.answered(head.status, grpc_status(&head.headers));
        let grpc = recording.is_grpc();
        let told = told(recording);
        Ok(match client {
            Some(client) => switch(head, hop, client, told),
            None => {
                let body = Body::stream(body, Patience::new(None, deadline)).counting(grpc);
                Response::from_parts(head, body.told(told))
            }
        })
    }
}
