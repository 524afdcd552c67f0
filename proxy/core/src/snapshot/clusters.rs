//! The clusters of a service with their endpoints.

use std::net::SocketAddr;
use std::sync::Arc;

use super::resources::{Resources, slices};
use crate::hash::{Map, Set, stable};
use crate::model::cluster::Cluster;
use crate::model::endpoint::{Endpoint, EndpointSlice};
use crate::model::name::ClusterName;
use crate::model::service::{Location, Service};
use crate::reason::Reason;
use crate::transport::{Transport, transport};
use crate::upstream::{ClusterState, EndpointId, EndpointState};

/// The clusters of a service, and what they were made of.
#[derive(Debug)]
pub(super) struct ServiceClusters {
    told: Vec<Arc<Service>>,
    slices: Vec<Option<Arc<EndpointSlice>>>,
    by_name: Map<ClusterName, Arc<ClusterState>>,
}

/// What a build hands on to the clusters it makes.
pub(super) struct Maker {
    /// The number of the next endpoint that is new.
    pub(super) next_endpoint: u64,
    /// The pod's own name: each client begins elsewhere in the round.
    pub(super) pod: Arc<str>,
}

impl ServiceClusters {
    /// A cluster by its name.
    pub(super) fn find(&self, name: &ClusterName) -> Option<&Arc<ClusterState>> {
        self.by_name.get(name)
    }

    /// Every cluster, in no order.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<ClusterState>> {
        self.by_name.values()
    }

    /// Whether these are the clusters of these versions of the service and of these slices.
    fn is_of(&self, told: &[&Arc<Service>], slices: &[Option<Arc<EndpointSlice>>]) -> bool {
        let same_slice = |(a, b): (&Option<Arc<EndpointSlice>>, &Option<Arc<EndpointSlice>>)| match (a, b) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (None, None) => true,
            _ => false,
        };
        self.told.len() == told.len()
            && self.told.iter().zip(told).all(|(a, b)| Arc::ptr_eq(a, b))
            && self.slices.len() == slices.len()
            && self.slices.iter().zip(slices).all(same_slice)
    }
}

/// The slices of a service; `None` while one has not come. One that is known not to exist has no endpoints.
pub(super) fn slices_of(service: &Service, resources: &Resources) -> Option<Vec<Option<Arc<EndpointSlice>>>> {
    slices(service).map(|name| resources.slices.get(&name).cloned()).collect()
}

impl Maker {
    /// The clusters of a service: those of `newest`, and of `in_use` (the version that routes still follow) those that
    /// `newest` no longer has.
    pub(super) fn clusters(
        &mut self,
        newest: &Arc<Service>,
        in_use: Option<&Arc<Service>>,
        slices: Vec<Option<Arc<EndpointSlice>>>,
        previous: Option<&Arc<ServiceClusters>>,
    ) -> Arc<ServiceClusters> {
        let mut told = vec![newest];
        told.extend(in_use.filter(|old| !Arc::ptr_eq(old, newest)));
        if let Some(same) = previous.filter(|p| p.is_of(&told, &slices)) {
            return Arc::clone(same);
        }
        let endpoints: Vec<_> = slices.iter().flatten().flat_map(|slice| &slice.endpoints).collect();
        let mut by_name = Map::default();
        for service in &told {
            for cluster in service.clusters.iter().filter(|c| c.name.service == service.name) {
                if !by_name.contains_key(&cluster.name) {
                    let before = previous.and_then(|p| p.find(&cluster.name));
                    let state = self.cluster(service.location, cluster, &endpoints, before);
                    by_name.insert(cluster.name.clone(), state);
                }
            }
        }
        Arc::new(ServiceClusters { told: told.into_iter().cloned().collect(), slices, by_name })
    }

    fn cluster(
        &mut self,
        location: Location,
        cluster: &Arc<Cluster>,
        endpoints: &[&Arc<Endpoint>],
        previous: Option<&Arc<ClusterState>>,
    ) -> Arc<ClusterState> {
        let past: Map<_, _> = previous.iter().flat_map(|p| &p.endpoints).map(|e| (e.address, e)).collect();
        let mut seen = Set::default();
        let mut states = Vec::new();
        for endpoint in endpoints.iter().filter(|endpoint| endpoint.has_labels(&cluster.labels)) {
            let Some(port) = endpoint.target_port(cluster.name.port) else { continue };
            let address = SocketAddr::new(endpoint.ip, port);
            if seen.insert(address) {
                let transport = transport(cluster, location, endpoint);
                states.push(self.endpoint(endpoint, address, transport, past.get(&address).copied()));
            }
        }
        if let Some(same) =
            previous.filter(|p| p.cluster == *cluster && same_endpoints(&p.endpoints, &states))
        {
            return Arc::clone(same);
        }
        let seed = stable(&[&self.pod, &cluster.name.service.host]);
        Arc::new(ClusterState::assemble(Arc::clone(cluster), states, previous.map(|p| &**p), seed))
    }

    /// An endpoint of a cluster. One that is dialled as before keeps its number, and with it its connections; one at
    /// the same address keeps what happened.
    fn endpoint(
        &mut self,
        endpoint: &Arc<Endpoint>,
        address: SocketAddr,
        transport: Result<Transport, Reason>,
        previous: Option<&Arc<EndpointState>>,
    ) -> Arc<EndpointState> {
        let same_way = previous.filter(|p| p.transport == transport);
        if let Some(same) = same_way.filter(|p| p.endpoint.as_ref() == Some(endpoint)) {
            return Arc::clone(same);
        }
        Arc::new(EndpointState {
            id: same_way.map_or_else(|| self.new_id(), |same| same.id),
            address,
            transport,
            weight: endpoint.weight.max(1),
            metadata: Arc::clone(&endpoint.metadata),
            identity: endpoint.identity.clone(),
            endpoint: Some(Arc::clone(endpoint)),
            shared: previous.map(|p| Arc::clone(&p.shared)).unwrap_or_default(),
        })
    }

    fn new_id(&mut self) -> EndpointId {
        self.next_endpoint += 1;
        EndpointId::Listed(self.next_endpoint)
    }
}

fn same_endpoints(a: &[Arc<EndpointState>], b: &[Arc<EndpointState>]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| Arc::ptr_eq(a, b))
}
