//! Requests of the own application, from their head to the end of their response.
//!
//! ```text
//! check -> resolve -> route -> redirect | respond | forward: rewrite -> attempts -> pass on -> record
//! ```

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::header::{HeaderValue, LOCATION};
use http::request::Parts;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use tokio::time::Instant;
use weft_core::http::grpc;
use weft_core::http::headers::{Hop, strip_asserted, strip_hop_by_hop, strip_own};
use weft_core::http::path::PathRules;
use weft_core::model::address::Meaning;
use weft_core::model::protocol::Protocol;
use weft_core::model::route::{DirectResponse, HttpAction, Redirect};
use weft_core::model::workload::PathNormalization;
use weft_core::outlier::{self, Outcome};
use weft_core::reason::Reason;
use weft_core::retry::may_retry;
use weft_core::route::{self, Matched, RequestView, Target};
use weft_core::snapshot::Snapshot;
use weft_core::transport::Transport;
use weft_core::upstream::{ClusterState, EndpointState};

use crate::attempts::{self, Answered, Exchange, Plan, Unanswered};
use crate::downstream::Outgoing;
use crate::http::answer::REASON;
use crate::http::body::{Body, End, Finish, Summary, grpc_status};
use crate::http::fault::CutError;
use crate::http::guard::Refused;
use crate::http::head::{Refusal, Strictness, authority, check, set_authority, set_path};
use crate::http::mark::{mark_request, mark_response};
use crate::http::patience::Patience;
use crate::http::serve::{self, Handle};
use crate::http::tunnel::switch;
use crate::http::upload::Upload;
use crate::http::version::HttpVersion;
use crate::io::Io;
use crate::local::Local;
use crate::recording::{Recording, finish_own, refuse};
use crate::resolve::{Direct, Found, Way, resolve};
use crate::telemetry::{AccessEntry, PeerRef, Reporter, Scope, ScopeRef, Security};

/// The longest time that a request's body may stand still before it is answered (hardening A15).
const IDLE_BODY: Duration = Duration::from_secs(300);
/// Applications normalise no more than RFC 3986 says; the server's sidecar knows the policies.
const STRICTNESS: Strictness = Strictness {
    paths: PathRules { mode: PathNormalization::Base, refuse_encoded_slash: false },
    hosts: false,
};
/// The own application may know why.
const TRUSTED: bool = true;

/// Serves a connection of the own application until it ends.
///
/// # Errors
/// Those of the connection.
pub async fn serve(local: &Rc<Local>, io: Io, version: HttpVersion, from: Outgoing) -> hyper::Result<()> {
    let connection = OutboundHttp { local: Rc::clone(local), version, from, found: RefCell::new(None) };
    serve::serve(io, version, Rc::new(connection), &local.drain).await
}

/// One connection of the own application.
struct OutboundHttp {
    local: Rc<Local>,
    version: HttpVersion,
    from: Outgoing,
    /// What the last request meant.
    found: RefCell<Option<Rc<Found>>>,
}

type Answer = Result<Response<Body>, Refusal>;

/// A request under way.
struct Call {
    snapshot: Arc<Snapshot>,
    recording: Option<Recording>,
    hop: Hop,
    upgrade: Option<OnUpgrade>,
}

impl Handle for OutboundHttp {
    async fn handle(self: Rc<Self>, request: Request<Incoming>) -> Result<Response<Body>, CutError> {
        let (parts, body) = request.into_parts();
        let mut recording = Recording::begin(&self.local, &parts);
        recording.note_ends(&self.from.downstream);
        let mut call = Call::new(self.local.mesh.snapshot(), recording);
        let answered = self.answer(&mut call, parts, body).await;
        Ok(answered.unwrap_or_else(|refusal| refuse(call.recording.take(), refusal, TRUSTED)))
    }

    fn refuse(&self, refused: Refused) -> Response<Body> {
        refuse(Some(Recording::of_refused(&self.local)), Refusal::of_guard(refused), TRUSTED)
    }

