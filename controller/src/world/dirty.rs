//! Which resources a change may have changed: what need not be compiled again, is not.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use weft_core::model::name::{ObjectName, ResourceName};

use crate::fragment::destination_rule::DestinationRule;
use crate::fragment::kubernetes::{EndpointSlice, host_of};
use crate::fragment::virtual_service::VirtualService;

/// Which resources a change may have changed. Too much is only slow; too little is a defect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dirty {
    pub(super) everything: bool,
    pub(super) all_workloads: bool,
    pub(super) all_addresses: bool,
    pub(super) all_services: bool,
    /// Pods whose own workload changed.
    pub(super) workloads: BTreeSet<ObjectName>,
    /// Pods for whom everything may have changed.
    pub(super) clients: BTreeSet<ObjectName>,
    /// Addresses that mean something else.
    pub(super) addresses: BTreeSet<IpAddr>,
    /// Hosts of services, for their routes, clusters and endpoints.
    pub(super) hosts: BTreeSet<Arc<str>>,
}

impl Dirty {
    /// Everything.
    pub fn all() -> Self {
        Self { everything: true, ..Self::default() }
    }

    /// Every workload.
    pub fn workloads() -> Self {
        Self { all_workloads: true, ..Self::default() }
    }

    /// What an EndpointSlice touches: the endpoints of its service.
    pub fn of_slice(slice: &EndpointSlice) -> Self {
        Self { hosts: BTreeSet::from([host_of(&slice.service)]), ..Self::default() }
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
        self.all_workloads |= other.all_workloads;
        self.all_addresses |= other.all_addresses;
        self.all_services |= other.all_services;
        self.workloads.extend(other.workloads);
        self.clients.extend(other.clients);
        self.addresses.extend(other.addresses);
        self.hosts.extend(other.hosts);
    }

    /// Whether nothing was touched.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a resource may have changed for a client.
    pub fn touches(&self, client: &ObjectName, name: &ResourceName) -> bool {
        let service = |host: &Arc<str>| self.all_services || self.hosts.contains(host);
        self.everything
            || self.clients.contains(client)
            || match name {
                ResourceName::Workload => self.all_workloads || self.workloads.contains(client),
                ResourceName::Address(key) => {
                    self.all_addresses || self.addresses.contains(&key.ip.to_canonical())
                }
                ResourceName::Service(name) => service(&name.host),
                ResourceName::Endpoints(name) => service(&name.service.host),
            }
    }

    pub(super) fn of_hosts<'a>(hosts: impl Iterator<Item = &'a Arc<str>>) -> Self {
        let hosts: BTreeSet<_> = hosts.cloned().collect();
        let all_services = hosts.iter().any(|host| host.starts_with('*'));
        Self { all_services, hosts, ..Self::default() }
    }
}
