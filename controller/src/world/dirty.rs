//! Which resources a change may have changed: what need not be compiled again, is not.

use std::collections::BTreeSet;
use std::sync::Arc;

use weft_core::model::name::ResourceName;

use crate::fragment::destination_rule::DestinationRule;
use crate::fragment::kubernetes::{EndpointSlice, Pod, Service, host_of};
use crate::fragment::virtual_service::VirtualService;

/// Which resources a change may have changed. Too much is only slow; too little is a defect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dirty {
    everything: bool,
    workloads: bool,
    addresses: bool,
    all_services: bool,
    hosts: BTreeSet<Arc<str>>,
    /// Namespaces of which the pods changed: endpoints of their services.
    endpoints: BTreeSet<Arc<str>>,
}

impl Dirty {
    /// Everything.
    pub fn all() -> Self {
        Self { everything: true, ..Self::default() }
    }

    /// Every workload.
    pub fn workloads() -> Self {
        Self { workloads: true, ..Self::default() }
    }

    /// What a service touches: itself, addresses, and the inbound ports of pods behind it.
    pub fn of_service(service: &Service) -> Self {
        let hosts = BTreeSet::from([service.host()]);
        let endpoints = BTreeSet::from([service.meta.name.namespace.clone()]);
        // A route elsewhere may name the service's host: its clusters' ports follow the service's.
        Self { workloads: true, addresses: true, all_services: true, hosts, endpoints, everything: false }
    }

    /// What a pod touches: its own workload, addresses, and endpoints of services in its namespace.
    pub fn of_pod(pod: &Pod) -> Self {
        let endpoints = BTreeSet::from([pod.meta.name.namespace.clone()]);
        Self { workloads: true, addresses: true, endpoints, ..Self::default() }
    }

    /// What an EndpointSlice touches: the endpoints of its service.
    pub fn of_slice(slice: &EndpointSlice) -> Self {
        let hosts = BTreeSet::from([host_of(&slice.service)]);
        let endpoints = BTreeSet::from([slice.service.namespace.clone()]);
        Self { hosts, endpoints, ..Self::default() }
    }

    /// What a VirtualService touches: its hosts; a wildcard is every service.
    pub fn of_virtual_service(object: &VirtualService) -> Self {
        Self::of_hosts(object.hosts.iter())
    }

    /// What a DestinationRule touches: its host; a wildcard is every service.
    pub fn of_destination_rule(object: &DestinationRule) -> Self {
        Self::of_hosts(std::iter::once(&object.host))
    }

    /// Adds what another change touched.
    pub fn add(&mut self, other: Self) {
        self.everything |= other.everything;
        self.workloads |= other.workloads;
        self.addresses |= other.addresses;
        self.all_services |= other.all_services;
        self.hosts.extend(other.hosts);
        self.endpoints.extend(other.endpoints);
    }

    /// Whether nothing was touched.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a resource may have changed.
    pub fn touches(&self, name: &ResourceName) -> bool {
        let service = |host: &Arc<str>, namespace: &Arc<str>| {
            self.all_services || self.hosts.contains(host) || self.endpoints.contains(namespace)
        };
        self.everything
            || match name {
                ResourceName::Workload => self.workloads,
                ResourceName::Address(_) => self.addresses,
                ResourceName::Service(name) => service(&name.host, &name.namespace),
                ResourceName::Endpoints(name) => service(&name.service.host, &name.service.namespace),
            }
    }

    fn of_hosts<'a>(hosts: impl Iterator<Item = &'a Arc<str>>) -> Self {
        let hosts: BTreeSet<_> = hosts.cloned().collect();
        let all_services = hosts.iter().any(|host| host.starts_with('*'));
        Self { all_services, hosts, ..Self::default() }
    }
}
