//! A configuration made by hand: services with endpoints, routes and policies, and a sidecar's own workload.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use weft_core::identity::{SpiffeId, TrustDomain};
use weft_core::model::address::{Address, Meaning, ServicePortRef};
use weft_core::model::cluster::Cluster;
use weft_core::model::endpoint::{Endpoint, EndpointSlice};
use weft_core::model::extras::Extras;
use weft_core::model::metadata::{Locality, WorkloadMetadata};
use weft_core::model::name::{AddressKey, ClusterName, ServiceName, SliceName};
use weft_core::model::policy::AuthorizationPolicy;
use weft_core::model::protocol::Protocol;
use weft_core::model::route::{Forward, HeaderOps, HttpAction, HttpMatch, HttpRoutes, HttpRule, RuleSource};
use weft_core::model::service::{Location, Service, ServicePort};
use weft_core::model::workload::{
    Inbound, InboundPort, MtlsMode, Outbound, OutboundMode, PathNormalization, TrustBundle, Workload,
};
use weft_core::snapshot::{Resource, Resources, Snapshot};

/// The port on which every service of a [`World`] is reached.
pub const PORT: u16 = 80;

/// A configuration under construction. Every service listens on [`PORT`] of an address of its own.
#[derive(Clone, Debug)]
pub struct World {
    /// The sidecar's own workload.
    pub workload: Workload,
    services: Vec<Service>,
    endpoints: Vec<Vec<Arc<Endpoint>>>,
}

impl World {
    /// A sidecar of `default/client`, and no service.
    pub fn new() -> Self {
        Self { workload: workload("client"), services: Vec::new(), endpoints: Vec::new() }
    }

    /// Adds a service with endpoints at these addresses, outside the mesh's mTLS.
    #[must_use]
    pub fn service(mut self, name: &str, protocol: Protocol, endpoints: &[SocketAddr]) -> Self {
        let full = ServiceName::new("default", &format!("{name}.default.svc.cluster.local"));
        let number = u8::try_from(self.services.len() + 1).expect("few services");
        let port = ServicePort {
            number: PORT,
            name: "".into(),
            protocol,
            http: HttpRoutes::default(),
            tcp: Vec::new(),
        };
        self.services.push(Service {
            name: full.clone(),
            short_name: name.into(),
            addresses: vec![[10, 96, 0, number].into()],
            location: Location::Internal,
            ports: vec![port],
            slices: 1,
            clusters: vec![Arc::new(Cluster::plain(cluster_name(&full)))],
        });
        self.endpoints.push(endpoints.iter().map(|at| Arc::new(endpoint(name, *at))).collect());
        self
    }

    /// Changes the cluster of the service added last.
    #[must_use]
    pub fn cluster(mut self, change: impl FnOnce(&mut Cluster)) -> Self {
        let service = self.services.last_mut().expect("a service");
        change(Arc::make_mut(&mut service.clusters[0]));
        self
    }

    /// Makes the endpoints of the service added last members of the mesh, with this service account.
    #[must_use]
    pub fn meshed(mut self, account: &str) -> Self {
        for endpoint in self.endpoints.last_mut().expect("a service") {
            let endpoint = Arc::make_mut(endpoint);
            (endpoint.meshed, endpoint.identity) = (true, Some(identity(account)));
        }
        self
    }

    /// Adds a rule to the service added last.
    #[must_use]
    pub fn rule(mut self, rule: HttpRule) -> Self {
        let service = self.services.last_mut().expect("a service");
        service.ports[0].http.rules.push(Arc::new(rule));
        self
    }

    /// Adds a rule to the service added last that forwards to it whatever comes, changed as told.
    #[must_use]
    pub fn forward(self, change: impl FnOnce(&mut Forward)) -> Self {
        let name = self.services.last().expect("a service").name.clone();
        let mut forward = Forward::to(cluster_name(&name));
        change(&mut forward);
        self.rule(rule(Vec::new(), HttpAction::Forward(Box::new(forward))))
    }

    /// What the rule added last asks for beside its action.
    #[must_use]
    pub fn extras(mut self, extras: Extras) -> Self {
        let service = self.services.last_mut().expect("a service");
        let rule = service.ports[0].http.rules.last_mut().expect("a rule");
        Arc::make_mut(rule).extras = extras.boxed();
        self
    }

