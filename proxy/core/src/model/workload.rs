//! A sidecar's own workload: identity, what it lets in, how it goes out.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;

use super::address::{HostBinding, ServicePortRef};
use super::metadata::{Labels, Locality, WorkloadMetadata};
use super::policy::AuthorizationPolicy;
use super::protocol::Protocol;
use super::telemetry::Telemetry;
use crate::identity::{SpiffeId, TrustDomain};

/// All that a sidecar must know before it takes traffic.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    /// Who the pod is.
    pub identity: SpiffeId,
    /// What metrics say of it.
    pub metadata: Arc<WorkloadMetadata>,
    /// The pod's addresses.
    pub addresses: Vec<IpAddr>,
    /// The pod's labels.
    pub labels: Labels,
    /// Where it runs.
    pub locality: Locality,
    /// Whose certificates are believed.
    pub trust: Vec<TrustBundle>,
    /// What is let in.
    pub inbound: Inbound,
    /// How it goes out.
    pub outbound: Outbound,
    /// What is told of its traffic.
    pub telemetry: Arc<Telemetry>,
}

/// The roots of one trust domain, or of an alias of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustBundle {
    /// The domain.
    pub domain: TrustDomain,
    /// Root certificates, DER.
    pub roots: Vec<bytes::Bytes>,
}

/// What is let in.
#[derive(Clone, Debug, PartialEq)]
pub struct Inbound {
    /// mTLS on ports that `ports` does not name.
    pub default_mtls: MtlsMode,
    /// The ports that services, PeerAuthentications or a Sidecar name.
    pub ports: Vec<InboundPort>,
    /// The policies that apply, by name.
    pub policies: Vec<Arc<AuthorizationPolicy>>,
    /// Path normalisation (`meshConfig.pathNormalization`).
    pub path_normalization: PathNormalization,
}

/// One port of the workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboundPort {
    /// The port that clients reach (a container port, not a service's).
    pub number: u16,
    /// What it carries.
    pub protocol: Protocol,
    /// mTLS on it.
    pub mtls: MtlsMode,
    /// The service that it serves, for metrics; the oldest of several.
    pub service: Option<ServicePortRef>,
    /// Where the application listens, if not on the pod's own address and this port (`Sidecar.ingress.defaultEndpoint`).
    pub application: Option<SocketAddr>,
    /// A listener of its own, where the port is not captured (`captureMode: NONE`).
    pub listener: Option<SocketAddr>,
}

/// PeerAuthentication's modes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MtlsMode {
    /// Plaintext only.
    Disable,
    /// mTLS and plaintext.
    #[default]
    Permissive,
    /// mTLS only.
    Strict,
}

/// `meshConfig.pathNormalization.normalization`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PathNormalization {
    /// As sent.
    None,
    /// RFC 3986, section 6.
    #[default]
    Base,
    /// And `//` becomes `/`.
    MergeSlashes,
    /// And `%2f`, `%5c` become `/` first.
    DecodeAndMergeSlashes,
}

/// How a workload goes out.
#[derive(Clone, Debug, PartialEq)]
pub struct Outbound {
    /// What becomes of traffic to addresses that mean nothing.
    pub mode: OutboundMode,
    /// Where the mesh's pods and services live: an address here that is not known fails closed while the controller is away.
    pub mesh_ranges: Vec<IpNet>,
    /// Listeners of its own (`Sidecar.egress` with `captureMode: NONE`).
    pub listeners: Vec<EgressListener>,
}

/// `outboundTrafficPolicy.mode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OutboundMode {
    /// To the address itself.
    #[default]
    AllowAny,
    /// Nowhere.
    RegistryOnly,
}

/// An explicit listener for outgoing traffic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EgressListener {
    /// Where it listens.
    pub bind: SocketAddr,
    /// What it carries.
    pub protocol: Protocol,
    /// Which service the Host header or the SNI means; a TCP listener takes the first.
    pub services: Vec<HostBinding>,
}

impl Outbound {
    /// The listener that takes what is sent to an address: the one that is bound to it, or to its port on every address.
    pub fn listener(&self, at: SocketAddr) -> Option<&EgressListener> {
        let takes = |on: &&EgressListener| {
            let every = on.bind.ip().is_unspecified() && at.ip().is_loopback();
            on.bind == at || (every && on.bind.port() == at.port())
        };
        self.listeners.iter().find(takes)
    }
}

impl Inbound {
    /// What is known of a port.
    pub fn port(&self, number: u16) -> Option<&InboundPort> {
        self.ports.iter().find(|port| port.number == number)
    }

    /// mTLS on a port.
    pub fn mtls(&self, number: u16) -> MtlsMode {
        self.port(number).map_or(self.default_mtls, |port| port.mtls)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_on_every_address_is_on_loopback_too() {
        let on = |bind: &str| EgressListener {
            bind: bind.parse().expect("an address"),
            protocol: Protocol::Http,
            services: vec![],
        };
        let listeners = vec![on("127.0.0.1:80"), on("0.0.0.0:90")];
        let outbound = Outbound { mode: OutboundMode::AllowAny, mesh_ranges: vec![], listeners };
        let bind = |at: &str| outbound.listener(at.parse().expect("an address")).map(|on| on.bind.port());
        assert_eq!((bind("127.0.0.1:80"), bind("127.0.0.1:90")), (Some(80), Some(90)));
        assert_eq!((bind("127.0.0.1:91"), bind("10.0.0.1:90"), bind("10.0.0.1:80")), (None, None, None));
    }
}
