//! Which service a connection or a request to an address belongs to (DESIGN: "Which service an address means").

use crate::model::address::{Address, HostBinding, Meaning, ServicePortRef};
use crate::model::protocol::Protocol;
use crate::snapshot::Snapshot;
use crate::text::host_matches;

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
    use crate::model::name::{AddressKey, ServiceName};

    fn binding(host: &str) -> HostBinding {
        let service = ServiceName::new("default", host);
        HostBinding { domains: vec![host.into()], target: ServicePortRef { service, port: 443 } }
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
