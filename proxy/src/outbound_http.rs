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
use http::{HeaderMap, Request, Response};
use tokio::time::Instant;
use weft_core::http::grpc;
use weft_core::http::headers::strip_asserted;
use weft_core::model::address::Meaning;
use weft_core::model::extras::Fault;
use weft_core::model::protocol::Protocol;
use weft_core::model::route::{DirectResponse, HttpAction, Redirect};
use weft_core::outlier::{self, Outcome};
use weft_core::reason::Reason;
use weft_core::retry::may_retry;
use weft_core::route::cors::{self, CrossOrigin};
use weft_core::route::{self, Matched, RequestView};
use weft_core::transport::Transport;
use weft_core::upstream::{ClusterState, EndpointState};

use crate::attempts::{self, Answered, Exchange, Plan, Unanswered};
use crate::call::{Answer, Call};
use crate::downstream::Outgoing;
use crate::flow::Flow;
use crate::http::answer::REASON;
use crate::http::body::{Body, End, Finish, Summary};
use crate::http::fault::{Cut, HttpError};
use crate::http::guard::Refused;
use crate::http::head::{Refusal, authority, check};
use crate::http::incoming::Incoming;
use crate::http::mark::mark_request;
use crate::http::serve::{self, Handle};
use crate::http::upload::Upload;
use crate::http::version::HttpVersion;
use crate::injection::inject;
use crate::io::Io;
use crate::local::Local;
use crate::recording::{Recording, refuse};
use crate::resolve::{Direct, Found, Way, resolve};
use crate::telemetry::{PeerRef, Reporter, Scope, ScopeRef, Security};

/// The own application may know why.
const TRUSTED: bool = true;

/// Serves a connection of the own application until it ends.
///
/// # Errors
/// Those of the connection.
pub async fn serve(
    local: &Rc<Local>,
    mut io: Io,
    version: HttpVersion,
    from: Outgoing,
) -> Result<(), HttpError> {
    let flow = (version == HttpVersion::Http1).then(|| io.keep_pace());
    let connection = OutboundHttp { local: Rc::clone(local), version, flow, from, found: RefCell::new(None) };
    serve::serve(io, version, Rc::new(connection), &local.word()).await
}

/// One connection of the own application.
struct OutboundHttp {
    local: Rc<Local>,
    version: HttpVersion,
    /// Of HTTP/1, which brings one request at a time.
    flow: Option<Flow>,
    from: Outgoing,
    /// What the last request meant.
    found: RefCell<Option<Rc<Found>>>,
}

impl Handle for OutboundHttp {
    async fn handle(self: Rc<Self>, request: Request<Incoming>) -> Result<Response<Body>, Cut> {
        let (mut parts, body) = request.into_parts();
        let mut call = Call::begin(&self.local, Reporter::Source, &self.from.downstream, &mut parts);
        match self.answer(&mut call, &mut parts, body).await {
            Ok(response) => Ok(response),
            Err(refusal) => Ok(call.refuse(refusal, TRUSTED)),
        }
    }

    fn refuse(&self, refused: Refused) -> Response<Body> {
        refuse(Some(Recording::of_refused(&self.local)), refused.into(), TRUSTED)
    }

    fn panicked(&self) -> Response<Body> {
        self.local.telemetry.shared().metrics.panics.inc();
        refuse(Some(Recording::of_refused(&self.local)), Reason::Internal.into(), TRUSTED)
    }

    fn date(&self) -> HeaderValue {
        self.local.date()
    }
}

impl OutboundHttp {
    async fn answer(&self, call: &mut Call, parts: &mut Parts, body: Incoming) -> Answer {
        call.enter()?;
        call.hop = check(
            parts,
            route::strictness(call.snapshot.workload().map(|workload| &workload.inbound)),
            |_| false,
        )?;
        strip_asserted(&mut parts.headers);
        mark_request(&mut parts.headers, || self.local.random(), |id| call.note(|entry| entry.put_id(id)));
        call.trace(&self.local, Reporter::Source, parts);
        let found = self.find(call, authority(&parts.uri, &parts.headers)).await?;
        call.span(|span| span.addressed_to(&found.labels.host));
        let port = match &found.way {
            Way::Service { port, .. } => port,
            Way::Address(direct) => {
                return Box::pin(self.forward_to(call, &found, direct, parts, body)).await;
            }
        };
        let matched =
            route::find(&port.rules, &RequestView::of(parts)).ok_or(Refusal::from(Reason::NoRoute))?;
        if matched.rule.rule.extras.is_some() {
            return Box::pin(self.after_extras(call, &found, port.protocol, matched, parts, body)).await;
        }
        if let Some(response) = self.at_once(call, &found, &matched, parts) {
            return Ok(response);
        }
        self.forward(call, &found, port.protocol, &matched, parts, body).await
    }

