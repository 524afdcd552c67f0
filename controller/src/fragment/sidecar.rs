//! Sidecars.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use weft_core::model::protocol::Protocol;
use weft_core::model::workload::OutboundMode;

use super::meta::{Meta, Selector};

/// A Sidecar that is understood.
#[derive(Clone, Debug, PartialEq)]
pub struct Sidecar {
    /// Name, age, origin.
    pub meta: Meta,
    /// `workloadSelector`; `None` speaks for the namespace, or in the root namespace for the mesh.
    pub selector: Option<Selector>,
    /// `ingress`.
    pub ingress: Vec<Ingress>,
    /// `egress`; empty: every service is seen.
    pub egress: Vec<Egress>,
    /// `outboundTrafficPolicy.mode`.
    pub outbound: Option<OutboundMode>,
}

/// One listener of `ingress`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ingress {
    /// `port.number`.
    pub port: u16,
    /// `port.protocol`.
    pub protocol: Protocol,
    /// Where it listens, with `captureMode: NONE`.
    pub listener: Option<SocketAddr>,
    /// `defaultEndpoint`: where the application listens; an unspecified address stands for the pod's own.
    pub application: Option<SocketAddr>,
}

/// One listener of `egress`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Egress {
    /// `port.number` and protocol; `None` is all other traffic.
    pub port: Option<(u16, Protocol)>,
    /// `bind`.
    pub bind: Option<IpAddr>,
    /// `captureMode` other than `NONE`.
    pub captured: bool,
    /// `hosts`.
    pub hosts: Vec<EgressHost>,
}

/// One of `egress.hosts`: `namespace/host`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EgressHost {
    /// The namespace; `None` is any; `~` never gets here.
    pub namespace: Option<Arc<str>>,
    /// The host, lower case; `*` is any, `*.x` every name under `x`.
    pub host: Arc<str>,
}

impl EgressHost {
    /// Whether a service is meant.
    pub fn includes(&self, service: &weft_core::model::name::ServiceName) -> bool {
        self.namespace.as_ref().is_none_or(|n| *n == service.namespace)
            && host_matches(&self.host, &service.host)
    }
}

/// Whether a host, which may be a wildcard, means a name: `*.foo.com` does not mean `foo.com`.
pub fn host_matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_prefix('*') {
        Some("") => true,
        Some(suffix) => name.len() > suffix.len() && name.ends_with(suffix),
        None => pattern == name,
    }
}
