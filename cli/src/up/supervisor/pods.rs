//! Pods' lives: made, linked to the network, followed through their agents' reports, ended.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::Stdio;
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use base64::Engine;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::up::agent::{self, Order, Report, Surroundings};
use crate::up::api::{Event, PodState};
use crate::up::injection::annotated;
use crate::up::intercepted::Intercepted;
use crate::up::manifest::Template;
use crate::up::net::{self, PodAddress};
use crate::up::plan::{PodPlan, SidecarPlan};
use crate::up::process::{self, Reaper};
use crate::up::rollout::{Kind, Workload};
use crate::up::supervisor::{HOME, Input, Inputs, Mesh, pod_dir};
use crate::up::values::Identity;
use crate::up::wire::Channel;
use crate::up::{logs, resolve, wire};

/// A pod.
pub(crate) struct Pod {
    pub(crate) plan: PodPlan,
    /// Its workload's key and revision.
    pub(crate) owner: String,
    pub(crate) revision: String,
    /// Labels and ports; its labels are complete.
    pub(crate) template: Template,
    pub(crate) kind: Kind,
    pub(crate) owner_name: String,
    pub(crate) pid: u32,
    pub(crate) report: Report,
    pub(crate) ending: bool,
    pub(crate) made: Instant,
    pub(crate) since: u64,
    agent: Option<Rc<Channel>>,
    /// The task that starts it and listens to its agent.
    task: AbortHandle,
}

impl Pod {
    /// What became of it, once it has ended by itself.
    pub(crate) fn ended(&self) -> Option<bool> {
        match self.report.phase.as_str() {
            "Succeeded" => Some(true),
            "Failed" => Some(false),
            _ => None,
        }
    }

    /// Whether it may get requests.
    pub(crate) fn ready(&self) -> bool {
        self.report.ready && !self.ending
    }

    /// Its agent's line, while there is one.
    pub(crate) fn agent(&self) -> Option<Rc<Channel>> {
        self.agent.clone()
    }

    /// How it stands.
    pub(crate) fn state(&self) -> PodState {
        PodState {
            namespace: self.plan.namespace.clone(),
            name: self.plan.name.clone(),
            owner: self.owner.clone(),
            phase: if self.ending { "Terminating".into() } else { self.report.phase.clone() },
            ready: self.ready(),
            reason: self.reason(),
            ips: self.plan.address.all(),
            labels: self.template.metadata.labels.clone(),
            service_account: self.template.spec.account().to_owned(),
            containers: self.report.containers.clone(),
            intercepted: Intercepted(self.plan.sidecar.as_ref().and_then(|it| it.redirect.clone())),
            pid: self.pid,
            since: self.since,
        }
    }

    fn reason(&self) -> String {
        if self.ended().is_some() {
            return self.report.reason.clone();
        }
        let waiting = self.report.containers.iter().find(|c| !c.ready && !c.reason.is_empty());
        match (&self.report.reason, waiting) {
            (_, Some(c)) => format!("{}: {}", c.name, c.reason),
            (reason, None) => reason.clone(),
        }
    }
}

impl Mesh {
    /// Makes a pod of a workload under this name.
    pub(crate) fn make_pod(&mut self, workload: &Workload, name: &str) {
        let (nth, uid) = (self.made, format!("{:06}", self.made));
        self.made += 1;
        let address = PodAddress::nth(nth, net::has_ipv6());
        let (namespace, name) = (workload.namespace.clone(), name.to_owned());
        let identity = Identity { uid: uid.clone(), namespace, name, address };
        let template = labelled(workload, &identity.name);
        let made = resolve::plan(&identity, &template, self.desired.refs()).map_err(anyhow::Error::msg);
        let made = made.and_then(|plan| self.start_pod(&uid, plan, workload, template));
        if let Err(e) = made {
            self.tell(Event::Problem(format!("{}: {e:#}", workload.key)));
        }
    }

    fn start_pod(
        &mut self,
        uid: &str,
        mut plan: PodPlan,
        workload: &Workload,
        template: Template,
    ) -> Result<()> {
        if workload.injected {
            plan.sidecar = Some(sidecar(&plan, &template).map_err(anyhow::Error::msg)?);
        }
        let dir = pod_dir(uid);
        fs::create_dir_all(dir.join("logs"))?;
        fs::write(dir.join("plan.json"), serde_json::to_vec(&plan)?)?;
        let (env, cwd) = (self.start.env.clone(), self.start.dir.clone());
        fs::write(
            dir.join("surroundings.json"),
            serde_json::to_vec(&Surroundings { env, cwd, uid: self.start.uid })?,
        )?;
        fs::write(dir.join("hosts"), hosts_with_own(&self.hosts_of(&plan.namespace), &plan))?;
        if plan.sidecar.is_some() {
            token(&dir, &plan, template.spec.account())?;
        }
        let link = format!("pod{}", self.made);
        let launch =
            Launch { uid: uid.to_owned(), link, address: plan.address, meshed: plan.sidecar.is_some() };
        let task =
            tokio::task::spawn_local(launch.run(self.reaper.clone(), self.inputs.clone())).abort_handle();
        let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let report = Report { phase: "Pending".into(), reason: "starting".into(), ..Report::default() };
        let pod = Pod {
            plan,
            owner: workload.key.clone(),
            revision: workload.revision.clone(),
            template,
            kind: workload.kind,
            owner_name: workload.name.clone(),
            pid: 0,
            report,
            ending: false,
            made: Instant::now(),
            since,
            agent: None,
            task,
        };
        self.pods.insert(uid.to_owned(), pod);
        Ok(())
    }

