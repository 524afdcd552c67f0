//! `weft-proxy redirect`: what is redirected, as arguments and environment.

use std::str::FromStr;

use clap::{Args, FromArgMatches, ValueEnum};
use ipnet::IpNet;

use super::{Redirect, Sidecar};

/// The arguments of `weft-proxy redirect`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  weft-proxy redirect                                       all TCP but the sidecar's own, to 15001 and 15006
  weft-proxy redirect --exclude-outbound-ports=5432         PostgreSQL is reached directly
  weft-proxy redirect --include-outbound-ranges=10.0.0.0/8  nothing else goes by way of the sidecar
  weft-proxy redirect --remove                              take the rules away

Needs the capability NET_ADMIN in the pod's network namespace. All rules come into force at once, or none. They are in
the table inet weft-redirect: calling again replaces it, and nothing else is touched.")]
pub struct RedirectSettings {
    /// Take the rules away
    #[arg(long)]
    pub remove: bool,
    /// Begin once the sidecar, asked on its health port, is ready
    #[arg(long, value_name = "PORT")]
    pub once_ready: Option<u16>,
    /// How many seconds that may take
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    pub within: u32,
    /// By what means; iptables is for nodes without nftables, and needs an image that has iptables-restore
    #[arg(long, env = "WEFT_REDIRECT_MODE", value_enum, default_value_t = Mode::Nftables)]
    pub mode: Mode,
    /// User of the sidecar: its packets go out as they are
    #[arg(long, env = "WEFT_UID", default_value_t = 1337)]
    pub uid: u32,
    /// Mark (SO_MARK) of the sidecar's packets, instead of its user
    #[arg(long, env = "WEFT_MARK")]
    pub mark: Option<u32>,
    /// The sidecar's port for what the application sends
    #[arg(long, env = "WEFT_OUTBOUND_PORT", default_value_t = 15001)]
    pub outbound_port: u16,
    /// The sidecar's port for what others send to the application
    #[arg(long, env = "WEFT_INBOUND_PORT", default_value_t = 15006)]
    pub inbound_port: u16,
    /// Ports of the sidecar that others reach directly: metrics and health
    #[arg(long, env = "WEFT_OWN_PORTS", default_value = "15020,15021")]
    pub own_ports: Listed<u16>,
    /// Ports of the pod whose traffic comes to the sidecar, or *
    #[arg(long, env = "WEFT_INCLUDE_INBOUND_PORTS", default_value = "*")]
    pub include_inbound_ports: AllOr<u16>,
    /// Ports of the pod that are reached directly
    #[arg(long, env = "WEFT_EXCLUDE_INBOUND_PORTS", default_value = "")]
    pub exclude_inbound_ports: Listed<u16>,
    /// Destination ports whose traffic goes by way of the sidecar whatever its address
    #[arg(long, env = "WEFT_INCLUDE_OUTBOUND_PORTS", default_value = "")]
    pub include_outbound_ports: Listed<u16>,
    /// Destination ports that the application reaches directly
    #[arg(long, env = "WEFT_EXCLUDE_OUTBOUND_PORTS", default_value = "")]
    pub exclude_outbound_ports: Listed<u16>,
    /// Destinations whose traffic goes by way of the sidecar, or *
    #[arg(long, env = "WEFT_INCLUDE_OUTBOUND_RANGES", default_value = "*")]
    pub include_outbound_ranges: AllOr<IpNet>,
    /// Destinations that the application reaches directly
    #[arg(long, env = "WEFT_EXCLUDE_OUTBOUND_RANGES", default_value = "")]
    pub exclude_outbound_ranges: Listed<IpNet>,
    /// Network interfaces whose traffic is not redirected
    #[arg(long, env = "WEFT_EXCLUDE_INTERFACES", default_value = "")]
    pub exclude_interfaces: Listed<String>,
}

/// By what means traffic is redirected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// One transaction, sent to the kernel.
    Nftables,
    /// `iptables-restore` and `ip6tables-restore`.
    Iptables,
}

/// Values with commas between them; maybe none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed<T>(pub Vec<T>);

/// Values with commas between them, or `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllOr<T>(pub Option<Vec<T>>);

