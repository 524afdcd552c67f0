//! What the command line and tests may ask of a running mesh, over its control socket, and what it answers.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::up::intercepted::Intercepted;

/// The name that stands for the controller, where a pod's could be.
pub const CONTROLLER: &str = "@controller";

/// What a starter tells the supervisor, with the control socket and one listener for each publication.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Start {
    /// The mesh's name.
    pub name: String,
    /// The manifests, absolute.
    pub dir: PathBuf,
    /// In the order of the listeners.
    pub publish: Vec<Publish>,
    /// What of the starter's environment containers get: `PATH`, `HOME` and the like.
    pub env: Vec<(String, String)>,
    /// The user who started it, as the machine numbers them.
    pub uid: u32,
}

/// `HOSTPORT:[NAMESPACE/]SERVICE:PORT`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publish {
    /// On this machine's loopback.
    pub host_port: u16,
    /// Where the Service is.
    pub namespace: String,
    /// Which Service.
    pub service: String,
    /// Which of its ports.
    pub port: u16,
}

impl std::str::FromStr for Publish {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not HOSTPORT:[NAMESPACE/]SERVICE:PORT, as in 8080:web:80");
        let [host_port, service, port] = text.split(':').collect::<Vec<_>>()[..] else { return Err(wrong()) };
        let (namespace, service) = service.split_once('/').unwrap_or(("default", service));
        Ok(Self {
            host_port: host_port.parse().map_err(|_| wrong())?,
            namespace: namespace.to_owned(),
            service: service.to_owned(),
            port: port.parse().map_err(|_| wrong())?,
        })
    }
}

/// What the starter and the supervisor say to each other after that.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Started {
    /// The supervisor runs and answers on the control socket.
    Yes,
    /// It cannot; why, and what to do.
    No(String),
    /// From the starter: go on when I am gone.
    Detach,
}

/// A pod, or a workload that stands for one of its pods.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Where it is.
    pub namespace: String,
    /// `NAME` or `KIND/NAME`.
    pub name: String,
}

/// The kind of workloads that users write short: `deploy` for `Deployment`.
pub fn workload_kind(short: &str) -> Option<&'static str> {
    Some(match short {
        "deploy" | "deployment" | "deployments" => "Deployment",
        "sts" | "statefulset" | "statefulsets" => "StatefulSet",
        "job" | "jobs" => "Job",
        "rs" | "replicaset" | "replicasets" => "ReplicaSet",
        "ds" | "daemonset" | "daemonsets" => "DaemonSet",
        _ => return None,
    })
}

/// What can be asked. Unless said otherwise the answer is one [`Answer`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Ask {
    /// [`Answer::Event`]s, first those since the start, until the asker hangs up.
    Watch,
    /// The pods and services: [`Answer::State`].
    State,
    /// A page of the controller's admin port: [`Answer::Http`].
    Controller(String),
    /// Runs a command in a container, or as its sidecar, with the three descriptors given: [`Answer::Exit`].
    Exec(Exec),
    /// The lines that a container wrote: [`Answer::Text`]s, then [`Answer::Done`].
    Logs(Logs),
    /// Sends a signal to a container's process; without a container to the whole pod.
    Kill(Target, Option<String>, i32),
    /// A GET inside the pod's network: [`Answer::Http`].
    Get(Target, u16, String),
    /// A connection to a port of the pod's loopback, or with `@controller` to the controller's admin port:
    /// [`Answer::Done`] with the socket.
    Connect(Target, u16),
    /// Runs the controller, or does not.
    RunController(bool),
    /// While an exec runs: this signal, please.
    Signal(i32),
    /// Ends the mesh.
    Down,
}

/// A command to run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Exec {
    /// In which pod; `@mesh` is the network between the pods.
    pub target: Target,
    /// In which container; the first when not given, `weft-proxy` for the sidecar.
    pub container: Option<String>,
    /// What to run.
    pub argv: Vec<String>,
    /// Further environment (the terminal's type).
    pub env: Vec<(String, String)>,
}

