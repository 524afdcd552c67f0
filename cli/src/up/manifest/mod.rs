//! The Kubernetes objects that a local mesh runs, as far as it runs them.
//!
//! A field that is declared here is honoured, or (where its type is `Meaningless`) has no meaning on one machine. Any
//! other field is reported, with its path, by the reader in `files`.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::up::probe::PortRef;

/// Volumes, and where they appear.
mod volume;
/// Containers.
mod container;

pub use container::{Container, Env, EnvFrom, KeyRef, Port, Resource, Resources, SecurityContext, ValueFrom};
pub use volume::{
    Downward, DownwardItem, FieldRef, HostPath, Item, Mount, ObjectRef, Projected, Source, Volume,
};

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
