//! Connections from outside, from accept to the hand-over to HTTP or to the end of the relay.
//!
//! ```text
//! accept -> destination -> first bytes -> mTLS and who it is -> bytes inside -> HTTP:   each request is judged
//!                                                                            -> opaque: judged -> application -> relay
//! ```
//!
//! A connection is judged by the workload as it was told last, and judged anew whenever it is told another.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::Instant;
use weft_core::detect::Rules;
use weft_core::detect::sniff::Detected;
use weft_core::model::protocol::Protocol;
use weft_core::model::workload::{MtlsMode, Workload};
use weft_core::peer_auth::{self, Arrival};
use weft_core::reason::Reason;

use crate::context::Context;
use crate::detect::detect;
use crate::downstream::{Downstream, Incoming, Refusal, Stop};
use crate::http::version::HttpVersion;
use crate::inbound_peer::client_metadata;
use crate::io::Io;
use crate::judge::judge;
use crate::opaque::{self, Upstream};
use crate::orig_dst::Origin;
use crate::telemetry::{PeerRef, Reporter, Scope, ScopeRef, Security, TcpRecord};
use crate::tls;

/// How long the labels of a record may take to be found; traffic does not wait for them.
const LABELS_TIMEOUT: Duration = Duration::from_secs(1);

/// A connection on its way in.
struct Visit {
    incoming: Incoming,
    mode: MtlsMode,
    protocol: Protocol,
    /// The workload's count before it was looked at.
    seen: u64,
}

/// A connection that was not let in.
struct Failed {
    stop: Stop,
    /// `None` where a failed handshake has ended it.
    io: Option<Io>,
}

/// Serves one connection from outside.
pub async fn serve(ctx: Rc<Context>, origin: Origin, tcp: TcpStream, client: SocketAddr) {
    let _open = ctx.shutdown.open();
    let record = TcpRecord::begin(Instant::now());
    let io = Io::plain(tcp);
    match Box::pin(let_in(&ctx, origin, io, client)).await {
        Ok((visit, io, Detected::Http1, _)) => serve_http(&ctx, visit, io, HttpVersion::Http1).await,
        Ok((visit, io, Detected::Http2, _)) => serve_http(&ctx, visit, io, HttpVersion::Http2).await,
        Ok((visit, io, _, dialled)) => serve_opaque(&ctx, visit, io, dialled, record).await,
        Err(failed) => opaque::stop(&ctx, failed.io, record, failed.stop),
    }
}

/// As far as the transport goes: the destination, the first bytes, mTLS, the bytes inside.
async fn let_in(
    ctx: &Rc<Context>,
    origin: Origin,
    mut io: Io,
    client: SocketAddr,
) -> Result<(Visit, Io, Detected, Option<Upstream>), Failed> {
    let mut visit = match begin(ctx, origin, &io, client) {
        Ok(visit) => visit,
        Err(reason) => return Err(Failed { stop: reason.into(), io: Some(io) }),
    };
    let mut place = None;
    if visit.mode == MtlsMode::Strict {
        place = match ctx.half_open.enter(client.ip()) {
            None => return Err(Failed { stop: Reason::Overloaded.into(), io: Some(io) }),
            place => place,
        };
    }
    match first_bytes(ctx, &visit, &mut io).await {
        Ok((Arrival::Plain(detected), dialled)) => Ok((visit, io, detected, dialled)),
        Ok((Arrival::MeshTls, dialled)) => {
            let Some(place) = place.or_else(|| ctx.half_open.enter(client.ip())) else {
                return Err(Failed { stop: Reason::Overloaded.into(), io: Some(io) });
            };
            let (mut io, rules) = shake_hands(ctx, &mut visit, io).await?;
            drop(place);
            match detect(&mut io, rules, || dial(ctx.clone(), visit.incoming.clone(), dialled)).await {
                Ok((detected, dialled)) => Ok((visit, io, detected, dialled)),
                Err(stop) => Err(Failed { stop, io: Some(io) }),
            }
        }
        Err(stop) => Err(Failed { stop, io: Some(io) }),
    }
}

fn begin(ctx: &Context, origin: Origin, io: &Io, client: SocketAddr) -> Result<Visit, Reason> {
    ctx.admit(false)?;
    let destination = origin.destination(io.tcp(), &ctx.own)?;
    let seen = ctx.workload_changes.count();
    let workload = ctx.workload().ok_or(Reason::ConfigUnavailable)?;
    let port = workload.inbound.port(destination.port());
    let downstream = Downstream { accepted: Instant::now(), client, destination, peer: None, sni: None };
    let application = port.and_then(|port| port.application).unwrap_or(destination);
    Ok(Visit {
        incoming: Incoming { downstream, application },
        mode: workload.inbound.mtls(destination.port()),
        protocol: port.map_or(Protocol::Auto, |port| port.protocol),
        seen,
    })
}

