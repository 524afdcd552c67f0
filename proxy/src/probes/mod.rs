//! The application's probes, asked from inside its pod.
//!
//! The kubelet has no certificate: where mTLS is STRICT, it asks the sidecar instead, under `/app-health/`. What the
//! pod's author wrote came with the injection; each probe goes to the pod's own address, as the kubelet's would have
//! gone, and by the kubelet's rules: any status from 200 to 399 is good, certificates are not checked.

/// One HTTP request.
mod http;
/// TLS that believes anybody.
mod tls;
/// The gRPC health protocol.
mod grpc;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::Deserialize;

use crate::dial::{DialOptions, Dialer};

/// A hook of a container's life may take its time.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// The probes of a pod's containers, by their path at the sidecar.
#[derive(Clone, Debug, Default)]
pub struct Probes {
    all: BTreeMap<String, Probe>,
    to: Option<IpAddr>,
    dialer: Dialer,
}

/// One probe.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Probe {
    #[serde(flatten)]
    action: Action,
    timeout_seconds: Option<u64>,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Action {
    HttpGet(HttpGet),
    TcpSocket(Tcp),
    Grpc(Grpc),
}

/// A request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct HttpGet {
    path: String,
    port: u16,
    scheme: Scheme,
    http_headers: Vec<Header>,
}

/// With or without TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Scheme {
    #[default]
    Http,
    Https,
}

/// A header of a request.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Header {
    name: String,
    #[serde(default)]
    value: String,
}

/// A connection.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Tcp {
    port: u16,
}

/// A call of `grpc.health.v1.Health/Check`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Grpc {
    port: u16,
    #[serde(default)]
    service: Option<String>,
}

/// Probes that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("WEFT_APP_PROBES holds no probes: {0}; injection writes it, and nobody else should")]
pub struct ProbesError(#[from] serde_json::Error);

/// What came of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Of the answer to the kubelet: what the application said, 503 where it said nothing.
    pub status: u16,
    /// For people.
    pub text: String,
}

impl Probes {
    /// Reads what injection wrote; the application is asked at the address.
    ///
    /// # Errors
    /// The text holds something else.
    pub fn read(text: Option<&str>, to: Option<IpAddr>, dialer: Dialer) -> Result<Self, ProbesError> {
        let all = text.filter(|text| !text.is_empty()).map_or(Ok(BTreeMap::new()), serde_json::from_str)?;
        Ok(Self { all, to, dialer })
    }

    /// Asks; `None` where there is no probe of this path.
    pub async fn ask(&self, path: &str) -> Option<Verdict> {
        let (probe, to) = (self.all.get(path)?, self.to?);
        let patience = probe.timeout_seconds.map_or(LONGEST, |seconds| Duration::from_secs(seconds.max(1)));
        let asked = tokio::time::timeout(patience, self.perform(&probe.action, to)).await;
        Some(match asked {
            Ok(Ok(status)) => Verdict { status, text: format!("the application answered {status}") },
            Ok(Err(problem)) => Verdict { status: 503, text: problem },
            Err(_) => {
                Verdict { status: 503, text: format!("the application did not answer within {patience:?}") }
            }
        })
    }

    async fn perform(&self, action: &Action, to: IpAddr) -> Result<u16, String> {
        let at = SocketAddr::new(to, action.port());
        let stream = self.dialer.dial(at, &DialOptions::default()).await.map_err(|e| e.to_string())?;
        match action {
            Action::TcpSocket(_) => Ok(200),
            Action::HttpGet(get) => match get.scheme {
                Scheme::Http => http::get(get, at, stream).await,
                Scheme::Https => http::get(get, at, tls::connect(get, at, stream).await?).await,
            },
            Action::Grpc(grpc) => grpc::check(grpc, at, stream).await,
        }
    }
}

impl Action {
    fn port(&self) -> u16 {
        match self {
            Self::HttpGet(get) => get.port,
            Self::TcpSocket(tcp) => tcp.port,
            Self::Grpc(grpc) => grpc.port,
        }
    }
}

#[cfg(test)]
mod tests;
