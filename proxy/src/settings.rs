//! What the sidecar is told at its start: arguments, each with an environment variable of the same meaning.
//!
//! This is the only module that reads the environment. Everything that can differ between two sidecars of
//! one mesh is here; what the mesh decides comes from the controller.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, ValueEnum};

/// All settings of one sidecar.
#[derive(Clone, Debug, Args)]
pub struct Settings {
    /// Which pod this is.
    #[command(flatten)]
    pub pod: PodSettings,
    /// Where configuration and certificates come from.
    #[command(flatten)]
    pub controller: ControllerSettings,
    /// Where the sidecar listens.
    #[command(flatten)]
    pub ports: PortSettings,
    /// How it runs on this machine.
    #[command(flatten)]
    pub host: HostSettings,
    /// What it writes.
    #[command(flatten)]
    pub logs: LogSettings,
    /// How it ends.
    #[command(flatten)]
    pub drain: DrainSettings,
}

/// Which pod this is.
#[derive(Clone, Debug, Args)]
pub struct PodSettings {
    /// Name of the pod.
    #[arg(long = "pod-name", env = "WEFT_POD_NAME")]
    pub name: String,
    /// Namespace of the pod.
    #[arg(long = "pod-namespace", env = "WEFT_POD_NAMESPACE")]
    pub namespace: String,
    /// Addresses of the pod, separated by commas; the application is dialled on them.
    #[arg(long = "pod-ips", env = "WEFT_POD_IPS", value_delimiter = ',', required = true)]
    pub ips: Vec<IpAddr>,
    /// Service account of the pod.
    #[arg(long, env = "WEFT_SERVICE_ACCOUNT", default_value = "default")]
    pub service_account: String,
    /// The probes of the pod's containers, as JSON; injection writes it.
    #[arg(long, env = "WEFT_APP_PROBES", hide = true)]
    pub app_probes: Option<String>,
    /// Where the application has metrics of its own, `PORT/PATH`; injection writes it.
    #[arg(long, env = "WEFT_APP_METRICS", hide = true)]
    pub app_metrics: Option<String>,
    /// Trust domain that the certificate is asked for.
    #[arg(long, env = "WEFT_TRUST_DOMAIN", default_value = "cluster.local")]
    pub trust_domain: String,
}

/// Where configuration and certificates come from.
#[derive(Clone, Debug, Args)]
pub struct ControllerSettings {
    /// The controller's address, `https://HOST:PORT`.
    #[arg(long = "controller", env = "WEFT_CONTROLLER", value_parser = parse_controller,
          default_value = "https://weft-controller.weft-system.svc:15012")]
    pub address: ControllerAddress,
    /// The name that the controller's certificate must have.
    #[arg(
        long = "controller-name",
        env = "WEFT_CONTROLLER_NAME",
        default_value = "weft-controller.weft-system.svc"
    )]
    pub server_name: String,
    /// File with the pod's service-account token; read again on every use.
    #[arg(long, env = "WEFT_TOKEN_FILE", default_value = "/var/run/secrets/tokens/weft-token")]
    pub token_file: PathBuf,
    /// File with the root certificates (PEM) by which the controller is believed; read again on every connection.
    #[arg(long, env = "WEFT_ROOT_FILE", default_value = "/var/run/secrets/weft/root-cert.pem")]
    pub root_file: PathBuf,
    /// Memory-backed folder for the last good configuration, the key and the certificate; without it a restart
    /// needs the controller.
    #[arg(long, env = "WEFT_STATE_DIR")]
    pub state_dir: Option<PathBuf>,
    /// How long a connection waits for the controller to say what its address means.
    #[arg(long, env = "WEFT_LOOKUP_TIMEOUT", value_parser = parse_duration, default_value = "5s")]
    pub lookup_timeout: Duration,
    /// The longest pause between two tries to reach the controller.
    #[arg(long, env = "WEFT_RECONNECT_MAX", value_parser = parse_duration, default_value = "15s")]
    pub reconnect_max: Duration,
    /// The most services and addresses that are held without use; above it the least recently used are given back.
    #[arg(long, env = "WEFT_MAX_IDLE_NAMES", default_value_t = 1000)]
    pub max_idle_names: usize,
    /// How long a certificate is asked for.
    #[arg(long, env = "WEFT_CERTIFICATE_TTL", value_parser = parse_duration, default_value = "24h")]
    pub certificate_ttl: Duration,
}

