//! Requests for the own application, from their head to the end of their response.
//!
//! ```text
//! check -> strip what no peer may assert -> authorize -> application -> pass on -> record
//! ```

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use http::{HeaderName, HeaderValue, Request, Response};
use weft_core::authz::{self, Decision, HttpFacts, NormalAuthority, RequestFacts};
use weft_core::http::headers::{strip_asserted, strip_lookalikes};
use weft_core::model::metadata::WorkloadMetadata;
use weft_core::model::protocol::Protocol;
use weft_core::model::route::is_idempotent;
use weft_core::reason::Reason;
use weft_core::upstream::EndpointState;

use crate::call::{Answer, Call};
use crate::downstream::Incoming;
use crate::flow::Flow;
use crate::http::body::{Body, Finish, Summary};
use crate::http::fault::{Cut, HttpError};
use crate::http::guard::Refused;
use crate::http::head::{Refusal, address_to, authority, check, give};
use crate::http::incoming::Incoming as Received;
use crate::http::mark::mark_request;
use crate::http::serve::{self, Handle};
use crate::http::upload::Upload;
use crate::http::version::HttpVersion;
use crate::inbound_peer::{client_cert, client_metadata};
use crate::inbound_rules::Rules;
use crate::io::Io;
use crate::local::Local;
use crate::pool::{ConnectFault, Destination, Lease, PoolFault, SendFault};
use crate::recording::{Recording, refuse};
use crate::telemetry::{PeerRef, Reporter, Scope, ScopeRef, Security};

/// Who the peer is, for the application.
const CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");
/// How long the first request of a connection waits for the controller to say who the peer is.
const WHO: Duration = Duration::from_millis(50);
/// How often a request is sent to an application that closes idle connections, all in all.
const TRIES: u32 = 3;

/// Serves a connection from outside until it ends.
///
/// # Errors
/// Those of the connection.
pub async fn serve(
    local: &Rc<Local>,
    mut io: Io,
    version: HttpVersion,
    from: Incoming,
) -> Result<(), HttpError> {
    let connection = InboundHttp {
        flow: (version == HttpVersion::Http1).then(|| io.keep_pace()),
        certificate: client_cert(local, &io, &from),
        client: client_metadata(local, from.downstream.client, WHO).await,
        application: EndpointState::of_address(from.application),
        rules: RefCell::new(None),
        local: Rc::clone(local),
        version,
        from,
    };
    serve::serve(io, version, Rc::new(connection), &local.word()).await
}

/// One connection from outside.
struct InboundHttp {
    local: Rc<Local>,
    version: HttpVersion,
    /// Of HTTP/1, which brings one request at a time.
    flow: Option<Flow>,
    from: Incoming,
    /// What the application is told of the peer's certificate.
    certificate: Option<HeaderValue>,
    /// The peer, for metrics.
    client: Arc<WorkloadMetadata>,
    application: Arc<EndpointState>,
    /// What the workload's configuration says of requests; made anew with each configuration.
    rules: RefCell<Option<Rc<Rules>>>,
}

impl Handle for InboundHttp {
    async fn handle(self: Rc<Self>, request: Request<Received>) -> Result<Response<Body>, Cut> {
        let (mut parts, body) = request.into_parts();
        let mut call = Call::begin(&self.local, Reporter::Destination, &self.from.downstream, &mut parts);
        match self.answer(&mut call, &mut parts, body).await {
            Ok(response) => Ok(response),
            Err(refusal) if refusal.reason == Reason::NotSent && self.version == HttpVersion::Http2 => {
                call.record(|recording| recording.because(Reason::NotSent));
                Err(Cut::Refused)
            }
            Err(refusal) => Ok(call.refuse(refusal, self.is_mutual())),
        }
    }

    fn refuse(&self, refused: Refused) -> Response<Body> {
        refuse(Some(Recording::of_refused(&self.local)), refused.into(), self.is_mutual())
    }

    fn panicked(&self) -> Response<Body> {
        self.local.telemetry.shared().metrics.panics.inc();
        refuse(Some(Recording::of_refused(&self.local)), Reason::Internal.into(), self.is_mutual())
    }

    fn date(&self) -> HeaderValue {
        self.local.date()
    }
}

impl InboundHttp {
    async fn answer(&self, call: &mut Call, parts: &mut Parts, body: Received) -> Answer {
        let rules = self.rules(call)?;
        call.between(self.scope(&rules));
        call.enter()?;
        call.hop = check(parts, rules.strictness, |name| rules.headers.contains(name))?;
        strip_asserted(&mut parts.headers);
        strip_lookalikes(&mut parts.headers, &rules.headers);
        self.trace(call, &rules, parts);
        self.authorize(call, &rules, parts)?;
        self.tell_of_peer(call, parts);
        let upload = call.upload(parts, body, None, true);
        let sent = self.to_application(call, &rules, parts, &upload).await;
        call.note(|entry| entry.upstream_host = Some(self.application.address));
        let (response, lease) = sent?;
        upload.answered();
        call.pass_on(response, false, None, |recording| Box::new(Ending { recording, lease, upload }))
    }

    fn is_mutual(&self) -> bool {
        self.from.downstream.peer.is_some()
    }

    /// Begins its span, where it is traced.
    fn trace(&self, call: &mut Call, rules: &Rules, parts: &mut Parts) {
        call.trace(&self.local, Reporter::Destination, parts);
        let from = &self.from.downstream;
        call.span(|span| {
            span.addressed_to(&rules.labels.host);
            span.received_from(parts, from.client, &self.client, from.peer.as_ref());
        });
    }

