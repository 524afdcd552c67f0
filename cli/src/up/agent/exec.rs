//! What users do in a pod: run commands, ask its ports, send signals. Answers go straight to the asker.

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::net::TcpStream;

use crate::up::agent::{Pod, launch};
use crate::up::api::{Answer, Ask, Exec};
use crate::up::http;
use crate::up::plan::SIDECAR;
use crate::up::process::Reaper;
use crate::up::wire::Channel;

/// How long connecting inside a pod may take.
const CONNECT: Duration = Duration::from_secs(5);

/// Does what was asked; the first descriptor is the asker's socket, the others are streams.
pub(crate) async fn serve_in_pod(pod: Rc<Pod>, ask: Ask, mut fds: Vec<OwnedFd>) {
    if fds.is_empty() {
        return;
    }
    let Ok(asker) = Channel::new(fds.remove(0)) else { return };
    let answer = match ask {
        // The sidecar's admin port is on the loopback only.
        Ask::Connect(_, port) => {
            return hand_out(SocketAddr::from(([127, 0, 0, 1], port)), Rc::new(asker)).await;
        }
        Ask::Exec(exec) => run_in_pod(&pod, &exec, fds, &asker).await,
        Ask::Get(_, port, path) => get(&pod, port, &path).await,
        Ask::Kill(_, Some(container), signal) => send_signal(&pod, &container, signal),
        other => Err(anyhow::anyhow!("not something a pod does: {other:?}")),
    };
    let answer = answer.unwrap_or_else(|e| Answer::Failed(format!("{e:#}")));
    // The asker may be gone.
    let _ = asker.send(&answer, &[]).await;
}

/// Connects to an address of this network, and gives the asker the socket.
pub(crate) async fn hand_out(to: SocketAddr, asker: Rc<Channel>) {
    let connected = tokio::time::timeout(CONNECT, TcpStream::connect(to)).await;
    let sent = match connected {
        Ok(Ok(stream)) => asker.send(&Answer::Done, &[stream.as_fd()]).await,
        Ok(Err(e)) => asker.send(&Answer::Failed(format!("nobody listens at {to}: {e}")), &[]).await,
        Err(_) => asker.send(&Answer::Failed(format!("{to} does not answer")), &[]).await,
    };
    // The asker may be gone.
    drop(sent);
}

/// Runs a command with the three streams of the asker; it ends when the asker does.
///
/// # Errors
/// When it cannot be started.
pub async fn run(
    mut command: Command,
    streams: Vec<OwnedFd>,
    asker: &Channel,
    reaper: &Reaper,
) -> Result<Answer> {
    let [input, output, errors] =
        <[OwnedFd; 3]>::try_from(streams).ok().context("three streams are needed")?;
    command.stdin(Stdio::from(input)).stdout(Stdio::from(output)).stderr(Stdio::from(errors));
    let (_, pid, mut exited) = reaper.spawn(&mut command)?;
    // The streams must be open in the command only, so that their readers see its end.
    drop(command);
    loop {
        tokio::select! {
            exit = &mut exited => return Ok(Answer::Exit(exit.context("the command was lost")?.code())),
            ask = asker.recv::<Ask>() => match ask {
                Ok(Some((Ask::Signal(signal), _))) => { let _ = kill(Pid::from_raw(-pid.as_raw()), Signal::try_from(signal)?); }
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => {
                    let _ = kill(Pid::from_raw(-pid.as_raw()), Signal::SIGKILL);
                    let _ = kill(pid, Signal::SIGKILL);
                    bail!("the asker hung up");
                }
            },
        }
    }
}

/// A command in the mesh's own namespaces, with the mesh's rights: a sidecar's, or the network's.
pub fn privileged(exec: &Exec, env: &[(String, String)]) -> Result<Command> {
    let program = exec.argv.first().context("no command was given")?;
    let mut command = Command::new(program);
    command
        .args(&exec.argv[1..])
        .process_group(0)
        .env_clear()
        .envs(env.iter().cloned())
        .envs(exec.env.iter().cloned());
    Ok(command)
}

async fn run_in_pod(pod: &Rc<Pod>, exec: &Exec, streams: Vec<OwnedFd>, asker: &Channel) -> Result<Answer> {
    let command = if exec.container.as_deref() == Some(SIDECAR) {
        privileged(exec, &pod.env)?
    } else {
        in_container(pod, exec).await?
    };
    run(command, streams, asker, &pod.reaper).await
}

async fn in_container(pod: &Rc<Pod>, exec: &Exec) -> Result<Command> {
    let wanted = exec.container.as_deref();
    let all = || pod.plan.containers.iter().chain(&pod.plan.init);
    let plan = match wanted {
        None => pod.plan.containers.first(),
        Some(name) => all().find(|c| c.name == name),
    };
    let names = || all().map(|c| c.name.as_str()).collect::<Vec<_>>().join(", ");
    let plan = plan.with_context(|| format!("no such container; there are {}", names()))?;
    if exec.argv.is_empty() {
        bail!("no command was given");
    }
    let pid = settled(pod, &plan.name).await;
    let mut command = launch::command(pod, plan, &exec.argv, pid)?;
    command.envs(exec.env.iter().cloned());
    Ok(command)
}

/// The process of a container, once it has become the application: before, its file system is not there yet.
async fn settled(pod: &Rc<Pod>, container: &str) -> Option<u32> {
    let pid = pod.status.of(container)?.pid?;
    let own = std::fs::read_link("/proc/self/ns/user").ok();
    for _ in 0..100 {
        let theirs = std::fs::read_link(PathBuf::from(format!("/proc/{pid}/ns/user"))).ok()?;
        if Some(theirs) != own {
            return Some(pid);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    None
}

async fn get(pod: &Pod, port: u16, path: &str) -> Result<Answer> {
    // The sidecar's admin port is on the loopback; everything else may be on the pod's address only.
    let own = SocketAddr::from((pod.plan.address.v4, port));
    let local = SocketAddr::from(([127, 0, 0, 1], port));
    let (status, body) = match http::get(local, path, &[]).await {
        Ok(answer) => answer,
        Err(_) => http::get(own, path, &[]).await?,
    };
    Ok(Answer::Http(status, String::from_utf8_lossy(&body).into_owned()))
}

fn send_signal(pod: &Pod, container: &str, signal: i32) -> Result<Answer> {
    let record = pod.status.of(container).with_context(|| format!("no container is called {container}"))?;
    let pid = record.pid.with_context(|| format!("{container} does not run"))?;
    kill(Pid::from_raw(i32::try_from(pid)?), Signal::try_from(signal)?)?;
    Ok(Answer::Done)
}