    fn panicked(&self) -> Response<Body> {
        self.local.telemetry.shared().metrics.panics.inc();
        refuse(Some(Recording::of_refused(&self.local)), Reason::Internal.into(), TRUSTED)
    }
}

impl OutboundHttp {
    async fn answer(&self, call: &mut Call, mut parts: Parts, body: Incoming) -> Answer {
        call.upgrade = parts.extensions.remove();
        call.hop = check(&mut parts, STRICTNESS, |_| false)?;
        strip_asserted(&mut parts.headers);
        let found = self.find(call, authority(&parts.uri, &parts.headers)).await?;
        mark_request(&mut parts.headers, || self.local.random());
        let port = match &found.way {
            Way::Service { port, .. } => port,
            Way::Address(direct) => return self.forward_to(call, &found, direct, parts, body).await,
        };
        let matched = route::find(&port.rules, &view(&parts)).ok_or(Refusal::from(Reason::NoRoute))?;
        match &matched.rule.rule.action {
            HttpAction::Redirect(redirect) => Ok(self.redirect(call, &found, redirect, &matched, &parts)),
            HttpAction::Respond(direct) => Ok(self.respond(call, &found, direct, &matched)),
            HttpAction::Forward(_) => self.forward(call, &found, port.protocol, &matched, parts, body).await,
        }
    }

    /// What the request means: as the last one did, or looked up.
    async fn find(&self, call: &mut Call, host: &str) -> Result<Rc<Found>, Refusal> {
        let known = self.found.borrow().clone();
        if let Some(found) = known.filter(|found| found.holds(&self.local.mesh, &call.snapshot, host)) {
            return Ok(found);
        }
        let (mesh, dialled) = (&self.local.mesh, self.from.downstream.destination);
        let found = resolve(mesh, &call.snapshot, &self.from.address, dialled, host).await?;
        call.snapshot = mesh.snapshot();
        let found = Rc::new(found);
        *self.found.borrow_mut() = Some(Rc::clone(&found));
        Ok(found)
    }

    async fn forward(
        &self,
        call: &mut Call,
        found: &Found,
        protocol: Protocol,
        matched: &Matched<'_>,
        mut parts: Parts,
        body: Incoming,
    ) -> Answer {
        let target = matched.rule.pick(self.local.random()).ok_or(Refusal::from(Reason::NoRoute))?;
        let cluster = target.cluster.ok_or(Refusal::from(Reason::NoCluster))?;
        call.note(|entry| {
            entry.route_name = Arc::clone(&matched.rule.rule.source.name);
            entry.upstream_cluster = cluster.cluster.name.to_string();
        });
        rewrite(&mut parts, matched, &target).ok_or(Refusal::from(Reason::BadPath))?;
        let plan = Plan {
            cluster,
            endpoint: self.pod_of(cluster),
            original: Some(self.from.downstream.destination),
            protocol,
            client: self.version,
            hop: &call.hop,
            retries: &target.forward.retries,
            deadline: call.deadline(target.forward.timeout, &parts),
        };
        let upload = call.upload(body, &plan);
        let answered = attempts::attempt(&self.local, &plan, parts, &upload).await;
        let deadline = plan.deadline;
        let mut response = self.pass_on(call, found, answered, upload, deadline)?;
        let headers = response.headers_mut();
        route::headers::apply_to_response(headers, matched.rule, Some(target.destination));
        Ok(response)
    }

    /// To an address that no route speaks of.
    async fn forward_to(
        &self,
        call: &mut Call,
        found: &Found,
        direct: &Direct,
        parts: Parts,
        body: Incoming,
    ) -> Answer {
        let plan = Plan {
            cluster: &direct.cluster,
            endpoint: Some(&direct.endpoint),
            original: Some(self.from.downstream.destination),
            protocol: direct.protocol,
            client: self.version,
            hop: &call.hop,
            retries: &direct.retries,
            deadline: call.deadline(None, &parts),
        };
        let upload = call.upload(body, &plan);
        let answered = attempts::attempt(&self.local, &plan, parts, &upload).await;
        let deadline = plan.deadline;
        self.pass_on(call, found, answered, upload, deadline)
    }

