//! `(world, client, name) -> resource`: pure and deterministic. Defaults and precedence live here and nowhere else.

/// Who a pod is to metrics; where it runs.
pub mod metadata;
/// Which namespaces' objects count for whom.
pub mod scope;
/// Which mTLS mode holds on a port of a pod.
pub mod mtls;
/// Endpoints from pods and slices.
pub mod endpoint;
/// What an address means.
pub mod address;
/// Clusters from DestinationRules.
pub mod cluster;
/// The policies that apply to a pod.
pub mod policy;
/// Route rules from VirtualServices.
pub mod route;
/// Services.
pub mod service;
/// What a pod's sidecar tells of its traffic.
pub mod telemetry;
/// A pod's own workload.
pub mod workload;

use std::sync::Arc;

use weft_core::model::address::Address;
use weft_core::model::endpoint::EndpointSlice;
use weft_core::model::name::{ObjectName, ResourceName};
use weft_core::model::service::Service;
use weft_core::model::workload::{TrustBundle, Workload};

use crate::fragment::kubernetes::Pod;
use crate::world::World;

/// A resource for one client.
#[derive(Clone, Debug, PartialEq)]
pub enum Resource {
    /// The client's own workload.
    Workload(Workload),
    /// What an address means.
    Address(Address),
    /// A service; one that does not exist has no ports and no clusters.
    Service(Service),
    /// Endpoints; of a service that does not exist, none.
    Endpoints(EndpointSlice),
}

/// What resources are compiled from, and for whom.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// All that is known.
    pub world: &'a World,
    /// Whose certificates are believed.
    pub trust: &'a [TrustBundle],
    /// The pod that asks.
    pub client: &'a Pod,
}

/// Compiles the resource of a name for a pod; `None` while the pod itself is not known.
pub fn compile(
    world: &World,
    trust: &[TrustBundle],
    client: &ObjectName,
    name: &ResourceName,
) -> Option<Resource> {
    let client: &Arc<Pod> = world.pods.get(client)?;
    let context = Context { world, trust, client };
    Some(match name {
        ResourceName::Workload => Resource::Workload(workload::workload(context)?),
        ResourceName::Address(key) => Resource::Address(address::address(context, *key)),
        ResourceName::Service(name) => Resource::Service(service::service(context, name)),
        ResourceName::Endpoints(name) => Resource::Endpoints(endpoint::slice(context, name)),
    })
}

#[cfg(test)]
mod tests;
