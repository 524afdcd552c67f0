//! Answers to what is asked over the control socket.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::sync::mpsc;

use crate::slips::listed;
use crate::up::agent::exec;
use crate::up::api::{Answer, Ask, CONTROLLER, Exec, Logs, ServiceState, State, Target, workload_kind};
use crate::up::supervisor::reconcile::backend;
use crate::up::supervisor::{Input, Inputs, Mesh, controller, pod_dir, pods};
use crate::up::wire::{self, Channel, Listener};
use crate::up::{http, logs};

/// The name that stands for the network between the pods.
pub(crate) const MESH: &str = "@mesh";
/// How often a followed log is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// Takes connections from the mesh's own user, and one question from each.
pub(crate) async fn accept(listener: Listener, inputs: Inputs) {
    loop {
        let Ok(socket) = listener.accept().await else {
            tokio::time::sleep(LOOK).await;
            continue;
        };
        // In this user namespace the mesh's own user is 0.
        if !matches!(wire::peer_uid(std::os::fd::AsFd::as_fd(&socket)), Ok(0)) {
            continue;
        }
        let inputs = inputs.clone();
        tokio::task::spawn_local(async move {
            let Ok(asker) = Channel::new(socket).map(Rc::new) else { return };
            match asker.recv::<Ask>().await {
                Ok(Some((ask, fds))) => drop(inputs.send(Input::Asked(ask, asker, fds))),
                Ok(None) => {}
                Err(e) => drop(asker.send(&Answer::Failed(format!("not understood: {e}")), &[]).await),
            }
        });
    }
}

impl Mesh {
    /// Answers, now or in a task of its own.
    pub(crate) fn answer(&mut self, ask: Ask, asker: Rc<Channel>, fds: Vec<OwnedFd>) {
        let answer = match ask {
            Ask::Watch => return self.watch(asker),
            Ask::State => Ok(Answer::State(Box::new(self.state()))),
            Ask::Controller(path) => return controller_page(path, asker),
            Ask::Exec(exec) if exec.target.name == MESH => return self.exec_here(exec, asker, fds),
            Ask::Exec(ref exec) => match self.agent_of(&exec.target) {
                Ok(agent) => return pods::pass_on(agent, ask, asker, fds),
                Err(e) => Err(e),
            },
            Ask::Connect(target, _) if target.name == CONTROLLER => return controller_connection(asker),
            Ask::Get(ref target, ..) | Ask::Connect(ref target, _) | Ask::Kill(ref target, Some(_), _) => {
                match self.agent_of(target) {
                    Ok(agent) => return pods::pass_on(agent, ask, asker, fds),
                    Err(e) => Err(e),
                }
            }
            Ask::Kill(target, None, signal) => self.kill(&target, signal),
            Ask::Logs(wanted) => match self.log_file(&wanted) {
                Ok(file) => return drop(tokio::task::spawn_local(send_log(file, wanted, asker))),
                Err(e) => Err(e),
            },
            Ask::RunController(run) => {
                self.controller.set(run);
                Ok(Answer::Done)
            }
            Ask::Down => {
                self.end();
                self.settle();
                Ok(Answer::Ending(self.outside))
            }
            Ask::Signal(_) => Err(anyhow::anyhow!("no command runs")),
        };
        let answer = answer.unwrap_or_else(|e| Answer::Failed(format!("{e:#}")));
        self.speak(reply(asker, answer));
        if self.ending && self.pods.is_empty() {
            // The queue must turn once more.
            let _ = self.inputs.send(Input::Again);
        }
    }

    fn watch(&mut self, asker: Rc<Channel>) {
        let (tell, mut told) = mpsc::unbounded_channel();
        for event in &self.history {
            let _ = tell.send(Answer::Event(event.clone()));
        }
        self.watchers.push(tell);
        self.speak(tokio::task::spawn_local(async move {
            while let Some(answer) = told.recv().await {
                if asker.send(&answer, &[]).await.is_err() {
                    return;
                }
            }
        }));
    }

    fn state(&self) -> State {
        let backends: Vec<_> = self.pods.values().map(backend).collect();
        let services = self.desired.services.iter().map(|s| ServiceState {
            namespace: s.meta.namespace.clone(),
            name: s.meta.name.clone(),
            addresses: s.addresses.clone(),
            ports: s.spec.ports.iter().map(|p| p.port).collect(),
            endpoints: s.backends(&backends).filter(|b| b.ready).count(),
        });
        State {
            name: self.start.name.clone(),
            dir: self.start.dir.clone(),
            ready: self.is_ready(),
            controller: self.controller.runs,
            pods: self.pods.values().map(pods::Pod::state).collect(),
            services: services.collect(),
            errors: self.errors().iter().map(ToString::to_string).collect(),
        }
    }

