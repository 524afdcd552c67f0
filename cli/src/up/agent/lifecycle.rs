//! The order in which a pod's containers start and end: redirection, the sidecar, init containers one after the other, all
//! others at once; at the end those first, then what ran beside them, the sidecar last.

use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::up::agent::containers::Outcome;
use crate::up::agent::{Pod, containers, sidecar};
use crate::up::plan::{ContainerPlan, Content, PodPlan, SIDECAR};

/// Runs the pod to its end.
///
/// # Errors
/// When the pod cannot be set up.
pub(crate) async fn run(pod: Rc<Pod>, mut stop: watch::Receiver<bool>) -> Result<()> {
    volumes(&pod)?;
    let (end_main, main_ends) = watch::channel(false);
    let (end_beside, beside_ends) = watch::channel(false);
    let (end_sidecar, sidecar_ends) = watch::channel(false);
    let mut beside = Vec::new();
    let sidecar = match &pod.plan.sidecar {
        Some(plan) => Some(sidecar::start(&pod, plan, sidecar_ends).await?),
        None => None,
    };
    let outcome = tokio::select! {
        outcome = main(&pod, &mut beside, (&main_ends, &beside_ends)) => Some(outcome),
        _ = stop.wait_for(|s| *s) => None,
    };
    if outcome.is_none() {
        pod.status.phase("Terminating", "ending");
    }
    // One group after the other.
    end_main.send_replace(true);
    pod.containers_gone(&pod.plan.containers).await;
    end_beside.send_replace(true);
    join_all(beside).await;
    end_sidecar.send_replace(true);
    if let Some(task) = sidecar {
        let _ = tokio::time::timeout(Duration::from_secs(10), task).await;
    }
    match outcome {
        Some(true) => pod.status.phase("Succeeded", "all containers have ended"),
        Some(false) => pod.status.phase("Failed", "a container failed"),
        None => {}
    }
    pod.status.flush().await;
    Ok(())
}

impl Pod {
    async fn containers_gone(&self, plans: &[ContainerPlan]) {
        for plan in plans {
            self.status.until(&plan.name, |c| !c.running).await;
        }
    }
}

async fn main(
    pod: &Rc<Pod>,
    beside: &mut Vec<JoinHandle<Outcome>>,
    (main_ends, beside_ends): (&watch::Receiver<bool>, &watch::Receiver<bool>),
) -> Outcome {
    if pod.plan.sidecar.is_some() {
        pod.status.phase("Pending", "waiting for the sidecar");
        pod.status.until(SIDECAR, |c| c.ready).await;
    }
    for plan in &pod.plan.init {
        pod.status.phase("Pending", &format!("init container {}", plan.name));
        let task = containers::start(pod, plan, beside_ends.clone());
        if plan.beside {
            pod.status.until(&plan.name, |c| c.ready || (c.running && plan.startup.is_none())).await;
            beside.push(task);
        } else if !task.await.unwrap_or(false) {
            return false;
        }
    }
    pod.status.phase("Running", "");
    let tasks = pod.plan.containers.iter().map(|plan| containers::start(pod, plan, main_ends.clone()));
    join_all(tasks.collect()).await
}

/// Whether all of them went well.
async fn join_all(tasks: Vec<JoinHandle<Outcome>>) -> Outcome {
    let mut well = true;
    for task in tasks {
        well &= task.await.unwrap_or(false);
    }
    well
}

fn volumes(pod: &Pod) -> Result<()> {
    let root = pod.dir.join("volumes");
    for volume in &pod.plan.volumes {
        let dir = root.join(&volume.name);
        std::fs::create_dir_all(&dir).with_context(|| format!("make volume {}", volume.name))?;
        let Content::Files(files) = &volume.content else { continue };
        for (path, bytes) in files {
            let path = dir.join(path.trim_start_matches('/'));
            anyhow::ensure!(
                !path.components().any(|c| c.as_os_str() == ".."),
                "volume {}: no .. in paths",
                volume.name
            );
            std::fs::create_dir_all(path.parent().unwrap_or(&dir))?;
            std::fs::write(&path, bytes).with_context(|| format!("fill volume {}", volume.name))?;
        }
    }
    static_files(pod)
}

/// The files under `/etc` that a pod has of its own. The supervisor keeps `hosts` up to date.
fn static_files(pod: &Pod) -> Result<()> {
    std::fs::write(
        pod.dir.join("resolv.conf"),
        "# Names of Services are in /etc/hosts; there is no name server here.\n",
    )?;
    let host = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let known = |uid: u32| host.lines().any(|l| l.split(':').nth(2).is_some_and(|u| u == uid.to_string()));
    let mut users: Vec<u32> = all(&pod.plan).filter_map(|c| c.uid).chain([pod.default_uid()]).collect();
    users.sort_unstable();
    users.dedup();
    let added = users.into_iter().filter(|uid| !known(*uid));
    let lines: String = added.map(|uid| format!("app{uid}:x:{uid}:{uid}::/tmp:/bin/sh\n")).collect();
    std::fs::write(pod.dir.join("passwd"), host + &lines)?;
    Ok(())
}

fn all(plan: &PodPlan) -> impl Iterator<Item = &ContainerPlan> {
    plan.init.iter().chain(&plan.containers)
}
