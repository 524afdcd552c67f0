//! Which service a connection or a request to an address belongs to (DESIGN: "Which service an address means").

use std::net::SocketAddr;
use std::sync::Arc;

use crate::http::host::Authority;
use crate::model::address::{Address, HostBinding, Meaning, ServicePortRef};
use crate::model::name::AddressKey;
use crate::model::protocol::Protocol;
use crate::model::workload::{EgressListener, OutboundMode};
use crate::reason::Reason;
use crate::snapshot::Snapshot;
use crate::text::host_matches;
use crate::upstream::EndpointState;

/// The service that an opaque connection goes to: that of the address; a pod's one headless service; of several that
/// share an address the one that the server name means, else the first. `listed`: the address is that of a listener
/// for these services and no others, a server name that means none of them goes nowhere.
pub fn of_connection<'a>(
    address: &'a Address,
    sni: Option<&str>,
    listed: bool,
) -> Option<&'a ServicePortRef> {
    match &address.meaning {
        Meaning::Service(service) => Some(service),
        Meaning::Workload(workload) => workload.headless.as_ref(),
        Meaning::Shared(bindings) => {
            let named = sni.and_then(|name| named(bindings, name));
            let first = bindings.first().filter(|_| !(listed && sni.is_some()));
            named.or_else(|| first.map(|binding| &binding.target))
        }
        Meaning::Nothing { .. } => None,
    }
}

/// The service whose routes a request takes: that of the address; of several behind it, the one that the host names. On
/// an explicit listener (`listed`) nothing but the host counts.
pub fn of_request<'a>(address: &'a Address, listed: bool, host: &str) -> Option<&'a ServicePortRef> {
    match &address.meaning {
        Meaning::Service(port) => Some(port),
        Meaning::Workload(workload) => by_authority(&workload.services, host),
        Meaning::Shared(bindings) => {
            let first = bindings.first().filter(|_| !listed);
            by_authority(bindings, host).or_else(|| first.map(|binding| &binding.target))
        }
        Meaning::Nothing { .. } => None,
    }
}

/// What the address of an explicit listener means: the services that it was given, and no others.
pub fn of_listener(listener: &EgressListener) -> Address {
    let meaning = match &listener.services[..] {
        [only] => Meaning::Service(only.target.clone()),
        several => Meaning::Shared(several.to_vec()),
    };
    Address { key: AddressKey::new(listener.bind.ip(), listener.bind.port()), meaning }
}

/// Where what goes to no service is sent: to the address itself, as a pod is dialled or in clear.
///
/// # Errors
/// [`Reason::BlackHole`] where the address means nothing and the outbound mode lets nothing out.
pub fn without_service(
    snapshot: &Snapshot,
    address: &Address,
    dialled: SocketAddr,
) -> Result<Arc<EndpointState>, Reason> {
    match &address.meaning {
        Meaning::Workload(workload) => Ok(EndpointState::of_workload(dialled, workload)),
        _ if is_closed(snapshot) => Err(Reason::BlackHole),
        _ => Ok(EndpointState::of_address(dialled)),
    }
}

/// Whether nothing goes out to addresses that mean nothing (`outboundTrafficPolicy.mode: REGISTRY_ONLY`).
pub fn is_closed(snapshot: &Snapshot) -> bool {
    snapshot.workload().is_none_or(|workload| workload.outbound.mode == OutboundMode::RegistryOnly)
}

fn by_authority<'a>(bindings: &'a [HostBinding], host: &str) -> Option<&'a ServicePortRef> {
    named(bindings, &Authority::parse(host, None).ok()?.host)
}

/// The service among these that a host name means.
pub fn named<'a>(bindings: &'a [HostBinding], host: &str) -> Option<&'a ServicePortRef> {
    let means = |binding: &&HostBinding| binding.domains.iter().any(|domain| host_matches(domain, host));
    bindings.iter().find(means).map(|binding| &binding.target)
}

/// What connections to the address carry, as far as it is declared; services that share an address must agree.
pub fn declared(address: &Address, snapshot: &Snapshot) -> Protocol {
    let of = |port: &ServicePortRef| snapshot.port(port).map_or(Protocol::Auto, |(_, port)| port.protocol);
    match &address.meaning {
        Meaning::Service(service) => of(service),
        Meaning::Workload(workload) => workload.protocol,
        Meaning::Nothing { .. } => Protocol::Auto,
        Meaning::Shared(bindings) => {
            let mut protocols = bindings.iter().map(|binding| of(&binding.target));
            let first = protocols.next().unwrap_or_default();
            if protocols.all(|protocol| protocol == first) { first } else { Protocol::Auto }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::name::ServiceName;

    fn binding(host: &str) -> HostBinding {
        let service = ServiceName::new("default", host);
        HostBinding { domains: vec![host.into()], target: ServicePortRef { service, port: 443 } }
    }

    #[test]
    fn a_request_is_told_apart_by_its_host_without_port() {
        let address = shared(&["a.example.com", "*.b.example.com"]);
        let meant = |host: &str, listed| {
            let found = of_request(&address, listed, host);
            found.map(|target| target.service.host.to_string())
        };
        assert_eq!(meant("X.B.example.com:8080", false).as_deref(), Some("*.b.example.com"));
        assert_eq!(meant("other", false).as_deref(), Some("a.example.com"));
        assert_eq!(meant("other", true), None);
        assert_eq!(meant("", true), None);
    }

    #[test]
    fn without_a_workload_nothing_goes_where_nothing_is_known() {
        let key = AddressKey::new([192, 0, 2, 1].into(), 443);
        let address = Address { key, meaning: Meaning::Nothing { prefix: key.ip.into() } };
        let sent = without_service(&Snapshot::default(), &address, ([192, 0, 2, 1], 443).into());
        assert_eq!(sent.err(), Some(Reason::BlackHole));
    }

    fn shared(hosts: &[&str]) -> Address {
        let key = AddressKey::new([192, 0, 2, 1].into(), 443);
        Address { key, meaning: Meaning::Shared(hosts.iter().map(|host| binding(host)).collect()) }
    }

    fn host(address: &Address, sni: Option<&str>) -> String {
        of_connection(address, sni, false).unwrap().service.host.to_string()
    }

    #[test]
    fn of_services_that_share_an_address_the_server_name_decides_else_the_first() {
        let address = shared(&["a.example.com", "*.b.example.com"]);
        assert_eq!(host(&address, Some("x.b.example.com")), "*.b.example.com");
        assert_eq!(host(&address, Some("unknown.example.com")), "a.example.com");
        assert_eq!(host(&address, None), "a.example.com");
        assert_eq!(of_connection(&shared(&[]), None, false), None);
    }

    #[test]
    fn a_listener_for_some_services_sends_no_other_name_to_them() {
        let address = shared(&["a.example.com", "b.example.com"]);
        let to = |sni| of_connection(&address, sni, true).map(|port| port.service.host.to_string());
        assert_eq!(to(Some("b.example.com")).as_deref(), Some("b.example.com"));
        assert_eq!(to(Some("unknown.example.com")), None);
        assert_eq!(to(None).as_deref(), Some("a.example.com"));
    }

    #[test]
    fn what_is_not_declared_is_looked_at() {
        assert_eq!(declared(&shared(&["a"]), &Snapshot::default()), Protocol::Auto);
    }
}
