//! What a manifest says of probes, and of the ports that they ask.

use serde::{Deserialize, Serialize};

/// A number or a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PortRef {
    /// A port's number.
    Number(u16),
    /// The name of a container's port.
    Name(String),
}

/// A probe.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Probe {
    /// Runs a command in the container.
    pub exec: Option<ExecProbe>,
    /// Asks over HTTP.
    pub http_get: Option<HttpProbe>,
    /// Opens a connection.
    pub tcp_socket: Option<TcpProbe>,
    /// Asks by gRPC's protocol of health.
    pub grpc: Option<GrpcProbe>,
    /// Seconds before the first.
    pub initial_delay_seconds: Option<u64>,
    /// Seconds between two (default 10).
    pub period_seconds: Option<u64>,
    /// Seconds that one may take (default 1).
    pub timeout_seconds: Option<u64>,
    /// How many failures in a row count (default 3).
    pub failure_threshold: Option<u32>,
    /// How many successes in a row count (default 1).
    pub success_threshold: Option<u32>,
}

/// Succeeds when the command exits with 0.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ExecProbe {
    /// The command.
    pub command: Vec<String>,
}

/// Succeeds on a status from 200 to 399.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpProbe {
    /// Which port.
    pub port: PortRef,
    /// Which path; `/` when not given.
    #[serde(default)]
    pub path: Option<String>,
    /// Further headers.
    #[serde(default)]
    pub http_headers: Vec<Header>,
    /// Only `HTTP`.
    #[serde(default)]
    pub scheme: Option<String>,
}

/// A header of a probe.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Header {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// Succeeds when the port accepts.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TcpProbe {
    /// Which port.
    pub port: PortRef,
}

/// Succeeds when the service says that it is serving.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GrpcProbe {
    /// Which port.
    pub port: u16,
    /// Which service; the server as a whole when not given.
    #[serde(default)]
    pub service: Option<String>,
}