    /// A pod's agent runs.
    pub(crate) fn linked(&mut self, uid: &str, pid: u32, channel: Rc<Channel>) {
        let Some(pod) = self.pods.get_mut(uid) else { return };
        pod.pid = pid;
        pod.agent = Some(Rc::clone(&channel));
        send(channel, Order::Go);
    }

    /// A pod's agent reports.
    pub(crate) fn reported(&mut self, uid: &str, report: Report) {
        let Some(pod) = self.pods.get_mut(uid) else { return };
        let before = describe(pod);
        pod.report = report;
        let (name, now) = (full_name(&pod.plan), describe(pod));
        if before != now {
            self.tell(Event::Pod(name, now));
        }
    }

    /// A pod's agent is gone, and with it everything in the pod.
    pub(crate) fn gone(&mut self, uid: &str, why: Option<String>) {
        let Some(pod) = self.pods.get_mut(uid) else { return };
        pod.agent = None;
        if pod.ended().is_some() && !pod.ending {
            return;
        }
        let (name, owner, lived, wanted) =
            (full_name(&pod.plan), pod.owner.clone(), pod.made.elapsed(), pod.ending);
        self.forget(uid);
        let how = match (&why, wanted) {
            (Some(why), _) => format!("cannot start: {why}"),
            (None, true) => "gone".into(),
            (None, false) => "died".into(),
        };
        self.tell(Event::Pod(name, how));
        if !wanted {
            self.pause(&owner, lived);
        }
    }

    /// Ends a pod. It gets no more requests from now on.
    pub(crate) fn end_pod(&mut self, uid: &str) {
        let Some(pod) = self.pods.get_mut(uid) else { return };
        if std::mem::replace(&mut pod.ending, true) {
            return;
        }
        match &pod.agent {
            Some(agent) => send(Rc::clone(agent), Order::Stop),
            None => {
                // It has ended already, or is only about to start: an agent without a line ends.
                pod.task.abort();
                self.forget(uid);
            }
        }
    }

    fn forget(&mut self, uid: &str) {
        let Some(pod) = self.pods.remove(uid) else { return };
        // All of it is in memory and goes with the mesh at the latest.
        let _ = fs::remove_dir_all(pod_dir(uid));
        let _ = fs::remove_file(token_file(&pod.plan));
    }
}

/// The hosts file of a pod.
pub(crate) fn hosts_with_own(shared: &str, plan: &PodPlan) -> String {
    let own = plan.address.all().into_iter().map(|address| format!("{address} {}\n", plan.hostname));
    let more = plan.host_aliases.iter().map(|alias| format!("{alias}\n"));
    own.chain(more).fold(shared.to_owned(), |text, line| text + &line)
}

/// `namespace/name`; pods of several namespaces may share a name.
fn full_name(plan: &PodPlan) -> String {
    format!("{}/{}", plan.namespace, plan.name)
}

fn describe(pod: &Pod) -> String {
    let state = pod.state();
    match (state.ready, state.reason.is_empty()) {
        (true, _) => "ready".into(),
        (false, true) => format!("{}, not ready", state.phase.to_lowercase()),
        (false, false) => format!("{}, {}", state.phase.to_lowercase(), state.reason),
    }
}

fn send(channel: Rc<Channel>, order: Order) {
    tokio::task::spawn_local(async move {
        // An agent that is gone is noticed elsewhere.
        let _ = channel.send(&order, &[]).await;
    });
}

/// The labels that Kubernetes' own controllers add.
fn labelled(workload: &Workload, pod: &str) -> Template {
    let mut template = workload.template.clone();
    let labels = &mut template.metadata.labels;
    match workload.kind {
        Kind::Interchangeable => drop(labels.insert("pod-template-hash".into(), workload.revision.clone())),
        Kind::Numbered(_) => drop(labels.insert("statefulset.kubernetes.io/pod-name".into(), pod.to_owned())),
        Kind::Job(..) => drop(labels.insert("batch.kubernetes.io/job-name".into(), workload.name.clone())),
        Kind::Pod => {}
    }
    template
}

