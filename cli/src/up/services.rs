//! Services: their addresses, the pods behind them, and the names by which pods find them. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use xxhash_rust::xxh64::xxh64;

use crate::up::manifest::{Map, Meta, PodSpec, ServiceSpec};
use crate::up::net::{PodAddress, SERVICES, SERVICES_V6, ServiceRule};
use crate::up::resolve::named_port;

/// A Service with its addresses.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// Which one.
    pub meta: Meta,
    /// What was written.
    pub spec: ServiceSpec,
    /// Its addresses, the first one first; none when it is headless or external.
    pub addresses: Vec<IpAddr>,
}

/// A pod, as far as Services are concerned.
#[derive(Clone, Debug)]
pub struct Backend<'a> {
    /// Where it is.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Its labels.
    pub labels: &'a Map,
    /// What runs in it, for the names of its ports.
    pub spec: &'a PodSpec,
    /// Its addresses.
    pub address: PodAddress,
    /// Whether it is ready.
    pub ready: bool,
}

/// Addresses given to Services so far: a Service keeps its own for as long as the mesh lives, also when it goes and comes back.
#[derive(Debug, Default)]
pub struct Addresses {
    by_name: BTreeMap<String, BTreeMap<bool, IpAddr>>,
    taken: BTreeSet<IpAddr>,
}

impl Addresses {
    /// The addresses of a Service: those written in it, else ones that follow from its name.
    ///
    /// # Errors
    /// The field that cannot be read.
    pub fn assign(&mut self, meta: &Meta, spec: &ServiceSpec) -> Result<Vec<IpAddr>, String> {
        let none = spec.cluster_ip.as_deref() == Some("None") || spec.kind.as_deref() == Some("ExternalName");
        if none {
            return Ok(Vec::new());
        }
        let written: Vec<&String> = match &spec.cluster_ips[..] {
            [] => spec.cluster_ip.iter().filter(|ip| !ip.is_empty()).collect(),
            all => all.iter().collect(),
        };
        let parse =
            |text: &&String| text.parse().map_err(|_| format!("spec.clusterIP: {text:?} is not an address"));
        let written: Vec<IpAddr> = written.iter().map(parse).collect::<Result<_, _>>()?;
        self.taken.extend(&written);
        let key = format!("{}/{}", meta.namespace, meta.name);
        families(spec, &written)?
            .into_iter()
            .map(|v6| {
                let kept = written.iter().find(|ip| ip.is_ipv6() == v6);
                Ok(kept.copied().unwrap_or_else(|| self.own(&key, v6)))
            })
            .collect()
    }

    fn own(&mut self, key: &str, v6: bool) -> IpAddr {
        if let Some(known) = self.by_name.get(key).and_then(|both| both.get(&v6)) {
            return *known;
        }
        let start = xxh64(key.as_bytes(), 0) % 65_000;
        let nth = |n: u64| {
            let host = 10 + (start + n) % 65_000;
            if v6 {
                IpAddr::V6(Ipv6Addr::from(u128::from(SERVICES_V6.0) + u128::from(host)))
            } else {
                IpAddr::V4(Ipv4Addr::from(u32::from(SERVICES.0) + u32::try_from(host).unwrap_or(0)))
            }
        };
        let address = (0..65_000).map(nth).find(|a| !self.taken.contains(a)).unwrap_or_else(|| nth(0));
        self.taken.insert(address);
        self.by_name.entry(key.to_owned()).or_default().insert(v6, address);
        address
    }
}

/// Which families a Service has, the first one first; `true` is IPv6.
fn families(spec: &ServiceSpec, written: &[IpAddr]) -> Result<Vec<bool>, String> {
    let named = spec.ip_families.iter().map(|f| match f.as_str() {
        "IPv4" => Ok(false),
        "IPv6" => Ok(true),
        other => Err(format!("spec.ipFamilies: {other:?} is neither IPv4 nor IPv6")),
    });
    let mut families: Vec<bool> = named.collect::<Result<_, _>>()?;
    if families.is_empty() {
        families =
            if written.is_empty() { vec![false] } else { written.iter().map(IpAddr::is_ipv6).collect() };
    }
    let dual = matches!(spec.ip_family_policy.as_deref(), Some("PreferDualStack" | "RequireDualStack"));
    if let (true, [only]) = (dual, &families[..]) {
        families.push(!only);
    }
    Ok(families)
}