    /// The pod that the client addressed, where the service it named has it: headless services are not balanced.
    fn pod_of<'c>(&self, cluster: &'c ClusterState) -> Option<&'c Arc<EndpointState>> {
        let Meaning::Workload(_) = &self.from.address.meaning else { return None };
        let dialled = self.from.downstream.destination;
        cluster.endpoints.iter().find(|endpoint| endpoint.address == dialled)
    }

    /// What the upstream answered, or what is to be said in its place.
    fn pass_on(
        &self,
        call: &mut Call,
        found: &Found,
        answered: Result<Answered, Unanswered>,
        upload: Upload,
        deadline: Option<Instant>,
    ) -> Answer {
        let endpoint = match &answered {
            Ok(answered) => Some(&answered.exchange.endpoint),
            Err(unanswered) => unanswered.endpoint.as_ref(),
        };
        call.between(self.scope(call, found, endpoint.map(|endpoint| &**endpoint)));
        call.note(|entry| entry.upstream_host = endpoint.map(|endpoint| endpoint.address));
        let Answered { response, exchange } = answered.map_err(|unanswered| unanswered.reason)?;
        upload.answered();
        let (mut head, body) = response.into_parts();
        let hop = strip_hop_by_hop(&mut head.headers, head.version, |_| false);
        let hop = hop.map_err(|_| Refusal::from(Reason::UpstreamFraming))?;
        if !exchange.lease.to().is_mutual() {
            strip_own(&mut head.headers);
        }
        let switched = head.status == StatusCode::SWITCHING_PROTOCOLS;
        let client = call.upgrade.take().filter(|_| switched);
        if switched && client.is_none() {
            return Err(Reason::UpstreamFraming.into());
        }
        let Some(mut recording) = call.recording.take() else { return Err(Reason::Internal.into()) };
        let service_time = recording.started().elapsed();
        mark_response(&mut head.headers, service_time);
        recording.note(|entry| entry.upstream_service_time = Some(service_time));
        recording.answered(head.status, grpc_status(&head.headers));
        let ending = Ending { local: Rc::clone(&self.local), recording, exchange, upload };
        if let Some(client) = client {
            return Ok(switch(head, hop, client, Box::new(ending)));
        }
        let body = Body::stream(body, Patience::new(None, deadline));
        Ok(Response::from_parts(head, body.told(Box::new(ending))))
    }

    fn redirect(
        &self,
        call: &mut Call,
        found: &Found,
        redirect: &Redirect,
        matched: &Matched<'_>,
        parts: &Parts,
    ) -> Response<Body> {
        let location = route::redirect::redirect_location(redirect, matched, &view(parts));
        let mut response = Response::new(Body::empty());
        *response.status_mut() = redirect.status;
        if let Ok(location) = HeaderValue::try_from(location) {
            response.headers_mut().insert(LOCATION, location);
        }
        self.own(call, found, matched, response, Reason::Redirect)
    }

    fn respond(
        &self,
        call: &mut Call,
        found: &Found,
        direct: &DirectResponse,
        matched: &Matched<'_>,
    ) -> Response<Body> {
        let mut response = Response::new(Body::full(direct.body.clone()));
        *response.status_mut() = direct.status;
        self.own(call, found, matched, response, Reason::DirectResponse)
    }

    /// A response that a route makes.
    fn own(
        &self,
        call: &mut Call,
        found: &Found,
        matched: &Matched<'_>,
        mut response: Response<Body>,
        reason: Reason,
    ) -> Response<Body> {
        route::headers::apply_to_response(response.headers_mut(), matched.rule, None);
        response.headers_mut().insert(REASON, HeaderValue::from_static(reason.name()));
        call.between(self.scope(call, found, None));
        finish_own(call.recording.take(), response, reason)
    }

    /// Between whom the request is.
    fn scope(&self, call: &Call, found: &Found, endpoint: Option<&EndpointState>) -> Rc<Scope> {
        let workload = call.snapshot.workload();
        let mutual = endpoint.is_some_and(|e| matches!(e.transport, Ok(Transport::Mutual(_))));
        let principal = workload.filter(|_| mutual).map(|workload| &workload.identity);
        let source = workload.map_or(&self.local.unknown, |workload| &workload.metadata);
        let destination = endpoint.map_or(&self.local.unknown, |endpoint| &endpoint.metadata);
        let server = endpoint.filter(|_| mutual).and_then(|endpoint| endpoint.identity.as_ref());
        self.local.telemetry.scope(ScopeRef {
            reporter: Reporter::Source,
            security: Security::Unknown,
            source: PeerRef { metadata: source, principal },
            destination: PeerRef { metadata: destination, principal: server },
            service: &found.labels,
        })
    }
}

