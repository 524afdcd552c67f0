//! The tries of one request: pick an endpoint, get a connection, send, judge, feed back; again, where the route allows
//! it and nothing can happen twice.

use std::sync::Arc;

use http::request::Parts;
use http::{Request, Response};
use http_body::Body as _;
use smallvec::SmallVec;
use tokio::time::Instant;
use weft_core::admission::{RequestPermit, RetryPermit};
use weft_core::balance::{self, PickArgs};
use weft_core::http::headers::Hop;
use weft_core::model::protocol::Protocol;
use weft_core::model::route::RetryPolicy;
use weft_core::outlier::{self, Outcome};
use weft_core::reason::Reason;
use weft_core::retry::{self, Attempt, Limit, TryEnd, Verdict};
use weft_core::transport::Transport;
use weft_core::upstream::{ActiveRequest, ClusterState, EndpointId, EndpointState};

use crate::flow::Flow;
use crate::http::answer::REASON;
use crate::http::body::grpc_status;
use crate::http::head::{address_to, give};
use crate::http::incoming::Incoming;
use crate::http::mark::mark_try;
use crate::http::upload::Upload;
use crate::http::version::HttpVersion;
use crate::local::Local;
use crate::pool::{Destination, Lease, PoolFault, SendFault};
use crate::telemetry::Story;

/// What the tries of a request are to keep to.
pub struct Plan<'a> {
    /// The cluster that its route leads to.
    pub cluster: &'a Arc<ClusterState>,
    /// The only endpoint there is, where the client addressed a pod.
    pub endpoint: Option<&'a Arc<EndpointState>>,
    /// The address that the client dialled.
    pub original: Option<std::net::SocketAddr>,
    /// What the port carries.
    pub protocol: Protocol,
    /// The HTTP of the client's connection.
    pub client: HttpVersion,
    /// That connection, where it keeps pace with others.
    pub flow: Option<&'a Flow>,
    /// What the client's hop-by-hop fields said.
    pub hop: &'a Hop,
    /// `retries`.
    pub retries: &'a RetryPolicy,
    /// When the request's time is up.
    pub deadline: Option<Instant>,
    /// Whether what happens is to be told.
    pub traced: bool,
}

/// A request that was answered by an upstream.
pub struct Answered {
    /// The head of the response.
    pub response: Response<Incoming>,
    /// What stays in use until the response has ended.
    pub exchange: Exchange,
    /// How it came to be answered.
    pub told: Told,
}

/// What a request has in use until its response has ended.
pub struct Exchange {
    /// The connection.
    pub lease: Lease,
    /// The cluster.
    pub cluster: Arc<ClusterState>,
    /// The endpoint.
    pub endpoint: Arc<EndpointState>,
    _active: ActiveRequest,
    _admitted: RequestPermit,
    _retry: Option<RetryPermit>,
}

/// A request that no upstream answered.
#[derive(Debug)]
pub struct Unanswered {
    /// How it came to that.
    pub told: Told,
    /// Why.
    pub reason: Reason,
    /// The last endpoint that was tried.
    pub endpoint: Option<Arc<EndpointState>>,
}

/// What happened to a request on its way.
#[derive(Debug, Default)]
pub struct Told {
    /// How often it was tried.
    pub tries: u32,
    /// What is worth telling of it.
    pub story: Story,
}

/// One try that failed.
struct Failed {
    end: TryEnd,
    reason: Reason,
    outcome: Option<Outcome>,
}

/// Tries until a response is there that is to be passed on, or no other try may be made.
///
/// # Errors
/// [`Unanswered`]: why, in the words of the last try.
pub async fn attempt(
    local: &Local,
    plan: &Plan<'_>,
    head: &mut Parts,
    upload: &Upload,
) -> Result<Answered, Unanswered> {
    let cluster = &plan.cluster.cluster;
    let admitted = plan.cluster.admission.request(cluster).ok_or(Unanswered::of(Reason::Overflow))?;
    let mut tries = Tries {
        plan,
        head,
        given: false,
        count: 0,
        tried: SmallVec::new(),
        retry: None,
        story: Story::new(plan.traced),
    };
    loop {
        let Some(endpoint) = tries.pick(local) else {
            return Err(Unanswered { told: tries.told(), ..Unanswered::of(Reason::NoHealthyUpstream) });
        };
        let active = endpoint.begin();
        let end = tries.once(local, &endpoint, upload).await;
        let again = tries.judge(local, &endpoint, &end, upload);
        match (end, again) {
            (end, Some(pause)) => {
                drop(active);
                give_up(end);
                tries.pause(pause).await;
            }
            (Ok((response, lease)), None) => {
                let cluster = Arc::clone(plan.cluster);
                let retry = tries.retry.take();
                let exchange = Exchange {
                    lease,
                    cluster,
                    endpoint,
                    _active: active,
                    _admitted: admitted,
                    _retry: retry,
                };
                return Ok(Answered { response, exchange, told: tries.told() });
            }
            (Err(failed), None) => {
                return Err(Unanswered {
                    reason: failed.reason,
                    endpoint: Some(endpoint),
                    told: tries.told(),
                });
            }
        }
    }
}