impl Service {
    /// The pods that its selector means.
    pub fn backends<'a, 'b>(&'a self, pods: &'a [Backend<'b>]) -> impl Iterator<Item = &'a Backend<'b>> {
        let selects = |pod: &&Backend<'b>| {
            pod.namespace == self.meta.namespace
                && !self.spec.selector.is_empty()
                && self.spec.selector.iter().all(|(k, v)| pod.labels.get(k) == Some(v))
        };
        pods.iter().filter(selects)
    }

    /// Addresses and ports of ready pods behind a port of this Service, in one family.
    pub fn endpoints(&self, pods: &[Backend<'_>], port: u16, v6: bool) -> Vec<(IpAddr, u16)> {
        let Some(port) = self.spec.ports.iter().find(|p| p.port == port) else { return Vec::new() };
        let target = |pod: &Backend<'_>| {
            let number = match &port.target_port {
                None => Some(port.port),
                Some(reference) => named_port(pod.spec, reference),
            };
            let address = if v6 { pod.address.v6.map(IpAddr::V6) } else { Some(IpAddr::V4(pod.address.v4)) };
            Some((address?, number?))
        };
        self.backends(pods).filter(|p| p.ready).filter_map(target).collect()
    }

    /// The rules by which connections to its addresses reach its pods.
    pub fn rules(&self, pods: &[Backend<'_>]) -> Vec<ServiceRule> {
        let each = self.addresses.iter().flat_map(|a| self.spec.ports.iter().map(move |p| (*a, p)));
        each.filter_map(|(address, port)| {
            let protocol = match port.protocol.as_deref() {
                None | Some("TCP") => 6,
                Some("UDP") => 17,
                Some(_) => return None,
            };
            let endpoints = self.endpoints(pods, port.port, address.is_ipv6());
            Some(ServiceRule { address, port: port.port, protocol, endpoints })
        })
        .collect()
    }
}

/// The hosts file of the pods of a namespace, without their own names.
pub fn hosts(namespace: &str, services: &[Service], pods: &[Backend<'_>]) -> String {
    let mut text = String::from("127.0.0.1 localhost\n::1 localhost ip6-localhost\n");
    for service in services {
        let names = names(&service.meta.name, &service.meta.namespace, namespace);
        for address in &service.addresses {
            let _ = writeln!(text, "{address} {names}");
        }
        match service.spec.external() {
            Some(name) => external(&mut text, meant(name, services), pods, &names),
            None if service.addresses.is_empty() => headless(&mut text, service, pods, namespace, &names),
            None => {}
        }
    }
    text
}

/// What the name of an `ExternalName` Service means.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Meant<'a> {
    /// An address.
    Address(IpAddr),
    /// A Service of this mesh.
    Service(&'a Service),
}

/// What a name means to every pod: an address, or `NAME.NAMESPACE.svc` with or without `cluster.local`.
pub fn meant<'a>(name: &str, services: &'a [Service]) -> Option<Meant<'a>> {
    if let Ok(address) = name.parse() {
        return Some(Meant::Address(address));
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    let name = name.strip_suffix(".cluster.local").unwrap_or(name).strip_suffix(".svc")?;
    let (name, namespace) = name.split_once('.')?;
    let same =
        |s: &&Service| s.meta.name == name && s.meta.namespace == namespace && s.spec.external().is_none();
    services.iter().find(same).map(Meant::Service)
}

fn external(text: &mut String, meant: Option<Meant<'_>>, pods: &[Backend<'_>], names: &str) {
    let addresses = match meant {
        None => Vec::new(),
        Some(Meant::Address(address)) => vec![address],
        Some(Meant::Service(service)) if service.addresses.is_empty() => {
            service.backends(pods).filter(|p| p.ready).flat_map(|p| p.address.all()).collect()
        }
        Some(Meant::Service(service)) => service.addresses.clone(),
    };
    for address in addresses {
        let _ = writeln!(text, "{address} {names}");
    }
}

