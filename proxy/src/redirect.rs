//! Redirection: the rules that bring a pod's TCP traffic to its sidecar, sent to the kernel as one transaction.
//!
//! IPv4 and IPv6 share one table, named `weft-redirect`. Setting it up again replaces it, taking it away removes
//! all of it, and nothing else in the network namespace is touched. What is never redirected: the sidecar's own
//! connections (told apart by user or by packet mark), and whatever stays on the loopback interface, which includes
//! the application calling itself on 127.0.0.1 or on the pod's own address.

use ipnet::IpNet;
use nlink::netlink::nftables::{
    BaseChain, Chain, CmpOp, Expr, Family, MetaKey, NatHook, Priority, Register, Rule, Transaction,
};
use nlink::netlink::{Connection, Nftables};

/// The nftables table that holds the rules.
pub const TABLE: &str = "weft-redirect";
const OUT: &str = "outbound";
const IN: &str = "inbound";
const TCP: u8 = 6;

/// How the sidecar's own packets are told from the application's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sidecar {
    /// It runs as this user (in a cluster: 1337).
    Uid(u32),
    /// It sets this `SO_MARK`, which the application may not (on a machine where both have the same user).
    Mark(u32),
}

/// What is redirected where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// Whose packets go out as they are.
    pub sidecar: Sidecar,
    /// The sidecar's port for what the application sends, usually 15001.
    pub outbound_port: u16,
    /// The sidecar's port for what others send to the application, usually 15006.
    pub inbound_port: u16,
    /// When given, only connections to these ports of the pod come to the sidecar (`includeInboundPorts`).
    pub include_inbound_ports: Option<Vec<u16>>,
    /// Ports of the pod that are reached directly; the sidecar's own, 15020 and 15021, belong here.
    pub exclude_inbound_ports: Vec<u16>,
    /// Destination ports that the application reaches directly.
    pub exclude_outbound_ports: Vec<u16>,
    /// When given, only destinations in these ranges go to the sidecar (`includeOutboundIPRanges`).
    pub include_outbound_ranges: Option<Vec<IpNet>>,
    /// Destinations that the application reaches directly.
    pub exclude_outbound_ranges: Vec<IpNet>,
}

impl Redirect {
    /// Everything, on the usual ports.
    pub fn everything(sidecar: Sidecar) -> Self {
        Self {
            sidecar,
            outbound_port: 15001,
            inbound_port: 15006,
            include_inbound_ports: None,
            exclude_inbound_ports: vec![15020, 15021],
            exclude_outbound_ports: Vec::new(),
            include_outbound_ranges: None,
            exclude_outbound_ranges: Vec::new(),
        }
    }
}

/// Sets the rules in this process's network namespace, replacing those of an earlier call, all at once.
///
/// # Errors
/// When the process lacks `CAP_NET_ADMIN` there, or the kernel lacks nf_tables with NAT; nothing has changed then.
pub async fn apply(redirect: &Redirect) -> Result<(), nlink::Error> {
    let nft = Connection::<Nftables>::new()?;
    let there = nft.list_tables_in(Family::Inet).await?.iter().any(|t| t.name == TABLE);
    let old = if there { nft.transaction().del_table(TABLE, Family::Inet) } else { nft.transaction() };
    let mut all = old.add_table(TABLE, Family::Inet);
    all = all.add_chain(chain(OUT, NatHook::Output)?).add_chain(chain(IN, NatHook::Prerouting)?);
    all = inbound(outbound(all, redirect), redirect);
    all.commit(&nft).await
}

/// Takes the rules away; fine when there are none.
///
/// # Errors
/// When the process lacks `CAP_NET_ADMIN` there.
pub async fn remove() -> Result<(), nlink::Error> {
    Connection::<Nftables>::new()?.del_table_if_exists(TABLE, Family::Inet).await.map(drop)
}

fn chain(name: &str, hook: NatHook) -> Result<Chain, nlink::Error> {
    Ok(Chain::new(TABLE, name)?.family(Family::Inet).base(BaseChain::nat(hook, Priority::DstNat)))
}

fn outbound(mut all: Transaction, redirect: &Redirect) -> Transaction {
    all = all.add_rule(own_packets(redirect.sidecar).accept());
    all = all.add_rule(rule(OUT).match_oif("lo").accept());
    for &port in &redirect.exclude_outbound_ports {
        all = all.add_rule(rule(OUT).match_tcp_dport(port).accept());
    }
    for range in &redirect.exclude_outbound_ranges {
        all = all.add_rule(rule(OUT).match_daddr(range.network(), range.prefix_len()).accept());
    }
    let to_sidecar = |rule: Rule| rule.match_l4proto(TCP).redirect(Some(redirect.outbound_port));
    let Some(ranges) = &redirect.include_outbound_ranges else { return all.add_rule(to_sidecar(rule(OUT))) };
    ranges.iter().fold(all, |all, range| {
        all.add_rule(to_sidecar(rule(OUT).match_daddr(range.network(), range.prefix_len())))
    })
}

fn inbound(mut all: Transaction, redirect: &Redirect) -> Transaction {
    all = all.add_rule(rule(IN).match_iif("lo").accept());
    for &port in &redirect.exclude_inbound_ports {
        all = all.add_rule(rule(IN).match_tcp_dport(port).accept());
    }
    let to_sidecar = |rule: Rule| rule.redirect(Some(redirect.inbound_port));
    let Some(ports) = &redirect.include_inbound_ports else {
        return all.add_rule(to_sidecar(rule(IN).match_l4proto(TCP)));
    };
    ports.iter().fold(all, |all, &port| all.add_rule(to_sidecar(rule(IN).match_tcp_dport(port))))
}

fn own_packets(sidecar: Sidecar) -> Rule {
    match sidecar {
        Sidecar::Mark(mark) => rule(OUT).match_mark(mark),
        Sidecar::Uid(uid) => rule(OUT)
            .expr(Expr::Meta { dreg: Register::R0, key: MetaKey::SkUid })
            .expr(Expr::Cmp { sreg: Register::R0, op: CmpOp::Eq, data: uid.to_ne_bytes().to_vec() }),
    }
}

fn rule(chain: &str) -> Rule {
    Rule::new(TABLE, chain).family(Family::Inet)
}
