//! A new view from the one before.

use std::sync::Arc;

use super::clusters::{Maker, ServiceClusters, slices_of};
use super::resources::{HeldService, Resources, slices};
use super::{Built, ServiceState, Snapshot, services};
use crate::hash::Map;
use crate::model::name::ServiceName;
use crate::model::service::Service;

type AllClusters = Map<ServiceName, Arc<ServiceClusters>>;

/// First the clusters of every service whose endpoints have come; then the rules, of every service of which all that
/// they name has come.
pub(super) fn build(previous: &Snapshot, resources: &Resources) -> Built {
    let workload = resources.workload.clone().or_else(|| previous.workload.clone());
    let pod = workload.as_ref().map(|w| Arc::clone(&w.metadata.pod)).unwrap_or_default();
    let mut maker = Maker { next_endpoint: previous.next_endpoint, pod };
    let held = || resources.services.values().flatten();
    let mut clusters = AllClusters::default();
    for newest in held() {
        if let Some(made) = clusters_of(newest, previous, resources, &mut maker) {
            clusters.insert(newest.told.name.clone(), made);
        }
    }
    let in_use = |newest: &HeldService| {
        let name = newest.told.name.clone();
        Some((name, service_of(newest, previous, resources, &clusters)?))
    };
    let services = held().filter_map(in_use).collect();
    let snapshot = Snapshot {
        generation: previous.generation + 1,
        next_endpoint: maker.next_endpoint,
        workload,
        addresses: Arc::clone(&resources.addresses),
        services,
        clusters,
        passthrough: Arc::clone(&previous.passthrough),
    };
    Built { snapshot, wanted: resources.missing().into_iter().collect() }
}

/// The clusters of a service; while a slice is missing, those of before.
fn clusters_of(
    newest: &HeldService,
    previous: &Snapshot,
    resources: &Resources,
    maker: &mut Maker,
) -> Option<Arc<ServiceClusters>> {
    let before = previous.clusters.get(&newest.told.name);
    let Some(slices) = slices_of(&newest.told, resources) else { return before.cloned() };
    let in_use = previous.services.get(&newest.told.name).map(|state| &state.service);
    let waits = in_use.filter(|_| !is_complete(newest, resources));
    Some(maker.clusters(&newest.told, waits, slices, before))
}

/// A service as told last, if all that its routes name has come; else as it was.
fn service_of(
    newest: &HeldService,
    previous: &Snapshot,
    resources: &Resources,
    clusters: &AllClusters,
) -> Option<Arc<ServiceState>> {
    let before = previous.services.get(&newest.told.name);
    let told = match is_complete(newest, resources) {
        true => &newest.told,
        false => &before?.service,
    };
    Some(services::service(told, clusters, before))
}

/// Whether a service's own endpoints have come, and every service that its routes name with its endpoints.
fn is_complete(service: &HeldService, resources: &Resources) -> bool {
    let has_come = |name: &ServiceName| match resources.services.get(name) {
        None => false,
        Some(None) => true,
        Some(Some(other)) => slices_have_come(&other.told, resources),
    };
    slices_have_come(&service.told, resources) && service.routed.iter().all(has_come)
}

fn slices_have_come(service: &Service, resources: &Resources) -> bool {
    slices(service).all(|name| resources.slices.contains_key(&name))
}
