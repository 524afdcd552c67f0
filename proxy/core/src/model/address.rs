//! What an address means.

use std::sync::Arc;

use ipnet::IpNet;

use super::metadata::WorkloadMetadata;
use super::name::{AddressKey, ServiceName};
use crate::identity::SpiffeId;

/// The answer for one address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// What was asked.
    pub key: AddressKey,
    /// What it means.
    pub meaning: Meaning,
}

/// What an address means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// A port of a service: its ClusterIP or another address of its own.
    Service(ServicePortRef),
    /// A pod.
    Workload(Box<AddressedWorkload>),
    /// An address that several services share: the one that Host or SNI names, else the first.
    Shared(Vec<HostBinding>),
    /// Nothing that the mesh knows; so is every address under the prefix.
    Nothing {
        /// A network that holds the address and nothing that the mesh knows.
        prefix: IpNet,
    },
}

/// A port of a service.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServicePortRef {
    /// The service.
    pub service: ServiceName,
    /// Its port.
    pub port: u16,
}

/// The names by which a Host header or an SNI means a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostBinding {
    /// Lower case, without port; `*.x` stands for every name under `x`.
    pub domains: Vec<Arc<str>>,
    /// The service and port they mean.
    pub target: ServicePortRef,
}

/// A pod behind an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressedWorkload {
    /// Its service account's identity.
    pub identity: Option<SpiffeId>,
    /// Whether a sidecar accepts mTLS on this port.
    pub meshed: bool,
    /// What metrics say of it.
    pub metadata: Arc<WorkloadMetadata>,
    /// For HTTP: the services that own the pod on this port, by the names that the Host header may have.
    pub services: Vec<HostBinding>,
    /// For TCP: the one headless service of the pod on this port.
    pub headless: Option<ServicePortRef>,
    /// What the port carries, as the pod's services declare it.
    pub protocol: super::protocol::Protocol,
}
