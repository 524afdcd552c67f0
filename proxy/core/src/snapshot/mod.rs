//! What a sidecar holds of its configuration: one immutable view, swapped whole, held for the length of a request.
//!
//! `Resources` are what the controller sent, by name. `Snapshot::build` makes of them a view in which everything
//! that a request needs is already found: rules hold their clusters, clusters their endpoints, endpoints how they
//! are dialled. What did not change is shared with the view before; what is under way is taken over from it.

use std::sync::Arc;

use crate::hash::Map;
use crate::model::address::{Address, ServicePortRef};
use crate::model::name::{AddressKey, ClusterName, ResourceName, ServiceName};
use crate::model::protocol::Protocol;
use crate::model::service::Service;
use crate::model::workload::Workload;
pub use crate::route::{RuleState, TcpRuleState};
pub use crate::upstream::{ClusterState, EndpointState};

use addresses::AddressTable;
use clusters::ServiceClusters;
pub use resources::{Resource, Resources};

/// Which resource answers for an address.
mod addresses;
/// What the controller sent.
mod resources;
/// The clusters of a service with their endpoints.
mod clusters;
/// The rules of a service with the clusters they name.
mod services;
/// A new view from the one before.
mod build;

/// One view of the configuration.
#[derive(Debug)]
pub struct Snapshot {
    generation: u64,
    next_endpoint: u64,
    workload: Option<Arc<Workload>>,
    addresses: Arc<AddressTable>,
    clusters: Map<ServiceName, Arc<ServiceClusters>>,
    services: Map<ServiceName, Arc<ServiceState>>,
    passthrough: Arc<ClusterState>,
}

/// A new view, and what it waits for.
#[derive(Debug)]
pub struct Built {
    /// The view.
    pub snapshot: Snapshot,
    /// What addresses and routes name and what has not come yet, in order: to be asked for.
    pub wanted: Vec<ResourceName>,
}

/// A service as it runs.
#[derive(Debug)]
pub struct ServiceState {
    /// What the controller told.
    pub service: Arc<Service>,
    /// Its ports, in the service's order.
    pub ports: Vec<Arc<PortState>>,
    /// Its clusters, and those of other services that its rules name.
    sources: Vec<(ServiceName, Option<Arc<ServiceClusters>>)>,
}

/// A port of a service as it runs.
#[derive(Debug)]
pub struct PortState {
    /// Its number.
    pub number: u16,
    /// Its name; empty where it has none.
    pub name: Arc<str>,
    /// What it carries.
    pub protocol: Protocol,
    /// The rules for requests; never empty: where the controller told none, one that leads to the service itself.
    pub rules: Vec<Arc<RuleState>>,
    /// The rules for connections; never empty either.
    pub tcp: Vec<Arc<TcpRuleState>>,
    /// The cluster of the port itself, without subset; `None`: there is none (`no_cluster`).
    pub cluster: Option<Arc<ClusterState>>,
}

impl Default for Snapshot {
    fn default() -> Self {
        let service = ServiceName::new("", "PassthroughCluster");
        Self {
            generation: 0,
            next_endpoint: 0,
            workload: None,
            addresses: Arc::default(),
            clusters: Map::default(),
            services: Map::default(),
            passthrough: ClusterState::passthrough(ClusterName { service, port: 0, subset: None }),
        }
    }
}

impl Snapshot {
    /// The view of these resources, after `previous`.
    ///
    /// A service is swapped in only when every service that its routes name is known, with its endpoints (or known
    /// not to exist); until then it stays as it was, or absent.
    pub fn build(previous: &Self, resources: &Resources) -> Built {
        build::build(previous, resources)
    }

    /// A number that grows with every build: what was found in a view may be kept while the number stays.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The sidecar's own workload; `None` until it has come: nothing is let in or out before.
    pub fn workload(&self) -> Option<&Arc<Workload>> {
        self.workload.as_ref()
    }

    /// What an address means: the answer for it, else an answer `Nothing` whose prefix covers it; `None`: not known,
    /// ask.
    pub fn address(&self, key: AddressKey) -> Option<&Arc<Address>> {
        self.addresses.find(key)
    }

    /// A service; `None`: it has not come, or not with all that its routes name.
    pub fn service(&self, name: &ServiceName) -> Option<&Arc<ServiceState>> {
        self.services.get(name)
    }

    /// A port of a service.
    pub fn port(&self, of: &ServicePortRef) -> Option<(&Arc<ServiceState>, &Arc<PortState>)> {
        let service = self.service(&of.service)?;
        Some((service, service.port(of.port)?))
    }

    /// Every service, in no order.
    pub fn services(&self) -> impl Iterator<Item = &Arc<ServiceState>> {
        self.services.values()
    }

    /// Every cluster, in no order.
    pub fn all_clusters(&self) -> impl Iterator<Item = &Arc<ClusterState>> {
        self.clusters.values().flat_map(|of_service| of_service.all())
    }

    /// A cluster by its name.
    pub fn cluster(&self, name: &ClusterName) -> Option<&Arc<ClusterState>> {
        self.clusters.get(&name.service)?.find(name)
    }

    /// The cluster of addresses that mean nothing, where the outbound mode lets them out.
    pub fn passthrough(&self) -> &Arc<ClusterState> {
        &self.passthrough
    }
}

impl ServiceState {
    /// The port of this number.
    pub fn port(&self, number: u16) -> Option<&Arc<PortState>> {
        self.ports.iter().find(|port| port.number == number)
    }
}

#[cfg(test)]
mod tests;