/// Which lines are wanted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Logs {
    /// Of which pod.
    pub target: Target,
    /// Of which container; the first when not given.
    pub container: Option<String>,
    /// How many of the last lines; all that are kept when not given.
    pub tail: Option<usize>,
    /// Whether to wait for more.
    pub follow: bool,
}

/// What is answered.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Answer {
    /// Done.
    Done,
    /// Not done, because.
    Failed(String),
    /// How things stand.
    State(Box<State>),
    /// Something happened.
    Event(Event),
    /// A command ended with this code (128 and the signal's number when killed).
    Exit(i32),
    /// Part of a log.
    Text(String),
    /// A status and a body.
    Http(u16, String),
    /// The mesh is ending; this process of the machine is its last.
    Ending(u32),
}

/// Something that happened, for people to read and tests to wait for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// A pod's state changed: `namespace/name`, and how it is in words.
    Pod(String, String),
    /// Something is wrong with the manifests or with a pod.
    Problem(String),
    /// Nothing is wrong with the manifests any more.
    Mended,
    /// Something has no effect here.
    Warning(String),
    /// Every pod is ready.
    Ready,
    /// Somebody asked for its end.
    Ending,
    /// Anything else worth telling.
    Note(String),
}

/// How things stand.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The mesh's name.
    pub name: String,
    /// The manifests.
    pub dir: PathBuf,
    /// Whether everything is as wanted and ready.
    pub ready: bool,
    /// Whether the controller runs.
    pub controller: bool,
    /// Its pods.
    pub pods: Vec<PodState>,
    /// Its services.
    pub services: Vec<ServiceState>,
    /// What is wrong with the manifests.
    pub errors: Vec<String>,
}

impl State {
    /// What is not ready, for people.
    pub fn lacking(&self) -> String {
        let pods = self.pods.iter().filter(|p| !p.ready && p.phase != "Succeeded");
        let pods = pods.map(|p| {
            format!("{}/{} ({})", p.namespace, p.name, if p.reason.is_empty() { &p.phase } else { &p.reason })
        });
        let all: Vec<String> = pods.chain(self.errors.iter().cloned()).collect();
        if all.is_empty() { "pods are missing".into() } else { all.join("; ") }
    }
}

/// One pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodState {
    /// Where it is.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// `Kind namespace/name` of what it belongs to.
    pub owner: String,
    /// `Pending`, `Running`, `Succeeded`, `Failed` or `Terminating`.
    pub phase: String,
    /// Whether it gets requests.
    pub ready: bool,
    /// Why it is not, in words.
    pub reason: String,
    /// Its addresses.
    pub ips: Vec<std::net::IpAddr>,
    /// Its labels.
    pub labels: crate::up::manifest::Map,
    /// Whose identity it has.
    pub service_account: String,
    /// Its containers, the sidecar among them.
    pub containers: Vec<ContainerState>,
    /// What of its traffic comes to its sidecar.
    pub intercepted: Intercepted,
    /// Its first process, as the mesh numbers processes.
    pub pid: u32,
    /// When it was made, seconds since 1970.
    pub since: u64,
}

/// One container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerState {
    /// Its name.
    pub name: String,
    /// Whether it runs.
    pub running: bool,
    /// Whether its probes say that it is ready.
    pub ready: bool,
    /// How often it was started again.
    pub restarts: u32,
    /// Its process, as its pod numbers processes.
    pub pid: Option<u32>,
    /// How it last ended, or why it does not start.
    pub reason: String,
}

/// One Service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceState {
    /// Where it is.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its addresses.
    pub addresses: Vec<std::net::IpAddr>,
    /// Its ports.
    pub ports: Vec<u16>,
    /// How many pods are ready.
    pub endpoints: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn publications_are_read_as_they_are_written() {
        let publish: Publish = "8080:shop/web:80".parse().unwrap();
        assert_eq!((publish.host_port, publish.namespace.as_str(), publish.port), (8080, "shop", 80));
        assert!("8080:80".parse::<Publish>().unwrap_err().contains("8080:web:80"));
    }
}
