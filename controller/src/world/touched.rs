//! What an object touches in the world around it: of pods and services, and of objects that select pods.
//!
//! The indexes that are asked here may be those of the batch before. That is enough: what else changed in this batch
//! says itself what it touches.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use weft_core::model::name::ObjectName;

use super::World;
use super::dirty::Dirty;
use crate::fragment::kubernetes::{Pod, Service};
use crate::fragment::mesh::{Mesh, is_host};
use crate::fragment::meta::{Meta, Selector};
use crate::fragment::security::{AuthorizationPolicy, PeerAuthentication};
use crate::fragment::sidecar::Sidecar;
use crate::fragment::telemetry::Telemetry;

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

/// An AuthorizationPolicy: the workloads that it selects; one of a root namespace, all.
pub(super) fn by_policy(world: &World, policy: &AuthorizationPolicy) -> Dirty {
    workloads(world, &policy.meta, Some(&policy.selector))
}

/// A Telemetry: the workloads that it selects; one of a root namespace, all.
pub(super) fn by_telemetry(world: &World, object: &Telemetry) -> Dirty {
    workloads(world, &object.meta, object.selector.as_ref())
}

fn workloads(world: &World, object: &Meta, selector: Option<&Selector>) -> Dirty {
    match selected(world, object, selector) {
        Some(pods) => Dirty { workloads: names(pods), ..Dirty::default() },
        None => Dirty::workloads(),
    }
}

/// A PeerAuthentication: whatever the pods touch that it selects, for their endpoints say whether they take mTLS.
pub(super) fn by_peer_authentication(world: &World, object: &PeerAuthentication) -> Dirty {
    let Some(pods) = selected(world, &object.meta, object.selector.as_ref()) else { return Dirty::all() };
    let mut dirty = Dirty::default();
    pods.for_each(|pod| dirty.add(by_pod(world, pod)));
    dirty
}

/// A Sidecar: all that the pods are told that it selects.
pub(super) fn by_sidecar(world: &World, object: &Sidecar) -> Dirty {
    match selected(world, &object.meta, object.selector.as_ref()) {
        Some(pods) => Dirty { clients: names(pods), ..Dirty::default() },
        None => Dirty::all(),
    }
}

/// The pods that an object selects, or of its namespace where it selects none; `None` where it may speak for the mesh.
fn selected<'a>(
    world: &'a World,
    object: &'a Meta,
    selector: Option<&'a Selector>,
) -> Option<Box<dyn Iterator<Item = &'a Arc<Pod>> + 'a>> {
    let namespace = &object.name.namespace;
    match selector {
        _ if Mesh::is_root(namespace) => None,
        Some(selector) => Some(world.pods_selected(namespace, selector)),
        None => Some(Box::new(world.pods_of(namespace))),
    }
}

fn names<'a>(pods: impl Iterator<Item = &'a Arc<Pod>>) -> BTreeSet<ObjectName> {
    pods.map(|pod| pod.meta.name.clone()).collect()
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

    fn object_of(value: serde_json::Value) -> Object {
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().into();
        let (api, metadata) = (value["apiVersion"].as_str().unwrap_or_default(), &value["metadata"]);
        let id = ObjectId {
            group: api.split_once('/').map_or("", |(group, _)| group).into(),
            kind: text(&value["kind"]),
            namespace: text(&metadata["namespace"]),
            name: text(&metadata["name"]),
        };
        Object { id, value: Arc::new(value), place: Place::Cluster }
    }

    fn apply(world: &mut World, value: serde_json::Value) -> Dirty {
        let object = object_of(value);
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
        assert!(!touches("a-1", &named("b")));
        let moved = apply(&mut world, pod("a-1", "b", "10.244.0.3"));
        assert!(
            moved.touches(&object("a-1"), &address("10.244.0.1")),
            "rules are for clients of some labels"
        );
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

    fn policy(kind: &str, spec: serde_json::Value) -> serde_json::Value {
        let group = if kind == "Sidecar" { "networking" } else { "security" };
        json!({"apiVersion": format!("{group}.weft.dev/v1"), "kind": kind,
               "metadata": {"name": "p", "namespace": "n"}, "spec": spec})
    }

    /// Whether something touches the workload of a pod, the service of another, and its address, for two clients.
    fn touched(dirty: &Dirty, client: &str) -> [bool; 3] {
        let names = [ResourceName::Workload, named("a"), address("10.244.0.1")];
        names.map(|name| dirty.touches(&object(client), &name))
    }

    #[test]
    fn a_policy_touches_the_workloads_that_it_selects_before_and_after() {
        let mut world = two();
        let of = |app: &str| {
            let selector = json!({"matchLabels": {"app": app}});
            policy("AuthorizationPolicy", json!({"selector": selector, "rules": [{}]}))
        };
        let dirty = apply(&mut world, of("a"));
        assert_eq!([touched(&dirty, "a-0"), touched(&dirty, "b-0")], [[true, false, false], [false; 3]]);
        let moved = apply(&mut world, of("b"));
        assert_eq!([touched(&moved, "a-0"), touched(&moved, "b-0")], [[true, false, false]; 2]);
        let whole = apply(&mut world, policy("AuthorizationPolicy", json!({"rules": [{}]})));
        assert_eq!([touched(&whole, "a-0"), touched(&whole, "b-0")], [[true, false, false]; 2]);
    }

    #[test]
    fn a_telemetry_touches_the_workloads_that_it_selects() {
        let mut world = two();
        let mut value =
            policy("Telemetry", json!({"selector": {"matchLabels": {"app": "a"}}, "tracing": [{}]}));
        value["apiVersion"] = "telemetry.weft.dev/v1".into();
        let dirty = apply(&mut world, value);
        assert_eq!([touched(&dirty, "a-0"), touched(&dirty, "b-0")], [[true, false, false], [false; 3]]);
    }

    #[test]
    fn a_policy_of_the_mesh_touches_every_workload() {
        let mut world = two();
        let mut value = policy("AuthorizationPolicy", json!({"rules": [{}]}));
        value["metadata"]["namespace"] = "weft-system".into();
        let dirty = apply(&mut world, value);
        assert_eq!([touched(&dirty, "a-0"), touched(&dirty, "x")], [[true, false, false]; 2]);
    }

    #[test]
    fn what_a_pod_takes_touches_its_endpoints_and_its_address_for_everybody() {
        let mut world = two();
        let selector = json!({"matchLabels": {"app": "a"}});
        let spec = json!({"selector": selector, "mtls": {"mode": "STRICT"}});
        let dirty = apply(&mut world, policy("PeerAuthentication", spec));
        assert_eq!([touched(&dirty, "a-0"), touched(&dirty, "b-0")], [[true; 3], [false, true, true]]);
        assert!(!dirty.touches(&object("b-0"), &named("b")));
    }

    #[test]
    fn a_sidecar_touches_all_that_its_pods_are_told() {
        let mut world = two();
        let labels = json!({"labels": {"app": "b"}});
        let spec = json!({"workloadSelector": labels, "egress": [{"hosts": ["./*"]}]});
        let dirty = apply(&mut world, policy("Sidecar", spec));
        assert_eq!([touched(&dirty, "a-0"), touched(&dirty, "b-0")], [[false; 3], [true; 3]]);
    }
}
