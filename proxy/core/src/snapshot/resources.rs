//! What the controller sent, by name: held, known not to exist, or not known yet.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::addresses::AddressTable;
use crate::hash::Map;
use crate::model::address::{Address, Meaning, ServicePortRef};
use crate::model::endpoint::EndpointSlice;
use crate::model::name::{AddressKey, ResourceName, ServiceName, SliceName};
use crate::model::route::HttpAction;
use crate::model::service::Service;
use crate::model::workload::Workload;

/// One resource.
#[derive(Clone, Debug, PartialEq)]
pub enum Resource {
    /// The sidecar's own workload.
    Workload(Arc<Workload>),
    /// What an address means.
    Address(Arc<Address>),
    /// A service.
    Service(Arc<Service>),
    /// A slice of a service's endpoints.
    Endpoints(Arc<EndpointSlice>),
}

/// Every resource that the sidecar holds.
#[derive(Clone, Debug, Default)]
pub struct Resources {
    pub(super) workload: Option<Arc<Workload>>,
    pub(super) addresses: Arc<AddressTable>,
    /// `None`: known not to exist.
    pub(super) services: Map<ServiceName, Option<HeldService>>,
    /// `None`: known not to exist.
    pub(super) slices: Map<SliceName, Option<Arc<EndpointSlice>>>,
}

/// A service, and what follows from it alone.
#[derive(Clone, Debug)]
pub(super) struct HeldService {
    pub(super) told: Arc<Service>,
    /// The services that its routes name, itself left out; each once, in order.
    pub(super) routed: Arc<[ServiceName]>,
}

impl Resource {
    /// The name by which it was asked for.
    pub fn name(&self) -> ResourceName {
        match self {
            Self::Workload(_) => ResourceName::Workload,
            Self::Address(address) => ResourceName::Address(address.key),
            Self::Service(service) => ResourceName::Service(service.name.clone()),
            Self::Endpoints(slice) => ResourceName::Endpoints(slice.name.clone()),
        }
    }
}

impl Resources {
    /// Takes a resource; whether anything changed.
    pub fn apply(&mut self, resource: Resource) -> bool {
        match resource {
            Resource::Workload(new) => replace(&mut self.workload, new),
            Resource::Address(new) => {
                let same = self.addresses.exact(&new.key).is_some_and(|held| *held == new);
                !same && Arc::make_mut(&mut self.addresses).insert(new)
            }
            Resource::Service(new) => self.apply_service(new),
            Resource::Endpoints(new) => replace(self.slices.entry(new.name.clone()).or_default(), new),
        }
    }

    /// Notes that the controller knows no such resource (any more); whether anything changed. A workload is kept:
    /// without one a sidecar could do nothing.
    pub fn remove(&mut self, name: &ResourceName) -> bool {
        match name {
            ResourceName::Workload => false,
            ResourceName::Address(key) => self.forget_address(key),
            ResourceName::Service(name) => !matches!(self.services.insert(name.clone(), None), Some(None)),
            ResourceName::Endpoints(name) => self.slices.insert(name.clone(), None) != Some(None),
        }
    }

    /// Drops a resource that is given back: it is not known from here on; whether anything changed.
    pub fn forget(&mut self, name: &ResourceName) -> bool {
        match name {
            ResourceName::Workload => self.workload.take().is_some(),
            ResourceName::Address(key) => self.forget_address(key),
            ResourceName::Service(name) => self.services.remove(name).is_some(),
            ResourceName::Endpoints(name) => self.slices.remove(name).is_some(),
        }
    }

    /// Whether a resource is held, or known not to exist.
    pub fn knows(&self, name: &ResourceName) -> bool {
        match name {
            ResourceName::Workload => self.workload.is_some(),
            ResourceName::Address(key) => self.addresses.exact(key).is_some(),
            ResourceName::Service(name) => self.services.contains_key(name),
            ResourceName::Endpoints(name) => self.slices.contains_key(name),
        }
    }

    /// A resource that is held.
    pub fn get(&self, name: &ResourceName) -> Option<Resource> {
        match name {
            ResourceName::Workload => self.workload.clone().map(Resource::Workload),
            ResourceName::Address(key) => self.addresses.exact(key).cloned().map(Resource::Address),
            ResourceName::Service(name) => {
                self.services.get(name)?.as_ref().map(|held| Resource::Service(Arc::clone(&held.told)))
            }
            ResourceName::Endpoints(name) => self.slices.get(name)?.clone().map(Resource::Endpoints),
        }
    }

