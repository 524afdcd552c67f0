//! Services: ports, routes, clusters.

use std::net::IpAddr;
use std::sync::Arc;

use super::cluster::Cluster;
use super::name::ServiceName;
use super::protocol::Protocol;
use super::route::{HttpRoutes, TcpRule};

/// A service as one client sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// Its name.
    pub name: ServiceName,
    /// The service's own name, without namespace and domain: `destination_service_name` of metrics.
    pub short_name: Arc<str>,
    /// ClusterIPs and other addresses of its own; none for a headless service.
    pub addresses: Vec<IpAddr>,
    /// Whether its endpoints are the mesh's own or outside it.
    pub location: Location,
    /// Its ports.
    pub ports: Vec<ServicePort>,
    /// How many slices its endpoints come in; at least 1.
    pub slices: u32,
    /// A cluster for each port, and for each port and subset.
    pub clusters: Vec<Arc<Cluster>>,
}

/// Whether endpoints are the mesh's own (`MESH_INTERNAL`) or outside it (`MESH_EXTERNAL`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Location {
    /// In the mesh: mTLS where the endpoint has a sidecar.
    #[default]
    Internal,
    /// Outside: never mTLS of the mesh.
    External,
}

/// One port of a service.
#[derive(Clone, Debug, PartialEq)]
pub struct ServicePort {
    /// The service's port number.
    pub number: u16,
    /// Its name; empty where it has none.
    pub name: Arc<str>,
    /// What it carries.
    pub protocol: Protocol,
    /// Rules for HTTP requests.
    pub http: HttpRoutes,
    /// Rules for opaque and TLS connections; empty: to the service itself.
    pub tcp: Vec<Arc<TcpRule>>,
}

impl Service {
    /// The port of this number.
    pub fn port(&self, number: u16) -> Option<&ServicePort> {
        self.ports.iter().find(|port| port.number == number)
    }
}
