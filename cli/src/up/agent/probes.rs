//! Probes, made from inside the pod to the pod's own address, where nothing redirects them.

use std::net::SocketAddr;
use std::process::Stdio;
use std::rc::Rc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::up::agent::{Pod, launch};
use crate::up::http;
use crate::up::plan::{Action, ContainerPlan, ProbePlan};
use crate::up::process::Exit;

/// Probes a container while it runs: keeps its readiness up to date, and returns when its liveness or startup probe has failed.
pub(crate) async fn watch(pod: &Rc<Pod>, plan: &ContainerPlan) {
    if let Some(startup) = &plan.startup {
        if !started(pod, plan, startup).await {
            return;
        }
        if plan.readiness.is_none() {
            pod.status.container(&plan.name, |c| c.ready = true);
        }
    }
    let readiness = async {
        if let Some(probe) = &plan.readiness {
            follow(pod, plan, probe, |pod, ready| {
                pod.status.container(&plan.name, |c| c.ready = ready);
                false
            })
            .await;
        } else {
            std::future::pending::<()>().await;
        }
    };
    let liveness = async {
        match &plan.liveness {
            Some(probe) => follow(pod, plan, probe, |_, alive| !alive).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = readiness => {}
        () = liveness => {}
    }
}

async fn started(pod: &Rc<Pod>, plan: &ContainerPlan, probe: &ProbePlan) -> bool {
    let mut up = false;
    follow(pod, plan, probe, |_, result| {
        up = result;
        true
    })
    .await;
    up
}

/// Asks again and again; tells each verdict, and returns when the listener says that it has heard enough.
async fn follow(
    pod: &Rc<Pod>,
    plan: &ContainerPlan,
    probe: &ProbePlan,
    mut tell: impl FnMut(&Pod, bool) -> bool,
) {
    tokio::time::sleep(Duration::from_secs(probe.delay)).await;
    let (mut good, mut bad, mut verdict) = (0, 0, None);
    let mut due = Instant::now();
    loop {
        let on_time = Instant::now() >= due;
        let limit = Duration::from_secs(probe.timeout);
        let ok = tokio::time::timeout(limit, ask(pod, plan, &probe.action)).await.unwrap_or(false);
        (good, bad) = if ok { (good + 1, 0) } else { (0, bad + u32::from(on_time)) };
        if on_time {
            due += Duration::from_secs(probe.period);
        }
        let now = if good >= probe.successes { Some(true) } else { (bad >= probe.failures).then_some(false) };
        if now.is_some() && now != verdict {
            verdict = now;
            if tell(pod, ok) {
                return;
            }
        }
        tokio::time::sleep_until(next(probe, verdict, due)).await;
    }
}

/// Until the first verdict a probe is asked more often than it says, so that pods are ready when they are; only what it
/// would have been asked anyway counts as a failure.
fn next(probe: &ProbePlan, verdict: Option<bool>, due: Instant) -> Instant {
    let early = Instant::now() + Duration::from_millis(250);
    if verdict.is_some() || probe.successes > 1 { due } else { due.min(early) }
}

async fn ask(pod: &Rc<Pod>, plan: &ContainerPlan, action: &Action) -> bool {
    let at = |port: u16| SocketAddr::from((pod.plan.address.v4, port));
    match action {
        Action::Tcp(port) => TcpStream::connect(at(*port)).await.is_ok(),
        Action::Grpc(port, service) => http::serving(at(*port), service).await.unwrap_or(false),
        Action::Http(port, path, headers) => {
            http::get(at(*port), path, headers).await.is_ok_and(|(status, _)| (200..400).contains(&status))
        }
        Action::Exec(argv) => run(pod, plan, argv).await.unwrap_or(false),
    }
}

async fn run(pod: &Rc<Pod>, plan: &ContainerPlan, argv: &[String]) -> anyhow::Result<bool> {
    let inside = pod.status.of(&plan.name).and_then(|c| c.pid);
    let mut command = launch::command(pod, plan, argv, inside)?;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let (_, pid, exited) = pod.reaper.spawn(&mut command)?;
    let guard = Killer(pid);
    let exit = exited.await?;
    std::mem::forget(guard);
    Ok(exit == Exit::Code(0))
}

/// A probe that takes too long does not run on.
struct Killer(nix::unistd::Pid);

impl Drop for Killer {
    fn drop(&mut self) {
        let _ = kill(self.0, Signal::SIGKILL);
    }
}
