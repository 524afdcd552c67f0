//! VirtualServices: hosts that nobody has, destinations that lead nowhere, and others on the same host.

use std::collections::BTreeSet;
use std::sync::Arc;

use weft_core::model::protocol::Protocol;
use weft_crds::kind::Kind;

use super::notes::{Notes, listed, shown};
use crate::fragment::kubernetes::Service;
use crate::fragment::mesh::Mesh;
use crate::fragment::meta::Visibility;
use crate::fragment::virtual_service::{
    ClientScope, HttpAction, HttpRule, Target, VirtualService, takes_every_path,
};
use crate::world::World;

const KIND: Kind = Kind::VirtualService;
/// How many older objects on one host each is compared with: more say nothing new.
const COMPARED: usize = 8;

/// Looks at every VirtualService that speaks to sidecars.
pub fn routes(world: &World, notes: &mut Notes) {
    for object in world.virtual_services.in_force().filter(|object| object.mesh) {
        Look { world, object, notes, services: services(world, object) }.whole();
    }
    for (host, group) in world.index.virtual_services.exact() {
        together(world, notes, host, group);
    }
}

fn services<'a>(world: &'a World, object: &VirtualService) -> Vec<&'a Arc<Service>> {
    object.hosts.iter().filter_map(|host| world.service_of_host(host)).collect()
}

struct Look<'a, 'n> {
    world: &'a World,
    object: &'a VirtualService,
    notes: &'n mut Notes,
    /// Those whose traffic the object shapes, as far as they are named.
    services: Vec<&'a Arc<Service>>,
}

impl Look<'_, '_> {
    fn whole(mut self) {
        self.hosts();
        self.protocols();
        for rule in &self.object.http {
            let HttpAction::Forward(forward) = &rule.action else { continue };
            let ports = self.addressed(rule.matches.iter().map(|block| &block.client));
            for destination in &forward.destinations {
                self.target(&rule.source.path, &destination.target, &ports);
            }
        }
        for rule in &self.object.tcp {
            let ports = self.addressed(rule.matches.iter().map(|(client, _)| client));
            for (target, _) in &rule.destinations {
                self.target(&rule.source.path, target, &ports);
            }
        }
    }

    fn warn(&mut self, path: impl Into<String>, reason: impl Into<String>) {
        self.notes.about(KIND, &self.object.meta, path, reason);
    }

    fn hosts(&mut self) {
        for (i, host) in self.object.hosts.iter().enumerate() {
            let nobody = !host.starts_with('*') && self.world.service_of_host(host).is_none();
            if nobody && !self.world.services.is_empty() {
                self.warn(
                    format!("spec.hosts[{i}]"),
                    format!("there is no Service `{host}`: no request is for it"),
                );
            }
        }
    }

    /// Rules for a protocol that no port of the hosts carries.
    fn protocols(&mut self) {
        let mut ports = self.services.iter().flat_map(|service| &service.ports).peekable();
        if ports.peek().is_none() || self.object.hosts.iter().any(|host| host.starts_with('*')) {
            return;
        }
        let protocols: Vec<Protocol> = ports.map(|port| port.protocol).collect();
        let opaque = |p: &Protocol| !p.is_http() && *p != Protocol::Auto;
        if !self.object.http.is_empty() && protocols.iter().all(opaque) {
            self.warn("spec.http", "has no effect: no port of the hosts carries HTTP");
        }
        if !self.object.tcp.is_empty() && protocols.iter().all(|p| p.is_http()) {
            self.warn("spec.tcp", "has no effect: every port of the hosts carries HTTP");
        }
    }

