//! Names of resources, services and clusters.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// A service: the namespace that owns it and its host, e.g. `default/reviews.default.svc.cluster.local`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceName {
    /// The namespace that owns the service.
    pub namespace: Arc<str>,
    /// The fully qualified host.
    pub host: Arc<str>,
}

/// A cluster: one port of a service, or one subset of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClusterName {
    /// The service.
    pub service: ServiceName,
    /// The service's port (not the target port).
    pub port: u16,
    /// The subset of a DestinationRule.
    pub subset: Option<Arc<str>>,
}

/// Where an object that a user wrote stands: for logs, explanations and errors.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectName {
    /// The object's namespace.
    pub namespace: Arc<str>,
    /// The object's name.
    pub name: Arc<str>,
}

/// An address that traffic is sent to; port 0 asks who a peer at that IP is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AddressKey {
    /// The IP address; IPv4-mapped IPv6 is written as IPv4.
    pub ip: IpAddr,
    /// The port, or 0.
    pub port: u16,
}

/// One slice of a service's endpoints.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SliceName {
    /// The service.
    pub service: ServiceName,
    /// The slice's number, below [`super::service::Service::slices`].
    pub slice: u32,
}

/// The name by which a sidecar asks for a resource.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ResourceName {
    /// The asking pod's own workload; there is one, and it is the pod of the stream's token.
    Workload,
    /// What an address means: `10.96.0.10:80`, `[fd00::1]:80`.
    Address(AddressKey),
    /// A service: `namespace/host`.
    Service(ServiceName),
    /// A slice of a service's endpoints: `namespace/host#slice`.
    Endpoints(SliceName),
}

impl ServiceName {
    /// A service's name from its parts.
    pub fn new(namespace: &str, host: &str) -> Self {
        Self { namespace: namespace.into(), host: host.into() }
    }
}

impl AddressKey {
    /// The key of an address, with IPv4-mapped IPv6 written as IPv4.
    pub fn new(ip: IpAddr, port: u16) -> Self {
        Self { ip: ip.to_canonical(), port }
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.host)
    }
}

/// The name that Envoy's and Istio's tools show: `outbound|80|v1|reviews.default.svc.cluster.local`.
impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "outbound|{}|{}|{}", self.port, self.subset.as_deref().unwrap_or(""), self.service.host)
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl fmt::Display for AddressKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        std::net::SocketAddr::new(self.ip, self.port).fmt(f)
    }
}

impl fmt::Display for SliceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.service, self.slice)
    }
}

impl fmt::Display for ResourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Workload => f.write_str("self"),
            Self::Address(key) => key.fmt(f),
            Self::Service(name) => name.fmt(f),
            Self::Endpoints(name) => name.fmt(f),
        }
    }
}
