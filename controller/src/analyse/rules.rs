//! DestinationRules: hosts that nobody has, subsets without endpoints, and others that they hide or merge with.

use std::sync::Arc;

use weft_core::model::metadata::Labels;
use weft_crds::kind::Kind;

use super::notes::{Notes, listed, shown};
use crate::fragment::destination_rule::{DestinationRule, TrafficPolicy};
use crate::fragment::kubernetes::Service;
use crate::fragment::mesh::Mesh;
use crate::fragment::meta::Selector;
use crate::fragment::sidecar::host_matches;
use crate::world::World;

const KIND: Kind = Kind::DestinationRule;
/// How many older rules of one host each is compared with: more say nothing new.
const COMPARED: usize = 8;
/// How many rules for wildcards are compared with all others.
const WILDCARDS: usize = 32;

/// Looks at every DestinationRule.
pub fn rules(world: &World, notes: &mut Notes) {
    for rule in world.destination_rules.in_force() {
        match world.service_of_host(&rule.host) {
            Some(service) => of_service(world, notes, rule, service),
            None if rule.host.starts_with('*') || world.services.is_empty() => {}
            None => {
                let reason = format!("there is no Service `{}`: the object has no effect", rule.host);
                notes.about(KIND, &rule.meta, "spec.host", reason);
            }
        }
    }
    for (_, group) in world.index.destination_rules.exact() {
        together(notes, group);
    }
    hiding(world, notes);
}

fn of_service(world: &World, notes: &mut Notes, rule: &DestinationRule, service: &Service) {
    let policies = rule.subsets.iter().enumerate();
    let policies = policies.map(|(i, s)| (format!("spec.subsets[{i}].trafficPolicy"), s.policy.as_ref()));
    let all = std::iter::once(("spec.trafficPolicy".to_owned(), rule.policy.as_ref())).chain(policies);
    for (path, policy) in all.filter_map(|(path, policy)| Some((path, policy?))) {
        lost_ports(notes, rule, service, &path, policy);
    }
    let Some(selector) = service.selector.as_ref().filter(|_| has_pods(world, service)) else { return };
    for (i, subset) in rule.subsets.iter().enumerate().filter(|(_, s)| !s.labels.is_empty()) {
        let wanted = both(selector, &subset.labels);
        if world.pods_selected(&service.meta.name.namespace, &wanted).next().is_none() {
            let reason = format!(
                "no pod of Service {} has these labels: the subset has no endpoint",
                service.meta.name.name
            );
            notes.about(KIND, &rule.meta, format!("spec.subsets[{i}].labels"), reason);
        }
    }
}

fn lost_ports(
    notes: &mut Notes,
    rule: &DestinationRule,
    service: &Service,
    path: &str,
    policy: &TrafficPolicy,
) {
    for (i, (number, _)) in policy.ports.iter().enumerate() {
        if !service.ports.iter().any(|port| port.number == *number) {
            let all = listed(service.ports.iter().map(|port| port.number));
            let path = format!("{path}.portLevelSettings[{i}].port.number");
            notes.about(
                KIND,
                &rule.meta,
                path,
                format!("{number} is no port of the Service, which has {all}"),
            );
        }
    }
}

/// Whether pods of the service are known at all: where its endpoints come as slices, they need not be.
fn has_pods(world: &World, service: &Service) -> bool {
    let slices = world.index.slices_by_service.contains_key(&service.meta.name);
    !slices && world.pods_of(&service.meta.name.namespace).next().is_some()
}

fn both(selector: &Selector, labels: &Labels) -> Selector {
    Selector(selector.0.iter().cloned().chain(labels.iter().cloned()).collect())
}

/// Rules of one namespace for one host are joined: the oldest's policy counts, and the first subset of a name.
fn together(notes: &mut Notes, group: &[Arc<DestinationRule>]) {
    let mut older: Vec<&DestinationRule> = Vec::new();
    for rule in group.iter().filter(|rule| rule.clients.is_none()) {
        let same = |r: &&&DestinationRule| {
            r.meta.name.namespace == rule.meta.name.namespace && r.visibility == rule.visibility
        };
        for first in older.iter().filter(same) {
            if first.policy.is_some() && rule.policy.is_some() {
                let reason = format!(
                    "{} is older and has one for the same host: this one is not in force",
                    shown(KIND, &first.meta)
                );
                notes.about(KIND, &rule.meta, "spec.trafficPolicy", reason);
            }
            for (i, subset) in rule.subsets.iter().enumerate() {
                if first.subsets.iter().any(|s| s.name == subset.name) {
                    let reason = format!(
                        "`{}` is also in {}, which is older and in force",
                        subset.name,
                        shown(KIND, &first.meta)
                    );
                    notes.about(KIND, &rule.meta, format!("spec.subsets[{i}].name"), reason);
                }
            }
        }
        if older.len() < COMPARED {
            older.push(rule);
        }
    }
}

/// Rules that others do not get to speak after: the first namespace that has any for a host decides alone.
fn hiding(world: &World, notes: &mut Notes) {
    for (host, group) in world.index.destination_rules.exact() {
        let others: Vec<_> =
            world.index.destination_rules.groups(host).flatten().take(COMPARED * 4).collect();
        let service = world.service_of_host(host);
        for rule in group.iter().take(COMPARED) {
            if let Some(hidden) = others.iter().find(|other| hides(rule, other, host, service)) {
                tell(notes, rule, hidden, host);
            }
        }
    }
    let wild = world.destination_rules.in_force().filter(|rule| rule.host.starts_with('*'));
    for rule in wild.take(WILDCARDS) {
        let exact = world.index.destination_rules.exact().filter(|(host, _)| host_matches(&rule.host, host));
        let mut all = exact.flat_map(|(host, group)| group.iter().map(move |other| (host, other)));
        let found = all.find(|(host, other)| hides(rule, other, host, world.service_of_host(host)));
        if let Some((host, hidden)) = found {
            tell(notes, rule, hidden, host);
        }
    }
}

fn tell(notes: &mut Notes, rule: &DestinationRule, hidden: &DestinationRule, host: &str) {
    let reason =
        format!("hides {} from some clients of `{host}`, who get nothing of it", shown(KIND, &hidden.meta));
    notes.about(KIND, &rule.meta, "spec.host", reason);
}

/// Whether some client that both speak to gets `rule` and nothing of `other`, which says something.
fn hides(
    rule: &DestinationRule,
    other: &DestinationRule,
    host: &str,
    service: Option<&Arc<Service>>,
) -> bool {
    let (mine, theirs) = (&rule.meta.name.namespace, &other.meta.name.namespace);
    let says = other.policy.is_some() || !other.subsets.is_empty();
    if !says || rule.clients.is_some() || other.clients.is_some() {
        return false;
    }
    if mine == theirs {
        // The exact name before the wildcard.
        return *rule.host == *host && *other.host != *host;
    }
    let counts = Mesh::is_root(theirs) || service.is_some_and(|service| service.is_shaped_from(theirs));
    counts && !Mesh::is_root(mine) && rule.visibility.includes(mine) && other.visibility.includes(mine)
}
