//! From hosts and addresses to objects: made anew after each batch that changed something.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use weft_core::model::name::ObjectName;

use super::World;
use crate::fragment::destination_rule::DestinationRule;
use crate::fragment::kubernetes::{EndpointSlice, Service};
use crate::fragment::sidecar::host_matches;
use crate::fragment::virtual_service::VirtualService;

/// What is found by host and by address.
#[derive(Clone, Debug, Default)]
pub struct Index {
    /// Fully qualified host to service.
    pub services_by_host: HashMap<Arc<str>, ObjectName>,
    /// ClusterIPs to their service, the oldest first.
    pub services_by_address: HashMap<IpAddr, Vec<ObjectName>>,
    /// `externalIPs` to their services.
    pub services_by_external_address: HashMap<IpAddr, Vec<ObjectName>>,
    /// Pod addresses to pods; those of pods that have ended or share their node's are left out.
    pub pods_by_address: HashMap<IpAddr, ObjectName>,
    /// Every address that means something, in order.
    pub known_addresses: BTreeSet<IpAddr>,
    /// EndpointSlices by service.
    pub slices_by_service: HashMap<ObjectName, Vec<Arc<EndpointSlice>>>,
    /// VirtualServices by host, the oldest first.
    pub virtual_services: ByHost<VirtualService>,
    /// DestinationRules by host, the oldest first.
    pub destination_rules: ByHost<DestinationRule>,
}

/// Objects by the hosts they speak of.
#[derive(Clone, Debug)]
pub struct ByHost<T> {
    exact: HashMap<Arc<str>, Vec<Arc<T>>>,
    /// `*.x`, the most specific first.
    wildcards: Vec<(Arc<str>, Vec<Arc<T>>)>,
}

impl Index {
    pub(super) fn of(world: &World) -> Self {
        let mut index = Self::default();
        let mut services: Vec<&Arc<Service>> = world.services.values().collect();
        services.sort_by(|a, b| a.meta.age.cmp(&b.meta.age));
        for service in services {
            index.add_service(service);
        }
        for pod in world.pods.values().filter(|pod| !pod.ended && !pod.host_network) {
            for ip in &pod.addresses {
                index.pods_by_address.insert(ip.to_canonical(), pod.meta.name.clone());
                index.known_addresses.insert(ip.to_canonical());
            }
        }
        for slice in world.slices.values() {
            index.slices_by_service.entry(slice.service.clone()).or_default().push(slice.clone());
        }
        let mut objects: Vec<_> = world.virtual_services.in_force().cloned().collect();
        objects.sort_by(|a, b| a.meta.age.cmp(&b.meta.age));
        index.virtual_services = ByHost::of(objects, |o| o.hosts.clone());
        let mut objects: Vec<_> = world.destination_rules.in_force().cloned().collect();
        objects.sort_by(|a, b| a.meta.age.cmp(&b.meta.age));
        index.destination_rules = ByHost::of(objects, |o| vec![o.host.clone()]);
        index
    }

    fn add_service(&mut self, service: &Arc<Service>) {
        let name = &service.meta.name;
        self.services_by_host.insert(service.host(), name.clone());
        for ip in &service.addresses {
            self.services_by_address.entry(ip.to_canonical()).or_default().push(name.clone());
            self.known_addresses.insert(ip.to_canonical());
        }
        for ip in &service.external_addresses {
            self.services_by_external_address.entry(ip.to_canonical()).or_default().push(name.clone());
            self.known_addresses.insert(ip.to_canonical());
        }
    }
}

impl<T> Default for ByHost<T> {
    fn default() -> Self {
        Self { exact: HashMap::new(), wildcards: Vec::new() }
    }
}

impl<T> ByHost<T> {
    fn of(objects: Vec<Arc<T>>, hosts: impl Fn(&T) -> Vec<Arc<str>>) -> Self {
        let mut by_host = Self::default();
        let mut wildcards: HashMap<Arc<str>, Vec<Arc<T>>> = HashMap::new();
        for object in objects {
            for host in hosts(&object) {
                let wild = host.starts_with('*');
                let table = if wild { &mut wildcards } else { &mut by_host.exact };
                table.entry(host).or_default().push(object.clone());
            }
        }
        by_host.wildcards = wildcards.into_iter().collect();
        by_host.wildcards.sort_by(|(a, _), (b, _)| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        by_host
    }

    /// The groups of objects that speak of a host: those that name it, then by wildcard, the most specific first.
    pub fn groups<'a, 'h>(&'a self, host: &'h str) -> impl Iterator<Item = &'a [Arc<T>]> + use<'a, 'h, T> {
        let exact = self.exact.get(host).map(Vec::as_slice);
        let wild = self.wildcards.iter().filter(move |(pattern, _)| host_matches(pattern, host));
        exact.into_iter().chain(wild.map(|(_, objects)| objects.as_slice()))
    }
}