    /// What holds for this request: nothing is let in before the workload is known.
    fn rules(&self, call: &Call) -> Result<Rc<Rules>, Refusal> {
        let known = self.rules.borrow().clone();
        if let Some(rules) = known.filter(|rules| rules.generation == call.snapshot.generation()) {
            return Ok(rules);
        }
        let port = self.from.downstream.destination.port();
        let rules = Rules::of(&call.snapshot, port).ok_or(Refusal::from(Reason::ConfigUnavailable))?;
        let rules = Rc::new(rules);
        *self.rules.borrow_mut() = Some(Rc::clone(&rules));
        Ok(rules)
    }

    fn authorize(&self, call: &mut Call, rules: &Rules, parts: &Parts) -> Result<(), Refusal> {
        let policies = &rules.workload.inbound.policies;
        if policies.is_empty() {
            return Ok(());
        }
        let from = &self.from.downstream;
        let facts = RequestFacts {
            peer: from.peer.as_ref(),
            source_ip: from.client.ip(),
            remote_ip: from.client.ip(),
            destination_ip: from.destination.ip(),
            destination_port: from.destination.port(),
            sni: from.sni.as_deref(),
            http: Some(HttpFacts {
                method: &parts.method,
                path: parts.uri.path(),
                authority: NormalAuthority::of(authority(&parts.uri, &parts.headers)),
                headers: &parts.headers,
            }),
        };
        let verdict = authz::authorize(policies, &facts);
        if let Some(dry_run) = &verdict.dry_run {
            self.local.telemetry.dry_run(dry_run);
        }
        match verdict.decision {
            Decision::Allow { .. } => Ok(()),
            Decision::Deny { reason, by } => {
                call.record(|recording| recording.denied_by(by.policy));
                Err(reason.into())
            }
        }
    }

    fn tell_of_peer(&self, call: &mut Call, parts: &mut Parts) {
        mark_request(&mut parts.headers, || self.local.random(), |id| call.note(|entry| entry.put_id(id)));
        if let Some(certificate) = &self.certificate {
            parts.headers.insert(CLIENT_CERT, certificate.clone());
        }
    }

    /// Sends the request to the application. Again only where the application closed an idle connection as the
    /// request was to go out on it.
    async fn to_application(
        &self,
        call: &Call,
        rules: &Rules,
        head: &mut Parts,
        upload: &Upload,
    ) -> Result<(Response<Received>, Lease), Refusal> {
        let version = match rules.protocol {
            Protocol::Http2 | Protocol::Grpc => HttpVersion::Http2,
            _ => self.version,
        };
        let to = Destination {
            cluster: Arc::clone(call.snapshot.passthrough()),
            endpoint: Arc::clone(&self.application),
            version,
        };
        address_to(head, version, &call.hop);
        let mut tries = 0;
        loop {
            let mut lease = self.local.pool.acquire(&to).await.map_err(|fault| self.unreachable(&fault))?;
            tries += 1;
            let again = tries < TRIES && upload.can_repeat();
            let request = Request::from_parts(give(head, again), upload.body());
            let fault = match lease.send(request, self.flow.as_ref()).await {
                Ok(response) => return Ok((response, lease)),
                Err(fault) => fault,
            };
            let raced = match fault {
                // Nothing of it reached the application's code: RFC 9113, 8.7.
                SendFault::Unsent | SendFault::Refused => true,
                SendFault::Reset => lease.is_used() && is_idempotent(&head.method),
                _ => false,
            };
            if !(again && raced && upload.can_repeat()) {
                return Err(of_send(&fault, upload));
            }
        }
    }

    /// The application takes no connection: a pod that is ending says so, and its clients go elsewhere.
    fn unreachable(&self, fault: &PoolFault) -> Refusal {
        let ending = self.local.drain.is_draining();
        match fault {
            PoolFault::Connect(ConnectFault::Refused) if ending => Reason::NotSent.into(),
            PoolFault::Connect(_) => Reason::ApplicationUnreachable.into(),
            PoolFault::Overflow => Reason::Overflow.into(),
        }
    }

    fn scope(&self, rules: &Rules) -> Rc<Scope> {
        let peer = self.from.downstream.peer.as_ref();
        let own = peer.map(|_| &rules.workload.identity);
        self.local.telemetry.scope(ScopeRef {
            reporter: Reporter::Destination,
            security: if peer.is_some() { Security::MutualTls } else { Security::None },
            source: PeerRef { metadata: &self.client, principal: peer },
            destination: PeerRef { metadata: &rules.workload.metadata, principal: own },
            service: &rules.labels,
        })
    }
}

fn of_send(fault: &SendFault, upload: &Upload) -> Refusal {
    if let Some(reason) = upload.failed() {
        return reason.into();
    }
    match fault {
        SendFault::Framing(_) => Reason::UpstreamFraming.into(),
        _ => Reason::UpstreamReset.into(),
    }
}

/// What waits for the end of a response.
struct Ending {
    recording: Recording,
    lease: Lease,
    upload: Upload,
}

impl Finish for Ending {
    fn finish(self: Box<Self>, summary: Summary) {
        let Self { recording, lease, upload } = *self;
        recording.ended(lease, &upload, summary);
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
        let bytes = size(<InboundHttp as Handle>::handle);
        assert!(bytes <= 2048, "{bytes} bytes");
    }
}
