//! The mesh's network, and the only file that knows how links, addresses, routes and rules are made.
//!
//! Pods are routed, not bridged: each has one address (a /32 and a /128) on one link, whose other end lies in the
//! supervisor's network namespace. So every packet between pods passes one place, where one rule set sends
//! Service addresses on to ready pods, as kube-proxy does on a node, and where a capture sees everything.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result};
use nlink::netlink::addr::{Ipv4Address, Ipv6Address};
use nlink::netlink::link::VethLink;
use nlink::netlink::nftables::{
    BaseChain, Chain, CmpOp, Expr, Family, FilterHook, Generated, NatHook, NatStatement, NumgenKind,
    Priority, Register, Rule, Transaction,
};
use nlink::netlink::route::{Ipv4Route, Ipv6Route};
use nlink::netlink::types::addr::Scope;
use nlink::netlink::{Connection, Nftables, Route};

/// The supervisor's address, as pods see it: the controller listens there.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 1);
/// Every pod's next hop for IPv6: the far end of its own link.
const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
/// The supervisor's address for IPv6.
pub const MESH_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x10, 0x244, 0, 0, 0, 0, 1);
/// Where Service addresses are taken from.
pub const SERVICES: (Ipv4Addr, u8) = (Ipv4Addr::new(10, 96, 0, 0), 16);
/// Where IPv6 Service addresses are taken from.
pub const SERVICES_V6: (Ipv6Addr, u8) = (Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, 0), 112);
/// The link's name inside a pod.
pub const POD_LINK: &str = "eth0";
const TABLE: &str = "weft";

/// The addresses of one pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PodAddress {
    /// IPv4, always there.
    pub v4: Ipv4Addr,
    /// IPv6, where the kernel has it.
    pub v6: Option<Ipv6Addr>,
}

impl PodAddress {
    /// The `n`th pod's addresses, `n` from 0; after about 64,000 they repeat.
    pub fn nth(n: u32, v6: bool) -> Self {
        let n = 2 + n % 65_000;
        let v4 = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 244, 0, 0)) + n);
        let v6 = v6.then(|| {
            Ipv6Addr::from(u128::from(Ipv6Addr::new(0xfd00, 0x10, 0x244, 0, 0, 0, 0, 0)) + u128::from(n))
        });
        Self { v4, v6 }
    }

    /// All of them, IPv4 first.
    pub fn all(&self) -> Vec<IpAddr> {
        std::iter::once(IpAddr::V4(self.v4)).chain(self.v6.map(IpAddr::V6)).collect()
    }
}

/// Connections to one Service address and port, and the ready pods that may get them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceRule {
    /// The Service's address.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// 6 for TCP, 17 for UDP.
    pub protocol: u8,
    /// Pods' addresses and ports, of the same family as `address`.
    pub endpoints: Vec<(IpAddr, u16)>,
}

/// Whether this kernel has IPv6 at all.
pub fn has_ipv6() -> bool {
    std::path::Path::new("/proc/net/if_inet6").exists()
}

/// Sets up the supervisor's network namespace.
///
/// # Errors
/// Says which step the kernel refused.
pub async fn prepare_mesh() -> Result<()> {
    let route = Connection::<Route>::new()?;
    route.set_link_up("lo").await.context("bring the loopback up")?;
    route
        .add_address(Ipv4Address::new("lo", GATEWAY, 32).scope(Scope::Universe))
        .await
        .context("set the mesh's address")?;
    sysctl("net/ipv4/ip_forward", "1")?;
    if has_ipv6() {
        sysctl("net/ipv6/conf/all/forwarding", "1")?;
        let address = Ipv6Address::new("lo", MESH_V6, 128).nodad();
        route.add_address(address).await.context("set the mesh's IPv6 address")?;
    }
    Ok(())
}

/// Links a pod's network namespace (that of process `pid`) with this one; `link` is the name of the end that stays.
///
/// # Errors
/// Says which step the kernel refused.
pub async fn attach(pid: u32, link: &str, address: PodAddress) -> Result<()> {
    let route = Connection::<Route>::new()?;
    let pair = VethLink::new(link, POD_LINK).peer_netns_pid(pid);
    route.add_link(pair).await.context("link the pod (is the kernel's veth module there?)")?;
    if address.v6.is_some() {
        let near = Ipv6Address::new(link, GATEWAY_V6, 64).nodad();
        route.add_address(near).await.context("set the link's IPv6 address")?;
    }
    route.set_link_up(link).await.context("bring the pod's link up")?;
    let to_pod = Ipv4Route::new(address.v4, 32).dev(link).prefsrc(GATEWAY);
    route.add_route(to_pod).await.context("route to the pod")?;
    if let Some(v6) = address.v6 {
        route.add_route(Ipv6Route::new(v6, 128).dev(link)).await.context("route to the pod over IPv6")?;
    }
    Ok(())
}