    /// Adds a policy for what comes in.
    #[must_use]
    pub fn policy(mut self, policy: AuthorizationPolicy) -> Self {
        self.workload.inbound.policies.push(Arc::new(policy));
        self
    }

    /// Declares a port of the own workload.
    #[must_use]
    pub fn port(mut self, number: u16, protocol: Protocol) -> Self {
        let (mtls, service) = (MtlsMode::Permissive, None);
        let port = InboundPort { number, protocol, mtls, service, application: None, listener: None };
        self.workload.inbound.ports.push(port);
        self
    }

    /// What the address of a service means.
    pub fn address(&self, name: &str) -> Arc<Address> {
        let service = self.services.iter().find(|service| *service.short_name == *name).expect("the service");
        let target = ServicePortRef { service: service.name.clone(), port: PORT };
        let key = AddressKey::new(service.addresses[0], PORT);
        Arc::new(Address { key, meaning: Meaning::Service(target) })
    }

    /// The view of all this after another, of which what is under way is taken over.
    pub fn after(&self, previous: &Snapshot) -> Snapshot {
        let mut resources = Resources::default();
        resources.apply(Resource::Workload(Arc::new(self.workload.clone())));
        for (service, endpoints) in self.services.iter().zip(&self.endpoints) {
            resources.apply(Resource::Address(self.address(&service.short_name)));
            resources.apply(Resource::Service(Arc::new(service.clone())));
            let name = SliceName { service: service.name.clone(), slice: 0 };
            let slice = EndpointSlice { name, endpoints: endpoints.clone() };
            resources.apply(Resource::Endpoints(Arc::new(slice)));
        }
        Snapshot::build(previous, &resources).snapshot
    }

    /// The view of all this.
    pub fn snapshot(&self) -> Snapshot {
        self.after(&Snapshot::default())
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

/// A rule without header operations.
pub fn rule(matches: Vec<HttpMatch>, action: HttpAction) -> HttpRule {
    HttpRule {
        source: RuleSource { object: None, path: "http[0]".into(), name: "".into() },
        matches,
        action,
        request_headers: HeaderOps::default(),
        response_headers: HeaderOps::default(),
        extras: None,
    }
}

/// `spiffe://cluster.local/ns/default/sa/<account>`.
pub fn identity(account: &str) -> SpiffeId {
    SpiffeId::of_service_account(&domain(), "default", account).expect("an account's name")
}

/// The name of the plain cluster of a service.
pub fn cluster_name(service: &ServiceName) -> ClusterName {
    ClusterName { service: service.clone(), port: PORT, subset: None }
}

fn domain() -> TrustDomain {
    TrustDomain::new("cluster.local").expect("a trust domain")
}

fn workload(account: &str) -> Workload {
    Workload {
        identity: identity(account),
        metadata: Arc::new(metadata(account)),
        addresses: vec![IpAddr::from([127, 0, 0, 1])],
        labels: Arc::new([]),
        locality: Locality::default(),
        trust: vec![TrustBundle { domain: domain(), roots: Vec::new() }],
        inbound: Inbound {
            default_mtls: MtlsMode::Permissive,
            ports: Vec::new(),
            policies: Vec::new(),
            path_normalization: PathNormalization::Base,
        },
        outbound: Outbound { mode: OutboundMode::AllowAny, mesh_ranges: Vec::new(), listeners: Vec::new() },
        telemetry: Default::default(),
    }
}

fn endpoint(name: &str, at: SocketAddr) -> Endpoint {
    Endpoint {
        ip: at.ip(),
        ports: vec![(PORT, at.port())],
        weight: 1,
        identity: None,
        meshed: false,
        plaintext_ports: Vec::new(),
        labels: Arc::new([]),
        metadata: Arc::new(metadata(name)),
        locality: Locality::default(),
    }
}

fn metadata(name: &str) -> WorkloadMetadata {
    WorkloadMetadata {
        workload: name.into(),
        namespace: "default".into(),
        pod: format!("{name}-0").into(),
        canonical_service: name.into(),
        canonical_revision: "latest".into(),
        app: name.into(),
        version: "".into(),
        cluster: "Kubernetes".into(),
    }
}
