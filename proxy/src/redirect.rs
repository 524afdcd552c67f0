//! Redirection: the rules that bring a pod's TCP traffic to its sidecar, sent to the kernel as one transaction.
//!
//! IPv4 and IPv6 share one table, named `weft-redirect`. Setting it up again replaces it, taking it away removes
//! all of it, and nothing else in the network namespace is touched. What is never redirected: the sidecar's own
//! connections (told apart by user or by packet mark), and whatever stays on the loopback interface, which includes
//! the application calling itself on 127.0.0.1 or on the pod's own address.

/// What is redirected, as arguments.
pub mod arguments;
/// Connections that are older than redirection.
pub mod established;
/// The same rules by iptables.
pub mod iptables;

use std::net::SocketAddr;

use ipnet::IpNet;
use nix::errno::Errno;
use nlink::netlink::nftables::{
    BaseChain, Chain, CmpOp, Expr, Family, MetaKey, NatHook, Priority, Register, Rule, Transaction,
};
use nlink::netlink::{Connection, Nftables};

use arguments::{Mode, RedirectSettings};
use established::Established;

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
    /// Destination ports that go to the sidecar whatever the address (`includeOutboundPorts`).
    pub include_outbound_ports: Vec<u16>,
    /// Destination ports that the application reaches directly.
    pub exclude_outbound_ports: Vec<u16>,
    /// When given, only destinations in these ranges go to the sidecar (`includeOutboundIPRanges`).
    pub include_outbound_ranges: Option<Vec<IpNet>>,
    /// Destinations that the application reaches directly.
    pub exclude_outbound_ranges: Vec<IpNet>,
    /// Network interfaces whose traffic stays as it is.
    pub exclude_interfaces: Vec<String>,
    /// Connections of the sidecar that are there already: what comes in on them is its own.
    pub established: Vec<Established>,
}

/// Why there is no redirection.
#[derive(Debug, thiserror::Error)]
pub enum RedirectError {
    /// The process may not.
    #[error(
        "the kernel refuses to redirect this pod's traffic: the container needs user 0 and the capability NET_ADMIN, \
         which Pod Security `baseline` refuses ({0})"
    )]
    Permission(nlink::Error),
    /// The kernel cannot.
    #[error(
        "the kernel of this node has no nftables with NAT ({0}): set proxy.redirect.mode=iptables in the chart's values, \
         and proxy.redirect.image to an image that has iptables"
    )]
    Kernel(nlink::Error),
    /// Anything else.
    #[error("the pod's traffic cannot be redirected: {0}")]
    Other(nlink::Error),
    /// What the sidecar is connected to cannot be told.
    #[error("the pod's connections cannot be listed: {0}")]
    Sockets(std::io::Error),
    /// iptables says no.
    #[error("{0:#}")]
    Iptables(anyhow::Error),
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
            include_outbound_ports: Vec::new(),
            exclude_outbound_ports: Vec::new(),
            include_outbound_ranges: None,
            exclude_outbound_ranges: Vec::new(),
            exclude_interfaces: Vec::new(),
            established: Vec::new(),
        }
    }

    /// Whether what the application sends to an address comes to the sidecar.
    pub fn takes_outbound(&self, to: SocketAddr) -> bool {
        let within = |all: &[IpNet]| all.iter().any(|net| net.contains(&to.ip()));
        let excluded =
            self.exclude_outbound_ports.contains(&to.port()) || within(&self.exclude_outbound_ranges);
        let included = self.include_outbound_ports.contains(&to.port())
            || self.include_outbound_ranges.as_deref().is_none_or(within);
        !excluded && included
    }

    /// Whether what others send to a port of the pod comes to the sidecar.
    pub fn takes_inbound(&self, port: u16) -> bool {
        let included = self.include_inbound_ports.as_ref().is_none_or(|all| all.contains(&port));
        included && !self.exclude_inbound_ports.contains(&port)
    }
}