/// Where the sidecar listens.
#[derive(Clone, Debug, Args)]
pub struct PortSettings {
    /// Port that outgoing connections are redirected to.
    #[arg(long = "outbound-port", env = "WEFT_OUTBOUND_PORT", default_value_t = 15001)]
    pub outbound: u16,
    /// Port that incoming connections are redirected to.
    #[arg(long = "inbound-port", env = "WEFT_INBOUND_PORT", default_value_t = 15006)]
    pub inbound: u16,
    /// Address of the administration interface; only a loopback address is accepted.
    #[arg(long = "admin", env = "WEFT_ADMIN", default_value_t = default_admin(), value_parser = parse_admin)]
    pub admin: SocketAddr,
    /// Port of the metrics, on every address.
    #[arg(long = "metrics-port", env = "WEFT_METRICS_PORT", default_value_t = 15020)]
    pub metrics: u16,
    /// Port of readiness and liveness, on every address.
    #[arg(long = "health-port", env = "WEFT_HEALTH_PORT", default_value_t = 15021)]
    pub health: u16,
}

/// How the sidecar runs on this machine.
#[derive(Clone, Debug, Args)]
pub struct HostSettings {
    /// Mark (SO_MARK) on every outgoing socket, where redirection tells the sidecar from its application by it.
    #[arg(long, env = "WEFT_MARK")]
    pub mark: Option<u32>,
    /// Number of worker threads; without it the CPU request rounded up, at most 2.
    #[arg(long, env = "WEFT_WORKERS")]
    pub workers: Option<usize>,
    /// The most requests under way at once; those beyond it are answered with 503. Without it one for each 64 KiB of
    /// the memory limit; without that no limit.
    #[arg(long, env = "WEFT_MAX_REQUESTS")]
    pub max_requests: Option<u32>,
    /// Whether load is shed before the memory of the sidecar's cgroup is used up; off where others share that cgroup.
    #[arg(long, env = "WEFT_MEMORY_WATCH", action = clap::ArgAction::Set, default_value_t = true)]
    pub memory_watch: bool,
    /// The CPU request of the container in whole cores, as the downward API rounds it.
    #[arg(long, env = "WEFT_CPU_REQUEST")]
    pub cpu_request: Option<usize>,
}

/// What the sidecar writes.
#[derive(Clone, Debug, Args)]
pub struct LogSettings {
    /// The sidecar's own log: `error`, `warn`, `info`, `debug` (which `trace` means, too), or a filter such as
    /// `info,weft_proxy::config=debug`.
    #[arg(long = "log", env = "WEFT_LOG", default_value = "info")]
    pub level: String,
    /// The access log, on standard output.
    #[arg(long, env = "WEFT_ACCESS_LOG", value_enum, default_value_t = AccessLogFormat::Off)]
    pub access_log: AccessLogFormat,
}

/// How the sidecar ends.
#[derive(Clone, Debug, Args)]
pub struct DrainSettings {
    /// How long the sidecar keeps taking new connections after it was told to end.
    #[arg(long = "drain-minimum", env = "WEFT_DRAIN_MINIMUM", value_parser = parse_duration, default_value = "0s")]
    pub minimum: Duration,
    /// How long connections may take to end before they are cut.
    #[arg(long = "drain-timeout", env = "WEFT_DRAIN_TIMEOUT", value_parser = parse_duration, default_value = "25s")]
    pub timeout: Duration,
}

/// The form of the access log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum AccessLogFormat {
    /// None.
    #[default]
    Off,
    /// One JSON object a line.
    Json,
    /// Istio's default line of text.
    Text,
}

/// Host and port of the controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControllerAddress {
    /// A name or an IP address.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// A setting that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// No worker could run.
    #[error("WEFT_WORKERS (--workers) is 0: give 1 or more, or leave it out")]
    NoWorkers,
    /// Two listeners would want the same port.
    #[error(
        "port {0} is given to two listeners: change one of the outbound, inbound, admin, metrics and health ports"
    )]
    SamePort(u16),
    /// The arguments or the environment cannot be read.
    #[error("{0}")]
    Arguments(String),
}

/// The arguments alone, for callers that have no command of their own.
#[derive(Parser)]
#[command(name = "weft-proxy", no_binary_name = true)]
struct ArgumentsOnly {
    #[command(flatten)]
    settings: Settings,
}

// === impl Settings ===

impl Settings {
    /// Settings from arguments such as `["--pod-name", "a"]` and the environment.
    pub fn from_args<I, T>(args: I) -> Result<Self, SettingsError>
    where
        I: IntoIterator<Item = T>,
        T: Into<std::ffi::OsString> + Clone,
    {
        let parsed =
            ArgumentsOnly::try_parse_from(args).map_err(|e| SettingsError::Arguments(e.to_string()))?;
        parsed.settings.checked()
    }

    /// The settings, if they agree with one another.
    pub fn checked(self) -> Result<Self, SettingsError> {
        if self.host.workers == Some(0) {
            return Err(SettingsError::NoWorkers);
        }
        match self.ports.first_repeated() {
            Some(port) => Err(SettingsError::SamePort(port)),
            None => Ok(self),
        }
    }
}

