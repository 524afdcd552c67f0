//! From hosts, addresses and labels to objects: after each batch, the parts are made anew of which something changed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use weft_core::model::name::ObjectName;
use xxhash_rust::xxh64::Xxh64;

use super::World;
use crate::fragment::destination_rule::DestinationRule;
use crate::fragment::kubernetes::{EndpointSlice, Pod, Service};
use crate::fragment::virtual_service::VirtualService;

/// What is found by host, by address and by label. Each part is shared with the index before it while nothing in it changes.
#[derive(Clone, Debug, Default)]
pub struct Index {
    /// Fully qualified host to service.
    pub services_by_host: Arc<HashMap<Arc<str>, ObjectName>>,
    /// ClusterIPs to their service, the oldest first.
    pub services_by_address: Arc<HashMap<IpAddr, Vec<ObjectName>>>,
    /// `externalIPs` to their services.
    pub services_by_external_address: Arc<HashMap<IpAddr, Vec<ObjectName>>>,
    /// Services by one label of their selectors, the oldest first.
    pub(super) services_by_label: Arc<HashMap<LabelHash, Vec<Arc<Service>>>>,
    /// By namespace, the hosts of services that select no pods: their endpoints are written by hand.
    pub services_without_selector: Arc<HashMap<Arc<str>, Vec<Arc<str>>>>,
    /// Pod addresses to pods; those of pods that have ended or share their node's are left out.
    pub pods_by_address: Arc<HashMap<IpAddr, ObjectName>>,
    /// Pods by each of their labels, but for those that every pod has a value of its own of.
    pub(super) pods_by_label: Arc<HashMap<LabelHash, Vec<Arc<Pod>>>>,
    /// Every address that means something, in order.
    pub known_addresses: Arc<BTreeSet<IpAddr>>,
    /// EndpointSlices by service.
    pub slices_by_service: Arc<HashMap<ObjectName, Vec<Arc<EndpointSlice>>>>,
    /// VirtualServices by host, the oldest first.
    pub virtual_services: Arc<ByHost<VirtualService>>,
    /// From a host to the hosts whose VirtualServices lead to it.
    pub routed_to: Arc<HashMap<Arc<str>, Vec<Arc<str>>>>,
    /// DestinationRules by host, the oldest first.
    pub destination_rules: Arc<ByHost<DestinationRule>>,
}

/// Of which kinds something changed since the index was made.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stale {
    pub(super) services: bool,
    pub(super) pods: bool,
    pub(super) slices: bool,
    pub(super) virtual_services: bool,
    pub(super) destination_rules: bool,
}

/// Objects by the hosts they speak of.
#[derive(Clone, Debug)]
pub struct ByHost<T> {
    exact: BTreeMap<Arc<str>, Vec<Arc<T>>>,
    /// By what follows the `*`: empty, or `.x`.
    wildcards: HashMap<Arc<str>, Vec<Arc<T>>>,
}

/// A hash of namespace, key and value: what is found by it is looked at again.
pub(super) type LabelHash = u64;

pub(super) fn label_hash(namespace: &str, key: &str, value: &str) -> LabelHash {
    let mut hash = Xxh64::new(0);
    for part in [namespace, key, value] {
        hash.update(part.as_bytes());
        hash.update(&[0]);
    }
    hash.digest()
}

/// Labels that tell pods apart rather than bring them together.
const SELDOM_SELECTED: [&str; 6] = [
    "pod-template-hash",
    "controller-revision-hash",
    "statefulset.kubernetes.io/pod-name",
    "apps.kubernetes.io/pod-index",
    "batch.kubernetes.io/controller-uid",
    "controller-uid",
];

/// Whether pods are found by a label.
pub(super) fn is_indexed(label: &str) -> bool {
    !SELDOM_SELECTED.contains(&label)
}

impl Index {
    /// The index of a world, of which `stale` says what changed.
    pub(super) fn renewed(&self, world: &World, stale: Stale) -> Self {
        let mut index = self.clone();
        if stale.services {
            index.take_services(world);
        }
        if stale.pods {
            index.take_pods(world);
        }
        if stale.services || stale.pods {
            let services = index.services_by_address.keys().chain(index.services_by_external_address.keys());
            index.known_addresses = Arc::new(services.chain(index.pods_by_address.keys()).copied().collect());
        }
        if stale.slices {
            let mut slices: HashMap<ObjectName, Vec<Arc<EndpointSlice>>> = HashMap::new();
            for slice in world.slices.values() {
                slices.entry(slice.service.clone()).or_default().push(slice.clone());
            }
            index.slices_by_service = Arc::new(slices);
        }
        if stale.virtual_services {
            let mut objects: Vec<_> = world.virtual_services.in_force().cloned().collect();
            objects.sort_by(|a, b| a.meta.age.cmp(&b.meta.age));
            index.routed_to = Arc::new(routed_to(&objects));
            index.virtual_services = Arc::new(ByHost::of(objects, |o| &o.hosts));
        }
        if stale.destination_rules {
            let mut objects: Vec<_> = world.destination_rules.in_force().cloned().collect();
            objects.sort_by(|a, b| a.meta.age.cmp(&b.meta.age));
            index.destination_rules = Arc::new(ByHost::of(objects, |o| std::slice::from_ref(&o.host)));
        }
        index
    }

