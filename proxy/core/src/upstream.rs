//! Clusters and endpoints as they run: what the controller told, and what happened since.
//!
//! What happened (requests under way, errors in a row, ejections, the turn of round robin) sits behind `Arc`s of its
//! own, so that a snapshot takes it over from the one before.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::admission::Admission;
use crate::identity::SpiffeId;
use crate::model::address::AddressedWorkload;
use crate::model::cluster::{Balancer, Cluster};
use crate::model::endpoint::Endpoint;
use crate::model::metadata::WorkloadMetadata;
use crate::model::name::{AddressKey, ClusterName};
use crate::reason::Reason;
use crate::transport::{Transport, transport_to_workload};

/// Nanoseconds since the process began, on a clock that only goes forward.
pub type Nanos = u64;

/// A cluster as it runs.
#[derive(Debug)]
pub struct ClusterState {
    /// What the controller told.
    pub cluster: Arc<Cluster>,
    /// The endpoints that have the cluster's labels and serve its port.
    pub endpoints: Vec<Arc<EndpointState>>,
    /// Limits.
    pub admission: Arc<Admission>,
    /// Where weights differ.
    pub(crate) shares: Option<Shares>,
    pub(crate) shared: Arc<ClusterShared>,
}

/// Endpoints as stretches of a line, as long as their weights.
#[derive(Debug)]
pub(crate) struct Shares {
    /// Where each stretch ends.
    ends: Box<[u64]>,
    /// A step of about the golden section of the line that shares no factor with its length.
    stride: u64,
}

/// What a cluster remembers.
#[derive(Debug, Default)]
pub(crate) struct ClusterShared {
    /// Whose turn it is (round robin).
    pub(crate) turn: AtomicU64,
    /// No endpoint is ejected at or after this time.
    pub(crate) all_back_at: AtomicU64,
    /// How often an endpoint was set aside.
    pub(crate) ejections: AtomicU64,
}

/// An endpoint of one cluster, as it runs.
#[derive(Debug)]
pub struct EndpointState {
    /// What connections are pooled by: never the same for two addresses, clusters or expected identities.
    pub id: EndpointId,
    /// What is dialled: the pod's address and its port.
    pub address: SocketAddr,
    /// How it is dialled; or why it is not: mTLS is due, but nothing says who must answer.
    pub transport: Result<Transport, Reason>,
    /// Its share among endpoints; at least 1.
    pub weight: u32,
    /// What metrics say of it.
    pub metadata: Arc<WorkloadMetadata>,
    /// Who answers there, where that is known.
    pub identity: Option<SpiffeId>,
    /// What the controller told; `None` for an address that is in no list of endpoints.
    pub endpoint: Option<Arc<Endpoint>>,
    pub(crate) shared: Arc<EndpointShared>,
}

/// What an endpoint remembers.
#[derive(Debug, Default)]
pub(crate) struct EndpointShared {
    pub(crate) active: AtomicU32,
    pub(crate) server_errors: AtomicU32,
    pub(crate) gateway_errors: AtomicU32,
    pub(crate) local_failures: AtomicU32,
    /// The time at which its last ejection ends; 0: it never was ejected.
    pub(crate) ejected_until: AtomicU64,
    /// What its last ejection's time was multiplied with.
    pub(crate) multiplier: AtomicU32,
}

/// What connections to an endpoint are pooled by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EndpointId {
    /// An endpoint of a cluster.
    Listed(u64),
    /// An address that is in no list.
    Address(SocketAddr),
}

/// A request under way at an endpoint; ends when dropped.
#[derive(Debug)]
pub struct ActiveRequest(Arc<EndpointShared>);

impl EndpointState {
    /// An address that is in no list of endpoints: dialled as it is, in clear.
    pub fn of_address(address: SocketAddr) -> Arc<Self> {
        Arc::new(Self {
            id: EndpointId::Address(address),
            address,
            transport: Ok(Transport::Plain),
            weight: 1,
            metadata: Arc::default(),
            identity: None,
            endpoint: None,
            shared: Arc::default(),
        })
    }

    /// A pod that is reached by its own address, through no service.
    pub fn of_workload(address: SocketAddr, workload: &AddressedWorkload) -> Arc<Self> {
        Arc::new(Self {
            id: EndpointId::Address(address),
            address,
            transport: transport_to_workload(AddressKey::new(address.ip(), address.port()), workload),
            weight: 1,
            metadata: Arc::clone(&workload.metadata),
            identity: workload.identity.clone(),
            endpoint: None,
            shared: Arc::default(),
        })
    }

