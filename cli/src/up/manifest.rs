//! The Kubernetes objects that a local mesh runs, as far as it runs them.
//!
//! A field that is declared here is honoured, or (where its type is `Meaningless`) has no meaning on one machine. Any
//! other field is reported, with its path, by the reader in `files`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::up::probe::{PortRef, Probe};

/// A field that one machine has no use for: where an image comes from, which node to run on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meaningless;

impl<'de> Deserialize<'de> for Meaningless {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Not as `IgnoredAny`: that is how unknown fields are told from known ones.
        serde_json::Value::deserialize(deserializer).map(|_| Meaningless)
    }
}

/// Labels, annotations and the like.
pub type Map = BTreeMap<String, String>;

/// `metadata`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Meta {
    /// Required, but in templates.
    pub name: String,
    /// `default` when not given.
    pub namespace: String,
    /// Labels.
    pub labels: Map,
    /// Annotations.
    pub annotations: Map,
    pub(crate) uid: Meaningless,
    pub(crate) resource_version: Meaningless,
    pub(crate) creation_timestamp: Meaningless,
    pub(crate) generation: Meaningless,
    pub(crate) managed_fields: Meaningless,
    pub(crate) owner_references: Meaningless,
    pub(crate) generate_name: Meaningless,
    pub(crate) self_link: Meaningless,
    pub(crate) finalizers: Meaningless,
}

/// An object with `metadata` and `spec`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Object<S> {
    /// Which one.
    #[serde(default)]
    pub metadata: Meta,
    /// What is wanted.
    #[serde(default = "Option::default")]
    pub spec: Option<S>,
    #[serde(default)]
    #[serde(rename = "apiVersion")]
    pub(crate) _api_version: Meaningless,
    #[serde(default)]
    #[serde(rename = "kind")]
    pub(crate) _kind: Meaningless,
    #[serde(default)]
    #[serde(rename = "status")]
    pub(crate) _status: Meaningless,
}

/// ConfigMap, or Secret (whose `data` is base64).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Data {
    /// Which one.
    #[serde(default)]
    pub metadata: Meta,
    /// Keys and values.
    #[serde(default)]
    pub data: Map,
    /// A Secret's values as they are.
    #[serde(default)]
    pub string_data: Map,
    /// A ConfigMap's values that are not text, base64.
    #[serde(default)]
    pub binary_data: Map,
    #[serde(default)]
    #[serde(rename = "type")]
    pub(crate) _type: Meaningless,
    #[serde(default)]
    #[serde(rename = "immutable")]
    pub(crate) _immutable: Meaningless,
    #[serde(default)]
    #[serde(rename = "apiVersion")]
    pub(crate) _api_version: Meaningless,
    #[serde(default)]
    #[serde(rename = "kind")]
    pub(crate) _kind: Meaningless,
}

/// A pod template.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Template {
    /// Labels and annotations of its pods.
    pub metadata: Meta,
    /// What runs in them.
    pub spec: PodSpec,
}

/// The `spec` of Deployment, ReplicaSet, StatefulSet, DaemonSet and Job, taken together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkloadSpec {
    /// How many pods; 1 when not given.
    pub replicas: Option<u32>,
    /// What they are.
    pub template: Template,
    /// StatefulSet: `OrderedReady` (default) or `Parallel`.
    pub pod_management_policy: Option<String>,
    /// Job: how many pods must succeed.
    pub completions: Option<u32>,
    /// Job: how many run at once.
    pub parallelism: Option<u32>,
    /// Job: how many failures are borne (default 6).
    pub backoff_limit: Option<u32>,
    /// StatefulSet: claims, each of which becomes an empty directory.
    pub volume_claim_templates: Vec<Claim>,
    pub(crate) selector: Meaningless,
    pub(crate) service_name: Meaningless,
    pub(crate) revision_history_limit: Meaningless,
    pub(crate) progress_deadline_seconds: Meaningless,
    pub(crate) strategy: Meaningless,
    pub(crate) update_strategy: Meaningless,
    pub(crate) ttl_seconds_after_finished: Meaningless,
    pub(crate) min_ready_seconds: Meaningless,
    pub(crate) persistent_volume_claim_retention_policy: Meaningless,
}

/// A claim for storage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Claim {
    /// Its name is the volume's.
    pub metadata: Meta,
    pub(crate) spec: Meaningless,
}

/// A pod's `spec`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodSpec {
    /// What runs.
    pub containers: Vec<Container>,
    /// What runs before, or (with `restartPolicy: Always`) beside.
    pub init_containers: Vec<Container>,
    /// Directories that containers mount.
    pub volumes: Vec<Volume>,
    /// `Always` (default), `OnFailure` or `Never`.
    pub restart_policy: Option<String>,
    /// How long a container may take to end (default 30).
    pub termination_grace_period_seconds: Option<u64>,
    /// Whose identity the pod has; `default` when not given.
    pub service_account_name: Option<String>,
    /// The older spelling.
    pub service_account: Option<String>,
    /// Its host name; the pod's name when not given.
    pub hostname: Option<String>,
    /// Additional lines for the hosts file.
    pub host_aliases: Vec<HostAlias>,
    /// The user that containers run as.
    pub security_context: Option<SecurityContext>,
    pub(crate) node_selector: Meaningless,
    pub(crate) node_name: Meaningless,
    pub(crate) tolerations: Meaningless,
    pub(crate) affinity: Meaningless,
    pub(crate) topology_spread_constraints: Meaningless,
    pub(crate) image_pull_secrets: Meaningless,
    pub(crate) priority_class_name: Meaningless,
    pub(crate) scheduler_name: Meaningless,
    pub(crate) automount_service_account_token: Meaningless,
    pub(crate) enable_service_links: Meaningless,
    pub(crate) subdomain: Meaningless,
    pub(crate) dns_policy: Meaningless,
}

