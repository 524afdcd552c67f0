//! What a pod or a service touches in the world around it.
//!
//! The indexes that are asked here may be those of the batch before. That is enough: what else changed in this batch
//! says itself what it touches.

use std::net::IpAddr;
use std::sync::Arc;

use super::World;
use super::dirty::Dirty;
use crate::fragment::kubernetes::{Pod, Service};
use crate::fragment::mesh::is_host;

/// A pod: its own workload, its addresses, and the endpoints of the services that may count it in.
pub(super) fn by_pod(world: &World, pod: &Pod) -> Dirty {
    let mut dirty = Dirty::default();
    dirty.workloads.insert(pod.meta.name.clone());
    addresses(world, &pod.addresses, &mut dirty);
    dirty.hosts.extend(world.services_of_pod(pod).into_iter().map(|service| service.host()));
    // Endpoints that were written by hand name pods that no selector selects.
    let by_hand = world.index.services_without_selector.get(&pod.meta.name.namespace);
    dirty.hosts.extend(by_hand.into_iter().flatten().cloned());
    dirty
}

/// A service: itself, the services whose routes lead to it, its addresses, and the pods behind it, for which it says
/// what their ports and addresses mean.
pub(super) fn by_service(world: &World, service: &Service) -> Dirty {
    let host = service.host();
    let routed = world.index.routed_to.get(&host).into_iter().flatten();
    let mut dirty = Dirty::of_hosts(std::iter::once(&host).chain(routed));
    addresses(world, &service.addresses, &mut dirty);
    addresses(world, &service.external_addresses, &mut dirty);
    let collects = world.mesh.telemetry.collectors.iter().any(|collector| is_host(&collector.host, &host));
    dirty.all_workloads =
        collects || world.sidecars.in_force().any(|s| s.egress.iter().any(|egress| egress.port.is_some()));
    if let Some(selector) = &service.selector {
        for pod in world.pods_selected(&service.meta.name.namespace, selector) {
            dirty.workloads.insert(pod.meta.name.clone());
            addresses(world, &pod.addresses, &mut dirty);
        }
    }
    dirty
}

/// Addresses that begin or cease to mean something. Outside of the mesh's ranges that changes how wide the network is in
/// which its neighbours mean nothing; inside, nothing is told of an address but itself.
fn addresses(world: &World, list: &[IpAddr], dirty: &mut Dirty) {
    for ip in list.iter().map(IpAddr::to_canonical) {
        dirty.all_addresses |= !world.mesh.ranges.iter().any(|range| range.contains(&ip));
        dirty.addresses.insert(ip);
    }
}

/// What a change of one object to another touches.
pub(super) fn by_change<T: PartialEq>(old: Option<&Arc<T>>, new: &T, by: impl Fn(&T) -> Dirty) -> Dirty {
    if old.is_some_and(|old| **old == *new) {
        return Dirty::default();
    }
    let mut dirty = by(new);
    dirty.add(old.map(|old| by(old)).unwrap_or_default());
    dirty
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;
    use weft_core::model::name::{AddressKey, ObjectName, ResourceName, ServiceName};

    use super::*;
    use crate::source::object::{Object, ObjectId, Place};
    use crate::validate::validate;

    fn apply(world: &mut World, value: serde_json::Value) -> Dirty {
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().into();
        let id = ObjectId {
            group: value["apiVersion"]
                .as_str()
                .and_then(|api| api.split_once('/'))
                .map_or("", |(g, _)| g)
                .into(),
            kind: text(&value["kind"]),
            namespace: "n".into(),
            name: text(&value["metadata"]["name"]),
        };
        let object = Object { id, value: Arc::new(value), place: Place::Cluster };
        let dirty = world.apply(validate(&object).fragment.expect("it is valid"));
        world.settle(&dirty);
        dirty
    }

    fn pod(name: &str, app: &str, ip: &str) -> serde_json::Value {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "n", "labels": {"app": app}},
               "status": {"podIPs": [{"ip": ip}], "conditions": [{"type": "Ready", "status": "True"}]}})
    }

    fn service(name: &str, ip: &str) -> serde_json::Value {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "n"},
               "spec": {"clusterIP": ip, "selector": {"app": name}, "ports": [{"port": 80}]}})
    }

    fn named(name: &str) -> ResourceName {
        ResourceName::Service(ServiceName::new("n", format!("{name}.n.svc.cluster.local").as_str()))
    }

    fn object(name: &str) -> ObjectName {
        ObjectName { namespace: "n".into(), name: name.into() }
    }

    fn address(ip: &str) -> ResourceName {
        ResourceName::Address(AddressKey::new(ip.parse().unwrap(), 80))
    }

    fn two() -> World {
        let mut world = World::default();
        apply(&mut world, service("a", "10.96.0.1"));
        apply(&mut world, service("b", "10.96.0.2"));
        apply(&mut world, pod("a-0", "a", "10.244.0.1"));
        apply(&mut world, pod("b-0", "b", "10.244.0.2"));
        world
    }

    #[test]
    fn a_pod_touches_itself_and_the_services_that_select_it() {
        let mut world = two();
        let dirty = apply(&mut world, pod("a-1", "a", "10.244.0.3"));
        let touches = |client: &str, name: &ResourceName| dirty.touches(&object(client), name);
        assert!(touches("b-0", &named("a")) && !touches("b-0", &named("b")));
        assert!(touches("a-1", &ResourceName::Workload) && !touches("a-0", &ResourceName::Workload));
        assert!(touches("b-0", &address("10.244.0.3")) && !touches("b-0", &address("10.244.0.1")));
        let moved = apply(&mut world, pod("a-1", "b", "10.244.0.3"));
        assert!(moved.touches(&object("x"), &named("a")) && moved.touches(&object("x"), &named("b")));
    }

    #[test]
    fn an_address_outside_of_the_ranges_touches_its_neighbours() {
        let dirty = apply(&mut two(), pod("a-1", "a", "192.0.2.1"));
        assert!(dirty.touches(&object("x"), &address("192.0.2.2")));
    }

    #[test]
    fn a_service_touches_the_pods_behind_it_and_the_routes_that_lead_to_it() {
        let mut world = two();
        let route = json!({"apiVersion": "networking.weft.dev/v1", "kind": "VirtualService",
                           "metadata": {"name": "b", "namespace": "n"},
                           "spec": {"hosts": ["b"], "http": [{"route": [{"destination": {"host": "a"}}]}]}});
        apply(&mut world, route);
        let mut changed = service("a", "10.96.0.1");
        changed["spec"]["ports"] = json!([{"port": 81}]);
        let dirty = apply(&mut world, changed);
        let touches = |client: &str, name: &ResourceName| dirty.touches(&object(client), name);
        assert!(touches("x", &named("a")) && touches("x", &named("b")), "a route of b leads to a");
        assert!(touches("a-0", &ResourceName::Workload) && !touches("b-0", &ResourceName::Workload));
        assert!(touches("x", &address("10.244.0.1")) && !touches("x", &address("10.244.0.2")));
    }
}