    fn take_services(&mut self, world: &World) {
        let mut services: Vec<&Arc<Service>> = world.services.values().collect();
        services.sort_by(|a, b| a.meta.age.cmp(&b.meta.age));
        let (mut by_host, mut by_label) = (HashMap::new(), HashMap::<_, Vec<_>>::new());
        let mut by_address: HashMap<IpAddr, Vec<ObjectName>> = HashMap::new();
        let mut by_external: HashMap<IpAddr, Vec<ObjectName>> = HashMap::new();
        let mut without_selector: HashMap<Arc<str>, Vec<Arc<str>>> = HashMap::new();
        for service in services {
            let name = &service.meta.name;
            by_host.insert(service.host(), name.clone());
            for ip in &service.addresses {
                by_address.entry(ip.to_canonical()).or_default().push(name.clone());
            }
            for ip in &service.external_addresses {
                by_external.entry(ip.to_canonical()).or_default().push(name.clone());
            }
            match service.selector.as_ref().and_then(|selector| selector.0.first()) {
                Some((key, value)) => {
                    by_label
                        .entry(label_hash(&name.namespace, key, value))
                        .or_default()
                        .push(service.clone());
                }
                None => without_selector.entry(name.namespace.clone()).or_default().push(service.host()),
            }
        }
        self.services_by_host = Arc::new(by_host);
        self.services_by_address = Arc::new(by_address);
        self.services_by_external_address = Arc::new(by_external);
        self.services_by_label = Arc::new(by_label);
        self.services_without_selector = Arc::new(without_selector);
    }

    fn take_pods(&mut self, world: &World) {
        let (mut by_address, mut by_label) = (HashMap::new(), HashMap::<_, Vec<_>>::new());
        for pod in world.pods.values() {
            let name = &pod.meta.name;
            if !pod.ended && !pod.host_network {
                by_address.extend(pod.addresses.iter().map(|ip| (ip.to_canonical(), name.clone())));
            }
            for (key, value) in pod.meta.labels.iter().filter(|(key, _)| is_indexed(key)) {
                by_label.entry(label_hash(&name.namespace, key, value)).or_default().push(pod.clone());
            }
        }
        self.pods_by_address = Arc::new(by_address);
        self.pods_by_label = Arc::new(by_label);
    }
}

fn routed_to(objects: &[Arc<VirtualService>]) -> HashMap<Arc<str>, Vec<Arc<str>>> {
    let mut routed: HashMap<Arc<str>, Vec<Arc<str>>> = HashMap::new();
    for object in objects {
        for target in object.targets() {
            routed.entry(target.host.clone()).or_default().extend(object.hosts.iter().cloned());
        }
    }
    routed
}

impl<T> Default for ByHost<T> {
    fn default() -> Self {
        Self { exact: BTreeMap::new(), wildcards: HashMap::new() }
    }
}

impl<T> ByHost<T> {
    fn of(objects: Vec<Arc<T>>, hosts: impl Fn(&T) -> &[Arc<str>]) -> Self {
        let mut by_host = Self::default();
        for object in objects {
            for host in hosts(&object) {
                let group = match host.strip_prefix('*') {
                    Some(suffix) => by_host.wildcards.entry(suffix.into()).or_default(),
                    None => by_host.exact.entry(host.clone()).or_default(),
                };
                group.push(object.clone());
            }
        }
        by_host
    }

    /// The groups of objects that speak of a host: those that name it, then by wildcard, the most specific first.
    pub fn groups<'a, 'h>(&'a self, host: &'h str) -> impl Iterator<Item = &'a [Arc<T>]> + use<'a, 'h, T> {
        let exact = self.exact.get(host).map(Vec::as_slice);
        // `*.x` does not mean `x`, nor what begins with the dot.
        let suffixes = host.match_indices('.').filter(|(at, _)| *at > 0).map(|(at, _)| &host[at..]);
        let wild = suffixes.chain(Some("").filter(|_| !host.is_empty()));
        let wild = wild.filter_map(|suffix| self.wildcards.get(suffix)).map(Vec::as_slice);
        exact.into_iter().chain(wild)
    }

    /// The objects that name a host, by host.
    pub fn exact(&self) -> impl Iterator<Item = (&str, &[Arc<T>])> {
        self.exact.iter().map(|(host, group)| (&**host, group.as_slice()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_wildcard_comes_first() {
        let objects = ["*", "*.com", "*.b.com", "a.b.com", "*.a.b.com", "b.com"];
        let objects: Vec<Arc<[Arc<str>; 1]>> =
            objects.iter().map(|host| Arc::new([Arc::from(*host)])).collect();
        let by_host = ByHost::of(objects, |hosts| hosts);
        let shown = |host: &str| by_host.groups(host).map(|g| g[0][0].to_string()).collect::<Vec<_>>();
        assert_eq!(shown("a.b.com"), ["a.b.com", "*.b.com", "*.com", "*"]);
        assert_eq!(shown("b.com"), ["b.com", "*.com", "*"]);
        assert_eq!(shown("org"), ["*"]);
        assert_eq!(shown(".com"), ["*"]);
    }
}
