//! Opaque connections: the way to an endpoint, the relay, the record of it.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;
use tokio::time::Instant;
use weft_core::admission::ConnectionPermit;
use weft_core::balance::{self, PickArgs};
use weft_core::outlier::{self, Outcome};
use weft_core::reason::Reason;
use weft_core::upstream::{ActiveRequest, ClusterState, EndpointId, EndpointState};

use crate::context::Context;
use crate::detect::Dialled;
use crate::dial::DialOptions;
use crate::downstream::{Downstream, Refusal, Stop};
use crate::io::Io;
use crate::pool::ConnectFault;
use crate::tcp::{self, End, Traffic};
use crate::telemetry::{AccessEntry, Reporter, Scope, ServiceLabels, TcpRecord, Text};
use crate::tls::Alpn;

/// Endpoints that are tried before a connection is given up: nothing was sent to any of them.
const TRIES: usize = 3;
/// How often the bytes of a connection that goes on are counted.
const COUNT: Duration = Duration::from_secs(5);

/// Where an opaque connection goes.
#[derive(Clone, Debug)]
pub struct Way {
    /// The cluster: limits, times, endpoints.
    pub cluster: Arc<ClusterState>,
    /// The only endpoint there is, where the client addressed it by itself.
    pub endpoint: Option<Arc<EndpointState>>,
    /// The address that the client dialled.
    pub original: SocketAddr,
    /// The service, for metrics.
    pub service: ServiceLabels,
}

/// A connection to an endpoint, or to the application.
#[derive(Debug)]
pub struct Upstream {
    io: Io,
    /// The endpoint; `None` for the application.
    pub endpoint: Option<Arc<EndpointState>>,
    /// The way that led there; `None` for the application.
    pub way: Option<Box<Way>>,
    /// A relay that stands still for so long ends.
    pub idle: Option<Duration>,
    _held: Option<(ConnectionPermit, ActiveRequest)>,
}

/// A way that led nowhere.
#[derive(Debug)]
pub struct DeadEnd {
    /// Why.
    pub reason: Reason,
    /// The last endpoint that was tried.
    pub endpoint: Option<Arc<EndpointState>>,
}

/// Connects to an endpoint of the way's cluster; to another where one cannot be reached.
///
/// # Errors
/// [`DeadEnd`]: limits, no endpoint, or none that could be reached.
pub async fn open(ctx: &Context, way: &Way) -> Result<Upstream, DeadEnd> {
    let cluster = &way.cluster;
    let Some(permit) = cluster.admission.connection(&cluster.cluster) else {
        return Err(DeadEnd { reason: Reason::Overflow, endpoint: None });
    };
    let mut tried: SmallVec<[EndpointId; TRIES]> = SmallVec::new();
    let mut dead_end = DeadEnd { reason: Reason::NoHealthyUpstream, endpoint: None };
    while tried.len() < TRIES
        && let Some(endpoint) = pick(ctx, way, &tried)
    {
        if tried.contains(&endpoint.id) {
            break;
        }
        match connect(ctx, cluster, &endpoint).await {
            Ok(io) => return Ok(Upstream::at(io, endpoint, way, permit)),
            Err(fault) => {
                tried.push(endpoint.id);
                dead_end = DeadEnd { reason: fault.reason(), endpoint: Some(endpoint) };
            }
        }
    }
    Err(dead_end)
}

fn pick(ctx: &Context, way: &Way, tried: &[EndpointId]) -> Option<Arc<EndpointState>> {
    let now = ctx.local.nanos(Instant::now());
    let args = PickArgs { now, random: ctx.local.random(), tried, original: Some(way.original) };
    way.endpoint.clone().or_else(|| balance::pick(&way.cluster, &args))
}

async fn connect(
    ctx: &Context,
    cluster: &ClusterState,
    endpoint: &EndpointState,
) -> Result<Io, ConnectFault> {
    let policy = &cluster.cluster.connections;
    let options = DialOptions::from(policy);
    let connected = Box::pin(ctx.connect.open(endpoint, &options, Alpn::Opaque)).await;
    let outcome = if connected.is_ok() { Outcome::Connected } else { Outcome::ConnectFailure };
    outlier::record(cluster, endpoint, outcome, ctx.local.nanos(Instant::now()));
    connected.inspect_err(|fault| tracing::debug!(address = %endpoint.address, %fault, "no connection"))
}

impl Upstream {
    fn at(io: Io, endpoint: Arc<EndpointState>, way: &Way, permit: ConnectionPermit) -> Self {
        let active = endpoint.begin();
        Self {
            io,
            endpoint: Some(endpoint),
            way: Some(Box::new(way.clone())),
            idle: way.cluster.cluster.connections.tcp_idle_timeout,
            _held: Some((permit, active)),
        }
    }

