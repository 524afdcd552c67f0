//! The application's own connections, from accept to the hand-over to HTTP or to the end of the relay.
//!
//! ```text
//! accept -> destination -> what it means -> first bytes -> HTTP:   each request finds its route
//!                                                       -> opaque: rule -> cluster -> endpoint -> relay -> record
//! ```

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::time::Instant;
use weft_core::detect::Rules;
use weft_core::detect::sniff::Detected;
use weft_core::meaning;
use weft_core::model::address::{Address, Meaning, ServicePortRef};
use weft_core::model::name::AddressKey;
use weft_core::model::protocol::Protocol;
use weft_core::model::workload::EgressListener;
use weft_core::reason::Reason;
use weft_core::route::{self, ConnectionView};
use weft_core::snapshot::PortState;
use weft_core::upstream::{ClusterState, EndpointState};

use crate::context::Context;
use crate::detect::detect;
use crate::downstream::{Downstream, Outgoing, Refusal, Stop};
use crate::http::version::HttpVersion;
use crate::io::Io;
use crate::opaque::{self, DeadEnd, Upstream, Way};
use crate::orig_dst::Origin;
use crate::telemetry::{PeerRef, Reporter, Scope, ScopeRef, Security, ServiceLabels, TcpRecord};

/// How a connection came to the sidecar.
#[derive(Clone, Debug)]
pub enum Entry {
    /// Redirected, or on its way to one address.
    Captured(Origin),
    /// On an explicit listener, which is for the services that it was given.
    Listener(Arc<EgressListener>),
}

/// What a connection turned out to be.
enum Arrived {
    Http(HttpVersion, Outgoing),
    Opaque(Outgoing, Box<Upstream>),
}

/// Serves one connection of the application.
pub async fn serve(ctx: Rc<Context>, entry: Entry, tcp: TcpStream, client: SocketAddr) {
    let _open = ctx.shutdown.open();
    let mut io = Io::plain(tcp);
    let mut record = TcpRecord::begin(Instant::now());
    match Box::pin(arrive(&ctx, &entry, &mut io, client)).await {
        Ok(Arrived::Http(version, outgoing)) => (ctx.http.outgoing)(io, version, outgoing).await,
        Ok(Arrived::Opaque(outgoing, upstream)) => {
            record.log = opaque::log_entry(&ctx, Reporter::Source, &outgoing.downstream, Some(&upstream));
            let scope = scope(&ctx, upstream.way.as_deref(), upstream.endpoint.as_deref());
            let never = std::future::pending();
            let scope = std::future::ready(scope);
            Box::pin(opaque::relay(&ctx, io, *upstream, record, scope, never)).await;
        }
        Err(stop) => opaque::stop(&ctx, Some(io), record, stop),
    }
}

async fn arrive(ctx: &Rc<Context>, entry: &Entry, io: &mut Io, client: SocketAddr) -> Result<Arrived, Stop> {
    ctx.admit(false)?;
    let destination = entry.destination(ctx, io)?;
    let address = mean(ctx, entry, destination).await?;
    let downstream = Downstream { accepted: Instant::now(), client, destination, peer: None, sni: None };
    let listed = matches!((entry, &address.meaning), (Entry::Listener(_), Meaning::Shared(_)));
    let mut outgoing = Outgoing { downstream, address, listed };

    let protocol = entry.protocol(ctx, &outgoing.address).await?;
    let rules = Rules { protocol, tls: false, may_dial: true };
    let (detected, dialled) = {
        let silent = outgoing.clone();
        detect(io, rules, || open(ctx.clone(), silent)).await?
    };
    match (detected, dialled) {
        (Detected::Http1, _) => Ok(Arrived::Http(HttpVersion::Http1, outgoing)),
        (Detected::Http2, _) => Ok(Arrived::Http(HttpVersion::Http2, outgoing)),
        (Detected::Opaque, Some(upstream)) => Ok(Arrived::Opaque(outgoing, Box::new(upstream))),
        (Detected::Opaque, None) => {
            let upstream = open(ctx.clone(), outgoing.clone()).await?;
            Ok(Arrived::Opaque(outgoing, Box::new(upstream)))
        }
        (Detected::Tls(hello), _) => {
            outgoing.downstream.sni = hello.sni.map(Arc::from);
            let upstream = open(ctx.clone(), outgoing.clone()).await?;
            Ok(Arrived::Opaque(outgoing, Box::new(upstream)))
        }
    }
}

impl Entry {
    fn destination(&self, ctx: &Context, io: &Io) -> Result<SocketAddr, Reason> {
        match self {
            Self::Captured(origin) => origin.destination(io.tcp(), &ctx.own),
            Self::Listener(listener) => Ok(listener.bind),
        }
    }