fn headless(text: &mut String, service: &Service, pods: &[Backend<'_>], namespace: &str, names_: &str) {
    let families = families(&service.spec, &[]).unwrap_or_default();
    for pod in service.backends(pods).filter(|p| p.ready || service.spec.publish_not_ready_addresses) {
        let own = names(&format!("{}.{}", pod.name, service.meta.name), &service.meta.namespace, namespace);
        for address in pod.address.all().into_iter().filter(|a| families.contains(&a.is_ipv6())) {
            let _ = writeln!(text, "{address} {names_} {own}");
        }
    }
}

fn names(name: &str, theirs: &str, ours: &str) -> String {
    let (short, whole) = (format!("{name}.{theirs}.svc"), format!("{name}.{theirs}.svc.cluster.local"));
    // Whoever writes the last dot asks for just this line: libraries compare it with the dot.
    let full = format!("{name}.{theirs} {short} {whole} {whole}.");
    if theirs == ours { format!("{name} {full}") } else { full }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::up::manifest::Template;

    fn spec(yaml: &str) -> ServiceSpec {
        serde_saphyr::from_str(yaml).unwrap()
    }

    fn meta(name: &str) -> Meta {
        Meta { name: name.into(), namespace: "default".into(), ..Meta::default() }
    }

    #[test]
    fn addresses_are_kept_and_follow_from_the_name() {
        let assign = |spec: &ServiceSpec| Addresses::default().assign(&meta("web"), spec).unwrap();
        let plain = assign(&spec("{}"));
        assert_eq!((assign(&spec("{}")), plain.len()), (plain.clone(), 1));
        assert_eq!(assign(&spec("{clusterIP: 10.96.7.7}")), [IpAddr::from([10, 96, 7, 7])]);
        assert_eq!(assign(&spec("{clusterIP: None}")), Vec::<IpAddr>::new());
        let both = assign(&spec("{ipFamilies: [IPv6], ipFamilyPolicy: PreferDualStack}"));
        assert_eq!((both[0].is_ipv6(), both[1]), (true, plain[0]));
    }

    #[test]
    fn two_services_never_share_an_address() {
        let mut addresses = Addresses::default();
        let all = (0..2000).map(|n| addresses.assign(&meta(&format!("s{n}")), &spec("{}")).unwrap()[0]);
        assert_eq!(all.collect::<BTreeSet<_>>().len(), 2000);
    }

    #[test]
    fn external_names_stand_for_services_and_addresses() {
        let service =
            |name: &str, yaml: &str, addresses| Service { meta: meta(name), spec: spec(yaml), addresses };
        let alias =
            |to: &str| service("alias", &format!("{{type: ExternalName, externalName: {to}}}"), vec![]);
        let hosts_with = |to: &str| {
            hosts("default", &[alias(to), service("web", "{}", vec![IpAddr::from([10, 96, 0, 1])])], &[])
        };
        for name in ["web.default.svc.cluster.local", "web.default.svc", "web.default.svc.cluster.local."] {
            assert!(hosts_with(name).contains("\n10.96.0.1 alias alias.default "), "{name}");
        }
        assert!(hosts_with("192.0.2.7").contains("\n192.0.2.7 alias "));
        for name in ["example.com", "web.other.svc", "alias.default.svc"] {
            assert!(!hosts_with(name).contains("alias"), "{name}");
        }
    }

    #[test]
    fn endpoints_are_ready_pods_by_selector_and_named_port() {
        let template: Template = serde_saphyr::from_str(
            "{metadata: {labels: {app: web}}, spec: {containers: [{ports: [{name: http, containerPort: 8080}]}]}}",
        )
        .unwrap();
        let labels = &template.metadata.labels;
        let pod = |n, ready| Backend {
            namespace: "default",
            name: "p",
            labels,
            spec: &template.spec,
            address: PodAddress::nth(n, false),
            ready,
        };
        let pods = [pod(0, true), pod(1, false)];
        let spec = spec("{selector: {app: web}, ports: [{port: 80, targetPort: http}]}");
        let service = Service { meta: meta("web"), addresses: vec![IpAddr::from([10, 96, 0, 1])], spec };
        let rules = service.rules(&pods);
        assert_eq!(rules[0].endpoints, [(IpAddr::from([10, 244, 0, 2]), 8080)]);
        let text = hosts("default", std::slice::from_ref(&service), &pods);
        let names =
            "web web.default web.default.svc web.default.svc.cluster.local web.default.svc.cluster.local.";
        assert!(text.contains(&format!("\n10.96.0.1 {names}\n")), "{text}");
        assert!(hosts("other", &[service], &pods).contains("\n10.96.0.1 web.default web.default.svc"));
    }
}