    /// The application, on its own address.
    ///
    /// # Errors
    /// [`Reason::ApplicationUnreachable`].
    pub async fn application(ctx: &Context, at: SocketAddr) -> Result<Self, Stop> {
        ctx.admit(true)?;
        let options = DialOptions::default();
        let tcp = ctx.dialer.dial(at, &options).await.map_err(|fault| {
            tracing::debug!(%fault, "the application does not answer");
            Reason::ApplicationUnreachable
        })?;
        Ok(Self { io: Io::plain(tcp), endpoint: None, way: None, idle: None, _held: None })
    }
}

impl Dialled for Upstream {
    fn io(&mut self) -> &mut Io {
        &mut self.io
    }
}

/// Relays until an end, or until `cut` says that the connection must not stay; then records it. `scope` may take its
/// time: neither bytes nor the end wait for it.
pub async fn relay(
    ctx: &Context,
    client: Io,
    upstream: Upstream,
    record: TcpRecord,
    scope: impl Future<Output = Rc<Scope>>,
    cut: impl Future<Output = Refusal>,
) {
    let (record, traffic) = (RefCell::new(record), Traffic::default());
    let opened = async {
        let scope = scope.await;
        record.borrow_mut().opened(scope);
    };
    let relayed = async { tokio::join!(relay_until(ctx, client, upstream, &traffic, cut), opened).0 };
    let refusal = tokio::select! {
        biased;
        refusal = relayed => refusal,
        never = count(&record, &traffic) => match never {},
    };
    let mut record = record.into_inner();
    (record.received, record.sent) = (traffic.sent.get(), traffic.received.get());
    if let Some(refusal) = refusal {
        (record.reason, record.policy) = (Some(refusal.reason), refusal.policy);
    }
    record.finish(&ctx.local.telemetry, Instant::now());
}

/// Relays, and closes both sides: a side that broke off is told to the other as it was, by a reset.
async fn relay_until(
    ctx: &Context,
    mut client: Io,
    mut upstream: Upstream,
    traffic: &Traffic,
    cut: impl Future<Output = Refusal>,
) -> Option<Refusal> {
    let refusal = tokio::select! {
        biased;
        end = tcp::relay(&mut client, &mut upstream.io, upstream.idle, traffic) => {
            return broken_off(end, client, upstream.io);
        }
        refusal = cut => refusal,
        () = ctx.local.drain.over() => Reason::Draining.into(),
    };
    client.reset();
    upstream.io.reset();
    Some(refusal)
}

/// Counts the bytes of a connection while it lasts.
async fn count(record: &RefCell<TcpRecord>, traffic: &Traffic) -> Infallible {
    loop {
        tokio::time::sleep(COUNT).await;
        record.borrow_mut().moved(traffic.received.get(), traffic.sent.get());
    }
}

fn broken_off(end: End, client: Io, upstream: Io) -> Option<Refusal> {
    match end {
        End::Closed | End::Idle => None,
        End::ClientFailed(error) => {
            tracing::debug!(%error, "the client broke off");
            upstream.reset();
            None
        }
        End::ServerFailed(error) => {
            tracing::debug!(%error, "the upstream broke off");
            client.reset();
            Some(Reason::UpstreamReset.into())
        }
    }
}

/// Records a connection that ends before it was relayed, and closes it: with a reset where the mesh refuses it.
pub fn stop(ctx: &Context, client: Option<Io>, mut record: TcpRecord, stop: Stop) {
    if let Stop::Refused(refusal) = stop {
        tracing::debug!(reason = %refusal.reason, policy = refusal.policy.as_deref(), "connection refused");
        (record.reason, record.policy) = (Some(refusal.reason), refusal.policy);
        if let Some(scope) = refusal.scope {
            record.opened(scope);
        }
        if let Some(io) = client {
            io.reset();
        }
    }
    record.finish(&ctx.local.telemetry, Instant::now());
}

/// What the access log shows of a connection; `None` while it is off.
pub fn log_entry(
    ctx: &Context,
    side: Reporter,
    downstream: &Downstream,
    upstream: Option<&Upstream>,
) -> Option<Box<AccessEntry>> {
    let shared = ctx.local.telemetry.shared();
    let logs =
        shared.access_log.logs(ctx.workload().map(|workload| workload.telemetry.clone()).as_ref(), side)?;
    let mut entry = AccessEntry::begin(shared.clock.now() - downstream.accepted.elapsed(), logs);
    entry.put(Text::ServerName, downstream.sni.as_deref().unwrap_or_default());
    entry.source_principal.clone_from(&downstream.peer);
    entry.downstream_local_address = Some(downstream.destination);
    entry.downstream_remote_address = Some(downstream.client);
    if let Some(upstream) = upstream {
        let way = upstream.way.as_ref();
        entry.upstream_cluster = way.map(|way| Arc::clone(&way.cluster.cluster));
        entry.upstream_host = upstream.io.peer_addr().ok();
        entry.upstream_local_address = upstream.io.tcp().local_addr().ok();
    }
    Some(Box::new(entry))
}