    /// Counts a request under way, to the end of the guard's life.
    pub fn begin(&self) -> ActiveRequest {
        self.shared.active.fetch_add(1, Relaxed);
        ActiveRequest(Arc::clone(&self.shared))
    }

    /// Whether connections to it prove who both ends are.
    pub fn is_mutual(&self) -> bool {
        matches!(self.transport, Ok(Transport::Mutual(_)))
    }

    /// Requests under way, of all workers.
    pub fn active(&self) -> u32 {
        self.shared.active.load(Relaxed)
    }

    /// The end of its ejection, where it is ejected; heeded only where the cluster has outlier detection.
    pub fn ejected_until(&self, now: Nanos) -> Option<Nanos> {
        let until = self.shared.ejected_until.load(Relaxed);
        (now < until).then_some(until)
    }
}

impl ClusterState {
    /// How often an endpoint was set aside.
    pub fn ejections(&self) -> u64 {
        self.shared.ejections.load(Relaxed)
    }

    /// A cluster with no past and no endpoints: every address is dialled as it is.
    pub fn passthrough(name: ClusterName) -> Arc<Self> {
        let cluster = Cluster { balancer: Balancer::Passthrough, ..Cluster::plain(name) };
        Arc::new(Self::assemble(Arc::new(cluster), Vec::new(), None, 0))
    }

    /// A cluster with these endpoints, and the past of `previous`; round robin of a new one begins at `seed`.
    pub(crate) fn assemble(
        cluster: Arc<Cluster>,
        endpoints: Vec<Arc<EndpointState>>,
        previous: Option<&Self>,
        seed: u64,
    ) -> Self {
        Self {
            shares: Shares::of(&endpoints),
            cluster,
            endpoints,
            admission: previous.map(|p| Arc::clone(&p.admission)).unwrap_or_default(),
            shared: match previous {
                Some(p) => Arc::clone(&p.shared),
                None => Arc::new(ClusterShared { turn: AtomicU64::new(seed), ..Default::default() }),
            },
        }
    }

    /// The endpoint at an address.
    pub fn endpoint_at(&self, address: SocketAddr) -> Option<&Arc<EndpointState>> {
        self.endpoints.iter().find(|endpoint| endpoint.address == address)
    }

    /// How many endpoints are ejected. Looks at each: not for the request path.
    pub fn ejected(&self, now: Nanos) -> usize {
        self.endpoints.iter().filter(|e| e.ejected_until(now).is_some()).count()
    }

    /// Whether any endpoint may be ejected.
    pub(crate) fn may_have_ejected(&self, now: Nanos) -> bool {
        self.cluster.outlier.is_some() && now < self.shared.all_back_at.load(Relaxed)
    }
}

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Relaxed);
    }
}

impl Shares {
    /// The line of these endpoints; `None` where all weigh the same.
    fn of(endpoints: &[Arc<EndpointState>]) -> Option<Self> {
        let first = endpoints.first()?.weight;
        let end = |sum: &mut u64, endpoint: &Arc<EndpointState>| {
            *sum += u64::from(endpoint.weight);
            Some(*sum)
        };
        let differ = endpoints.iter().any(|endpoint| endpoint.weight != first);
        let ends = || -> Box<[u64]> { endpoints.iter().scan(0, end).collect() };
        differ.then(ends).map(|ends| Self { stride: stride(ends.last().copied().unwrap_or(0)), ends })
    }

    /// The endpoint at a place of the line, 0 to `u64::MAX` from end to end.
    pub(crate) fn at(&self, random: u64) -> usize {
        let at = (u128::from(random) * u128::from(self.length())) >> 64;
        self.place(at as u64)
    }

    /// The endpoint of a turn: in as many turns as the line is long, each has as many as its weight, spread out.
    pub(crate) fn in_turn(&self, turn: u64) -> usize {
        let length = self.length();
        let at = u128::from(turn % length) * u128::from(self.stride) % u128::from(length);
        self.place(at as u64)
    }

    fn place(&self, at: u64) -> usize {
        self.ends.partition_point(|end| *end <= at)
    }

    fn length(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0).max(1)
    }
}

fn stride(length: u64) -> u64 {
    let golden = u64::try_from(u128::from(length) * 618 / 1000).unwrap_or(1).max(1);
    (golden..=length).find(|step| gcd(*step, length) == 1).unwrap_or(1)
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}
