//! From what runs to what is wanted: after every input, the next steps of every workload, and everybody told.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use rand::RngExt;
use tokio::time::Instant;

use crate::up::api::Event;
use crate::up::files::Problem;
use crate::up::rollout::{self, Seen, Step, Workload};
use crate::up::services::{self, Backend};
use crate::up::supervisor::controller::Reports;
use crate::up::supervisor::desired::Desired;
use crate::up::supervisor::pods::{Pod, hosts_with_own};
use crate::up::supervisor::{Input, Mesh, objects, pod_dir};

/// A pod that lived this long is replaced at once.
const LONG_LIFE: Duration = Duration::from_secs(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A pause before a workload gets its next pod.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pause {
    until: Instant,
    length: Duration,
}

impl Mesh {
    /// Reads the files that changed, and works out what is wanted now.
    pub(crate) fn read_files(&mut self) {
        if self.folder.refresh() {
            let inputs = self.inputs.clone();
            tokio::task::spawn_local(async move {
                tokio::time::sleep(Duration::from_millis(300)).await;
                let _ = inputs.send(Input::Files);
            });
        }
        let objects: Vec<_> = self.folder.objects().collect();
        let desired = Desired::new(&objects, &self.desired, &mut self.addresses);
        self.desired = desired;
        self.tell_problems();
    }

    /// All that is wrong with the manifests.
    pub(crate) fn errors(&self) -> Vec<Problem> {
        [self.folder.errors(), self.desired.problems.clone(), self.reports.0.clone()].concat()
    }

    /// Takes over what the controller says. Of a file that neither can read, one error is enough.
    pub(crate) fn take_reports(&mut self, (errors, warnings): Reports) {
        let own = self.folder.errors();
        let told = |p: &Problem| p.resource.is_empty() && own.iter().any(|o| o.file == p.file);
        self.reports = (errors.into_iter().filter(|p| !told(p)).collect(), warnings);
        self.tell_problems();
    }

    /// Tells what is new, and when nothing is wrong any more.
    fn tell_problems(&mut self) {
        let errors = self.errors();
        let warnings =
            [self.folder.warnings(), self.desired.warnings.clone(), self.reports.1.clone()].concat();
        let mended = errors.is_empty() && self.had_errors;
        self.had_errors = !errors.is_empty();
        let before = std::mem::take(&mut self.told);
        for error in errors.iter().filter(|p| !before.contains(p)) {
            self.tell(Event::Problem(error.to_string()));
        }
        for warning in warnings.iter().filter(|p| !before.contains(p)) {
            self.tell(Event::Warning(warning.to_string()));
        }
        if mended {
            self.tell(Event::Mended);
        }
        self.told = [errors, warnings].concat();
    }

    /// Takes the next steps, then tells the controller, the network and the pods' hosts files how things stand.
    pub(crate) fn settle(&mut self) {
        if !self.ending {
            let workloads: Vec<Workload> = self.desired.workloads.values().cloned().collect();
            workloads.iter().for_each(|w| self.advance(w));
            let unwanted = self.pods.iter().filter(|(_, p)| !self.desired.workloads.contains_key(&p.owner));
            let unwanted: Vec<String> = unwanted.map(|(uid, _)| uid.clone()).collect();
            unwanted.iter().for_each(|uid| self.end_pod(uid));
        }
        objects::write(self);
        self.route();
        self.tell_ready();
    }

    fn advance(&mut self, workload: &Workload) {
        let of = |pod: &&Pod| pod.owner == workload.key;
        let seen = self.pods.values().filter(of).filter(|p| !p.ending).map(see).collect::<Vec<_>>();
        let held: Vec<String> =
            self.pods.values().filter(of).filter(|p| p.ending).map(|p| p.plan.name.clone()).collect();
        for step in rollout::steps(workload, &seen, &held) {
            match step {
                Step::Make(_) if self.paused(&workload.key) => {}
                Step::Make(Some(name)) => self.make_pod(workload, &name),
                Step::Make(None) => {
                    let name = self.free_name(workload);
                    self.make_pod(workload, &name);
                }
                Step::End(name) => {
                    let uid = self.pods.iter().find(|(_, p)| of(p) && !p.ending && p.plan.name == name);
                    if let Some(uid) = uid.map(|(uid, _)| uid.clone()) {
                        self.end_pod(&uid);
                    }
                }
            }
        }
    }

    fn free_name(&self, workload: &Workload) -> String {
        const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
        loop {
            let mut random = rand::rng();
            let suffix: String =
                (0..5).map(|_| char::from(LETTERS[random.random_range(0..LETTERS.len())])).collect();
            let name = match workload.kind {
                rollout::Kind::Job(..) => format!("{}-{suffix}", workload.name),
                _ => format!("{}-{}-{suffix}", workload.name, workload.revision),
            };
            if !self.pods.values().any(|p| p.plan.name == name) {
                return name;
            }
        }
    }

    /// A workload whose pods die young gets its next one after a pause that grows.
    pub(crate) fn pause(&mut self, workload: &str, lived: Duration) {
        let before = self.pauses.get(workload).map_or(Duration::ZERO, |p| p.length);
        let length = if lived > LONG_LIFE {
            Duration::ZERO
        } else {
            (before * 2).clamp(Duration::from_millis(500), LONGEST_PAUSE)
        };
        self.pauses.insert(workload.to_owned(), Pause { until: Instant::now() + length, length });
        let inputs = self.inputs.clone();
        tokio::task::spawn_local(async move {
            tokio::time::sleep(length).await;
            let _ = inputs.send(Input::Again);
        });
    }

    fn paused(&self, workload: &str) -> bool {
        self.pauses.get(workload).is_some_and(|p| p.until > Instant::now())
    }

    /// Service addresses, publications and hosts files.
    fn route(&mut self) {
        let backends: Vec<Backend<'_>> = self.pods.values().map(backend).collect();
        let rules = self.desired.services.iter().flat_map(|s| s.rules(&backends)).collect();
        let ready = self.start.publish.iter().map(|publish| {
            let named = |s: &&services::Service| {
                s.meta.namespace == publish.namespace && s.meta.name == publish.service
            };
            let service = self.desired.services.iter().find(named);
            let endpoints = service.map(|s| s.endpoints(&backends, publish.port, false)).unwrap_or_default();
            endpoints.into_iter().map(SocketAddr::from).collect()
        });
        *self.published.borrow_mut() = ready.collect();
        self.rules.send_if_modified(|old| {
            let changed = *old != rules;
            *old = rules;
            changed
        });
        let mut shared: BTreeMap<&str, String> = BTreeMap::new();
        for (uid, pod) in &self.pods {
            let namespace = pod.plan.namespace.as_str();
            let hosts = shared.entry(namespace).or_insert_with(|| self.hosts_of(namespace));
            let file = pod_dir(uid).join("hosts");
            // In place: containers have this very file mounted.
            if let Err(e) = overwrite(&file, &hosts_with_own(hosts, &pod.plan)) {
                tracing::debug!("{}: {e}", file.display());
            }
        }
    }

    /// The part of the hosts file that all pods of a namespace share.
    pub(crate) fn hosts_of(&self, namespace: &str) -> String {
        let backends: Vec<Backend<'_>> = self.pods.values().map(backend).collect();
        services::hosts(namespace, &self.desired.services, &backends)
    }

    fn tell_ready(&mut self) {
        let ready = self.is_ready();
        if ready && !self.was_ready {
            self.tell(Event::Ready);
        }
        self.was_ready = ready;
    }

    /// Whether every workload has all its pods, as wanted now and ready, and no others.
    pub(crate) fn is_ready(&self) -> bool {
        let settled = |workload: &Workload| {
            let pods: Vec<Seen> =
                self.pods.values().filter(|p| p.owner == workload.key && !p.ending).map(see).collect();
            rollout::settled(workload, &pods)
        };
        !self.ending && self.history_began() && self.desired.workloads.values().all(settled)
    }

    /// Before the files were first read nothing is wanted, which is not to be ready.
    fn history_began(&self) -> bool {
        self.folder.was_read()
    }
}

fn overwrite(file: &std::path::Path, text: &str) -> std::io::Result<()> {
    use std::io::Write;
    if std::fs::read_to_string(file).is_ok_and(|old| old == text) {
        return Ok(());
    }
    let mut open = std::fs::OpenOptions::new().write(true).open(file)?;
    open.write_all(text.as_bytes())?;
    open.set_len(text.len() as u64)
}

fn see(pod: &Pod) -> Seen {
    Seen {
        name: pod.plan.name.clone(),
        revision: pod.revision.clone(),
        ready: pod.ready(),
        ended: pod.ended(),
    }
}

pub(crate) fn backend(pod: &Pod) -> Backend<'_> {
    Backend {
        namespace: &pod.plan.namespace,
        name: &pod.plan.name,
        labels: &pod.template.metadata.labels,
        spec: &pod.template.spec,
        address: pod.plan.address,
        ready: pod.ready(),
    }
}