    /// The response of a rule that forwards nothing.
    fn at_once(
        &self,
        call: &mut Call,
        found: &Found,
        matched: &Matched<'_>,
        parts: &Parts,
    ) -> Option<Response<Body>> {
        match &matched.rule.rule.action {
            HttpAction::Redirect(redirect) => Some(self.redirect(call, found, redirect, matched, parts)),
            HttpAction::Respond(direct) => Some(self.respond(call, found, direct, matched)),
            HttpAction::Forward(_) => None,
        }
    }

    /// What a rule does that asks for more than its action: faults come first, then origins, as Envoy has its filters.
    /// Few rules do: whoever calls it boxes it.
    async fn after_extras(
        &self,
        call: &mut Call,
        found: &Found,
        protocol: Protocol,
        matched: Matched<'_>,
        parts: &mut Parts,
        body: Incoming,
    ) -> Answer {
        let extras = matched.rule.rule.extras.as_deref();
        if let Some(fault) = extras.and_then(|extras| extras.fault.as_ref())
            && let Some(response) = self.harm(call, found, fault, &matched).await
        {
            return Ok(response);
        }
        if let Some(response) = self.at_once(call, found, &matched, parts) {
            return Ok(response);
        }
        let policy = extras.and_then(|extras| extras.cors.as_ref());
        let origin = match policy.map(|policy| cors::decide(policy, &parts.method, &parts.headers)) {
            Some(CrossOrigin::Preflight(headers)) => {
                return Ok(self.preflight(call, found, headers, &matched));
            }
            Some(CrossOrigin::Allowed(origin)) => Some(origin),
            Some(CrossOrigin::Untold) | None => None,
        };
        let answer = self.forward(call, found, protocol, &matched, parts, body).await;
        let Some((policy, origin)) = policy.zip(origin) else { return answer };
        // A browser may read why the mesh refused, too.
        let mut response = answer.unwrap_or_else(|refusal| call.refuse(refusal, TRUSTED));
        cors::mark(policy, origin, response.headers_mut());
        Ok(response)
    }

    /// Holds a request up and answers it, as a fault says; `None`: it goes on.
    async fn harm(
        &self,
        call: &mut Call,
        found: &Found,
        fault: &Fault,
        matched: &Matched<'_>,
    ) -> Option<Response<Body>> {
        self.stays(call, found, matched);
        let response = inject(&self.local, call, fault).await?;
        call.span(|span| span.routed(&matched.rule.rule.source, None));
        Some(call.reply(response, Reason::FaultInjected))
    }

    /// Answers what a browser asks before its request.
    fn preflight(
        &self,
        call: &mut Call,
        found: &Found,
        headers: HeaderMap,
        matched: &Matched<'_>,
    ) -> Response<Body> {
        self.stays(call, found, matched);
        call.span(|span| span.routed(&matched.rule.rule.source, None));
        let mut response = Response::new(Body::empty());
        *response.headers_mut() = headers;
        response.headers_mut().insert(REASON, HeaderValue::from_static(Reason::Preflight.name()));
        call.reply(response, Reason::Preflight)
    }

    /// Notes the rule of a request that perhaps goes nowhere.
    fn stays(&self, call: &mut Call, found: &Found, matched: &Matched<'_>) {
        call.between(self.scope(call, found, None));
        call.note(|entry| entry.route_name = Arc::clone(&matched.rule.rule.source.name));
    }

