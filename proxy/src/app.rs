//! The sidecar put together: the control plane on this thread, workers on theirs.

use std::io;
use std::sync::Arc;
use std::thread::{JoinHandle, available_parallelism};
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

use crate::accept::Bound;
use crate::clock::Clock;
use crate::control::{Control, ControlTasks};
use crate::dial::Dialer;
use crate::drain::{Phase, Shutdown};
use crate::orig_dst::Own;
use crate::overload::Overload;
use crate::pool::Gates;
use crate::settings::{PortSettings, Settings};
use crate::telemetry::log;
use crate::worker::{self, Opened, Shared, Sockets};

/// How long the last lines of the access log may take to whoever reads them.
const LAST_LINES: Duration = Duration::from_secs(1);
/// How long the last spans may take to their collector, after everything else has ended.
const LAST_SPANS: Duration = Duration::from_secs(4);

/// Runs a sidecar until it is told to end and everything has ended.
///
/// # Errors
/// What keeps it from starting, with the setting to change; or a worker that could not go on.
pub fn run(settings: Settings) -> anyhow::Result<()> {
    let settings = settings.checked()?;
    let level = log::start(&settings.logs.level)?;
    allow_many_connections();
    let runtime = Builder::new_current_thread().enable_all().build().context("no runtime")?;
    let (workers, telemetry) = runtime.block_on(async {
        let overload = Overload::new(worker_count(&settings), settings.host.max_requests);
        let (control, tasks) = Control::start(&settings, Clock::system(), level, overload)?;
        let workers = start_workers(&settings, &control)?;
        serve(&settings, control.shutdown, tasks).await?;
        anyhow::Ok((workers, control.telemetry))
    })?;
    let ended = join(workers);
    // Only now are the lines and the spans of all requests there.
    telemetry.access_log.flush(LAST_LINES);
    runtime.block_on(telemetry.spans.close(LAST_SPANS));
    ended
}

/// Waits for all workers; the first that went wrong is told of.
fn join(workers: Vec<JoinHandle<io::Result<()>>>) -> anyhow::Result<()> {
    let ended: Vec<_> = workers.into_iter().map(JoinHandle::join).collect();
    ended.into_iter().try_for_each(|ended| {
        let ended = ended.map_err(|_| anyhow::anyhow!("a worker ended by a defect"))?;
        ended.context("a worker could not go on")
    })
}

async fn serve(settings: &Settings, shutdown: Shutdown, tasks: ControlTasks) -> io::Result<()> {
    let ended = shutdown.clone();
    let (minimum, timeout) = (settings.drain.minimum, settings.drain.timeout);
    let signals = end_on_signals(shutdown, minimum)?;
    tokio::spawn(signals);
    tokio::spawn(async move { ended.complete(timeout).await });
    tasks.run().await;
    Ok(())
}

fn start_workers(settings: &Settings, control: &Control) -> anyhow::Result<Vec<JoinHandle<io::Result<()>>>> {
    let count = worker_count(settings);
    let shared = shared(settings, control, count);
    (0..count)
        .map(|number| {
            let sockets = sockets(&settings.ports)?;
            worker::spawn(shared.clone(), sockets, number).context("no thread for a worker")
        })
        .collect()
}

fn worker_count(settings: &Settings) -> usize {
    let cores = available_parallelism().map_or(1, usize::from);
    settings.host.worker_count(cores)
}

fn shared(settings: &Settings, control: &Control, workers: usize) -> Shared {
    Shared {
        mesh: control.mesh.clone(),
        tls: control.tls.clone(),
        dialer: Dialer { mark: settings.host.mark },
        telemetry: control.telemetry.clone(),
        shutdown: control.shutdown.clone(),
        overload: control.overload.clone(),
        own: Own {
            addresses: settings.pod.ips.iter().map(|ip| ip.to_canonical()).collect(),
            ports: vec![settings.ports.outbound, settings.ports.inbound],
        },
        gates: Gates::default(),
        epoch: control.epoch,
        opened: Arc::new(Opened::new(workers, control.listening.clone())),
    }
}

fn sockets(ports: &PortSettings) -> anyhow::Result<Sockets> {
    let take = |port, setting| {
        Bound::everywhere(port)
            .with_context(|| format!("port {port} cannot be listened on; another can be given by {setting}"))
    };
    Ok(Sockets {
        outbound: take(ports.outbound, "WEFT_OUTBOUND_PORT")?,
        inbound: take(ports.inbound, "WEFT_INBOUND_PORT")?,
    })
}

/// The first SIGTERM or SIGINT begins to drain, after a while in which new connections are still taken; the next
/// one ends everything at once.
fn end_on_signals(
    shutdown: Shutdown,
    minimum: Duration,
) -> io::Result<impl Future<Output = ()> + Send + 'static> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        let mut told = async move || {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        told().await;
        tracing::info!("told to end: no new connections from outside, those that stand may finish");
        tokio::select! {
            () = tokio::time::sleep(minimum) => shutdown.begin(),
            () = told() => return shutdown.end(),
        }
        tokio::select! {
            () = told() => shutdown.end(),
            () = shutdown.reached(Phase::Over) => {}
        }
    })
}

/// Raises the limit of descriptors as far as it goes: every connection needs two.
fn allow_many_connections() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}