    /// The ports of the hosts under which clients reach a rule.
    fn addressed<'b>(&self, blocks: impl Iterator<Item = &'b ClientScope>) -> BTreeSet<u16> {
        let wanted: Vec<Option<u16>> = blocks.map(|client| client.port).collect();
        let reached = |port: &u16| wanted.is_empty() || wanted.iter().any(|w| w.is_none_or(|w| w == *port));
        let ports = self.services.iter().flat_map(|service| &service.ports);
        ports.map(|port| port.number).filter(reached).collect()
    }

    fn target(&mut self, rule: &str, target: &Target, addressed: &BTreeSet<u16>) {
        let path = format!("spec.{rule}.route[{}].destination", target.index);
        let rules = || self.world.index.destination_rules.groups(&target.host).flatten();
        if let Some(service) = self.world.service_of_host(&target.host) {
            self.port(&path, target, service, addressed);
        } else if !self.world.services.is_empty() {
            self.warn(
                format!("{path}.host"),
                format!("there is no Service `{}`: what is sent to it is refused", target.host),
            );
            return;
        }
        let Some(subset) = &target.subset else { return };
        let somebody = rules().next().is_some() || !self.world.services.is_empty();
        if somebody && !rules().any(|rule| rule.subsets.iter().any(|s| s.name == *subset)) {
            let reason = format!(
                "no DestinationRule of `{}` has a subset `{subset}`: what is sent to it is refused",
                target.host
            );
            self.warn(format!("{path}.subset"), reason);
        }
    }

    fn port(&mut self, path: &str, target: &Target, service: &Service, addressed: &BTreeSet<u16>) {
        let has = |number: u16| service.ports.iter().any(|port| port.number == number);
        let all = || listed(service.ports.iter().map(|port| port.number));
        match target.port {
            Some(number) if !has(number) => {
                let reason = format!("{number} is no port of the Service, which has {}", all());
                self.warn(format!("{path}.port.number"), reason);
            }
            None if service.ports.len() > 1 => {
                let Some(lost) = addressed.iter().find(|number| !has(**number)) else { return };
                let reason = format!(
                    "missing; clients that address port {lost} find no such port there: write one of {}",
                    all()
                );
                self.warn(format!("{path}.port"), reason);
            }
            _ => {}
        }
    }
}

/// Who sees an object, of those who address its host: everyone, or these namespaces.
enum Audience<'a> {
    Everyone,
    Namespaces(Vec<&'a str>),
}

/// The objects on one host, the oldest first: they are merged, and the oldest's catch-all rule is the one that counts.
fn together(world: &World, notes: &mut Notes, host: &str, group: &[Arc<VirtualService>]) {
    let service = world.service_of_host(host);
    let mut older: Vec<(&VirtualService, Audience<'_>, bool)> = Vec::new();
    for object in group.iter().filter(|object| object.mesh && !object.http.is_empty()) {
        let audience = audience(object, service);
        let last = object.http.iter().find(|rule| is_catch_all(rule));
        let met = older.iter().find(|(_, theirs, _)| theirs.meets(&audience));
        let loser = last.and_then(|rule| {
            let winner = older.iter().find(|(_, theirs, all)| *all && theirs.covers(&audience));
            Some((rule, winner?.0))
        });
        if let Some((first, ..)) = met {
            let i = object.hosts.iter().position(|h| **h == *host).unwrap_or(0);
            let reason = merged(host, loser, first);
            notes.about(KIND, &object.meta, format!("spec.hosts[{i}]"), reason);
        }
        if older.len() < COMPARED {
            older.push((object, audience, last.is_some()));
        }
    }
}

fn merged(host: &str, loser: Option<(&HttpRule, &VirtualService)>, first: &VirtualService) -> String {
    match loser {
        Some((rule, winner)) => format!(
            "{} is older and on `{host}` too: its conditions are looked at first, and its last rule stands for spec.{}",
            shown(KIND, &winner.meta),
            rule.source.path
        ),
        None => format!(
            "{} is older and on `{host}` too: its conditions are looked at before those of this one",
            shown(KIND, &first.meta)
        ),
    }
}

fn is_catch_all(rule: &HttpRule) -> bool {
    let any_client = |client: &ClientScope| *client == ClientScope::default();
    rule.matches.is_empty()
        || rule.matches.iter().any(|block| any_client(&block.client) && takes_every_path(&block.request))
}

fn audience<'a>(object: &'a VirtualService, service: Option<&Arc<Service>>) -> Audience<'a> {
    let own = &object.meta.name.namespace;
    let for_all = Mesh::is_root(own) || service.is_some_and(|service| service.is_shaped_from(own));
    match &object.visibility {
        Visibility::Everyone if for_all => Audience::Everyone,
        Visibility::Namespaces(names) if for_all => {
            Audience::Namespaces(names.iter().map(|name| &**name).collect())
        }
        seen => Audience::Namespaces(Some(&**own).filter(|own| seen.includes(own)).into_iter().collect()),
    }
}

impl Audience<'_> {
    fn meets(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Everyone, Self::Everyone) => true,
            (Self::Everyone, Self::Namespaces(names)) | (Self::Namespaces(names), Self::Everyone) => {
                !names.is_empty()
            }
            (Self::Namespaces(a), Self::Namespaces(b)) => a.iter().any(|name| b.contains(name)),
        }
    }

    fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Everyone, _) => true,
            (Self::Namespaces(_), Self::Everyone) => false,
            (Self::Namespaces(a), Self::Namespaces(b)) => b.iter().all(|name| a.contains(name)),
        }
    }
}