/// `weft-proxy redirect`: sets the rules by the means that the settings name, or takes them away.
///
/// # Errors
/// Why not, and what to change.
pub async fn run(settings: &RedirectSettings) -> Result<(), RedirectError> {
    let mut rules = settings.rules();
    if settings.once_ready.is_some() {
        rules.established = established::of_user(settings.uid).map_err(RedirectError::Sockets)?;
    }
    match (settings.mode, settings.remove) {
        (Mode::Nftables, false) => apply(&rules).await.map_err(RedirectError::of),
        (Mode::Nftables, true) => remove().await.map_err(RedirectError::of),
        (Mode::Iptables, false) => iptables::apply(&rules).map_err(RedirectError::Iptables),
        (Mode::Iptables, true) => iptables::remove().map_err(RedirectError::Iptables),
    }
}

impl RedirectError {
    /// No family, no protocol, no expression of this name: the kernel, or a module of it, is not there.
    fn of(error: nlink::Error) -> Self {
        const NOT_THERE: [i32; 5] = [
            libc(Errno::ENOENT),
            libc(Errno::EOPNOTSUPP),
            libc(Errno::EPROTONOSUPPORT),
            libc(Errno::EAFNOSUPPORT),
            libc(Errno::ENOPROTOOPT),
        ];
        match error.errno() {
            _ if error.is_permission_denied() => Self::Permission(error),
            Some(number) if NOT_THERE.contains(&number) => Self::Kernel(error),
            _ => Self::Other(error),
        }
    }
}

const fn libc(errno: Errno) -> i32 {
    errno as i32
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
    for name in &redirect.exclude_interfaces {
        all = all.add_rule(rule(OUT).match_oif(name).accept());
    }
    for &port in &redirect.exclude_outbound_ports {
        all = all.add_rule(rule(OUT).match_tcp_dport(port).accept());
    }
    for range in &redirect.exclude_outbound_ranges {
        all = all.add_rule(rule(OUT).match_daddr(range.network(), range.prefix_len()).accept());
    }
    for &port in &redirect.include_outbound_ports {
        all = all.add_rule(rule(OUT).match_tcp_dport(port).redirect(Some(redirect.outbound_port)));
    }
    let to_sidecar = |rule: Rule| rule.match_l4proto(TCP).redirect(Some(redirect.outbound_port));
    let Some(ranges) = &redirect.include_outbound_ranges else { return all.add_rule(to_sidecar(rule(OUT))) };
    ranges.iter().fold(all, |all, range| {
        all.add_rule(to_sidecar(rule(OUT).match_daddr(range.network(), range.prefix_len())))
    })
}

fn inbound(mut all: Transaction, redirect: &Redirect) -> Transaction {
    all = all.add_rule(rule(IN).match_iif("lo").accept());
    all = redirect.established.iter().fold(all, |all, old| all.add_rule(comes_in_on(old).accept()));
    for name in &redirect.exclude_interfaces {
        all = all.add_rule(rule(IN).match_iif(name).accept());
    }
    for &port in &redirect.exclude_inbound_ports {
        all = all.add_rule(rule(IN).match_tcp_dport(port).accept());
    }
    let to_sidecar = |rule: Rule| rule.redirect(Some(redirect.inbound_port));
    let Some(ports) = &redirect.include_inbound_ports else {
        return all.add_rule(to_sidecar(rule(IN).match_l4proto(TCP)));
    };
    ports.iter().fold(all, |all, &port| all.add_rule(to_sidecar(rule(IN).match_tcp_dport(port))))
}

/// Packets of one connection, from its other end.
fn comes_in_on(old: &Established) -> Rule {
    let whole = |at: SocketAddr| if at.is_ipv4() { 32 } else { 128 };
    rule(IN)
        .match_saddr(old.remote.ip(), whole(old.remote))
        .match_daddr(old.local.ip(), whole(old.local))
        .match_tcp_sport(old.remote.port())
        .match_tcp_dport(old.local.port())
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
