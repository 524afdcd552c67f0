//! What a request of the own application means: which service's routes apply, or where it goes without any.
//!
//! The address that was dialled decides; where several services stand behind it, the host does; on an explicit listener
//! of a Sidecar nothing but the host, and one that it was not given goes nowhere. The answer is kept by
//! the connection and holds as long as the configuration stays and the host does.

use std::net::SocketAddr;
use std::sync::Arc;

use weft_core::meaning;
use weft_core::model::address::{Address, AddressedWorkload, Meaning, ServicePortRef};
use weft_core::model::protocol::Protocol;
use weft_core::model::route::RetryPolicy;
use weft_core::reason::Reason;
use weft_core::snapshot::{PortState, ServiceState, Snapshot};
use weft_core::upstream::{ClusterState, EndpointState};

use crate::config::MeshReader;
use crate::downstream::Outgoing;
use crate::telemetry::ServiceLabels;

/// What a request means.
#[derive(Debug)]
pub struct Found {
    generation: u64,
    epoch: u64,
    /// The host by which it was found; `None` where no host matters.
    host: Option<Box<str>>,
    /// Where it goes.
    pub way: Way,
    /// The service, as metrics name it.
    pub labels: ServiceLabels,
}

/// Where a request goes.
#[derive(Debug)]
pub enum Way {
    /// To a service, by its routes.
    Service {
        /// The service.
        service: Arc<ServiceState>,
        /// Its port.
        port: Arc<PortState>,
    },
    /// To one address, by no route.
    Address(Box<Direct>),
}

/// One address, and how it is treated.
#[derive(Debug)]
pub struct Direct {
    /// A cluster without policy.
    pub cluster: Arc<ClusterState>,
    /// The address.
    pub endpoint: Arc<EndpointState>,
    /// What it carries.
    pub protocol: Protocol,
    /// The defaults.
    pub retries: RetryPolicy,
}

impl Found {
    /// Whether it still holds for a request to this host.
    pub fn holds(&self, mesh: &MeshReader, snapshot: &Snapshot, host: &str) -> bool {
        self.generation == snapshot.generation()
            && self.epoch == mesh.epoch()
            && self.host.as_deref().is_none_or(|known| known == host)
    }
}

/// Finds what a request to `host` means that came over a connection.
///
/// # Errors
/// The reason for which it cannot be sent anywhere.
pub async fn resolve(
    mesh: &MeshReader,
    snapshot: &Arc<Snapshot>,
    from: &Outgoing,
    host: &str,
) -> Result<Found, Reason> {
    let address = &from.address;
    let by_host = !matches!(address.meaning, Meaning::Service(_) | Meaning::Nothing { .. });
    let (way, labels) = match meaning::of_request(address, from.listed, host) {
        Some(port) => to_service(mesh, port).await?,
        None if from.listed && !meaning::is_closed(snapshot) => return Err(Reason::NoRoute),
        None => to_address(snapshot, address, from.downstream.destination)?,
    };
    let (generation, epoch) = (mesh.snapshot().generation(), mesh.epoch());
    Ok(Found { generation, epoch, host: by_host.then(|| host.into()), way, labels })
}

async fn to_service(mesh: &MeshReader, of: &ServicePortRef) -> Result<(Way, ServiceLabels), Reason> {
    let service = mesh.service(&of.service).await.map_err(|_| Reason::ConfigUnavailable)?;
    let port = Arc::clone(service.port(of.port).ok_or(Reason::NoCluster)?);
    let labels = ServiceLabels {
        host: Arc::clone(&service.service.name.host),
        name: Arc::clone(&service.service.short_name),
        namespace: Arc::clone(&service.service.name.namespace),
    };
    Ok((Way::Service { service, port }, labels))
}

fn to_address(
    snapshot: &Snapshot,
    address: &Address,
    dialled: SocketAddr,
) -> Result<(Way, ServiceLabels), Reason> {
    let endpoint = meaning::without_service(snapshot, address, dialled)?;
    let (protocol, labels) = match &address.meaning {
        Meaning::Workload(workload) => (workload.protocol, of_pod(workload)),
        _ => {
            let labels = ServiceLabels { name: "PassthroughCluster".into(), ..ServiceLabels::default() };
            (Protocol::Auto, labels)
        }
    };
    Ok((Way::direct(snapshot, endpoint, protocol), labels))
}

fn of_pod(workload: &AddressedWorkload) -> ServiceLabels {
    ServiceLabels {
        name: Arc::clone(&workload.metadata.workload),
        namespace: Arc::clone(&workload.metadata.namespace),
        ..ServiceLabels::default()
    }
}

impl Way {
    fn direct(snapshot: &Snapshot, endpoint: Arc<EndpointState>, protocol: Protocol) -> Self {
        let cluster = Arc::clone(snapshot.passthrough());
        Self::Address(Box::new(Direct { cluster, endpoint, protocol, retries: RetryPolicy::default() }))
    }
}