/// The bytes before TLS. A silent client's upstream is dialled only if plaintext would be let in.
async fn first_bytes(
    ctx: &Rc<Context>,
    visit: &Visit,
    io: &mut Io,
) -> Result<(Arrival, Option<Upstream>), Stop> {
    let mut rules = peer_auth::rules(visit.mode, visit.protocol);
    rules.may_dial = rules.may_dial && judged(ctx, &visit.incoming.downstream, true).is_ok();
    let incoming = visit.incoming.clone();
    let (detected, dialled) = detect(io, rules, || dial(ctx.clone(), incoming, None)).await?;
    Ok((peer_auth::arrival(visit.mode, visit.protocol, detected)?, dialled))
}

/// mTLS: who the client is, and how the bytes inside are looked at.
async fn shake_hands(ctx: &Context, visit: &mut Visit, io: Io) -> Result<(Io, Rules), Failed> {
    let client = visit.incoming.downstream.client;
    let failed = |reason: Reason| Failed { stop: reason.into(), io: None };
    let socket = io.into_socket().ok_or_else(|| failed(Reason::TlsHandshake))?;
    let handshakes = &ctx.local.telemetry.shared().metrics.handshakes;
    let (io, peer) = Box::pin(tls::accept(&ctx.tls, socket)).await.map_err(|fault| {
        tracing::info!(%client, fault = fault.name(), "handshake refused: {fault}");
        handshakes.with_label_values(&[fault.name()]).inc();
        failed(fault.reason())
    })?;
    handshakes.with_label_values(&["ok"]).inc();
    let downstream = &mut visit.incoming.downstream;
    (downstream.peer, downstream.sni) = (Some(peer.identity), peer.sni);
    Ok((io, peer_auth::rules_inside(visit.protocol, peer.alpn)))
}

/// Dials the application for a client that is let in; takes what was dialled already.
async fn dial(ctx: Rc<Context>, to: Incoming, dialled: Option<Upstream>) -> Result<Upstream, Stop> {
    judged(&ctx, &to.downstream, true)?;
    match dialled {
        Some(upstream) => Ok(upstream),
        None => Upstream::application(&ctx, to.application).await,
    }
}

async fn serve_http(ctx: &Context, visit: Visit, io: Io, version: HttpVersion) {
    let downstream = visit.incoming.downstream.clone();
    tokio::select! {
        biased;
        () = (ctx.http.incoming)(io, version, visit.incoming) => {}
        refusal = forbidden(ctx, &downstream, false, visit.seen) => {
            ctx.local.telemetry.rejected(refusal.reason, refusal.policy.as_deref());
        }
    }
}

async fn serve_opaque(
    ctx: &Rc<Context>,
    visit: Visit,
    io: Io,
    dialled: Option<Upstream>,
    mut record: TcpRecord,
) {
    let downstream = visit.incoming.downstream.clone();
    record.log = opaque::log_entry(ctx, Reporter::Destination, &downstream, dialled.as_ref());
    match Box::pin(dial(ctx.clone(), visit.incoming, dialled)).await {
        Ok(upstream) => {
            let scope = Box::pin(scope(ctx, &downstream));
            let cut = forbidden(ctx, &downstream, true, visit.seen);
            Box::pin(opaque::relay(ctx, io, upstream, record, scope, cut)).await;
        }
        Err(stop) => opaque::stop(ctx, Some(io), record, stop),
    }
}

/// Ready when the workload, as it is told from now on, does not let the connection stay.
async fn forbidden(ctx: &Context, downstream: &Downstream, opaque: bool, mut seen: u64) -> Refusal {
    loop {
        if let Err(refusal) = judged(ctx, downstream, opaque) {
            return refusal;
        }
        seen = ctx.workload_changes.after(seen).await;
    }
}

fn judged(ctx: &Context, downstream: &Downstream, opaque: bool) -> Result<(), Refusal> {
    let workload = ctx.workload().ok_or(Reason::ConfigUnavailable)?;
    judge(&workload, downstream, opaque)
}

/// Between whom a connection is counted: the peer is looked up by its address.
async fn scope(ctx: &Context, downstream: &Downstream) -> Rc<Scope> {
    let source = client_metadata(&ctx.local, downstream.client, LABELS_TIMEOUT).await;
    let workload = ctx.workload();
    let nobody = Arc::default();
    ctx.local.telemetry.scope(ScopeRef {
        reporter: Reporter::Destination,
        security: if downstream.peer.is_some() { Security::MutualTls } else { Security::None },
        source: PeerRef { metadata: &source, principal: downstream.peer.as_ref() },
        destination: PeerRef {
            metadata: workload.as_ref().map_or(&nobody, |workload| &workload.metadata),
            principal: principal(workload.as_deref(), downstream),
        },
        service: &ctx.inbound_service(workload.as_deref(), downstream.destination.port()),
    })
}

fn principal<'a>(
    workload: Option<&'a Workload>,
    downstream: &Downstream,
) -> Option<&'a weft_core::identity::SpiffeId> {
    workload.filter(|_| downstream.peer.is_some()).map(|workload| &workload.identity)
}
