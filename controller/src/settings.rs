//! What the controller is told at its start: arguments, each with an environment variable of the same meaning.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Parser};

/// The controller: watches manifests and tells every sidecar what they mean for it.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "weft-controller",
    version,
    group = ArgGroup::new("source").args(["directories", "kubernetes"]).required(true),
    after_help = "Examples:\n  weft-controller --dir manifests --ca-dir /run/weft/ca --tokens-dir /run/weft/tokens\n  \
                  weft-controller --kubernetes"
)]
pub struct Settings {
    /// A directory of manifests; may be given several times: an object of a later one replaces that of an earlier one
    #[arg(long = "dir", env = "WEFT_DIR", value_delimiter = ':', requires_all = ["ca_dir", "tokens_dir"])]
    pub directories: Vec<PathBuf>,

    /// The objects of the API server: of the cluster around this pod, else of KUBECONFIG
    #[arg(long, env = "WEFT_KUBERNETES")]
    pub kubernetes: bool,

    /// Where sidecars reach the controller
    #[arg(long, env = "WEFT_LISTEN", default_value = "0.0.0.0:15012")]
    pub listen: SocketAddr,

    /// Where the root of trust is kept, in memory-backed storage; made at the first start, never overwritten
    #[arg(long, env = "WEFT_CA_DIR")]
    pub ca_dir: Option<PathBuf>,

    /// One file for each pod: {"token", "namespace", "pod", "serviceAccount"}
    #[arg(long, env = "WEFT_TOKENS_DIR")]
    pub tokens_dir: Option<PathBuf>,

    /// Where people and `weft get` ask: /sync, /errors, /metrics, /healthz, /readyz
    #[arg(long, env = "WEFT_CONTROLLER_ADMIN", default_value = "127.0.0.1:15014")]
    pub admin: SocketAddr,

    /// Where the API server reaches the webhooks
    #[arg(long, env = "WEFT_WEBHOOKS", default_value = "0.0.0.0:15017")]
    pub webhooks: SocketAddr,

    /// Which of several control planes this is: part of the names of its webhooks, lease and injection settings
    #[arg(long, env = "WEFT_REVISION", default_value = "default")]
    pub revision: String,

    /// The namespace of the control plane
    #[arg(long, env = "WEFT_NAMESPACE", default_value = "weft-system")]
    pub namespace: String,

    /// The name of the controller's own pod; by default the host's name
    #[arg(long, env = "WEFT_POD_NAME")]
    pub pod_name: Option<String>,

    /// Further names of the controller in its certificate
    #[arg(long = "name", env = "WEFT_CONTROLLER_NAMES", value_delimiter = ',')]
    pub names: Vec<String>,

    /// Addresses of the controller in its certificate
    #[arg(long = "address", env = "WEFT_CONTROLLER_ADDRESSES", value_delimiter = ',')]
    pub addresses: Vec<IpAddr>,

    /// How long a workload's certificate lives
    #[arg(long, env = "WEFT_WORKLOAD_CERT_TTL", default_value = "24h", value_parser = duration)]
    pub workload_cert_ttl: Duration,

    /// What is logged: `info`, `debug`, `weft_controller=debug,warn`
    #[arg(long = "log", env = "WEFT_LOG", default_value = "info")]
    pub log: String,
}

fn duration(text: &str) -> Result<Duration, String> {
    weft_crds::scalar::Duration::from(text).parse().map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(arguments: &str) -> Result<Settings, clap::Error> {
        Settings::try_parse_from(std::iter::once("x").chain(arguments.split_whitespace()))
    }

    #[test]
    fn directories_and_durations_are_read() {
        let settings = read("--dir a --dir b --ca-dir c --tokens-dir t --workload-cert-ttl 90s").unwrap();
        assert_eq!(settings.directories, [PathBuf::from("a"), PathBuf::from("b")]);
        assert_eq!(settings.workload_cert_ttl, Duration::from_secs(90));
        assert!(read("--dir a --ca-dir c --tokens-dir t --workload-cert-ttl 5").is_err());
    }

    #[test]
    fn the_source_is_one_of_two() {
        assert!(read("--kubernetes").unwrap().kubernetes);
        assert!(read("--kubernetes --dir a --ca-dir c --tokens-dir t").is_err());
        assert!(read("--ca-dir c --tokens-dir t").is_err());
        assert!(read("--dir a --ca-dir c").is_err(), "files need a directory of tokens");
    }
}
