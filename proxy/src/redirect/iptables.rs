//! The same rules for iptables, on nodes whose kernel has no nftables with NAT: text for `iptables-restore`, which takes
//! a table whole. Chains of ours are made anew each time; one jump from each of the kernel's leads to them.

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use ipnet::IpNet;

use super::established::Established;
use super::{Redirect, Sidecar};

/// The chains, and those of the kernel that lead to them.
const CHAINS: [(&str, &str); 2] = [("OUTPUT", "WEFT_OUTBOUND"), ("PREROUTING", "WEFT_INBOUND")];
/// IPv4's and IPv6's: the command, and whether it is for IPv6.
const FAMILIES: [(&str, bool); 2] = [("iptables", false), ("ip6tables", true)];

/// Sets the rules, replacing those of an earlier call.
///
/// # Errors
/// The program that is not in this image, or what it says.
pub fn apply(redirect: &Redirect) -> Result<()> {
    remove()?;
    for (program, v6) in families() {
        restore(program, &text(redirect, v6))?;
    }
    Ok(())
}

/// Takes the rules away; fine when there are none.
///
/// # Errors
/// The program that is not in this image.
pub fn remove() -> Result<()> {
    for (program, _) in families() {
        for (kernels, own) in CHAINS {
            while run(program, &["-w", "-t", "nat", "-D", kernels, "-p", "tcp", "-j", own])? {}
            run(program, &["-w", "-t", "nat", "-F", own])?;
            run(program, &["-w", "-t", "nat", "-X", own])?;
        }
    }
    Ok(())
}

/// Where a kernel has no IPv6 there is nothing to redirect in it.
fn families() -> impl Iterator<Item = (&'static str, bool)> {
    let has_v6 = std::path::Path::new("/proc/net/if_inet6").exists();
    FAMILIES.into_iter().filter(move |(_, v6)| has_v6 || !v6)
}

fn run(program: &str, arguments: &[&str]) -> Result<bool> {
    let status = Command::new(program).args(arguments).stderr(Stdio::null()).status();
    Ok(status.with_context(|| missing(program))?.success())
}

fn restore(program: &str, text: &str) -> Result<()> {
    let program = format!("{program}-restore");
    let mut command = Command::new(&program);
    command.args(["--noflush", "-w"]).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| missing(&program))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(text.as_bytes()).with_context(|| format!("{program} does not read"))?;
    }
    let output = child.wait_with_output()?;
    match output.status.success() {
        true => Ok(()),
        false => bail!("{program} refuses the rules: {}", String::from_utf8_lossy(&output.stderr).trim()),
    }
}

fn missing(program: &str) -> String {
    format!(
        "{program} cannot be run: with proxy.redirect.mode=iptables the chart's proxy.redirect.image must name an image that has it"
    )
}

/// The table `nat` for `iptables-restore --noflush`.
pub fn text(redirect: &Redirect, v6: bool) -> String {
    let mut text = String::from("*nat\n");
    for (_, own) in CHAINS {
        text.push_str(&format!(":{own} - [0:0]\n"));
    }
    for (kernels, own) in CHAINS {
        text.push_str(&format!("-A {kernels} -p tcp -j {own}\n"));
    }
    for rule in outbound(redirect, v6) {
        text.push_str(&format!("-A WEFT_OUTBOUND {rule}\n"));
    }
    for rule in inbound(redirect, v6) {
        text.push_str(&format!("-A WEFT_INBOUND {rule}\n"));
    }
    text + "COMMIT\n"
}

