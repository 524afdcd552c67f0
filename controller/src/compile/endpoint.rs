//! Endpoints from pods and slices.

use std::net::IpAddr;
use std::sync::Arc;

use weft_core::model::endpoint::{Endpoint, EndpointSlice};
use weft_core::model::metadata::{Locality, WorkloadMetadata};
use weft_core::model::name::SliceName;
use weft_core::model::workload::MtlsMode;
use xxhash_rust::xxh64::xxh64;

use super::mtls::PodMtls;
use super::{Context, metadata, scope};
use crate::fragment::kubernetes::{self as fragment, Pod, Service, ServicePort, SliceEndpoint};
use crate::world::World;

/// About how many endpoints a slice holds.
const SLICE: usize = 100;

/// One slice of a service's endpoints.
pub fn slice(context: Context<'_>, name: &SliceName) -> EndpointSlice {
    let service = scope::seen_service(context, &name.service.host);
    let endpoints = service.map(|service| of_slice(context.world, service, name.slice)).unwrap_or_default();
    EndpointSlice { name: name.clone(), endpoints }
}

/// How many slices so many endpoints come in: a power of two, so that few endpoints ever change theirs.
pub fn slices(endpoints: usize) -> u32 {
    u32::try_from(endpoints.div_ceil(SLICE).max(1).next_power_of_two()).unwrap_or(1 << 16)
}

/// How many endpoints a service has.
pub fn count(world: &World, service: &Service) -> usize {
    found(world, service).len()
}

/// What an endpoint is made of, before it is known whether anybody asks for it.
struct Found<'a> {
    ip: IpAddr,
    pod: Option<&'a Arc<Pod>>,
    slice: Option<(&'a fragment::EndpointSlice, &'a SliceEndpoint)>,
}

/// The endpoints of one slice, by address.
fn of_slice(world: &World, service: &Service, slice: u32) -> Vec<Arc<Endpoint>> {
    let all = found(world, service);
    let slices = slices(all.len());
    let wanted = all.into_iter().filter(|found| slice_of(found.ip, slices) == slice);
    wanted.map(|found| Arc::new(made(world, service, &found))).collect()
}

/// The endpoints of a service, by address: from its slices where there are any, else from the pods it selects.
fn found<'a>(world: &'a World, service: &'a Service) -> Vec<Found<'a>> {
    let mut all = match world.index.slices_by_service.get(&service.meta.name) {
        Some(slices) => slices.iter().flat_map(|slice| from_slice(world, service, slice)).collect(),
        None => from_pods(world, service),
    };
    all.sort_by_key(|found: &Found<'_>| found.ip);
    all.dedup_by_key(|found| found.ip);
    all
}

fn slice_of(ip: IpAddr, slices: u32) -> u32 {
    let hash = match ip {
        IpAddr::V4(ip) => xxh64(&ip.octets(), 0),
        IpAddr::V6(ip) => xxh64(&ip.octets(), 0),
    };
    (hash % u64::from(slices.max(1))) as u32
}

fn from_pods<'a>(world: &'a World, service: &'a Service) -> Vec<Found<'a>> {
    let Some(selector) = service.selector.as_ref().filter(|selector| !selector.is_empty()) else {
        return Vec::new();
    };
    let serves = |pod: &&Arc<Pod>| !pod.ended && (pod.ready || service.publish_not_ready);
    let pods = world.pods_selected(&service.meta.name.namespace, selector).filter(serves);
    pods.flat_map(|pod| addresses(service, pod).map(|ip| Found { ip, pod: Some(pod), slice: None })).collect()
}

/// The addresses of a pod whose family the service speaks.
fn addresses<'a>(service: &'a Service, pod: &'a Pod) -> impl Iterator<Item = IpAddr> + use<'a> {
    let families = &service.addresses;
    let spoken = |ip: &&IpAddr| families.is_empty() || families.iter().any(|a| a.is_ipv4() == ip.is_ipv4());
    pod.addresses.iter().filter(spoken).map(IpAddr::to_canonical)
}

fn from_slice<'a>(
    world: &'a World,
    service: &'a Service,
    slice: &'a fragment::EndpointSlice,
) -> impl Iterator<Item = Found<'a>> + use<'a> {
    let ready = |e: &&SliceEndpoint| e.ready || service.publish_not_ready;
    slice.endpoints.iter().filter(ready).filter_map(move |e| {
        // A pod of which nothing is known yet may have a sidecar: it is no endpoint before that is known.
        let pod = e.pod.as_ref().map(|name| world.pods.get(name).ok_or(())).transpose().ok()?;
        Some(Found { ip: e.ip.to_canonical(), pod, slice: Some((slice, e)) })
    })
}

fn made(world: &World, service: &Service, found: &Found<'_>) -> Endpoint {
    let Some((slice, of_slice)) = found.slice else {
        let pod = found.pod.map(Arc::as_ref);
        let target = |port: &ServicePort| Some((port.number, port.target_on(pod)?));
        return endpoint(world, found.ip, service.ports.iter().filter_map(target).collect(), found.pod);
    };
    let target = |port: &ServicePort| {
        let named = slice.ports.iter().find(|(name, _)| *name == port.name);
        named.map(|(_, target)| (port.number, *target))
    };
    let mut made = endpoint(world, found.ip, service.ports.iter().filter_map(target).collect(), found.pod);
    if made.locality.zone.is_empty() {
        made.locality.zone = of_slice.zone.clone();
    }
    made
}

fn endpoint(world: &World, ip: IpAddr, ports: Vec<(u16, u16)>, pod: Option<&Arc<Pod>>) -> Endpoint {
    let mtls = pod.map(|pod| PodMtls::of(world, pod));
    let plain = |target: u16| mtls.as_ref().is_some_and(|mtls| mtls.on_port(target) == MtlsMode::Disable);
    let plaintext_ports = ports.iter().filter(|(_, target)| plain(*target)).map(|(port, _)| *port).collect();
    let unknown = || Arc::new(WorkloadMetadata::default());
    Endpoint {
        ip,
        plaintext_ports,
        ports,
        weight: 1,
        identity: pod.and_then(|pod| metadata::identity(world, pod)),
        meshed: pod.is_some_and(|pod| pod.meshed),
        labels: pod.map(|pod| metadata::labels(&pod.meta.labels)).unwrap_or_else(|| Arc::new([])),
        metadata: pod.map_or_else(unknown, |pod| metadata::of_pod(pod)),
        locality: pod.map_or_else(Locality::default, |pod| metadata::locality(pod)),
    }
}