fn sidecar(plan: &PodPlan, template: &Template) -> Result<SidecarPlan, String> {
    let said = annotated(&template.metadata)?;
    let addresses: Vec<String> = plan.address.all().iter().map(ToString::to_string).collect();
    let variable = |name: &str, value: String| (name.to_owned(), value);
    // All processes of the mesh are in one cgroup: what it uses is not for one sidecar to shed.
    let mut env = vec![variable("WEFT_WORKERS", "1".into()), variable("WEFT_MEMORY_WATCH", "false".into())];
    env.extend(said.env);
    // Ours come last: they hold.
    env.extend([
        variable("WEFT_POD_NAME", plan.name.clone()),
        variable("WEFT_POD_NAMESPACE", plan.namespace.clone()),
        variable("WEFT_POD_IPS", addresses.join(",")),
        variable("WEFT_SERVICE_ACCOUNT", template.spec.account().to_owned()),
        variable("WEFT_CONTROLLER", format!("https://{}:15012", net::GATEWAY)),
    ]);
    Ok(SidecarPlan { env, redirect: said.redirect })
}

fn token_file(plan: &PodPlan) -> std::path::PathBuf {
    Path::new(HOME).join("tokens").join(format!("{}.{}.{}.json", plan.namespace, plan.name, plan.uid))
}

/// The pod's token: one copy for its sidecar, one for the controller to check it against.
fn token(dir: &Path, plan: &PodPlan, account: &str) -> Result<()> {
    let token = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
    write_secret(&dir.join("token"), token.as_bytes())?;
    let record = serde_json::json!({
        "token": token, "namespace": plan.namespace, "pod": plan.name, "serviceAccount": account,
    });
    let file = token_file(plan);
    let new = file.with_extension("new");
    write_secret(&new, &serde_json::to_vec(&record)?)?;
    Ok(fs::rename(new, file)?)
}

fn write_secret(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    fs::OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(path)?.write_all(bytes)
}

/// Starting a pod, beside everything else.
struct Launch {
    uid: String,
    /// The name of the link's end in the mesh's network.
    link: String,
    address: PodAddress,
    meshed: bool,
}

impl Launch {
    async fn run(self, reaper: Reaper, inputs: Inputs) {
        let uid = self.uid.clone();
        let why = match self.start(&reaper).await {
            Ok((pid, channel)) => {
                let channel = Rc::new(channel);
                let _ = inputs.send(Input::Linked(uid.clone(), pid, Rc::clone(&channel)));
                while let Ok(Some((report, _))) = channel.recv::<Report>().await {
                    let _ = inputs.send(Input::Reported(uid.clone(), report));
                }
                None
            }
            Err(e) => Some(format!("{e:#}")),
        };
        let _ = inputs.send(Input::Gone(uid, why));
    }

    async fn start(&self, reaper: &Reaper) -> Result<(u32, Channel)> {
        if self.meshed {
            self.root_certificate().await?;
        }
        let (ours, theirs) = wire::pair()?;
        let pid = self.boot(theirs, reaper).await?;
        net::attach(pid, &self.link, self.address).await?;
        Ok((pid, Channel::new(ours)?))
    }

    async fn boot(&self, socket: OwnedFd, reaper: &Reaper) -> Result<u32> {
        let log = logs::file(&pod_dir(&self.uid), "weft-agent");
        let errors = fs::OpenOptions::new().create(true).append(true).open(&log)?;
        let mut command = process::role(agent::BOOT_ROLE);
        command.arg(pod_dir(&self.uid));
        command.stdin(Stdio::from(socket)).stdout(Stdio::piped()).stderr(errors);
        let (mut child, _, _) = reaper.spawn(&mut command)?;
        drop(command);
        let output = OwnedFd::from(child.stdout.take().context("no output")?);
        let mut said = String::new();
        let mut output = pipe::Receiver::from_owned_fd(output)?;
        // The agent holds the pipe too: its number is the first line.
        while !said.ends_with('\n') {
            let mut buffer = [0; 32];
            let read = output.read(&mut buffer).await?;
            anyhow::ensure!(read > 0, "{}", fs::read_to_string(&log).unwrap_or_default().trim());
            said.push_str(&String::from_utf8_lossy(&buffer[..read]));
        }
        said.trim().parse().context("the agent's process number")
    }

    /// The controller makes it when it starts; without it a sidecar could not tell who the controller is.
    async fn root_certificate(&self) -> Result<()> {
        let (from, to) = (Path::new(HOME).join("ca/root-cert.pem"), pod_dir(&self.uid).join("root-cert.pem"));
        while !from.exists() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        fs::copy(from, to).map(drop).context("copy the mesh's root certificate")
    }
}

/// Passes an asker on to a pod's agent, which answers itself.
pub(crate) fn pass_on(agent: Rc<Channel>, ask: crate::up::api::Ask, asker: Rc<Channel>, fds: Vec<OwnedFd>) {
    tokio::task::spawn_local(async move {
        let all: Vec<_> = std::iter::once(asker.as_fd()).chain(fds.iter().map(AsFd::as_fd)).collect();
        if let Err(e) = agent.send(&Order::Serve(ask), &all).await {
            let _ = asker.send(&crate::up::api::Answer::Failed(format!("the pod is gone: {e}")), &[]).await;
        }
    });
}
