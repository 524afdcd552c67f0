//! Kubernetes' own kinds, as far as the mesh reads them.
//!
//! Fields that nothing here uses are ignored; `null` counts as absent when decoded by `crate::decode`. Values
//! that the API server sets itself may be missing, as in files that a person wrote.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::meta::ObjectMeta;

/// Kubernetes' kinds that the mesh reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CoreKind {
    /// `v1` Namespace.
    Namespace,
    /// `v1` Service.
    Service,
    /// `discovery.k8s.io/v1` EndpointSlice.
    EndpointSlice,
    /// `v1` Pod.
    Pod,
    /// `v1` ServiceAccount.
    ServiceAccount,
    /// `v1` ConfigMap.
    ConfigMap,
}

impl CoreKind {
    /// The kind that a manifest names, if the mesh reads it.
    pub fn lookup(api_version: &str, kind: &str) -> Option<Self> {
        Some(match (api_version, kind) {
            ("v1", "Namespace") => CoreKind::Namespace,
            ("v1", "Service") => CoreKind::Service,
            ("discovery.k8s.io/v1", "EndpointSlice") => CoreKind::EndpointSlice,
            ("v1", "Pod") => CoreKind::Pod,
            ("v1", "ServiceAccount") => CoreKind::ServiceAccount,
            ("v1", "ConfigMap") => CoreKind::ConfigMap,
            _ => return None,
        })
    }
}

/// A number or a name, as a Service's `targetPort` may be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum IntOrString {
    /// A number.
    Int(i64),
    /// A name.
    String(String),
}

/// A namespace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Namespace {
    /// Name and labels; the labels say whether pods get sidecars.
    pub metadata: ObjectMeta,
}

/// A Service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Service {
    /// Name, namespace, labels, annotations.
    pub metadata: ObjectMeta,
    /// Addresses, ports, selector.
    pub spec: ServiceSpec,
}

/// What a Service is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceSpec {
    /// Its address; `None` for a headless one, empty where none is assigned.
    #[serde(rename = "clusterIP", skip_serializing_if = "String::is_empty")]
    pub cluster_ip: String,
    /// All its addresses, the first equal to `clusterIP`.
    #[serde(rename = "clusterIPs", skip_serializing_if = "Vec::is_empty")]
    pub cluster_ips: Vec<String>,
    /// `ClusterIP` (also when empty), `NodePort`, `LoadBalancer` or `ExternalName`.
    #[serde(rename = "type", skip_serializing_if = "String::is_empty")]
    pub type_: String,
    /// Labels of the pods behind it. None means that its endpoints are written by hand.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub selector: BTreeMap<String, String>,
    /// Its ports.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<ServicePort>,
    /// The name that an `ExternalName` Service stands for.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub external_name: String,
    /// Whether pods that are not ready count as endpoints.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub publish_not_ready_addresses: bool,
    /// `IPv4`, `IPv6` or both.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ip_families: Vec<String>,
    /// Further addresses that it claims.
    #[serde(rename = "externalIPs", skip_serializing_if = "Vec::is_empty")]
    pub external_ips: Vec<String>,
}

/// A port of a Service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServicePort {
    /// Its name; may be empty where it is the only one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The number that clients use.
    pub port: i64,
    /// The pods' port, by number or by the name of a container's port. By default `port`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_port: Option<IntOrString>,
    /// `TCP` (also when empty), `UDP` or `SCTP`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub protocol: String,
    /// What is spoken on it; goes before what the name says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_protocol: Option<String>,
}

/// A part of a Service's endpoints.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EndpointSlice {
    /// Name and labels; `kubernetes.io/service-name` names the Service.
    pub metadata: ObjectMeta,
    /// `IPv4`, `IPv6` or `FQDN`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub address_type: String,
    /// The endpoints.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<Endpoint>,
    /// The ports that every endpoint of the slice has.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<EndpointPort>,
}

/// Addresses of one pod or host.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Endpoint {
    /// Its addresses; the first is used.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// Whether it takes traffic.
    pub conditions: EndpointConditions,
    /// The pod behind it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_ref: Option<ObjectReference>,
    /// The node it runs on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    /// The zone it runs in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
}

/// Whether an endpoint takes traffic.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EndpointConditions {
    /// Ready and not ending. Unknown counts as ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready: Option<bool>,
    /// Ready, even if ending.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serving: Option<bool>,
    /// Ending.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub terminating: Option<bool>,
}

/// A port of endpoints.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EndpointPort {
    /// The name of the Service's port.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<i64>,
    /// `TCP` (also when empty), `UDP` or `SCTP`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub protocol: String,
    /// What is spoken on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_protocol: Option<String>,
}

/// A reference to another object.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ObjectReference {
    /// Its kind.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Its name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its namespace.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Its uid.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
}

