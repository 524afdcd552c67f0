//! One container's life: started, probed, ended or found ended, started again after a pause that grows.

use std::process::Stdio;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::unistd::Pid;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::up::agent::{Pod, launch, probes};
use crate::up::logs;
use crate::up::plan::{ContainerPlan, Restart};
use crate::up::process::Exit;

/// The first pause before a container starts again; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A container that ran this long starts again after the first pause.
const LONG_RUN: Duration = Duration::from_secs(60);

/// Whether a container's life ended well.
pub(crate) type Outcome = bool;

/// Starts a container and keeps it as its pod wants it, until it has ended for good or is told to.
pub(crate) fn start(pod: &Rc<Pod>, plan: &ContainerPlan, ends: watch::Receiver<bool>) -> JoinHandle<Outcome> {
    let (pod, plan) = (Rc::clone(pod), plan.clone());
    tokio::task::spawn_local(async move { keep(&pod, &plan, ends).await })
}

async fn keep(pod: &Rc<Pod>, plan: &ContainerPlan, mut ends: watch::Receiver<bool>) -> Outcome {
    let mut pause = FIRST_PAUSE;
    loop {
        let began = Instant::now();
        let ended = once(pod, plan, &mut ends).await;
        let well = matches!(ended, Ok(Exit::Code(0)));
        let again = !*ends.borrow() && starts_again(pod, plan, well);
        let reason = ended.map_or_else(|e| format!("{e:#}"), |exit| exit.to_string());
        pod.status.container(&plan.name, |c| {
            (c.running, c.pid, c.reason, c.ready) = (false, None, reason, well && !again);
        });
        if !again {
            return well;
        }
        if began.elapsed() > LONG_RUN {
            pause = FIRST_PAUSE;
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = ends.wait_for(|e| *e) => return false,
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
        pod.status.container(&plan.name, |c| c.restarts += 1);
    }
}

fn starts_again(pod: &Pod, plan: &ContainerPlan, well: bool) -> bool {
    let init = pod.plan.init.iter().any(|c| c.name == plan.name);
    match pod.plan.restart {
        _ if plan.beside => true,
        Restart::Always => !(init && well),
        Restart::OnFailure => !well,
        Restart::Never => false,
    }
}

/// Runs the container once; ends it when told to, or when its liveness probe says so.
async fn once(pod: &Rc<Pod>, plan: &ContainerPlan, ends: &mut watch::Receiver<bool>) -> Result<Exit> {
    let launched = spawn(pod, plan);
    if let Err(e) = &launched {
        let line = format!("weft: {e:#}\n");
        logs::append(&logs::file(&pod.dir, &plan.name), line.as_bytes())?;
    }
    let (pid, mut exited) = launched?;
    let no_probe = plan.readiness.is_none() && plan.startup.is_none();
    pod.status.container(&plan.name, |c| {
        (c.running, c.pid, c.ready) =
            (true, u32::try_from(pid.as_raw()).ok(), no_probe && !is_init(pod, plan));
    });
    let probed = probes::watch(pod, plan);
    let why = tokio::select! {
        exit = &mut exited => return exit.context("the container was lost"),
        () = probed => "liveness",
        _ = ends.wait_for(|e| *e) => "told",
    };
    tracing::debug!("{}: ending container {} ({why})", pod.plan.name, plan.name);
    pod.status.container(&plan.name, |c| c.ready = false);
    launch::end(pid, exited, Duration::from_secs(pod.plan.grace)).await
}

fn is_init(pod: &Pod, plan: &ContainerPlan) -> bool {
    !plan.beside && pod.plan.init.iter().any(|c| c.name == plan.name)
}

fn spawn(pod: &Rc<Pod>, plan: &ContainerPlan) -> Result<(Pid, oneshot::Receiver<Exit>)> {
    let mut command = launch::command(pod, plan, &plan.argv, None)?;
    command.stdin(Stdio::null());
    pod.spawn_logged(&mut command, &plan.name)
}