impl Call {
    fn new(snapshot: Arc<Snapshot>, recording: Recording) -> Self {
        Self { snapshot, recording: Some(recording), hop: Hop::default(), upgrade: None }
    }

    fn between(&mut self, scope: Rc<Scope>) {
        if let Some(recording) = &mut self.recording {
            recording.between(scope);
        }
    }

    fn note(&mut self, note: impl FnOnce(&mut AccessEntry)) {
        if let Some(recording) = &mut self.recording {
            recording.note(note);
        }
    }

    fn is_grpc(&self) -> bool {
        self.recording.as_ref().is_some_and(Recording::is_grpc)
    }

    /// When the request's time is up: the route's timeout, or what a gRPC client allows, the earlier.
    fn deadline(&self, route: Option<Duration>, parts: &Parts) -> Option<Instant> {
        let client = self.is_grpc().then(|| grpc::timeout(&parts.headers)).flatten();
        let time = route.into_iter().chain(client).min()?;
        Some(self.recording.as_ref().map_or_else(Instant::now, Recording::started) + time)
    }

    fn upload(&self, body: Incoming, plan: &Plan<'_>) -> Upload {
        let idle = (!self.is_grpc()).then_some(IDLE_BODY);
        Upload::new(body, Patience::new(idle, plan.deadline), may_retry(plan.retries))
    }
}

/// A request as routes see it.
fn view(parts: &Parts) -> RequestView<'_> {
    RequestView {
        method: &parts.method,
        path: parts.uri.path(),
        query: parts.uri.query(),
        authority: authority(&parts.uri, &parts.headers),
        scheme: "http",
        headers: &parts.headers,
    }
}

/// What the route makes of the head.
fn rewrite(parts: &mut Parts, matched: &Matched<'_>, target: &Target<'_>) -> Option<()> {
    if let Some(rewrite) = &target.forward.rewrite.path {
        let new = route::rewrite::rewrite_path(rewrite, matched.by, parts.uri.path()).into_owned();
        set_path(parts, &new)?;
    }
    if let Some(authority) = route::headers::new_authority(matched.rule, target) {
        set_authority(parts, authority);
    }
    route::headers::apply_to_request(&mut parts.headers, matched.rule, Some(target.destination));
    Some(())
}

/// What waits for the end of a response.
struct Ending {
    local: Rc<Local>,
    recording: Recording,
    exchange: Exchange,
    upload: Upload,
}

impl Finish for Ending {
    fn finish(self: Box<Self>, summary: Summary) {
        let Self { local, mut recording, exchange, upload } = *self;
        let outcome = match summary.end {
            End::Upstream => Some(Outcome::Reset),
            _ => summary.grpc_status.map(Outcome::Grpc),
        };
        if let Some(outcome) = outcome {
            let now = local.nanos(Instant::now());
            outlier::record(&exchange.cluster, &exchange.endpoint, outcome, now);
        }
        match summary.end {
            End::Complete => exchange.lease.give_back(),
            End::Upstream => recording.because(Reason::UpstreamReset),
            End::Time => recording.because(Reason::Timeout),
            End::Client => {}
        }
        recording.finish(upload.received(), summary.bytes, summary.grpc_status);
    }
}