/// A Pod.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Pod {
    /// Name, namespace, labels, annotations.
    pub metadata: ObjectMeta,
    /// What it runs.
    pub spec: PodSpec,
    /// What the kubelet reports.
    pub status: PodStatus,
}

/// What a Pod runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodSpec {
    /// The account that its identity names; empty means `default`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub service_account_name: String,
    /// The node it runs on.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub node_name: String,
    /// Whether it uses its node's network; such a pod has no sidecar.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub host_network: bool,
    /// Its containers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub containers: Vec<Container>,
    /// Containers that start before the others, sidecars among them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub init_containers: Vec<Container>,
}

/// A container, of which only the ports matter here.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Container {
    /// Its name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its ports.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<ContainerPort>,
}

/// A port that a container listens on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerPort {
    /// Its name, which a Service's `targetPort` may use.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The number.
    pub container_port: i64,
    /// `TCP` (also when empty), `UDP` or `SCTP`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub protocol: String,
}

/// What the kubelet reports of a Pod.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodStatus {
    /// Its address.
    #[serde(rename = "podIP", skip_serializing_if = "String::is_empty")]
    pub pod_ip: String,
    /// All its addresses, the first equal to `podIP`.
    #[serde(rename = "podIPs", skip_serializing_if = "Vec::is_empty")]
    pub pod_ips: Vec<PodIp>,
    /// `Pending`, `Running`, `Succeeded`, `Failed` or `Unknown`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub phase: String,
    /// Conditions, `Ready` among them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<PodCondition>,
}

/// An address of a Pod.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodIp {
    /// The address.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub ip: String,
}

/// A condition of a Pod.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodCondition {
    /// Its name.
    #[serde(rename = "type", skip_serializing_if = "String::is_empty")]
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub status: String,
}

/// A service account.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceAccount {
    /// Name and namespace.
    pub metadata: ObjectMeta,
}

/// A ConfigMap.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConfigMap {
    /// Name and namespace.
    pub metadata: ObjectMeta,
    /// Texts by key.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub data: BTreeMap<String, String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::decode;

    fn read<T: serde::de::DeserializeOwned>(yaml: &str) -> T {
        let value: serde_json::Value = serde_saphyr::from_str(yaml).expect("yaml");
        decode(&value).expect("decodes").value
    }

    #[test]
    fn a_service_decodes() {
        let service: Service = read(
            "metadata: {name: a, creationTimestamp: null}\nspec:\n  clusterIP: 10.0.0.1\n  clusterIPs: [10.0.0.1, 'fd00::1']\n  \
             externalIPs: [192.0.2.1]\n  sessionAffinity: None\n  ports:\n  - {name: http, port: 80, targetPort: web}\n  \
             - {name: tcp, port: 90, targetPort: 9090, appProtocol: tcp}\n",
        );
        assert_eq!(service.spec.cluster_ips, ["10.0.0.1", "fd00::1"]);
        assert_eq!(service.spec.external_ips, ["192.0.2.1"]);
        assert_eq!(service.spec.ports[0].target_port, Some(IntOrString::String("web".into())));
        assert_eq!(service.spec.ports[1].target_port, Some(IntOrString::Int(9090)));
        assert_eq!(service.spec.ports[1].app_protocol.as_deref(), Some("tcp"));
    }

    #[test]
    fn a_pod_decodes() {
        let pod: Pod = read(
            "metadata: {name: p, labels: {app: a}}\nspec:\n  serviceAccountName: sa\n  restartPolicy: Always\n  containers:\n  \
             - {name: c, image: x, ports: [{containerPort: 8080, name: web}]}\nstatus:\n  podIP: 10.1.0.1\n  \
             podIPs: [{ip: 10.1.0.1}]\n  phase: Running\n  conditions: [{type: Ready, status: 'True'}]\n",
        );
        assert_eq!(pod.metadata.label("app"), Some("a"));
        assert_eq!(pod.spec.containers[0].ports[0].container_port, 8080);
        assert_eq!(pod.status.pod_ip, "10.1.0.1");
        assert_eq!(pod.status.conditions[0].type_, "Ready");
    }

    #[test]
    fn an_endpoint_slice_decodes() {
        let slice: EndpointSlice = read(
            "addressType: IPv4\nendpoints:\n- addresses: [10.1.0.1]\n  conditions: {ready: false, serving: true}\n  \
             nodeName: node-1\n  zone: z\n  targetRef: {kind: Pod, name: p}\nports: [{name: http, port: 8080}]\n",
        );
        assert_eq!(slice.endpoints[0].conditions.serving, Some(true));
        assert_eq!(slice.endpoints[0].target_ref.as_ref().map(|r| r.name.as_str()), Some("p"));
        assert_eq!(slice.ports[0].port, Some(8080));
    }
}