/// A response that is not passed on: its connection serves on where nothing of it is outstanding.
fn give_up(end: Tried) {
    if let Ok((response, lease)) = end
        && response.body().is_end_stream()
    {
        lease.give_back();
    }
}

/// The tries so far.
struct Tries<'a> {
    plan: &'a Plan<'a>,
    head: &'a mut Parts,
    /// The head has gone with the last try: there can be no other.
    given: bool,
    count: u32,
    tried: SmallVec<[EndpointId; 2]>,
    retry: Option<RetryPermit>,
    story: Story,
}

type Tried = Result<(Response<Incoming>, Lease), Failed>;

impl Tries<'_> {
    fn pick(&mut self, local: &Local) -> Option<Arc<EndpointState>> {
        let picked = match self.plan.endpoint {
            Some(endpoint) => Some(Arc::clone(endpoint)),
            None => {
                let tried: &[_] = if self.plan.retries.ignore_previous_hosts { &self.tried } else { &[] };
                let (now, random) = (local.nanos(Instant::now()), local.random());
                let args = PickArgs { now, random, tried, original: self.plan.original };
                balance::pick(self.plan.cluster, &args)
            }
        };
        self.tried.extend(picked.as_ref().map(|endpoint| endpoint.id));
        self.count += 1;
        picked
    }

    /// One try, within its time.
    async fn once(&mut self, local: &Local, endpoint: &Arc<EndpointState>, upload: &Upload) -> Tried {
        let own = self.plan.retries.per_try_timeout.map(|time| (Instant::now() + time, Limit::Try));
        let whole = self.plan.deadline.map(|at| (at, Limit::Request));
        let Some((at, limit)) = own.into_iter().chain(whole).min_by_key(|(at, _)| *at) else {
            return self.send(local, endpoint, upload).await;
        };
        match Box::pin(tokio::time::timeout_at(at, self.send(local, endpoint, upload))).await {
            Ok(tried) => tried,
            Err(_) => Err(Failed::of_time(limit)),
        }
    }

    async fn send(&mut self, local: &Local, endpoint: &Arc<EndpointState>, upload: &Upload) -> Tried {
        let version = self.plan.version(endpoint);
        let (cluster, endpoint) = (Arc::clone(self.plan.cluster), Arc::clone(endpoint));
        let to = Destination { cluster, endpoint, version };
        let mut lease = local.pool.acquire(&to).await.map_err(Failed::of_pool)?;
        let mut head = self.head_for_try(upload);
        address_to(&mut head, version, self.plan.hop);
        mark_try(&mut head.headers, self.count);
        match lease.send(Request::from_parts(head, upload.body()), self.plan.flow).await {
            Ok(response) => Ok((response, lease)),
            Err(fault) => {
                let failed = Failed::of_send(fault);
                // The client's own fault: neither another try nor the endpoint's record.
                Err(match upload.failed() {
                    Some(reason) => Failed { end: TryEnd::Overflow, reason, outcome: None },
                    None => failed,
                })
            }
        }
    }

    /// The head for this try; kept for another only where there may be one.
    fn head_for_try(&mut self, upload: &Upload) -> Parts {
        let more = self.count <= self.plan.retries.attempts;
        let again = more && retry::may_retry(self.plan.retries) && upload.can_repeat();
        self.given = !again;
        give(self.head, again)
    }

    /// Feeds the end of a try back, and decides whether there is another, after a pause.
    fn judge(
        &mut self,
        local: &Local,
        endpoint: &EndpointState,
        end: &Tried,
        upload: &Upload,
    ) -> Option<std::time::Duration> {
        let tried = end;
        let (end, outcome) = match end {
            Ok((response, lease)) => of_response(response, lease),
            Err(failed) => (failed.end, failed.outcome),
        };
        if outcome == Some(Outcome::Timeout)
            && let Err(failed) = tried
        {
            self.story.timeout(local.now(), endpoint.address, failed.reason.name());
        }
        if let Some(outcome) = outcome {
            let ejected = outlier::record(self.plan.cluster, endpoint, outcome, local.nanos(Instant::now()));
            if let Some(event) = ejected {
                tracing::info!(address = %endpoint.address, ?event, "endpoint set aside");
                self.story.ejection(local.now(), endpoint.address);
            }
        }
        if self.given {
            return None;
        }
        let can_resend = upload.can_repeat();
        let endpoints = self.plan.endpoint.map_or(self.plan.cluster.endpoints.len(), |_| 1);
        let attempt = Attempt { method: &self.head.method, tries: self.count, endpoints, can_resend };
        let Verdict::Retry(cost) = retry::decide(self.plan.retries, &attempt, end) else { return None };
        self.retry = None;
        self.retry = Some(self.plan.cluster.admission.retry(&self.plan.cluster.cluster, cost)?);
        let pause = retry::backoff(self.plan.retries.backoff, self.count, local.random());
        let due = Instant::now() + pause;
        let again = self.plan.deadline.is_none_or(|deadline| due < deadline).then_some(pause);
        if again.is_some() && self.story.is_wanted() {
            self.story.retry(local.now(), self.count + 1, endpoint.address, because(tried));
        }
        again
    }

    fn told(&mut self) -> Told {
        Told { tries: self.count, story: std::mem::take(&mut self.story) }
    }

    async fn pause(&self, pause: std::time::Duration) {
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
    }
}

