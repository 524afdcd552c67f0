//! Telemetries: providers that there are not, and others of the same width.

use std::collections::BTreeMap;
use std::sync::Arc;

use weft_crds::kind::Kind;

use super::notes::{Notes, shown};
use crate::fragment::telemetry::Telemetry;
use crate::world::World;

/// Looks at all Telemetries.
pub fn telemetries(world: &World, notes: &mut Notes) {
    let mut whole: BTreeMap<&str, Vec<&Arc<Telemetry>>> = BTreeMap::new();
    for object in world.telemetries.in_force().filter(|object| !object.elsewhere) {
        providers(world, notes, object);
        if object.selector.is_none() {
            whole.entry(&object.meta.name.namespace).or_default().push(object);
        }
    }
    for objects in whole.values_mut() {
        objects.sort_by(|a, b| a.meta.age.cmp(&b.meta.age));
        let Some((oldest, rest)) = objects.split_first() else { continue };
        for object in rest {
            let reason =
                format!("has no effect: {} is as wide and older", shown(Kind::Telemetry, &oldest.meta));
            notes.about(Kind::Telemetry, &object.meta, "spec.selector", reason);
        }
    }
}

fn providers(world: &World, notes: &mut Notes, object: &Telemetry) {
    let settings = &world.mesh.telemetry;
    let mut unknown = |path: String, name: &str| {
        let reason = format!(
            "`{name}` is none of the extensionProviders of the mesh's settings that is honoured for this"
        );
        notes.about(Kind::Telemetry, &object.meta, path, reason);
    };
    for (i, entry) in object.tracing.iter().enumerate() {
        if let Some(name) = entry.provider.as_ref().filter(|name| settings.collector(name).is_none()) {
            unknown(format!("spec.tracing[{i}].providers[0].name"), name);
        }
    }
    for (i, entry) in object.access_logging.iter().enumerate() {
        for (at, name) in entry.providers.iter().enumerate() {
            if settings.log(name).is_none() {
                unknown(format!("spec.accessLogging[{i}].providers[{at}].name"), name);
            }
        }
    }
    for (i, entry) in object.metrics.iter().enumerate() {
        for (at, name) in entry.providers.iter().enumerate() {
            if !settings.is_prometheus(name) {
                unknown(format!("spec.metrics[{i}].providers[{at}].name"), name);
            }
        }
    }
}
