//! Containers, and what they get to know.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Meaningless;
use super::volume::{FieldRef, Mount, ObjectRef};
use crate::up::probe::Probe;

/// A container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Container {
    /// Unique in its pod.
    pub name: String,
    /// Not used, but `weft/echo` is built in.
    pub image: String,
    /// The program.
    pub command: Vec<String>,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its environment.
    pub env: Vec<Env>,
    /// More of it.
    pub env_from: Vec<EnvFrom>,
    /// Where it starts; the manifests' directory when not given.
    pub working_dir: Option<String>,
    /// Names for ports, which Services and probes may use.
    pub ports: Vec<Port>,
    /// What it mounts.
    pub volume_mounts: Vec<Mount>,
    /// Whether it may get requests.
    pub readiness_probe: Option<Probe>,
    /// Whether it must be restarted.
    pub liveness_probe: Option<Probe>,
    /// Whether it has started; the other probes wait for it.
    pub startup_probe: Option<Probe>,
    /// Init containers: `Always` makes it run beside the others.
    pub restart_policy: Option<String>,
    /// The user.
    pub security_context: Option<SecurityContext>,
    pub(crate) image_pull_policy: Meaningless,
    /// What it may use: nothing holds it to that here, but variables may tell of it.
    pub resources: Resources,
    pub(crate) termination_message_path: Meaningless,
    pub(crate) termination_message_policy: Meaningless,
    pub(crate) tty: Meaningless,
    pub(crate) stdin: Meaningless,
}

/// `resources`, by the names of resources: quantities, as numbers or as text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Resources {
    /// The most.
    pub limits: BTreeMap<String, serde_json::Value>,
    /// The least.
    pub requests: BTreeMap<String, serde_json::Value>,
    pub(crate) claims: Meaningless,
}

/// A port of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Port {
    /// What Services and probes may call it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its number.
    pub container_port: u16,
    /// `TCP` when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
}

/// One variable.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Env {
    /// Its name.
    pub name: String,
    /// Its value, where `$(OTHER)` stands for an earlier variable.
    pub value: Option<String>,
    /// Or where its value comes from.
    pub value_from: Option<ValueFrom>,
}

/// Where a variable's value comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ValueFrom {
    /// A field of the pod.
    pub field_ref: Option<FieldRef>,
    /// A limit or request of the container.
    pub resource_field_ref: Option<Resource>,
    /// A key of a ConfigMap.
    pub config_map_key_ref: Option<KeyRef>,
    /// A key of a Secret.
    pub secret_key_ref: Option<KeyRef>,
}

/// A limit or request of the container itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Resource {
    /// `limits.cpu` and the like.
    pub resource: String,
    /// The unit in which it is told; 1 when not given.
    pub divisor: Option<serde_json::Value>,
    pub(crate) container_name: Meaningless,
}

/// A key of a ConfigMap or Secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KeyRef {
    /// Which object.
    pub name: String,
    /// Which key.
    pub key: String,
    /// Whether it may be missing.
    pub optional: bool,
}

/// All keys of a ConfigMap or Secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EnvFrom {
    /// A ConfigMap.
    pub config_map_ref: Option<ObjectRef>,
    /// A Secret.
    pub secret_ref: Option<ObjectRef>,
    /// Put before each name.
    pub prefix: String,
}

/// `securityContext`: the user, which is never root here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SecurityContext {
    /// The user id.
    pub run_as_user: Option<u32>,
    pub(crate) run_as_group: Meaningless,
    pub(crate) run_as_non_root: Meaningless,
    pub(crate) fs_group: Meaningless,
    pub(crate) fs_group_change_policy: Meaningless,
    pub(crate) allow_privilege_escalation: Meaningless,
    pub(crate) seccomp_profile: Meaningless,
    pub(crate) capabilities: Meaningless,
    // Nothing that a container writes outside its own directories stays, and none is root.
    pub(crate) read_only_root_filesystem: Meaningless,
    pub(crate) privileged: Meaningless,
    pub(crate) supplemental_groups: Meaningless,
}
