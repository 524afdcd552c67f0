//! The sidecar's life: behind its redirection, started again whenever it ends, ready when it says so.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::unistd::Pid;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use weft_proxy::redirect::arguments::RedirectSettings;
use weft_proxy::redirect::{self, Redirect};

use crate::up::agent::{Pod, launch};
use crate::up::http;
use crate::up::plan::{SIDECAR, SidecarPlan};
use crate::up::process::{self, Exit};

/// The mark on the sidecar's packets, by which redirection knows them.
pub(crate) const MARK: u32 = 0x7765_6674;
/// The hidden subcommand that is the sidecar.
pub const ROLE: &str = "proxy-run";
const HEALTH: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 15021);
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How long it may take to end its connections.
const GRACE: Duration = Duration::from_secs(5);

/// Redirects the pod's traffic, and starts the sidecar behind it.
///
/// # Errors
/// When the kernel refuses the rules.
pub(crate) async fn start(
    pod: &Rc<Pod>,
    plan: &SidecarPlan,
    ends: watch::Receiver<bool>,
) -> Result<JoinHandle<()>> {
    if let Some(arguments) = &plan.redirect {
        redirect::apply(&rules(arguments)?).await.context("redirect the pod's traffic to its sidecar")?;
    }
    let state = pod.dir.join("state");
    std::fs::create_dir_all(&state)?;
    std::fs::set_permissions(&state, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
    Ok(tokio::task::spawn_local(keep(Rc::clone(pod), plan.clone(), ends)))
}

fn rules(arguments: &[String]) -> Result<Redirect> {
    let settings = RedirectSettings { mark: Some(MARK), ..RedirectSettings::read(arguments)? };
    Ok(settings.rules())
}

async fn keep(pod: Rc<Pod>, plan: SidecarPlan, mut ends: watch::Receiver<bool>) {
    let mut pause = FIRST_PAUSE;
    while !*ends.borrow() {
        let reason = match once(&pod, &plan, &mut ends).await {
            Ok(exit) => exit.to_string(),
            Err(e) => format!("{e:#}"),
        };
        let was_ready = pod.status.of(SIDECAR).is_some_and(|c| c.ready);
        pause = if was_ready { FIRST_PAUSE } else { (pause * 2).min(LONGEST_PAUSE) };
        let over = *ends.borrow();
        pod.status.container(SIDECAR, |c| {
            (c.running, c.pid, c.ready, c.reason) = (false, None, false, reason);
            c.restarts += u32::from(!over);
        });
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = ends.wait_for(|e| *e) => return,
        }
    }
}

async fn once(pod: &Rc<Pod>, plan: &SidecarPlan, ends: &mut watch::Receiver<bool>) -> Result<Exit> {
    let (pid, mut exited) = spawn(pod, plan)?;
    pod.status.container(SIDECAR, |c| (c.running, c.pid) = (true, u32::try_from(pid.as_raw()).ok()));
    tokio::select! {
        exit = &mut exited => return exit.context("the sidecar was lost"),
        () = health(pod) => {}
        _ = ends.wait_for(|e| *e) => {}
    }
    launch::end(pid, exited, GRACE).await
}

fn spawn(pod: &Rc<Pod>, plan: &SidecarPlan) -> Result<(Pid, oneshot::Receiver<Exit>)> {
    let mut command = process::role(ROLE);
    command.env_clear().envs(plan.env.iter().cloned());
    command.env("WEFT_MARK", MARK.to_string()).env("WEFT_STATE_DIR", pod.dir.join("state"));
    command
        .env("WEFT_TOKEN_FILE", pod.dir.join("token"))
        .env("WEFT_ROOT_FILE", pod.dir.join("root-cert.pem"));
    command.stdin(Stdio::null());
    pod.spawn_logged(&mut command, SIDECAR)
}

/// Asks for its health for as long as it runs.
async fn health(pod: &Rc<Pod>) {
    loop {
        let answer =
            tokio::time::timeout(Duration::from_secs(1), http::get(HEALTH, "/healthz/ready", &[])).await;
        let ready = matches!(answer, Ok(Ok((200, _))));
        pod.status.container(SIDECAR, |c| c.ready = ready);
        tokio::time::sleep(if ready { Duration::from_secs(1) } else { Duration::from_millis(50) }).await;
    }
}
