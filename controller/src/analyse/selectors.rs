//! Selectors that select nothing, and policies for HTTP where only opaque TCP arrives.

use std::collections::BTreeMap;
use std::sync::Arc;

use weft_core::model::policy::{Action, Condition, Operation, Rule};
use weft_core::model::protocol::Protocol;
use weft_crds::kind::Kind;

use super::notes::{Notes, listed};
use crate::fragment::kubernetes::Pod;
use crate::fragment::mesh::Mesh;
use crate::fragment::meta::{Meta, Selector};
use crate::fragment::security::AuthorizationPolicy;
use crate::world::World;

/// Looks at everything that selects pods.
pub fn selectors(world: &World, notes: &mut Notes) {
    if world.pods.is_empty() {
        return;
    }
    for policy in world.authorization_policies.in_force().filter(|policy| !policy.elsewhere) {
        selects(world, notes, Kind::AuthorizationPolicy, &policy.meta, ("spec.selector", &policy.selector));
        only_tcp(world, notes, policy);
    }
    for object in world.peer_authentications.in_force().filter(|o| !Mesh::is_root(&o.meta.name.namespace)) {
        let Some(selector) = &object.selector else { continue };
        selects(world, notes, Kind::PeerAuthentication, &object.meta, ("spec.selector", selector));
    }
    for object in world.sidecars.in_force() {
        let Some(selector) = &object.selector else { continue };
        selects(world, notes, Kind::Sidecar, &object.meta, ("spec.workloadSelector", selector));
    }
    for object in world.telemetries.in_force() {
        let Some(selector) = &object.selector else { continue };
        selects(world, notes, Kind::Telemetry, &object.meta, ("spec.selector", selector));
    }
    for object in world.destination_rules.in_force() {
        let Some(selector) = &object.clients else { continue };
        selects(world, notes, Kind::DestinationRule, &object.meta, ("spec.workloadSelector", selector));
    }
}

fn selects(world: &World, notes: &mut Notes, kind: Kind, meta: &Meta, (path, selector): (&str, &Selector)) {
    let namespace = &meta.name.namespace;
    let anybody = Mesh::is_root(namespace) || world.pods_of(namespace).next().is_some();
    if !selector.is_empty() && anybody && selected(world, namespace, selector).next().is_none() {
        notes.about(kind, meta, path, "selects no pod: the object has no effect");
    }
}

/// The pods that an object of a namespace selects; of the root namespace, anywhere.
fn selected<'a>(
    world: &'a World,
    namespace: &'a Arc<str>,
    selector: &'a Selector,
) -> Box<dyn Iterator<Item = &'a Arc<Pod>> + 'a> {
    match Mesh::is_root(namespace) {
        true => Box::new(world.pods.values().filter(|pod| selector.selects(&pod.meta.labels))),
        false => Box::new(world.pods_selected(namespace, selector)),
    }
}

/// Rules with conditions on HTTP, where every port that they can reach carries opaque TCP.
fn only_tcp(world: &World, notes: &mut Notes, policy: &AuthorizationPolicy) {
    if !policy.rules.iter().any(reads_http) {
        return;
    }
    let Some(ports) = opaque_ports(world, policy) else { return };
    for (i, _) in policy.rules.iter().enumerate().filter(|(_, rule)| reads_http(rule)) {
        let effect = match policy.action {
            Action::Allow => "it never allows",
            Action::Deny | Action::FailClosed => "it denies whatever its other fields mean",
        };
        let reason = format!(
            "reads HTTP, but every port that it reaches carries opaque TCP ({}): {effect}",
            listed(ports.iter().copied())
        );
        notes.about(Kind::AuthorizationPolicy, &policy.meta, format!("spec.rules[{i}]"), reason);
    }
}

/// The declared ports of the pods that a policy selects; `None` if one may carry HTTP, or none is declared.
fn opaque_ports(world: &World, policy: &AuthorizationPolicy) -> Option<Vec<u16>> {
    let mut all: BTreeMap<u16, Protocol> = BTreeMap::new();
    for pod in selected(world, &policy.meta.name.namespace, &policy.selector) {
        for service in world.services_of_pod(pod) {
            for port in &service.ports {
                if port.protocol.is_http() || port.protocol == Protocol::Auto {
                    return None;
                }
                all.extend(port.target_on(Some(pod)).map(|number| (number, port.protocol)));
            }
        }
    }
    Some(all.into_keys().collect()).filter(|all: &Vec<u16>| !all.is_empty())
}

fn reads_http(rule: &Rule) -> bool {
    let operation = |o: &Operation| !(o.hosts.is_empty() && o.methods.is_empty() && o.paths.is_empty());
    let condition = |c: &Condition| matches!(c, Condition::Header(..) | Condition::RemoteIp(_));
    let source = rule.from.iter().any(|source| !source.remote_ip_blocks.is_empty());
    source || rule.to.iter().any(operation) || rule.when.iter().any(condition)
}
