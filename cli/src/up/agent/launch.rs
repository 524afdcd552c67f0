//! Starting and ending processes in a pod.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::sync::oneshot;

use crate::up::agent::Pod;
use crate::up::container::{self, Either, Launch};
use crate::up::logs;
use crate::up::plan::{ContainerPlan, Content, MountPlan};
use crate::up::process::Exit;
use crate::up::rootfs::Bind;

/// The command that runs `argv` as a container's application would run; in the container where it runs now, or one just like it.
pub(crate) fn command(
    pod: &Pod,
    plan: &ContainerPlan,
    argv: &[String],
    inside: Option<u32>,
) -> Result<Command> {
    let root = match inside {
        Some(pid) => Either::Of(pid),
        None => Either::New(binds(pod, plan)?),
    };
    let launch = Launch {
        root,
        uid: plan.uid.unwrap_or_else(|| pod.default_uid()),
        cwd: plan.cwd.as_ref().map_or_else(|| pod.cwd.clone(), PathBuf::from),
        strict_cwd: plan.cwd.is_some(),
    };
    let mut command = container::command(&launch, argv)?;
    command.envs(pod.env.iter().cloned()).envs(plan.env.iter().cloned());
    Ok(command)
}

fn binds(pod: &Pod, plan: &ContainerPlan) -> Result<Vec<Bind>> {
    let own = |name: &str| Bind {
        source: pod.dir.join(name),
        target: PathBuf::from("/etc").join(name),
        read_only: false,
    };
    let etc = ["hosts", "resolv.conf", "passwd"].map(own);
    let mounts = plan.mounts.iter().map(|mount| bind(pod, mount));
    etc.into_iter().map(Ok).chain(mounts).collect()
}

fn bind(pod: &Pod, mount: &MountPlan) -> Result<Bind> {
    let volume = pod.plan.volumes.iter().find(|v| v.name == mount.volume).context("no such volume")?;
    let (mut source, filled) = match &volume.content {
        Content::Host(path) => (PathBuf::from(path), true),
        Content::Empty => (pod.dir.join("volumes").join(&volume.name), false),
        Content::Files(_) => (pod.dir.join("volumes").join(&volume.name), true),
    };
    if let Some(sub) = &mount.sub_path {
        anyhow::ensure!(!sub.split('/').any(|part| part == ".."), "volume {}: no .. in subPath", volume.name);
        source = source.join(sub.trim_start_matches('/'));
        if !filled {
            std::fs::create_dir_all(&source)?;
        }
    }
    Ok(Bind { source, target: PathBuf::from(&mount.target), read_only: mount.read_only })
}

impl Pod {
    /// The user of containers that name none: the one who started the mesh, or an ordinary one when that was root.
    pub(crate) fn default_uid(&self) -> u32 {
        if self.uid == 0 { 1000 } else { self.uid }
    }

    /// Starts a process whose output goes to the log of `name`.
    pub(crate) fn spawn_logged(
        &self,
        command: &mut Command,
        name: &str,
    ) -> Result<(Pid, oneshot::Receiver<Exit>)> {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let (mut child, pid, exited) = self.reaper.spawn(command)?;
        let log = logs::file(&self.dir, name);
        std::fs::create_dir_all(log.parent().unwrap_or(&self.dir))?;
        let streams = [child.stdout.take().map(OwnedFd::from), child.stderr.take().map(OwnedFd::from)];
        for stream in streams.into_iter().flatten() {
            tokio::task::spawn_local(logs::pump(stream, log.clone()));
        }
        Ok((pid, exited))
    }
}

/// Asks a process and its group to end, and makes them after the grace period.
pub(crate) async fn end(pid: Pid, mut exited: oneshot::Receiver<Exit>, grace: Duration) -> Result<Exit> {
    let _ = kill(pid, Signal::SIGTERM);
    let exit = match tokio::time::timeout(grace, &mut exited).await {
        Ok(exit) => exit,
        Err(_) => {
            let _ = kill(pid, Signal::SIGKILL);
            exited.await
        }
    };
    // What it started goes with it.
    let _ = kill(Pid::from_raw(-pid.as_raw()), Signal::SIGKILL);
    exit.context("the container was lost")
}