impl HostSettings {
    /// How many workers run on a machine with `cores` cores.
    pub fn worker_count(&self, cores: usize) -> usize {
        let requested = self.cpu_request.unwrap_or(2).clamp(1, 2);
        self.workers.unwrap_or(requested.min(cores.max(1)))
    }
}

impl PortSettings {
    fn first_repeated(&self) -> Option<u16> {
        let mut ports = [self.outbound, self.inbound, self.admin.port(), self.metrics, self.health];
        ports.sort_unstable();
        ports.windows(2).find(|pair| pair[0] == pair[1] && pair[0] != 0).map(|pair| pair[0])
    }
}

/// A variable of the environment that a tag of spans asks for.
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The size of `text` as a span of time: `250ms`, `5s`, `10m`, `24h`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number = number.parse::<u64>().ok().filter(|n| *n < 1 << 40);
    match (number, unit) {
        (Some(n), "ms") => Ok(Duration::from_millis(n)),
        (Some(n), "s") => Ok(Duration::from_secs(n)),
        (Some(n), "m") => Ok(Duration::from_secs(n * 60)),
        (Some(n), "h") => Ok(Duration::from_secs(n * 3600)),
        _ => Err(format!("`{text}` is no span of time: write a whole number and ms, s, m or h, such as 5s")),
    }
}

fn parse_controller(text: &str) -> Result<ControllerAddress, String> {
    let wrong = || format!("`{text}` is no controller address: write https://HOST:PORT");
    let rest = text.strip_prefix("https://").ok_or_else(wrong)?.trim_end_matches('/');
    let (host, port) = rest.rsplit_once(':').ok_or_else(wrong)?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port = port.parse().map_err(|_| wrong())?;
    if host.is_empty() || host.contains('/') {
        return Err(wrong());
    }
    Ok(ControllerAddress { host: host.to_owned(), port })
}

fn default_admin() -> SocketAddr {
    SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 15000)
}

fn parse_admin(text: &str) -> Result<SocketAddr, String> {
    match text.parse::<SocketAddr>() {
        Ok(address) if address.ip().is_loopback() => Ok(address),
        Ok(_) => Err(format!(
            "`{text}` can be reached from other pods: give a loopback address such as 127.0.0.1:15000"
        )),
        Err(_) => Err(format!("`{text}` is no address with a port: write 127.0.0.1:15000")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: [&str; 3] = ["--pod-name=a", "--pod-namespace=default", "--pod-ips=10.0.0.1,fd00::1"];

    fn settings(more: &[&str]) -> Result<Settings, SettingsError> {
        Settings::from_args(POD.iter().chain(more).copied())
    }

    #[test]
    fn defaults_are_the_ports_of_istio() {
        let s = settings(&[]).unwrap();
        let p = &s.ports;
        assert_eq!((p.outbound, p.inbound, p.metrics, p.health), (15001, 15006, 15020, 15021));
        assert_eq!(p.admin.to_string(), "127.0.0.1:15000");
        assert_eq!(s.pod.ips.len(), 2);
    }

    #[test]
    fn workers_follow_the_cpu_request_up_to_two() {
        let count = |args: &[&str], cores| settings(args).unwrap().host.worker_count(cores);
        assert_eq!(count(&[], 8), 2);
        assert_eq!(count(&[], 1), 1);
        assert_eq!(count(&["--cpu-request=1"], 8), 1);
        assert_eq!(count(&["--cpu-request=6"], 8), 2);
        assert_eq!(count(&["--workers=4"], 2), 4);
        assert_eq!(settings(&["--workers=0"]).unwrap_err(), SettingsError::NoWorkers);
    }

    #[test]
    fn g23_administration_is_on_loopback_only() {
        let error = settings(&["--admin=0.0.0.0:15000"]).unwrap_err().to_string();
        assert!(error.contains("loopback"), "{error}");
        assert!(settings(&["--admin=[::1]:15000"]).is_ok());
    }

    #[test]
    fn two_listeners_cannot_share_a_port() {
        assert_eq!(settings(&["--health-port=15020"]).unwrap_err(), SettingsError::SamePort(15020));
    }

    #[test]
    fn controller_addresses_and_durations_are_read() {
        let at = |s: &str| parse_controller(s).map(|a| (a.host, a.port));
        assert_eq!(at("https://10.0.0.1:15012"), Ok(("10.0.0.1".into(), 15012)));
        assert_eq!(at("https://[fd00::1]:1/"), Ok(("fd00::1".into(), 1)));
        assert!(at("http://10.0.0.1:15012").is_err());
        assert!(at("https://x").is_err());
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert!(
            ["", "5", "s", "-1s", "1.5s", "99999999999999999999s"].iter().all(|t| parse_duration(t).is_err())
        );
    }
}