/// Sets up a pod's own network namespace, once [`attach`] moved its link in.
///
/// # Errors
/// Says which step the kernel refused.
pub async fn configure_pod(address: PodAddress) -> Result<()> {
    let route = Connection::<Route>::new()?;
    route.set_link_up("lo").await.context("bring the loopback up")?;
    // As container runtimes do: applications that are not root may listen on port 80.
    sysctl("net/ipv4/ip_unprivileged_port_start", "0")?;
    route.add_address(Ipv4Address::new(POD_LINK, address.v4, 32)).await.context("set the pod's address")?;
    if let Some(v6) = address.v6 {
        // Nobody advertises routes here.
        sysctl(&format!("net/ipv6/conf/{POD_LINK}/accept_ra"), "0")?;
        let address = Ipv6Address::new(POD_LINK, v6, 128).nodad();
        route.add_address(address).await.context("set the pod's IPv6 address")?;
    }
    route.set_link_up(POD_LINK).await.context("bring the pod's link up")?;
    let way_out = Ipv4Route::default_route().gateway(GATEWAY).dev(POD_LINK).onlink();
    route.add_route(way_out).await.context("set the pod's default route")?;
    if address.v6.is_some() {
        let way_out = Ipv6Route::default_route().gateway(GATEWAY_V6).dev(POD_LINK);
        route.add_route(way_out).await.context("set the pod's IPv6 default route")?;
    }
    Ok(())
}

/// Sends connections to Service addresses on to ready pods, at random, all rules replaced at once. What has no
/// ready pod is refused, so that a client need not wait.
///
/// # Errors
/// When the kernel refuses the transaction; the rules that were there then stay.
pub async fn apply_services(rules: &[ServiceRule]) -> Result<()> {
    let nft = Connection::<Nftables>::new()?;
    let there = nft.list_tables_in(Family::Inet).await?.iter().any(|t| t.name == TABLE);
    let old = if there { nft.transaction().del_table(TABLE, Family::Inet) } else { nft.transaction() };
    let mut all = old.add_table(TABLE, Family::Inet);
    for (name, hook) in [("from-pods", NatHook::Prerouting), ("from-here", NatHook::Output)] {
        all = all.add_chain(base(name, BaseChain::nat(hook, Priority::DstNat))?);
        all = rules.iter().fold(all, |all, rule| balance(all, name, rule));
    }
    all = all.add_chain(base("hairpin", BaseChain::nat(NatHook::Postrouting, Priority::SrcNat))?);
    all = hairpin(all, rules);
    all = all.add_chain(base("unserved", BaseChain::filter(FilterHook::Forward, Priority::Filter))?);
    for (network, prefix) in
        [(IpAddr::V4(SERVICES.0), SERVICES.1), (IpAddr::V6(SERVICES_V6.0), SERVICES_V6.1)]
    {
        let to_service = || Rule::new(TABLE, "unserved").family(Family::Inet).match_daddr(network, prefix);
        all = all.add_rule(to_service().match_l4proto(6).reject_tcp_reset()).add_rule(to_service().reject());
    }
    all.commit(&nft)
        .await
        .context("set the rules for Service addresses (are the kernel's nf_tables modules there?)")
}

fn base(name: &str, base: BaseChain) -> Result<Chain> {
    Ok(Chain::new(TABLE, name)?.family(Family::Inet).base(base))
}

/// One rule for each endpoint; the first of `n` that are left takes one connection in `n`.
fn balance(all: Transaction, chain: &str, service: &ServiceRule) -> Transaction {
    let count = service.endpoints.len();
    service.endpoints.iter().enumerate().fold(all, |all, (index, &(address, port))| {
        let rule =
            Rule::new(TABLE, chain).family(Family::Inet).match_daddr(service.address, whole(service.address));
        let rule = match service.protocol {
            17 => rule.match_udp_dport(service.port),
            _ => rule.match_tcp_dport(service.port),
        };
        all.add_rule(one_in(rule, count - index).nat(NatStatement::dnat(address).port(port)))
    })
}

fn one_in(rule: Rule, modulus: usize) -> Rule {
    let Ok(modulus @ 2..) = u32::try_from(modulus) else { return rule };
    let first = Expr::Cmp { sreg: Register::R0, op: CmpOp::Eq, data: 0u32.to_ne_bytes().to_vec() };
    rule.generate(Generated::Numgen { kind: NumgenKind::Random, modulus, offset: 0 }).expr(first)
}

/// A pod that reaches itself through a Service must not see its own address come in from outside.
fn hairpin(all: Transaction, rules: &[ServiceRule]) -> Transaction {
    let mut pods: Vec<IpAddr> = rules.iter().flat_map(|r| r.endpoints.iter().map(|e| e.0)).collect();
    pods.sort_unstable();
    pods.dedup();
    pods.into_iter().fold(all, |all, pod| {
        let itself = Rule::new(TABLE, "hairpin").family(Family::Inet);
        all.add_rule(itself.match_saddr(pod, whole(pod)).match_daddr(pod, whole(pod)).masquerade())
    })
}

fn whole(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn sysctl(name: &str, value: &str) -> Result<()> {
    let path = format!("/proc/sys/{name}");
    std::fs::write(&path, value).with_context(|| format!("write {value} to {path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_are_numbered_behind_the_gateway() {
        assert_eq!(PodAddress::nth(0, false), PodAddress { v4: Ipv4Addr::new(10, 244, 0, 2), v6: None });
        assert_eq!(PodAddress::nth(254, true).v4, Ipv4Addr::new(10, 244, 1, 0));
        assert_eq!(PodAddress::nth(0, true).v6, Some("fd00:10:244::2".parse().unwrap()));
    }
}