impl RedirectSettings {
    /// Reads arguments, without the name of a program before them.
    ///
    /// # Errors
    /// The argument that cannot be read.
    pub fn read(arguments: &[String]) -> Result<Self, clap::Error> {
        let command = Self::augment_args(clap::Command::new("redirect").no_binary_name(true));
        Self::from_arg_matches(&command.try_get_matches_from(arguments)?)
    }

    /// The rules.
    pub fn rules(&self) -> Redirect {
        Redirect {
            sidecar: self.mark.map_or(Sidecar::Uid(self.uid), Sidecar::Mark),
            outbound_port: self.outbound_port,
            inbound_port: self.inbound_port,
            include_inbound_ports: self.include_inbound_ports.0.clone(),
            exclude_inbound_ports: [&*self.own_ports.0, &*self.exclude_inbound_ports.0].concat(),
            include_outbound_ports: self.include_outbound_ports.0.clone(),
            exclude_outbound_ports: self.exclude_outbound_ports.0.clone(),
            include_outbound_ranges: self.include_outbound_ranges.0.clone(),
            exclude_outbound_ranges: self.exclude_outbound_ranges.0.clone(),
            exclude_interfaces: self.exclude_interfaces.0.clone(),
            established: Vec::new(),
        }
    }
}

impl<T: FromStr> FromStr for Listed<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
        let read = |item: &str| item.parse().map_err(|_| format!("`{item}` cannot be read"));
        items.map(read).collect::<Result<_, _>>().map(Self)
    }
}

impl<T: FromStr> FromStr for AllOr<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            "*" => Ok(Self(None)),
            text => Ok(Self(Some(text.parse::<Listed<T>>()?.0))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(arguments: &[&str]) -> Result<Redirect, String> {
        let arguments: Vec<_> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        RedirectSettings::read(&arguments).map(|settings| settings.rules()).map_err(|e| e.to_string())
    }

    #[test]
    fn rules_tell_what_comes_to_the_sidecar() {
        let all = rules(&[]).unwrap();
        let (database, web) = ("10.1.0.1:5432".parse().unwrap(), "192.0.2.1:80".parse().unwrap());
        assert!(all.takes_outbound(web) && all.takes_inbound(8080) && !all.takes_inbound(15020));
        let some = rules(&["--exclude-outbound-ports=5432", "--include-inbound-ports=80"]).unwrap();
        assert!(!some.takes_outbound(database) && some.takes_inbound(80) && !some.takes_inbound(8080));
        let mesh = ["--include-outbound-ranges=10.0.0.0/8", "--include-outbound-ports=80"];
        let mesh = rules(&mesh).unwrap();
        assert!(
            mesh.takes_outbound(database) && mesh.takes_outbound(web),
            "the port goes by the sidecar anywhere"
        );
        assert!(!mesh.takes_outbound("192.0.2.1:443".parse().unwrap()));
    }

    #[test]
    fn without_arguments_everything_is_redirected() {
        assert_eq!(rules(&[]).unwrap(), Redirect::everything(Sidecar::Uid(1337)));
    }

    #[test]
    fn arguments_become_rules() {
        let rules = rules(&[
            "--mark=7",
            "--include-inbound-ports=80, 443",
            "--exclude-inbound-ports=9100",
            "--include-outbound-ranges=",
            "--exclude-outbound-ranges=10.0.0.0/8,fd00::/8",
            "--exclude-interfaces=net1",
        ]);
        let rules = rules.unwrap();
        assert_eq!(rules.sidecar, Sidecar::Mark(7));
        assert_eq!(rules.include_inbound_ports, Some(vec![80, 443]));
        assert_eq!(rules.exclude_inbound_ports, [15020, 15021, 9100]);
        assert_eq!(rules.include_outbound_ranges, Some(vec![]));
        assert_eq!(rules.exclude_outbound_ranges.len(), 2);
        assert_eq!(rules.exclude_interfaces, ["net1"]);
    }

    #[test]
    fn refusals_name_argument_and_value() {
        let refused = rules(&["--exclude-outbound-ports=80,http"]).unwrap_err();
        assert!(refused.contains("`http`") && refused.contains("--exclude-outbound-ports"), "{refused}");
        assert!(rules(&["--exclude-outbound-ranges=10.0.0.1"]).is_err());
    }
}
