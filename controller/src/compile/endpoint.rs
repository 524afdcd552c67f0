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
use crate::fragment::kubernetes::{self as fragment, Pod, Service, ServicePort, SliceEndpoint, TargetPort};
use crate::world::World;

/// About how many endpoints a slice holds.
const SLICE: usize = 100;

/// One slice of a service's endpoints.
pub fn slice(context: Context<'_>, name: &SliceName) -> EndpointSlice {
    let service = scope::seen_service(context, &name.service.host);
    let all = service.map(|service| of_service(context.world, service)).unwrap_or_default();
    let slices = slices(all.len());
    let of_slice = all.into_iter().filter(|e| slice_of(e.ip, slices) == name.slice);
    EndpointSlice { name: name.clone(), endpoints: of_slice.map(Arc::new).collect() }
}

/// How many slices so many endpoints come in: a power of two, so that few endpoints ever change theirs.
pub fn slices(endpoints: usize) -> u32 {
    u32::try_from(endpoints.div_ceil(SLICE).max(1).next_power_of_two()).unwrap_or(1 << 16)
}

/// How many endpoints a service has.
pub fn count(world: &World, service: &Service) -> usize {
    of_service(world, service).len()
}

/// The endpoints of a service, by address: from its slices where there are any, else from the pods it selects.
pub fn of_service(world: &World, service: &Service) -> Vec<Endpoint> {
    let mut all = match world.index.slices_by_service.get(&service.meta.name) {
        Some(slices) => slices.iter().flat_map(|slice| from_slice(world, service, slice)).collect(),
        None => from_pods(world, service),
    };
    all.sort_by_key(|endpoint: &Endpoint| endpoint.ip);
    all.dedup_by_key(|endpoint| endpoint.ip);
    all
}

/// The port on which a pod serves a port of a service.
pub fn target_port(pod: Option<&Pod>, port: &ServicePort) -> Option<u16> {
    match &port.target {
        TargetPort::Number(number) => Some(*number),
        TargetPort::Name(name) => {
            pod.and_then(|pod| pod.ports.iter().find(|(known, _)| known == name)).map(|(_, number)| *number)
        }
    }
}

fn slice_of(ip: IpAddr, slices: u32) -> u32 {
    let hash = match ip {
        IpAddr::V4(ip) => xxh64(&ip.octets(), 0),
        IpAddr::V6(ip) => xxh64(&ip.octets(), 0),
    };
    (hash % u64::from(slices.max(1))) as u32
}

fn from_pods(world: &World, service: &Service) -> Vec<Endpoint> {
    let Some(selector) = service.selector.as_ref().filter(|selector| !selector.is_empty()) else {
        return Vec::new();
    };
    let serves = |pod: &&Arc<Pod>| {
        !pod.ended && (pod.ready || service.publish_not_ready) && selector.selects(&pod.meta.labels)
    };
    let pods = world.pods_of(&service.meta.name.namespace).filter(serves);
    pods.flat_map(|pod| of_pod(world, service, pod)).collect()
}

/// One endpoint for each address of a pod whose family the service speaks.
fn of_pod(world: &World, service: &Service, pod: &Arc<Pod>) -> Vec<Endpoint> {
    let families = &service.addresses;
    let spoken = |ip: &&IpAddr| families.is_empty() || families.iter().any(|a| a.is_ipv4() == ip.is_ipv4());
    let target = |port: &ServicePort| Some((port.number, target_port(Some(pod), port)?));
    let ports: Vec<(u16, u16)> = service.ports.iter().filter_map(target).collect();
    pod.addresses.iter().filter(spoken).map(|ip| endpoint(world, *ip, ports.clone(), Some(pod))).collect()
}

fn from_slice(world: &World, service: &Service, slice: &fragment::EndpointSlice) -> Vec<Endpoint> {
    let target = |port: &ServicePort| {
        let found = slice.ports.iter().find(|(name, _)| *name == port.name);
        found.map(|(_, target)| (port.number, *target))
    };
    let ports: Vec<(u16, u16)> = service.ports.iter().filter_map(target).collect();
    let ready = |e: &&SliceEndpoint| e.ready || service.publish_not_ready;
    let made = |e: &SliceEndpoint| {
        let pod = e.pod.as_ref().and_then(|name| world.pods.get(name));
        let mut made = endpoint(world, e.ip, ports.clone(), pod);
        if made.locality.zone.is_empty() {
            made.locality.zone = e.zone.clone();
        }
        made
    };
    slice.endpoints.iter().filter(ready).map(made).collect()
}

fn endpoint(world: &World, ip: IpAddr, ports: Vec<(u16, u16)>, pod: Option<&Arc<Pod>>) -> Endpoint {
    let mtls = pod.map(|pod| PodMtls::of(world, pod));
    let plain = |target: u16| mtls.as_ref().is_some_and(|mtls| mtls.on_port(target) == MtlsMode::Disable);
    let plaintext_ports = ports.iter().filter(|(_, target)| plain(*target)).map(|(port, _)| *port).collect();
    let unknown = || Arc::new(WorkloadMetadata::default());
    Endpoint {
        ip: ip.to_canonical(),
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