fn outbound(redirect: &Redirect, v6: bool) -> Vec<String> {
    let to_sidecar = format!("-p tcp -j REDIRECT --to-ports {}", redirect.outbound_port);
    let mut rules = vec![match redirect.sidecar {
        Sidecar::Uid(uid) => format!("-m owner --uid-owner {uid} -j RETURN"),
        Sidecar::Mark(mark) => format!("-m mark --mark {mark} -j RETURN"),
    }];
    rules.push("-o lo -j RETURN".to_owned());
    rules.extend(redirect.exclude_interfaces.iter().map(|name| format!("-o {name} -j RETURN")));
    rules.extend(
        redirect.exclude_outbound_ports.iter().map(|port| format!("-p tcp --dport {port} -j RETURN")),
    );
    rules.extend(
        of_family(&redirect.exclude_outbound_ranges, v6).map(|range| format!("-d {range} -j RETURN")),
    );
    rules.extend(
        redirect
            .include_outbound_ports
            .iter()
            .map(|port| format!("-p tcp --dport {port} -j REDIRECT --to-ports {}", redirect.outbound_port)),
    );
    match &redirect.include_outbound_ranges {
        None => rules.push(to_sidecar),
        Some(ranges) => rules.extend(of_family(ranges, v6).map(|range| format!("-d {range} {to_sidecar}"))),
    }
    rules
}

fn inbound(redirect: &Redirect, v6: bool) -> Vec<String> {
    let to_sidecar = format!("-j REDIRECT --to-ports {}", redirect.inbound_port);
    let mut rules = vec!["-i lo -j RETURN".to_owned()];
    let established = redirect.established.iter().filter(|old| old.remote.is_ipv6() == v6);
    rules.extend(established.map(|Established { local, remote }| {
        let (from, to) = (remote.ip(), local.ip());
        format!("-s {from} -d {to} -p tcp --sport {} --dport {} -j RETURN", remote.port(), local.port())
    }));
    rules.extend(redirect.exclude_interfaces.iter().map(|name| format!("-i {name} -j RETURN")));
    rules
        .extend(redirect.exclude_inbound_ports.iter().map(|port| format!("-p tcp --dport {port} -j RETURN")));
    match &redirect.include_inbound_ports {
        None => rules.push(format!("-p tcp {to_sidecar}")),
        Some(ports) => rules.extend(ports.iter().map(|port| format!("-p tcp --dport {port} {to_sidecar}"))),
    }
    rules
}

fn of_family(ranges: &[IpNet], v6: bool) -> impl Iterator<Item = &IpNet> {
    ranges.iter().filter(move |range| matches!(range, IpNet::V6(_)) == v6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_family_gets_its_own_ranges() {
        let mut rules = Redirect::everything(Sidecar::Uid(1337));
        rules.exclude_outbound_ranges = vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        let (v4, v6) = (text(&rules, false), text(&rules, true));
        assert!(v4.contains("-d 10.0.0.0/8 -j RETURN") && !v4.contains("fd00"), "{v4}");
        assert!(v6.contains("-d fd00::/8 -j RETURN") && !v6.contains("10.0.0.0"), "{v6}");
    }

    #[test]
    fn the_sidecars_own_go_out_first_and_the_rest_is_redirected_last() {
        let text = text(&Redirect::everything(Sidecar::Uid(1337)), false);
        let expected = "*nat\n:WEFT_OUTBOUND - [0:0]\n:WEFT_INBOUND - [0:0]\n\
            -A OUTPUT -p tcp -j WEFT_OUTBOUND\n-A PREROUTING -p tcp -j WEFT_INBOUND\n\
            -A WEFT_OUTBOUND -m owner --uid-owner 1337 -j RETURN\n-A WEFT_OUTBOUND -o lo -j RETURN\n\
            -A WEFT_OUTBOUND -p tcp -j REDIRECT --to-ports 15001\n\
            -A WEFT_INBOUND -i lo -j RETURN\n-A WEFT_INBOUND -p tcp --dport 15020 -j RETURN\n\
            -A WEFT_INBOUND -p tcp --dport 15021 -j RETURN\n\
            -A WEFT_INBOUND -p tcp -j REDIRECT --to-ports 15006\nCOMMIT\n";
        assert_eq!(text, expected);
    }
}