impl PodSpec {
    /// The service account of the pod.
    pub fn account(&self) -> &str {
        let written = self.service_account_name.as_deref().or(self.service_account.as_deref());
        written.filter(|name| !name.is_empty()).unwrap_or("default")
    }
}

/// A line of the hosts file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HostAlias {
    /// The address.
    pub ip: String,
    /// Its names.
    pub hostnames: Vec<String>,
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

/// A field of the pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FieldRef {
    /// `metadata.name`, `status.podIP` and so on.
    pub field_path: String,
    pub(crate) api_version: Meaningless,
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

/// An object of the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ObjectRef {
    /// Its name.
    #[serde(alias = "secretName")]
    pub name: String,
    /// Whether it may be missing.
    pub optional: bool,
    /// Which keys, under which file names; all when empty.
    pub items: Vec<Item>,
    pub(crate) default_mode: Meaningless,
}

/// A key as a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Item {
    /// Which key.
    pub key: String,
    /// The file's path in the volume.
    pub path: String,
    pub(crate) mode: Meaningless,
}

/// A volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Volume {
    /// What mounts call it.
    pub name: String,
    /// An empty directory, in memory.
    pub empty_dir: Option<Meaningless>,
    /// Files from a ConfigMap.
    pub config_map: Option<ObjectRef>,
    /// Files from a Secret.
    pub secret: Option<ObjectRef>,
    /// Files that tell of the pod itself.
    #[serde(rename = "downwardAPI")]
    pub downward_api: Option<Downward>,
    /// Files from several of these.
    pub projected: Option<Projected>,
    /// A path of this machine.
    pub host_path: Option<HostPath>,
    /// Storage: an empty directory here.
    pub persistent_volume_claim: Option<Meaningless>,
}

/// Files that tell of the pod itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Downward {
    /// The files.
    pub items: Vec<DownwardItem>,
    pub(crate) default_mode: Meaningless,
}

/// A file that tells of the pod itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DownwardItem {
    /// The file's path in the volume.
    pub path: String,
    /// What it says.
    pub field_ref: FieldRef,
    pub(crate) mode: Meaningless,
}

/// A volume of several sources.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Projected {
    /// Whose files are in it.
    pub sources: Vec<Source>,
    pub(crate) default_mode: Meaningless,
}

/// One of several sources of a volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Source {
    /// Files from a ConfigMap.
    pub config_map: Option<ObjectRef>,
    /// Files from a Secret.
    pub secret: Option<ObjectRef>,
    /// Files that tell of the pod itself.
    #[serde(rename = "downwardAPI")]
    pub downward_api: Option<Downward>,
}

/// A path of this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HostPath {
    /// The path.
    pub path: String,
    #[serde(rename = "type")]
    pub(crate) _type: Meaningless,
}

/// Where a volume appears in a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Mount {
    /// Which volume.
    pub name: String,
    /// Where.
    pub mount_path: String,
    /// A path inside the volume.
    pub sub_path: Option<String>,
    /// Whether writes are refused.
    pub read_only: bool,
}

/// A Service's `spec`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceSpec {
    /// Which pods serve it.
    pub selector: Map,
    /// Its ports.
    pub ports: Vec<ServicePort>,
    /// Its address; `None` makes it headless; one is chosen when not given.
    #[serde(rename = "clusterIP")]
    pub cluster_ip: Option<String>,
    /// Its addresses, one a family.
    #[serde(rename = "clusterIPs")]
    pub cluster_ips: Vec<String>,
    /// `IPv4`, `IPv6` or both, the first one first.
    pub ip_families: Vec<String>,
    /// `SingleStack`, `PreferDualStack` or `RequireDualStack`.
    pub ip_family_policy: Option<String>,
    /// `ClusterIP` when not given; `ExternalName` has no pods.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Whether pods that are not ready are found by name too.
    pub publish_not_ready_addresses: bool,
    /// The name that an `ExternalName` Service stands for.
    pub external_name: Option<String>,
    pub(crate) session_affinity: Meaningless,
    pub(crate) session_affinity_config: Meaningless,
    pub(crate) allocate_load_balancer_node_ports: Meaningless,
    pub(crate) health_check_node_port: Meaningless,
    #[serde(rename = "loadBalancerIP")]
    pub(crate) load_balancer_ip: Meaningless,
    pub(crate) load_balancer_class: Meaningless,
    pub(crate) load_balancer_source_ranges: Meaningless,
    pub(crate) traffic_distribution: Meaningless,
    pub(crate) internal_traffic_policy: Meaningless,
    pub(crate) external_traffic_policy: Meaningless,
}

impl ServiceSpec {
    /// The name that it stands for, if it is `ExternalName`.
    pub fn external(&self) -> Option<&str> {
        self.external_name.as_deref().filter(|_| self.kind.as_deref() == Some("ExternalName"))
    }
}

/// A port of a Service.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServicePort {
    /// Its name.
    #[serde(default)]
    pub name: Option<String>,
    /// What clients dial.
    pub port: u16,
    /// What pods listen on; `port` when not given.
    #[serde(default)]
    pub target_port: Option<PortRef>,
    /// `TCP` when not given.
    #[serde(default)]
    pub protocol: Option<String>,
    /// `http`, `grpc` and so on, for the controller.
    #[serde(default)]
    pub app_protocol: Option<String>,
    #[serde(default)]
    #[serde(rename = "nodePort")]
    pub(crate) _node_port: Meaningless,
}