    /// What the connection carries, as far as that is declared.
    async fn protocol(&self, ctx: &Context, address: &Address) -> Result<Protocol, Reason> {
        match self {
            Self::Listener(listener) => Ok(listener.protocol),
            Self::Captured(_) => {
                if let Meaning::Service(port) = &address.meaning {
                    let known = ctx.local.mesh.service(&port.service).await;
                    known.map_err(|_| Reason::ConfigUnavailable)?;
                }
                Ok(meaning::declared(address, &ctx.local.mesh.snapshot()))
            }
        }
    }
}

async fn mean(ctx: &Context, entry: &Entry, destination: SocketAddr) -> Result<Arc<Address>, Reason> {
    let key = AddressKey::new(destination.ip(), destination.port());
    match entry {
        Entry::Captured(_) => ctx.local.mesh.address(key).await.map_err(|_| Reason::ConfigUnavailable),
        Entry::Listener(listener) => Ok(Arc::new(meaning::of_listener(listener))),
    }
}

/// Connects an opaque connection.
async fn open(ctx: Rc<Context>, outgoing: Outgoing) -> Result<Upstream, Stop> {
    ctx.admit(true)?;
    let way = way(&ctx, &outgoing).await?;
    opaque::open(&ctx, &way).await.map_err(|dead_end| refusal(&ctx, &way, &dead_end).into())
}

/// Where an opaque connection goes.
async fn way(ctx: &Context, outgoing: &Outgoing) -> Result<Way, Reason> {
    let Outgoing { downstream, address, listed } = outgoing;
    let original = downstream.destination;
    if let Some(port) = meaning::of_connection(address, downstream.sni.as_deref(), *listed) {
        return way_to_service(ctx, port, downstream).await;
    }
    if *listed {
        return Err(Reason::NoRoute);
    }
    let snapshot = ctx.local.mesh.snapshot();
    let cluster = snapshot.passthrough().clone();
    let endpoint = meaning::without_service(&snapshot, address, original)?;
    Ok(Way { cluster, endpoint: Some(endpoint), original, service: ctx.passthrough.clone() })
}

async fn way_to_service(ctx: &Context, to: &ServicePortRef, downstream: &Downstream) -> Result<Way, Reason> {
    let service = ctx.local.mesh.service(&to.service).await.map_err(|_| Reason::ConfigUnavailable)?;
    let port = service.port(to.port).ok_or(Reason::NoRoute)?;
    let cluster = route(port, downstream, ctx.local.random())?;
    let original = downstream.destination;
    Ok(Way {
        // A client that dialled one endpoint of the cluster itself (a headless service) means that one.
        endpoint: cluster.endpoint_at(original).cloned(),
        cluster,
        original,
        service: ServiceLabels::new(&service.service.name, &service.service.short_name),
    })
}

fn route(port: &PortState, downstream: &Downstream, random: u64) -> Result<Arc<ClusterState>, Reason> {
    let view = ConnectionView { destination: downstream.destination.ip(), sni: downstream.sni.as_deref() };
    let rule = route::find_tcp(&port.tcp, &view).ok_or(Reason::NoRoute)?;
    let target = rule.pick(random).ok_or(Reason::NoRoute)?;
    target.cluster.cloned().ok_or(Reason::NoCluster)
}

fn refusal(ctx: &Context, way: &Way, dead_end: &DeadEnd) -> Refusal {
    let scope = scope(ctx, Some(way), dead_end.endpoint.as_deref());
    Refusal { reason: dead_end.reason, policy: None, scope: Some(scope) }
}

/// Between whom a connection is counted.
fn scope(ctx: &Context, way: Option<&Way>, endpoint: Option<&EndpointState>) -> Rc<Scope> {
    let workload = ctx.workload();
    let nobody = Arc::default();
    let metadata = endpoint.map_or(&nobody, |endpoint| &endpoint.metadata);
    let mutual = endpoint.is_some_and(EndpointState::is_mutual);
    ctx.local.telemetry.scope(ScopeRef {
        reporter: Reporter::Source,
        security: Security::Unknown,
        source: PeerRef {
            metadata: workload.as_ref().map_or(&nobody, |workload| &workload.metadata),
            principal: workload.as_ref().filter(|_| mutual).map(|workload| &workload.identity),
        },
        destination: PeerRef {
            metadata,
            principal: endpoint.filter(|_| mutual).and_then(|endpoint| endpoint.identity.as_ref()),
        },
        service: way.map_or(&ctx.passthrough, |way| &way.service),
    })
}
