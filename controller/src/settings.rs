//! What the controller is told at its start: arguments, each with an environment variable of the same meaning.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

/// The controller: watches manifests and tells every sidecar what they mean for it.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "weft-controller",
    version,
    after_help = "Example:\n  weft-controller --dir manifests --ca-dir /run/weft/ca --tokens-dir /run/weft/tokens"
)]
pub struct Settings {
    /// A directory of manifests; may be given several times: an object of a later one replaces that of an earlier one
    #[arg(long = "dir", env = "WEFT_DIR", value_delimiter = ':', required = true)]
    pub directories: Vec<PathBuf>,

    /// Where sidecars reach the controller
    #[arg(long, env = "WEFT_LISTEN", default_value = "0.0.0.0:15012")]
    pub listen: SocketAddr,

    /// Where the root of trust is kept, in memory-backed storage; made at the first start, never overwritten
    #[arg(long, env = "WEFT_CA_DIR")]
    pub ca_dir: PathBuf,

    /// One file for each pod: {"token", "namespace", "pod", "serviceAccount"}
    #[arg(long, env = "WEFT_TOKENS_DIR")]
    pub tokens_dir: PathBuf,

    /// Where people and `weft get` ask: /sync, /errors, /metrics, /healthz
    #[arg(long, env = "WEFT_CONTROLLER_ADMIN", default_value = "127.0.0.1:15014")]
    pub admin: SocketAddr,

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

    #[test]
    fn directories_and_durations_are_read() {
        let arguments = [
            "x",
            "--dir",
            "a",
            "--dir",
            "b",
            "--ca-dir",
            "c",
            "--tokens-dir",
            "t",
            "--workload-cert-ttl",
            "90s",
        ];
        let settings = Settings::try_parse_from(arguments).unwrap();
        assert_eq!(settings.directories, [PathBuf::from("a"), PathBuf::from("b")]);
        assert_eq!(settings.workload_cert_ttl, Duration::from_secs(90));
        assert!(
            Settings::try_parse_from([
                "x",
                "--dir",
                "a",
                "--ca-dir",
                "c",
                "--tokens-dir",
                "t",
                "--workload-cert-ttl",
                "5"
            ])
            .is_err()
        );
    }
}
