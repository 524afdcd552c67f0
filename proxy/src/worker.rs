//! One worker: a thread with a runtime, listeners and connections of its own.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use tokio::runtime::Builder;
use tokio::sync::watch;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::Instant;

use crate::accept::Bound;
use crate::config::Mesh;
use crate::context::{Context, HttpServers, Parts};
use crate::dial::Dialer;
use crate::drain::{Drain, Shutdown};
use crate::explicit;
use crate::http::cork;
use crate::itself::Itself;
use crate::listener::accept;
use crate::local::{Local, close_idle, close_removed};
use crate::orig_dst::{Origin, Own};
use crate::outbound::Entry;
use crate::overload::Overload;
use crate::pool::{Gates, MeshConnect, Pool};
use crate::telemetry::Telemetry;
use crate::tls::Tls;
use crate::{inbound, inbound_http, outbound, outbound_http};

/// What all workers share.
#[derive(Clone)]
pub struct Shared {
    /// The configuration.
    pub mesh: Mesh,
    /// Handshakes between sidecars.
    pub tls: Tls,
    /// Outgoing sockets.
    pub dialer: Dialer,
    /// What is counted and written.
    pub telemetry: Telemetry,
    /// The end of the sidecar.
    pub shutdown: Shutdown,
    /// The sidecar's own limits.
    pub overload: Overload,
    /// What no connection may be addressed to.
    pub own: Own,
    /// A word between workers about connections.
    pub gates: Gates,
    /// From when the clock of ejections counts.
    pub epoch: Instant,
    /// Hears when a worker listens.
    pub opened: Arc<Opened>,
}

/// Tells when all workers listen.
#[derive(Debug)]
pub struct Opened {
    waiting: AtomicUsize,
    listening: Arc<watch::Sender<bool>>,
}

/// Sockets that do not listen yet: until then the kernel refuses connections (hardening E4).
pub struct Sockets {
    /// For redirected outgoing connections.
    pub outbound: Vec<Bound>,
    /// For redirected incoming connections.
    pub inbound: Vec<Bound>,
}

impl Opened {
    /// `listening` becomes true when so many workers listen.
    pub fn new(workers: usize, listening: Arc<watch::Sender<bool>>) -> Self {
        Self { waiting: AtomicUsize::new(workers), listening }
    }

    fn one(&self) {
        if self.waiting.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.listening.send_replace(true);
        }
    }
}

/// Starts a worker. It listens once the workload is known, and ends when the sidecar is over.
///
/// # Errors
/// Where no thread can be made.
pub fn spawn(shared: Shared, sockets: Sockets, number: usize) -> io::Result<JoinHandle<io::Result<()>>> {
    std::thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().on_thread_park(cork::let_out).build()?;
        let shutdown = shared.shutdown.clone();
        // One worker less would leave its share of connections hanging: the whole sidecar ends, and starts anew.
        LocalSet::new().block_on(&runtime, run(shared, sockets, number)).inspect_err(|_| shutdown.end())
    })
}

/// One worker's context.
pub fn context(shared: &Shared, number: usize, http: impl FnOnce(&Rc<Local>) -> HttpServers) -> Rc<Context> {
    let itself = Itself::new(shared.own.addresses.clone());
    let connect = MeshConnect::new(shared.dialer, shared.tls.clone().into()).of_pod(itself.clone());
    let local = Rc::new(Local::new(
        shared.mesh.reader(),
        Pool::new(Rc::new(connect), shared.gates.clone()),
        shared.telemetry.worker(number),
        (Drain::default(), shared.overload.worker(number)),
        shared.epoch,
        rand::random(),
    ));
    Context::new(Parts {
        http: http(&local),
        local,
        tls: shared.tls.clone(),
        dialer: shared.dialer,
        shutdown: shared.shutdown.clone(),
        own: shared.own.clone(),
        itself,
    })
}

/// HTTP as this sidecar serves it.
pub fn http_servers(local: &Rc<Local>) -> HttpServers {
    let (outgoing, incoming) = (local.clone(), local.clone());
    HttpServers {
        outgoing: Rc::new(move |io, version, from| {
            let local = outgoing.clone();
            Box::pin(async move {
                if let Err(error) = outbound_http::serve(&local, io, version, from).await {
                    tracing::debug!(%error, "a connection of the application ended");
                }
            })
        }),
        incoming: Rc::new(move |io, version, from| {
            let local = incoming.clone();
            Box::pin(async move {
                if let Err(error) = inbound_http::serve(&local, io, version, from).await {
                    tracing::debug!(%error, "a connection from outside ended");
                }
            })
        }),
    }
}

async fn run(shared: Shared, sockets: Sockets, number: usize) -> io::Result<()> {
    let ctx = context(&shared, number, http_servers);
    let drain = ctx.local.drain.clone();
    let shutdown = shared.shutdown.clone();
    let view = drain.clone();
    spawn_local(async move { shutdown.follow(view).await });
    tokio::select! {
        () = shared.mesh.ready() => {}
        () = drain.over() => return Ok(()),
    }
    trust_somebody(&shared);
    for socket in sockets.outbound {
        serve_outbound(&ctx, socket, Entry::Captured(Origin::Redirected))?;
    }
    for socket in sockets.inbound {
        serve_inbound(&ctx, socket, Origin::Redirected)?;
    }
    serve_itself(&ctx);
    spawn_local(explicit::follow(ctx.clone()));
    spawn_local(close_removed(ctx.local.clone(), shared.mesh.changes()));
    spawn_local(close_idle(ctx.local.clone()));
    shared.opened.one();
    drain.over().await;
    // Connections that are cut now are still recorded.
    for _ in 0..32 {
        tokio::task::yield_now().await;
    }
    cork::let_out();
    Ok(())
}

/// Handshakes can be judged before the first connection comes; the control plane keeps the trust current.
fn trust_somebody(shared: &Shared) {
    let snapshot = shared.mesh.snapshot();
    if let Some(workload) = snapshot.workload().filter(|_| !shared.tls.has_trust())
        && let Err(error) = shared.tls.set_trust(&workload.trust)
    {
        tracing::error!(%error, "the roots of the trust domains cannot be used");
    }
}

/// What the application sends to its own pod by way of a Service comes in like anything else.
fn serve_itself(ctx: &Rc<Context>) {
    let weak = Rc::downgrade(ctx);
    ctx.itself.serve(move |tcp, to, client| {
        if let Some(ctx) = weak.upgrade() {
            spawn_local(inbound::serve(ctx, Origin::Fixed(to), tcp, client));
        }
    });
}

/// The application's own connections go on to the end.
fn serve_outbound(ctx: &Rc<Context>, socket: Bound, entry: Entry) -> io::Result<()> {
    let over = ctx.local.drain.clone();
    let serve = move |ctx, tcp, client| outbound::serve(ctx, entry.clone(), tcp, client);
    accept(ctx, "outbound", socket, async move { over.over().await }, serve)
}

fn serve_inbound(ctx: &Rc<Context>, socket: Bound, origin: Origin) -> io::Result<()> {
    let draining = ctx.local.drain.clone();
    let serve = move |ctx, tcp, client| inbound::serve(ctx, origin, tcp, client);
    accept(ctx, "inbound", socket, async move { draining.draining().await }, serve)
}