impl Plan<'_> {
    /// The HTTP to speak to an endpoint: what the port declares, else the client's own, unless the policy asks for
    /// HTTP/2 between sidecars. An upgrade needs HTTP/1.
    fn version(&self, endpoint: &EndpointState) -> HttpVersion {
        let mutual = matches!(endpoint.transport, Ok(Transport::Mutual(_)));
        let raised =
            self.cluster.cluster.connections.upgrade_to_http2 && mutual && self.hop.upgrade.is_none();
        match self.protocol {
            Protocol::Http2 | Protocol::Grpc => HttpVersion::Http2,
            _ if raised => HttpVersion::Http2,
            _ => self.client,
        }
    }
}

/// Why a try is followed by another: a status, or a reason.
fn because(tried: &Tried) -> String {
    match tried {
        Ok((response, _)) => response.status().as_u16().to_string(),
        Err(failed) => failed.reason.name().to_owned(),
    }
}

/// What a response's head means for another try, and for the endpoint's health. A sidecar that could not reach its
/// application has sent it nothing.
fn of_response(response: &Response<Incoming>, lease: &Lease) -> (TryEnd, Option<Outcome>) {
    let (status, headers) = (response.status().as_u16(), response.headers());
    let not_sent = [Reason::NotSent, Reason::ApplicationUnreachable];
    let unsent = || headers.get(REASON).is_some_and(|said| not_sent.iter().any(|r| said == r.name()));
    if status == 503 && lease.to().is_mutual() && unsent() {
        return (TryEnd::NotSent, Some(Outcome::ConnectFailure));
    }
    match grpc_status(headers) {
        Some(grpc) => (TryEnd::Response { status, grpc: Some(grpc) }, Some(Outcome::Grpc(grpc))),
        None => (TryEnd::Response { status, grpc: None }, Some(Outcome::Status(status))),
    }
}

impl Failed {
    fn of_pool(fault: PoolFault) -> Self {
        let reason = fault.reason();
        match fault {
            PoolFault::Overflow => Self { end: TryEnd::Overflow, reason, outcome: None },
            PoolFault::Connect(fault) => {
                tracing::debug!(%fault, "no connection");
                let outcome = Some(Outcome::ConnectFailure);
                Self { end: TryEnd::ConnectFailure, reason, outcome }
            }
        }
    }

    fn of_send(fault: SendFault) -> Self {
        let (end, reason, outcome) = match fault {
            SendFault::Unsent => (TryEnd::HandedBack, Reason::UpstreamReset, None),
            SendFault::Refused => (TryEnd::NotProcessed, Reason::UpstreamReset, None),
            SendFault::Reset => (TryEnd::Reset, Reason::UpstreamReset, Some(Outcome::Reset)),
            SendFault::Framing(_) => (TryEnd::Overflow, Reason::UpstreamFraming, Some(Outcome::Reset)),
            SendFault::Body => (TryEnd::Overflow, Reason::BadRequest, None),
        };
        Self { end, reason, outcome }
    }

    fn of_time(limit: Limit) -> Self {
        let outcome = Some(Outcome::Timeout);
        match limit {
            Limit::Try => Self { end: TryEnd::Timeout, reason: Reason::PerTryTimeout, outcome },
            Limit::Request => Self { end: TryEnd::Overflow, reason: Reason::Timeout, outcome },
        }
    }
}

impl Unanswered {
    fn of(reason: Reason) -> Self {
        Self { reason, endpoint: None, told: Told::default() }
    }
}
