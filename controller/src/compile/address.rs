//! What an address means: a service, a pod, or nothing.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use weft_core::model::address::{Address, AddressedWorkload, HostBinding, Meaning, ServicePortRef};
use weft_core::model::name::AddressKey;
use weft_core::model::protocol::Protocol;
use weft_core::model::workload::MtlsMode;

use super::mtls::PodMtls;
use super::{Context, metadata, scope};
use crate::fragment::kubernetes::{Pod, Service, ServicePort};
use crate::world::World;

/// What an address means to a client. Cluster and pod addresses win over what `externalIPs` claim.
pub fn address(context: Context<'_>, key: AddressKey) -> Address {
    let index = &context.world.index;
    let of_cluster = || of_services(context, index.services_by_address.get(&key.ip), key);
    let of_external = || {
        let claimed = index.services_by_external_address.get(&key.ip);
        of_services(context, claimed, key).filter(|_| own(context, key))
    };
    // Port 0 asks who a peer is: a pod, where one has the address.
    let meaning = match key.port {
        0 => of_pod(context, key).or_else(of_cluster),
        _ => of_cluster().or_else(|| of_pod(context, key)).or_else(of_external),
    };
    let nothing = || Meaning::Nothing { prefix: empty_prefix(context.world, key.ip) };
    let meaning = meaning.unwrap_or_else(nothing);
    Address { key, meaning }
}

/// Whether a service that claims an external address is in the client's own namespace.
fn own(context: Context<'_>, key: AddressKey) -> bool {
    let claims = context.world.index.services_by_external_address.get(&key.ip);
    claims.is_some_and(|all| all.iter().any(|name| name.namespace == context.client.meta.name.namespace))
}

/// The oldest service with the address that has the port, else the oldest: a port that no service has is refused
/// by the service, it is not unknown.
fn of_services(
    context: Context<'_>,
    names: Option<&Vec<weft_core::model::name::ObjectName>>,
    key: AddressKey,
) -> Option<Meaning> {
    let services = names?.iter().filter_map(|name| context.world.services.get(name));
    let seen: Vec<&Arc<Service>> = services.filter(|service| scope::sees(context, service)).collect();
    let with_port = seen.iter().find(|service| service.ports.iter().any(|port| port.number == key.port));
    let service = with_port.or(seen.first())?;
    let port = if key.port == 0 { service.ports.first()?.number } else { key.port };
    Some(Meaning::Service(ServicePortRef { service: service.service_name(), port }))
}

fn of_pod(context: Context<'_>, key: AddressKey) -> Option<Meaning> {
    let pod = context.world.pods.get(context.world.index.pods_by_address.get(&key.ip)?)?;
    let owners: Vec<(&Arc<Service>, &ServicePort)> = owners(context, pod, key.port).collect();
    let binding = |(service, port): &(&Arc<Service>, &ServicePort)| HostBinding {
        domains: scope::domains(context, service),
        target: ServicePortRef { service: service.service_name(), port: port.number },
    };
    let mut headless = owners.iter().filter(|(service, _)| service.addresses.is_empty());
    let only = headless.next().filter(|_| headless.next().is_none());
    let mode = PodMtls::of(context.world, pod).on_port(key.port);
    Some(Meaning::Workload(Box::new(AddressedWorkload {
        identity: metadata::identity(context.world, pod),
        meshed: pod.meshed && mode != MtlsMode::Disable,
        metadata: metadata::of_pod(pod),
        services: owners.iter().map(binding).collect(),
        headless: only
            .map(|(service, port)| ServicePortRef { service: service.service_name(), port: port.number }),
        protocol: owners.first().map_or(Protocol::Auto, |(_, port)| port.protocol),
    })))
}

/// The services that own a pod on one of its ports, the oldest first.
pub fn owners<'a>(
    context: Context<'a>,
    pod: &'a Pod,
    port: u16,
) -> impl Iterator<Item = (&'a Arc<Service>, &'a ServicePort)> {
    let seen =
        context.world.services_of_pod(pod).into_iter().filter(move |service| scope::sees(context, service));
    seen.flat_map(move |service| {
        let served = service.ports.iter().filter(move |p| p.target_on(Some(pod)) == Some(port));
        served.map(move |p| (service, p))
    })
}

/// The widest network around an address in which nothing is known and that touches no range of the mesh.
fn empty_prefix(world: &World, ip: IpAddr) -> IpNet {
    let known = &world.index.known_addresses;
    let below = known.range(..ip).next_back();
    let above = known.range(ip..).next();
    let longest = if ip.is_ipv4() { 32 } else { 128 };
    let free = |net: &IpNet| {
        let holds_known = [below, above].into_iter().flatten().any(|known| net.contains(known));
        let touches = |range: &IpNet| net.contains(range) || range.contains(net);
        !holds_known && !world.mesh.ranges.iter().any(touches)
    };
    let nets = (0..=longest).filter_map(|length| IpNet::new(ip, length).ok()).map(|net| net.trunc());
    nets.into_iter().find(free).unwrap_or_else(|| IpNet::from(ip))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_as_wide_as_it_may_be() {
        let mut world = World::default();
        let shown = |world: &World, ip: &str| empty_prefix(world, ip.parse().unwrap()).to_string();
        assert_eq!(shown(&world, "10.244.3.4"), "10.244.3.4/32");
        assert_eq!(shown(&world, "203.0.113.7"), "128.0.0.0/1");
        let mut index = crate::world::index::Index::default();
        index.known_addresses = Arc::new(["203.0.113.9".parse().unwrap()].into());
        world.index = Arc::new(index);
        assert_eq!(shown(&world, "203.0.113.7"), "203.0.113.0/29");
        assert_eq!(shown(&world, "2001:db8::1"), "::/1");
    }
}
