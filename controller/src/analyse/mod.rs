//! What objects mean to each other: references to nothing, objects that hide or merge with others, selectors that
//! select nothing. Pure, on the joined world; all of it warns and nothing refuses, for the other object may come later.
//!
//! One look at the whole world, once for several batches: its cost grows with the number of objects and references,
//! never with their product. With 10,000 routes, 10,000 services and 50,000 pods it takes well under a second.

/// What was found, by object.
pub mod notes;
/// VirtualServices: hosts, destinations, and others on the same host.
pub mod routes;
/// DestinationRules: hosts, subsets, and others on the same host.
pub mod rules;
/// Selectors and the pods behind them.
pub mod selectors;
/// Telemetries: providers, and others of the same width.
pub mod telemetry;

use std::collections::BTreeMap;

use weft_core::model::name::ObjectName;
use weft_crds::kind::Kind;

use self::notes::{Notes, id_of};
use crate::fragment::Fragment;
use crate::fragment::meta::Origin;
use crate::source::object::ObjectId;
use crate::validate::findings::Finding;
use crate::world::World;

/// All that is odd about objects in the company of others.
pub fn analyse(world: &World) -> BTreeMap<ObjectId, Vec<Finding>> {
    let mut notes = Notes::default();
    twins(world, &mut notes);
    routes::routes(world, &mut notes);
    rules::rules(world, &mut notes);
    selectors::selectors(world, &mut notes);
    telemetry::telemetries(world, &mut notes);
    notes.done()
}

/// What would be odd about an object in the company of those that there are. The world stays as it is.
pub fn beside(world: &World, fragment: Fragment, id: &ObjectId) -> Vec<Finding> {
    let mut world = world.clone();
    let look = match &fragment {
        Fragment::VirtualService(_) => routes::routes,
        Fragment::DestinationRule(_) => rules_and_selectors,
        Fragment::Telemetry(_) => telemetries_and_selectors,
        _ => selectors::selectors,
    };
    let dirty = world.apply(fragment);
    world.settle(&dirty);
    let mut notes = Notes::default();
    twins(&world, &mut notes);
    look(&world, &mut notes);
    notes.done().remove(id).unwrap_or_default()
}

fn rules_and_selectors(world: &World, notes: &mut Notes) {
    rules::rules(world, notes);
    selectors::selectors(world, notes);
}

fn telemetries_and_selectors(world: &World, notes: &mut Notes) {
    telemetry::telemetries(world, notes);
    selectors::selectors(world, notes);
}

/// Objects that are written in both groups: ours are in force.
fn twins(world: &World, notes: &mut Notes) {
    let mut hidden = |kind: Kind, name: &ObjectName| {
        let ours = id_of(kind, name, Origin::Weft);
        let reason = format!("is also written in the group {}, and that one is in force", ours.group);
        notes.warn(id_of(kind, name, Origin::Istio), "metadata.name", reason);
    };
    world.virtual_services.shadowed().for_each(|name| hidden(Kind::VirtualService, name));
    world.destination_rules.shadowed().for_each(|name| hidden(Kind::DestinationRule, name));
    world.authorization_policies.shadowed().for_each(|name| hidden(Kind::AuthorizationPolicy, name));
    world.peer_authentications.shadowed().for_each(|name| hidden(Kind::PeerAuthentication, name));
    world.sidecars.shadowed().for_each(|name| hidden(Kind::Sidecar, name));
    world.telemetries.shadowed().for_each(|name| hidden(Kind::Telemetry, name));
}

#[cfg(test)]
mod tests;