    /// The names of everything held or known not to exist, in no order.
    pub fn names(&self) -> impl Iterator<Item = ResourceName> {
        let workload = self.workload.iter().map(|_| ResourceName::Workload);
        let addresses = self.addresses.iter().map(|address| ResourceName::Address(address.key));
        let services = self.services.keys().cloned().map(ResourceName::Service);
        let slices = self.slices.keys().cloned().map(ResourceName::Endpoints);
        workload.chain(addresses).chain(services).chain(slices)
    }

    /// All that these names lead to, themselves included, held or not: from an address to the services it means,
    /// from a service to its slices and to the services that its routes name. What a sidecar should be subscribed to.
    pub fn reachable(&self, roots: impl IntoIterator<Item = ResourceName>) -> BTreeSet<ResourceName> {
        let mut found = BTreeSet::new();
        let mut open: Vec<_> = roots.into_iter().collect();
        while let Some(name) = open.pop() {
            if !found.contains(&name) {
                open.extend(self.references(&name));
                found.insert(name);
            }
        }
        found
    }

    /// What is named by what is held, and not known yet.
    pub fn missing(&self) -> BTreeSet<ResourceName> {
        let by_addresses = self.addresses.iter().flat_map(|address| meant(address));
        let by_services = self.services.values().flatten().flat_map(named);
        by_addresses.chain(by_services).filter(|name| !self.knows(name)).collect()
    }

    fn references(&self, name: &ResourceName) -> Vec<ResourceName> {
        match name {
            ResourceName::Address(key) => self.addresses.exact(key).map(|a| meant(a)).unwrap_or_default(),
            ResourceName::Service(name) => match self.services.get(name) {
                Some(Some(held)) => named(held).collect(),
                _ => Vec::new(),
            },
            ResourceName::Workload | ResourceName::Endpoints(_) => Vec::new(),
        }
    }

    fn apply_service(&mut self, new: Arc<Service>) -> bool {
        let held = self.services.entry(new.name.clone()).or_default();
        let changed = held.as_ref().is_none_or(|held| held.told != new);
        if changed {
            let routed = routed(&new).into_iter().cloned().collect();
            *held = Some(HeldService { told: new, routed });
        }
        changed
    }

    fn forget_address(&mut self, key: &AddressKey) -> bool {
        self.addresses.exact(key).is_some() && Arc::make_mut(&mut self.addresses).remove(key)
    }
}

/// The services that an address means. Of several that share it, none: the one that a request names is asked for
/// when it is named.
fn meant(address: &Address) -> Vec<ResourceName> {
    let service = |target: &ServicePortRef| ResourceName::Service(target.service.clone());
    match &address.meaning {
        Meaning::Service(target) => vec![service(target)],
        Meaning::Workload(workload) => {
            let by_host = workload.services.iter().map(|binding| &binding.target);
            by_host.chain(&workload.headless).map(service).collect()
        }
        Meaning::Shared(_) | Meaning::Nothing { .. } => Vec::new(),
    }
}

/// What a service names: its slices, and the services of its routes.
fn named(held: &HeldService) -> impl Iterator<Item = ResourceName> {
    let routed = held.routed.iter().cloned().map(ResourceName::Service);
    slices(&held.told).map(ResourceName::Endpoints).chain(routed)
}

/// The slices of a service.
pub(super) fn slices(service: &Service) -> impl Iterator<Item = SliceName> {
    (0..service.slices).map(|slice| SliceName { service: service.name.clone(), slice })
}

/// The services that the routes of a service name, the service itself left out; each once, in order.
pub(super) fn routed(service: &Service) -> BTreeSet<&ServiceName> {
    let http = service.ports.iter().flat_map(|port| &port.http.rules).flat_map(|rule| match &rule.action {
        HttpAction::Forward(forward) => forward.destinations.as_slice(),
        HttpAction::Redirect(_) | HttpAction::Respond(_) => &[],
    });
    let tcp = service.ports.iter().flat_map(|port| &port.tcp).flat_map(|rule| &rule.destinations);
    let names = http.map(|d| &d.cluster.service).chain(tcp.map(|d| &d.cluster.service));
    names.filter(|name| **name != service.name).collect()
}

fn replace<T: PartialEq>(held: &mut Option<Arc<T>>, new: Arc<T>) -> bool {
    let changed = held.as_ref() != Some(&new);
    if changed {
        *held = Some(new);
    }
    changed
}
