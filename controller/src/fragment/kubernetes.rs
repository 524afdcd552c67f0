//! Kubernetes' own kinds, as far as the mesh reads them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use weft_core::model::name::{ObjectName, ServiceName};
use weft_core::model::protocol::Protocol;
use xxhash_rust::xxh64::xxh64;

use super::mesh::CLUSTER_DOMAIN;
use super::meta::{Meta, Selector, Visibility};

/// A Service.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// Name, age, labels, annotations.
    pub meta: Meta,
    /// `clusterIPs`; empty for a headless service.
    pub addresses: Vec<IpAddr>,
    /// `externalIPs`: bind only clients of its own namespace.
    pub external_addresses: Vec<IpAddr>,
    /// `selector`; `None` where there is none: endpoints come from slices.
    pub selector: Option<Selector>,
    /// `ports`.
    pub ports: Vec<ServicePort>,
    /// `externalName`.
    pub external_name: Option<Arc<str>>,
    /// `publishNotReadyAddresses`.
    pub publish_not_ready: bool,
    /// `networking.istio.io/exportTo`.
    pub visibility: Visibility,
    /// `weft.dev/allow-routes-from`: whose VirtualServices and DestinationRules may shape it for others.
    pub routes_from: Vec<Arc<str>>,
}

/// One port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// `name`; empty where there is none.
    pub name: Arc<str>,
    /// `port`.
    pub number: u16,
    /// What it carries.
    pub protocol: Protocol,
    /// `targetPort`.
    pub target: TargetPort,
}

/// `targetPort`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetPort {
    /// A number.
    Number(u16),
    /// The name of a container's port.
    Name(Arc<str>),
}

/// A Pod.
#[derive(Clone, Debug, PartialEq)]
pub struct Pod {
    /// Name, labels, annotations.
    pub meta: Meta,
    /// The hash of `metadata.uid`, by [`uid_hash`]; 0 where there is none.
    pub uid: u64,
    /// `status.podIPs`.
    pub addresses: Vec<IpAddr>,
    /// `spec.serviceAccountName`.
    pub service_account: Arc<str>,
    /// `spec.nodeName`.
    pub node: Arc<str>,
    /// The owner's name: a Deployment, a StatefulSet, a Job; else the pod's own.
    pub workload: Arc<str>,
    /// Whether it may take traffic: the condition `Ready`, and not being deleted.
    pub ready: bool,
    /// Whether it has ended (`status.phase` `Succeeded` or `Failed`).
    pub ended: bool,
    /// Whether a sidecar is in it (annotation `weft.dev/status`, or label `security.istio.io/tlsMode: istio`).
    pub meshed: bool,
    /// Whether it shares its node's network (`spec.hostNetwork`): its address is not its own.
    pub host_network: bool,
    /// Sampling of traces, as its annotations say it.
    pub sampling: Sampling,
    /// Named ports of its containers.
    pub ports: Arc<[(Arc<str>, u16)]>,
}

/// Sampling of traces in percent, as a pod's annotations say it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sampling {
    /// `weft.dev/trace-sampling`: goes before every Telemetry.
    pub own: Option<f64>,
    /// `tracing.sampling` of `proxy.istio.io/config`: as Istio's, goes behind.
    pub config: Option<f64>,
}

/// An EndpointSlice.
#[derive(Clone, Debug, PartialEq)]
pub struct EndpointSlice {
    /// Name.
    pub meta: Meta,
    /// The service (`kubernetes.io/service-name`).
    pub service: ObjectName,
    /// Ports by name.
    pub ports: Vec<(Arc<str>, u16)>,
    /// Addresses that are ready.
    pub endpoints: Vec<SliceEndpoint>,
}

/// One address of an EndpointSlice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SliceEndpoint {
    /// The address.
    pub ip: IpAddr,
    /// The pod behind it.
    pub pod: Option<ObjectName>,
    /// Whether it may take traffic.
    pub ready: bool,
    /// Its zone.
    pub zone: Arc<str>,
}

/// A Namespace.
#[derive(Clone, Debug, PartialEq)]
pub struct Namespace {
    /// The name.
    pub name: Arc<str>,
    /// Labels.
    pub labels: Arc<BTreeMap<String, String>>,
}

/// What tells a pod from a later one of its name, in few bytes.
pub fn uid_hash(uid: &str) -> u64 {
    if uid.is_empty() { 0 } else { xxh64(uid.as_bytes(), 0) }
}

impl Service {
    /// The service's fully qualified host.
    pub fn host(&self) -> Arc<str> {
        host_of(&self.meta.name)
    }

    /// Whether objects of a namespace shape its traffic for clients everywhere: its own do, and those it grants this to.
    pub fn is_shaped_from(&self, namespace: &str) -> bool {
        *self.meta.name.namespace == *namespace
            || self.routes_from.iter().any(|granted| matches!(&**granted, "*") || **granted == *namespace)
    }

    /// The name under which sidecars ask for it.
    pub fn service_name(&self) -> ServiceName {
        ServiceName { namespace: self.meta.name.namespace.clone(), host: self.host() }
    }
}

impl ServicePort {
    /// The port on which a pod serves it; without a pod, only a number tells.
    pub fn target_on(&self, pod: Option<&Pod>) -> Option<u16> {
        match &self.target {
            TargetPort::Number(number) => Some(*number),
            TargetPort::Name(name) => {
                let ports = &pod?.ports;
                ports.iter().find(|(known, _)| known == name).map(|(_, number)| *number)
            }
        }
    }
}

/// The fully qualified host of a Kubernetes service.
pub fn host_of(name: &ObjectName) -> Arc<str> {
    format!("{}.{}.svc.{CLUSTER_DOMAIN}", name.name, name.namespace).into()
}
