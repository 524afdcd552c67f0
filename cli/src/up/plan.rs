//! What one pod's agent has to run, with every value resolved.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::up::net::PodAddress;

/// The image that needs no image.
pub const ECHO_IMAGE: &str = "weft/echo";
/// The container name by which the sidecar is known.
pub const SIDECAR: &str = "weft-proxy";

/// What one pod's agent runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PodPlan {
    /// Unique in this mesh, for ever.
    pub uid: String,
    /// Where it is.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What `hostname` says in it.
    pub hostname: String,
    /// Its addresses.
    pub address: PodAddress,
    /// When ended containers start again.
    pub restart: Restart,
    /// Seconds that containers may take to end.
    pub grace: u64,
    /// What runs first, in this order.
    pub init: Vec<ContainerPlan>,
    /// What runs.
    pub containers: Vec<ContainerPlan>,
    /// What they share.
    pub volumes: Vec<VolumePlan>,
    /// Its sidecar.
    pub sidecar: Option<SidecarPlan>,
    /// Further lines of its hosts file.
    pub host_aliases: Vec<String>,
}

/// When ended containers start again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Restart {
    /// Whenever they end.
    Always,
    /// When they fail.
    OnFailure,
    /// Not.
    Never,
}

/// One container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContainerPlan {
    /// Its name.
    pub name: String,
    /// Program and arguments; the program `weft/echo` is this binary's own.
    pub argv: Vec<String>,
    /// Its whole environment but for what every container gets.
    pub env: Vec<(String, String)>,
    /// Where it starts.
    pub cwd: Option<String>,
    /// Its user; never 0.
    pub uid: Option<u32>,
    /// Whether it is an init container that runs on beside the others.
    pub beside: bool,
    /// What it mounts.
    pub mounts: Vec<MountPlan>,
    /// Whether it may get requests.
    pub readiness: Option<ProbePlan>,
    /// Whether it must be restarted.
    pub liveness: Option<ProbePlan>,
    /// Whether it has started.
    pub startup: Option<ProbePlan>,
}

/// A volume in a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountPlan {
    /// Which volume.
    pub volume: String,
    /// A path in it.
    pub sub_path: Option<String>,
    /// Where it appears.
    pub target: String,
    /// Whether writes are refused.
    pub read_only: bool,
}

/// A volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumePlan {
    /// Its name.
    pub name: String,
    /// What is in it.
    pub content: Content,
}

/// What is in a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    /// Nothing, at first.
    Empty,
    /// Files by path.
    Files(BTreeMap<String, Vec<u8>>),
    /// A path of this machine.
    Host(String),
}

/// A probe, defaults filled in; times in seconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbePlan {
    /// What is asked.
    pub action: Action,
    /// Before the first.
    pub delay: u64,
    /// Between two.
    pub period: u64,
    /// For one.
    pub timeout: u64,
    /// Failures in a row that count.
    pub failures: u32,
    /// Successes in a row that count.
    pub successes: u32,
}

/// What a probe asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// A command's exit code.
    Exec(Vec<String>),
    /// A port, path and headers.
    Http(u16, String, Vec<(String, String)>),
    /// A port.
    Tcp(u16),
    /// A port and a service's name, by gRPC's protocol of health.
    Grpc(u16, String),
}

/// A pod's sidecar.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SidecarPlan {
    /// Its environment.
    pub env: Vec<(String, String)>,
    /// What is redirected to it, as arguments of `weft-proxy redirect`; `None` for nothing.
    pub redirect: Option<Vec<String>>,
}