    /// The pod that is meant: by name, or one of a workload's, a ready one if there is one.
    fn pod_of(&self, target: &Target) -> Result<(&String, &pods::Pod)> {
        let (kind, name) = match target.name.split_once('/') {
            Some((kind, name)) => (Some(kind.to_lowercase()), name),
            None => (None, target.name.as_str()),
        };
        let all = || self.pods.iter().filter(|(_, p)| p.plan.namespace == target.namespace);
        let meant = |pod: &pods::Pod| match kind.as_deref() {
            None | Some("pod" | "pods" | "po") => pod.plan.name == name,
            Some(kind) => workload_kind(kind)
                .is_some_and(|kind| pod.owner == format!("{kind} {}/{name}", target.namespace)),
        };
        let found =
            all().filter(|(_, p)| meant(p)).max_by_key(|(_, p)| (p.ready(), !p.ending, p.agent().is_some()));
        found.with_context(|| {
            let names: Vec<&str> = all().map(|(_, p)| p.plan.name.as_str()).collect();
            let elsewhere: BTreeSet<&str> = self.pods.values().map(|p| p.plan.namespace.as_str()).collect();
            let there = match names.is_empty() {
                false => format!("there are: {}", listed(names)),
                true => format!("it has none; there are pods in: {} (choose with -n)", listed(elsewhere)),
            };
            format!("no pod {:?} in namespace {}; {there}", target.name, target.namespace)
        })
    }

    fn agent_of(&self, target: &Target) -> Result<Rc<Channel>> {
        let (_, pod) = self.pod_of(target)?;
        pod.agent().with_context(|| format!("pod {} does not run ({})", pod.plan.name, pod.state().phase))
    }

    fn kill(&self, target: &Target, signal: i32) -> Result<Answer> {
        let pid = if target.name == CONTROLLER {
            self.controller.pid().context("the controller does not run")?
        } else {
            let pid = self.pod_of(target)?.1.pid;
            anyhow::ensure!(pid != 0, "the pod does not run yet");
            Pid::from_raw(i32::try_from(pid)?)
        };
        kill(pid, Signal::try_from(signal)?)?;
        Ok(Answer::Done)
    }

    fn log_file(&self, wanted: &Logs) -> Result<PathBuf> {
        if wanted.target.name == CONTROLLER {
            return Ok(logs::file(&controller::dir(), "controller"));
        }
        let (uid, pod) = self.pod_of(&wanted.target)?;
        let first = pod.plan.containers.first().map_or("", |c| c.name.as_str());
        let container = wanted.container.as_deref().unwrap_or(first);
        let dir = pod_dir(uid);
        let known = pod.report.containers.iter().any(|c| c.name == container) || container == "weft-agent";
        if !known && !logs::file(&dir, container).exists() {
            let names: Vec<&str> = pod.report.containers.iter().map(|c| c.name.as_str()).collect();
            bail!("pod {} has no container {container:?}; there are: {}", pod.plan.name, names.join(", "));
        }
        Ok(logs::file(&dir, container))
    }

    fn exec_here(&self, exec: Exec, asker: Rc<Channel>, fds: Vec<OwnedFd>) {
        let (env, reaper) = (self.start.env.clone(), self.reaper.clone());
        tokio::task::spawn_local(async move {
            let answer = match exec::privileged(&exec, &env) {
                Ok(command) => exec::run(command, fds, &asker, &reaper).await,
                Err(e) => Err(e),
            };
            let answer = answer.unwrap_or_else(|e| Answer::Failed(format!("{e:#}")));
            let _ = asker.send(&answer, &[]).await;
        });
    }
}

fn reply(asker: Rc<Channel>, answer: Answer) -> tokio::task::JoinHandle<()> {
    tokio::task::spawn_local(async move {
        // The asker may be gone.
        let _ = asker.send(&answer, &[]).await;
    })
}

fn controller_page(path: String, asker: Rc<Channel>) {
    tokio::task::spawn_local(async move {
        let limit = Duration::from_secs(5);
        let answer =
            match tokio::time::timeout(limit, http::get(SocketAddr::from(controller::ADMIN), &path, &[]))
                .await
            {
                Ok(Ok((status, body))) => Answer::Http(status, String::from_utf8_lossy(&body).into_owned()),
                Ok(Err(e)) => Answer::Failed(format!("the controller does not answer: {e:#}")),
                Err(_) => Answer::Failed("the controller does not answer".into()),
            };
        let _ = asker.send(&answer, &[]).await;
    });
}

fn controller_connection(asker: Rc<Channel>) {
    tokio::task::spawn_local(exec::hand_out(SocketAddr::from(controller::ADMIN), asker));
}

async fn send_log(file: PathBuf, wanted: Logs, asker: Rc<Channel>) {
    let sent = async {
        let (text, mut position) = logs::tail(&file, wanted.tail)?;
        asker.send(&Answer::Text(text), &[]).await?;
        // Until the asker hangs up.
        while wanted.follow && file.parent().is_some_and(std::path::Path::exists) {
            tokio::time::sleep(LOOK).await;
            let text = logs::more(&file, &mut position)?;
            if !text.is_empty() {
                asker.send(&Answer::Text(text), &[]).await?;
            }
        }
        asker.send(&Answer::Done, &[]).await
    };
    if let Err(e) = sent.await {
        tracing::debug!("log: {e}");
    }
}
