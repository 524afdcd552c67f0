//! The agent of one pod: the first process of the pod's namespaces, which runs the pod's sidecar and containers in them.
//!
//! The supervisor starts it as two processes. The first makes the namespaces and starts the second in them, says its
//! number, and is gone; the second is the agent. It reads its plan from a file, sets the network up once its link has
//! arrived, and from then on reports every change of state and does what the supervisor passes on to it. When it ends,
//! for whatever reason, the kernel ends everything in the pod.

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, unshare};
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::LocalSet;

use crate::up::api::{Ask, ContainerState};
use crate::up::plan::PodPlan;
use crate::up::process::{self, Reaper};
use crate::up::wire::Channel;
use crate::up::{net, rootfs};

/// What the agent reports.
mod status;
/// Starting and ending processes.
mod launch;
/// Probes.
mod probes;
/// One container's life.
mod containers;
/// The sidecar's life.
pub mod sidecar;
/// The order in which a pod's containers start and end.
mod lifecycle;
/// Commands that users run in a pod.
pub mod exec;

/// The hidden subcommand that makes the namespaces.
pub const BOOT_ROLE: &str = "pod-boot";
/// The hidden subcommand that is the agent.
pub const ROLE: &str = "pod-agent";

/// What the supervisor tells an agent.
#[derive(Debug, Serialize, Deserialize)]
pub enum Order {
    /// The pod's link has arrived.
    Go,
    /// Do what was asked, and answer the asker, whose socket comes first of the descriptors.
    Serve(Ask),
    /// End the containers, then yourself.
    Stop,
}

/// What an agent tells the supervisor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// `Pending`, `Running`, `Succeeded` or `Failed`.
    pub phase: String,
    /// Whether all containers and the sidecar are ready.
    pub ready: bool,
    /// Why not, in words.
    pub reason: String,
    /// All containers, the sidecar among them.
    pub containers: Vec<ContainerState>,
}

/// Everything that the tasks of an agent share.
#[derive(Debug)]
pub(crate) struct Pod {
    plan: PodPlan,
    /// The pod's directory in memory.
    dir: PathBuf,
    /// Environment that all containers get.
    env: Vec<(String, String)>,
    /// Where containers start.
    cwd: PathBuf,
    /// The machine's number for the user who started the mesh.
    uid: u32,
    reaper: Reaper,
    status: status::Status,
}

/// What an agent reads besides its plan.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Surroundings {
    /// Environment that all containers get.
    pub env: Vec<(String, String)>,
    /// Where containers start unless they say otherwise.
    pub cwd: PathBuf,
    /// The machine's number for the user who started the mesh.
    pub uid: u32,
}

/// Makes the pod's namespaces, starts the agent in them and writes its process number to standard output.
///
/// # Errors
/// When the kernel refuses a namespace.
pub fn boot(args: &[String]) -> Result<()> {
    let kinds = CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC;
    unshare(kinds).context("make the pod's namespaces")?;
    let agent = process::role(ROLE).args(args).spawn().context("start the pod's agent")?;
    writeln!(std::io::stdout(), "{}", agent.id())?;
    Ok(())
}

/// Runs the agent whose directory is the one argument; standard input is its line to the supervisor.
///
/// # Errors
/// When the pod cannot be set up. Returns when the pod has ended.
pub fn run(args: &[String]) -> Result<()> {
    let [dir] = args else { anyhow::bail!("one directory is needed") };
    let dir = Path::new(dir);
    let plan: PodPlan = serde_json::from_slice(&std::fs::read(dir.join("plan.json"))?)?;
    let around: Surroundings = serde_json::from_slice(&std::fs::read(dir.join("surroundings.json"))?)?;
    nix::mount::mount(
        None::<&str>,
        "/",
        None::<&str>,
        nix::mount::MsFlags::MS_REC | nix::mount::MsFlags::MS_PRIVATE,
        None::<&str>,
    )
    .context("make mounts private")?;
    rootfs::mount_proc(Path::new("/proc"))?;
    nix::unistd::sethostname(&plan.hostname).context("set the host name")?;
    let socket = std::io::stdin().as_fd().try_clone_to_owned()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, serve(socket, plan, around, dir))
}

async fn serve(socket: OwnedFd, plan: PodPlan, around: Surroundings, dir: &Path) -> Result<()> {
    let channel = Rc::new(Channel::new(socket)?);
    let mut terminate = signal(SignalKind::terminate())?;
    let reaper = Reaper::start()?;
    let Some((Order::Go, _)) = channel.recv::<Order>().await? else { return Ok(()) };
    net::configure_pod(plan.address).await?;
    let status = status::Status::new(&plan, Rc::clone(&channel));
    let Surroundings { env, cwd, uid } = around;
    let pod = Rc::new(Pod { plan, dir: dir.to_path_buf(), env, cwd, uid, reaper, status });
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let mut life = tokio::task::spawn_local(lifecycle::run(Rc::clone(&pod), stopped));
    loop {
        tokio::select! {
            ended = &mut life => return ended.context("the pod's agent broke")?,
            _ = terminate.recv() => { stop.send_replace(true); }
            order = channel.recv::<Order>() => match order? {
                None => return Ok(()),
                Some((Order::Go, _)) => {}
                Some((Order::Stop, _)) => { stop.send_replace(true); }
                Some((Order::Serve(ask), fds)) => {
                    tokio::task::spawn_local(exec::serve_in_pod(Rc::clone(&pod), ask, fds));
                }
            },
        }
    }
}