    /// What the request means: as the last one did, or looked up.
    async fn find(&self, call: &mut Call, host: &str) -> Result<Rc<Found>, Refusal> {
        let known = self.found.borrow().clone();
        if let Some(found) = known.filter(|found| found.holds(&self.local.mesh, &call.snapshot, host)) {
            return Ok(found);
        }
        let mesh = &self.local.mesh;
        // Boxed, as everything that few requests come to: a request's own future stays small.
        let found = Box::pin(resolve(mesh, &call.snapshot, &self.from, host)).await?;
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
        parts: &mut Parts,
        body: Incoming,
    ) -> Answer {
        let target = matched.rule.pick(self.local.random()).ok_or(Refusal::from(Reason::NoRoute))?;
        call.span(|span| span.routed(&matched.rule.rule.source, Some(&target.destination.cluster)));
        let cluster = target.cluster.ok_or(Refusal::from(Reason::NoCluster))?;
        call.note(|entry| {
            entry.route_name = Arc::clone(&matched.rule.rule.source.name);
            entry.upstream_cluster = Some(Arc::clone(&cluster.cluster));
        });
        route::apply(parts, matched, &target).ok_or(Refusal::from(Reason::BadPath))?;
        let plan = Plan {
            cluster,
            endpoint: self.pod_of(cluster),
            original: Some(self.from.downstream.destination),
            protocol,
            client: self.version,
            flow: self.flow.as_ref(),
            hop: &call.hop,
            retries: &target.forward.retries,
            deadline: deadline(call, target.forward.timeout, parts),
            traced: call.is_traced(),
        };
        let upload = call.upload(parts, body, plan.deadline, may_retry(plan.retries));
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
        parts: &mut Parts,
        body: Incoming,
    ) -> Answer {
        let plan = Plan {
            cluster: &direct.cluster,
            endpoint: Some(&direct.endpoint),
            original: Some(self.from.downstream.destination),
            protocol: direct.protocol,
            client: self.version,
            flow: self.flow.as_ref(),
            hop: &call.hop,
            retries: &direct.retries,
            deadline: deadline(call, None, parts),
            traced: call.is_traced(),
        };
        let upload = call.upload(parts, body, plan.deadline, may_retry(plan.retries));
        let answered = attempts::attempt(&self.local, &plan, parts, &upload).await;
        let deadline = plan.deadline;
        self.pass_on(call, found, answered, upload, deadline)
    }

    /// The pod that the client addressed, where the service it named has it: headless services are not balanced.
    fn pod_of<'c>(&self, cluster: &'c ClusterState) -> Option<&'c Arc<EndpointState>> {
        let Meaning::Workload(_) = &self.from.address.meaning else { return None };
        cluster.endpoint_at(self.from.downstream.destination)
    }

    /// What the upstream answered, or what is to be said in its place.
    fn pass_on(
        &self,
        call: &mut Call,
        found: &Found,
        mut answered: Result<Answered, Unanswered>,
        upload: Upload,
        deadline: Option<Instant>,
    ) -> Answer {
        let (endpoint, told) = match &mut answered {
            Ok(answered) => (Some(&answered.exchange.endpoint), &mut answered.told),
            Err(unanswered) => (unanswered.endpoint.as_ref(), &mut unanswered.told),
        };
        call.span(|span| {
            endpoint.into_iter().for_each(|endpoint| span.sent_to(endpoint, told.tries));
            span.happened(std::mem::take(&mut told.story));
        });
        call.between(self.scope(call, found, endpoint.map(|endpoint| &**endpoint)));
        call.note(|entry| entry.upstream_host = endpoint.map(|endpoint| endpoint.address));
        let Answered { response, exchange, .. } = answered.map_err(|unanswered| unanswered.reason)?;
        upload.answered();
        let believed = exchange.lease.to().is_mutual();
        let local = Rc::clone(&self.local);
        call.pass_on(response, believed, deadline, |recording| {
            Box::new(Ending { local, recording, exchange, upload })
        })
    }

    fn redirect(
        &self,
        call: &mut Call,
        found: &Found,
        redirect: &Redirect,
        matched: &Matched<'_>,
        parts: &Parts,
    ) -> Response<Body> {
        let location = route::redirect::redirect_location(redirect, matched, &RequestView::of(parts));
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
        call.span(|span| span.routed(&matched.rule.rule.source, None));
        route::headers::apply_to_response(response.headers_mut(), matched.rule, None);
        response.headers_mut().insert(REASON, HeaderValue::from_static(reason.name()));
        call.between(self.scope(call, found, None));
        call.reply(response, reason)
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

/// When the request's time is up: the route's timeout, or what a gRPC client allows, the earlier. The route's time
/// begins when a fault lets the request go, the client's when it asked.
fn deadline(call: &Call, route: Option<Duration>, parts: &Parts) -> Option<Instant> {
    let client = call.is_grpc().then(|| grpc::timeout(&parts.headers)).flatten();
    let route = route.map(|time| Duration::from_millis(call.held_ms.into()) + time);
    let time = route.into_iter().chain(client).min()?;
    Some(call.started() + time)
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
            let ejected = outlier::record(&exchange.cluster, &exchange.endpoint, outcome, now);
            if ejected.is_some() {
                recording.span(|span| span.ejected(local.now(), exchange.endpoint.address));
            }
        }
        recording.ended(exchange.lease, &upload, summary);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size<A, B, F>(_: impl Fn(A, B) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_request_under_way_is_small() {
        let bytes = size(<OutboundHttp as Handle>::handle);
        assert!(bytes <= 3072, "{bytes} bytes");
    }
}
