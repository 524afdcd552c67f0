//! Endpoints of services.

use std::net::IpAddr;
use std::sync::Arc;

use super::metadata::{Labels, Locality, WorkloadMetadata};
use super::name::SliceName;
use crate::identity::SpiffeId;

/// One slice of a service's endpoints: an endpoint that changes resends its own slice only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSlice {
    /// Which slice of which service.
    pub name: SliceName,
    /// The endpoints that may take traffic, by address.
    pub endpoints: Vec<Arc<Endpoint>>,
}

/// One address that serves a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The pod's address.
    pub ip: IpAddr,
    /// Service port to the port that the pod serves it on.
    pub ports: Vec<(u16, u16)>,
    /// Share among endpoints; at least 1.
    pub weight: u32,
    /// Who answers there: the pod's service account, where the pod is known.
    pub identity: Option<SpiffeId>,
    /// Whether a sidecar accepts mTLS there. An endpoint that is meshed is never dialled in clear unless a
    /// DestinationRule says DISABLE.
    pub meshed: bool,
    /// The service ports on which the endpoint's PeerAuthentication says DISABLE: dialled in clear.
    pub plaintext_ports: Vec<u16>,
    /// The pod's labels, for subsets.
    pub labels: Labels,
    /// What metrics say of it.
    pub metadata: Arc<WorkloadMetadata>,
    /// Where it runs.
    pub locality: Locality,
}

impl Endpoint {
    /// The port of the pod that serves a port of the service.
    pub fn target_port(&self, service_port: u16) -> Option<u16> {
        self.ports.iter().find(|(port, _)| *port == service_port).map(|(_, target)| *target)
    }

    /// Whether the endpoint has all of these labels.
    pub fn has_labels(&self, wanted: &[(Arc<str>, Arc<str>)]) -> bool {
        wanted.iter().all(|pair| self.labels.contains(pair))
    }
}
