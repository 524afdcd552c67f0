//! Two sidecars in one process: real sockets on loopback, real TLS, configuration made by hand, destinations told.
use std::cell::Cell;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::Instant;
use weft_core::identity::{SpiffeId, TrustDomain};
use weft_core::model::address::{Address, Meaning, ServicePortRef};
use weft_core::model::cluster::Cluster;
use weft_core::model::endpoint::{Endpoint, EndpointSlice};
use weft_core::model::metadata::{Locality, WorkloadMetadata};
use weft_core::model::name::{AddressKey, ClusterName, ServiceName, SliceName};
use weft_core::model::policy::AuthorizationPolicy;
use weft_core::model::protocol::Protocol;
use weft_core::model::route::HttpRoutes;
use weft_core::model::service::{Location, Service, ServicePort};
use weft_core::model::workload::{
    Inbound, InboundPort, MtlsMode, Outbound, OutboundMode, PathNormalization, TrustBundle, Workload,
};
use weft_core::snapshot::{Resource, Resources, Snapshot};
use weft_proxy::clock::Clock;
use weft_proxy::config::Mesh;
use weft_proxy::context::Context;
use weft_proxy::dial::Dialer;
use weft_proxy::drain::Shutdown;
use weft_proxy::identity::{CertificateFacts, Credentials, Issued};
use weft_proxy::orig_dst::{Origin, Own};
use weft_proxy::outbound::Entry;
use weft_proxy::overload::Overload;
use weft_proxy::pool::Gates;
use weft_proxy::settings::AccessLogFormat;
use weft_proxy::telemetry::Telemetry;
use weft_proxy::tls::Tls;
use weft_proxy::worker::{self, Opened, Shared};
use weft_proxy::{inbound, outbound};

/// The port of the service that tests call.
pub(crate) const SERVICE_PORT: u16 = 80;
/// Its address, which exists nowhere.
pub(crate) const SERVICE_IP: [u8; 4] = [10, 96, 0, 10];

/// A certificate authority of one trust domain.
pub(crate) struct Ca {
    pub(crate) domain: &'static str,
    certificate: rcgen::Certificate,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

/// A chain with its key.
pub(crate) struct Identity {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
    pub(crate) uri: String,
}

impl Ca {
    pub(crate) fn new(domain: &'static str) -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
        let name = format!("root {:x}", rand::random::<u64>());
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let certificate = params.self_signed(&key).unwrap();
        Self { domain, certificate, issuer: rcgen::Issuer::new(params, key) }
    }

    pub(crate) fn bundle(&self) -> TrustBundle {
        let domain = TrustDomain::new(self.domain).unwrap();
        TrustBundle { domain, roots: vec![self.certificate.der().to_vec().into()] }
    }

    /// The identity of a service account in the domain's default namespace.
    pub(crate) fn issue(&self, account: &str) -> Identity {
        let uri = format!("spiffe://{}/ns/default/sa/{account}", self.domain);
        self.issue_with(&[&uri], |_| ())
    }

    /// A certificate with these URIs, changed before it is signed.
    pub(crate) fn issue_with(
        &self,
        uris: &[&str],
        change: impl FnOnce(&mut rcgen::CertificateParams),
    ) -> Identity {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = params(uris);
        change(&mut params);
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        identity(leaf.der().clone(), &key, uris)
    }
}

/// A certificate that nobody but its own key has signed.
pub(crate) fn self_signed(uri: &str) -> Identity {
    let key = rcgen::KeyPair::generate().unwrap();
    let leaf = params(&[uri]).self_signed(&key).unwrap();
    identity(leaf.der().clone(), &key, &[uri])
}

fn params(uris: &[&str]) -> rcgen::CertificateParams {
    let mut params = rcgen::CertificateParams::default();
    let uri = |uri: &&str| rcgen::SanType::URI((*uri).try_into().unwrap());
    params.subject_alt_names = uris.iter().map(uri).collect();
    params.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth, rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    params
}

fn identity(leaf: CertificateDer<'static>, key: &rcgen::KeyPair, uris: &[&str]) -> Identity {
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    Identity { chain: vec![leaf], key, uri: uris.first().copied().unwrap_or_default().to_owned() }
}

/// A sidecar.
pub(crate) struct Sidecar {
    pub(crate) ctx: Rc<Context>,
    pub(crate) mesh: Mesh,
    pub(crate) credentials: Credentials,
    pub(crate) telemetry: Telemetry,
    pub(crate) shutdown: Shutdown,
    resources: Resources,
    /// Connections that are being served.
    pub(crate) serving: Rc<Cell<usize>>,
}

impl Sidecar {
    /// A sidecar with this identity and configuration.
    pub(crate) fn new(identity: Identity, workload: Workload, resources: Vec<Resource>) -> Self {
        let (shared, credentials) = shared(1);
        let Shared { mesh, telemetry, shutdown, .. } = shared.clone();
        shared.tls.set_trust(&workload.trust).unwrap();
        let ctx = worker::context(&shared, 0, worker::http_servers);
        let (following, view) = (shutdown.clone(), ctx.local.drain.clone());
        spawn_local(async move { following.follow(view).await });
        let mut sidecar = Self {
            ctx,
            mesh,
            credentials,
            telemetry,
            shutdown,
            resources: Resources::default(),
            serving: Rc::default(),
        };
        sidecar.use_identity(identity);
        sidecar.tell(std::iter::once(Resource::Workload(Arc::new(workload))).chain(resources));
        sidecar
    }

    /// Takes another certificate.
    pub(crate) fn use_identity(&self, identity: Identity) {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let certified = CertifiedKey::from_der(identity.chain, identity.key, &provider).unwrap();
        let hour = Duration::from_secs(3600);
        let facts = CertificateFacts {
            identity: SpiffeId::parse(&identity.uri).unwrap(),
            serial: "1".to_owned(),
            not_before: SystemTime::now() - hour,
            not_after: SystemTime::now() + hour,
        };
        self.credentials.replace(Issued { certified: Arc::new(certified), facts });
    }

    /// Swaps a configuration in with these resources changed, and lets the worker know.
    pub(crate) fn tell(&mut self, resources: impl IntoIterator<Item = Resource>) {
        for resource in resources {
            self.resources.apply(resource);
        }
        let built = Snapshot::build(&self.mesh.snapshot(), &self.resources);
        self.mesh.swap(built.snapshot, &Default::default());
        self.ctx.workload_changes.grow();
    }

    /// Accepts connections of the application, which go to the service.
    pub(crate) async fn outgoing(&self) -> SocketAddr {
        self.outgoing_to((SERVICE_IP, SERVICE_PORT).into()).await
    }

    /// Accepts connections of the application, which go there.
    pub(crate) async fn outgoing_to(&self, to: SocketAddr) -> SocketAddr {
        let entry = Entry::Captured(Origin::Fixed(to));
        self.accept(move |ctx, tcp, client| outbound::serve(ctx, entry.clone(), tcp, client)).await
    }

    /// Accepts connections as if the kernel had redirected them here, and says whether it would know where they went: it
    /// remembers that of all connections where another program follows them.
    pub(crate) async fn redirected(&self) -> (SocketAddr, bool) {
        let entry = Entry::Captured(Origin::Redirected);
        let at = self.accept(move |ctx, tcp, client| outbound::serve(ctx, entry.clone(), tcp, client)).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (_client, accepted) =
            tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        (at, socket2::SockRef::from(&accepted.unwrap().0).original_dst_v4().is_ok())
    }

    /// Accepts connections from outside, for the application at this address.
    pub(crate) async fn incoming(&self, application: SocketAddr) -> SocketAddr {
        let origin = Origin::Fixed(application);
        self.accept(move |ctx, tcp, client| inbound::serve(ctx, origin, tcp, client)).await
    }

    async fn accept<F: Future<Output = ()> + 'static>(
        &self,
        serve: impl Fn(Rc<Context>, TcpStream, SocketAddr) -> F + 'static,
    ) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let (ctx, serving) = (self.ctx.clone(), self.serving.clone());
        spawn_local(async move {
            while let Ok((tcp, client)) = listener.accept().await {
                let (served, serving) = (serve(ctx.clone(), tcp, client), serving.clone());
                serving.set(serving.get() + 1);
                spawn_local(async move {
                    served.await;
                    serving.set(serving.get() - 1);
                });
            }
        });
        at
    }

    /// Waits until no connection is served, then renders the metrics.
    pub(crate) async fn metrics(&self) -> String {
        while self.serving.get() > 0 {
            tokio::task::yield_now().await;
        }
        self.telemetry.render()
    }
}

/// What workers share, with nothing told yet.
pub(crate) fn shared(workers: usize) -> (Shared, Credentials) {
    let (mesh, asks) = Mesh::new(Duration::from_secs(5));
    // Nobody answers questions: what is not told is not known.
    std::mem::forget(asks);
    let clock = Clock::system();
    let credentials = Credentials::new();
    let shared = Shared {
        mesh,
        tls: Tls::new(credentials.clone(), clock.clone()),
        dialer: Dialer::default(),
        telemetry: Telemetry::new(AccessLogFormat::Off, clock),
        shutdown: Shutdown::new(),
        overload: Overload::new(workers, None),
        own: Own { addresses: vec![IpAddr::from([127, 0, 0, 1])], ports: vec![15001, 15006] },
        gates: Gates::default(),
        epoch: Instant::now(),
        opened: Arc::new(Opened::new(workers, Arc::new(watch::Sender::new(false)))),
    };
    (shared, credentials)
}

/// A view of these resources, after `previous`.
pub(crate) fn snapshot(previous: &Snapshot, resources: impl IntoIterator<Item = Resource>) -> Snapshot {
    let mut held = Resources::default();
    for resource in resources {
        held.apply(resource);
    }
    Snapshot::build(previous, &held).snapshot
}

/// A workload without policies that lets everything in on every port.
pub(crate) fn workload(identity: &Identity, trust: &[&Ca], mode: MtlsMode) -> Workload {
    Workload {
        identity: SpiffeId::parse(&identity.uri).unwrap(),
        metadata: metadata(identity.uri.rsplit('/').next().unwrap_or_default()),
        addresses: vec![IpAddr::from([127, 0, 0, 1])],
        labels: Arc::new([]),
        locality: Locality::default(),
        trust: trust.iter().map(|ca| ca.bundle()).collect(),
        inbound: Inbound {
            default_mtls: mode,
            ports: Vec::new(),
            policies: Vec::new(),
            path_normalization: PathNormalization::Base,
        },
        outbound: Outbound { mode: OutboundMode::AllowAny, mesh_ranges: Vec::new(), listeners: Vec::new() },
        telemetry: Default::default(),
    }
}

/// The same with a port that carries a protocol.
pub(crate) fn with_port(mut workload: Workload, number: u16, protocol: Protocol) -> Workload {
    workload.inbound.ports.push(InboundPort {
        number,
        protocol,
        mtls: workload.inbound.default_mtls,
        service: Some(ServicePortRef { service: service_name(), port: SERVICE_PORT }),
        application: None,
        listener: None,
    });
    workload
}

/// The same with policies.
pub(crate) fn with_policies(mut workload: Workload, policies: Vec<AuthorizationPolicy>) -> Workload {
    workload.inbound.policies = policies.into_iter().map(Arc::new).collect();
    workload
}

/// What metrics say of a workload.
pub(crate) fn metadata(name: &str) -> Arc<WorkloadMetadata> {
    let canonical_service = name.into();
    Arc::new(WorkloadMetadata {
        workload: name.into(),
        namespace: "default".into(),
        canonical_service,
        ..WorkloadMetadata::default()
    })
}

pub(crate) fn service_name() -> ServiceName {
    ServiceName::new("default", "db.default.svc.cluster.local")
}

/// A service of one port, its address, and one endpoint which is meshed where an identity is given.
pub(crate) fn service(protocol: Protocol, endpoint: SocketAddr, identity: Option<&str>) -> Vec<Resource> {
    service_at(protocol, &[endpoint], identity)
}

/// The same with several endpoints.
pub(crate) fn service_at(
    protocol: Protocol,
    endpoints: &[SocketAddr],
    identity: Option<&str>,
) -> Vec<Resource> {
    let name = service_name();
    let cluster = ClusterName { service: name.clone(), port: SERVICE_PORT, subset: None };
    let port = ServicePort {
        number: SERVICE_PORT,
        name: "".into(),
        protocol,
        http: HttpRoutes::default(),
        tcp: Vec::new(),
    };
    let service = Service {
        name: name.clone(),
        short_name: "db".into(),
        addresses: vec![SERVICE_IP.into()],
        location: Location::Internal,
        ports: vec![port],
        slices: 1,
        clusters: vec![Arc::new(Cluster::plain(cluster))],
    };
    let slice = EndpointSlice {
        name: SliceName { service: name.clone(), slice: 0 },
        endpoints: endpoints.iter().map(|at| Arc::new(endpoint_at(*at, identity))).collect(),
    };
    let key = AddressKey::new(SERVICE_IP.into(), SERVICE_PORT);
    let meaning = Meaning::Service(ServicePortRef { service: name, port: SERVICE_PORT });
    vec![
        Resource::Address(Arc::new(Address { key, meaning })),
        Resource::Service(Arc::new(service)),
        Resource::Endpoints(Arc::new(slice)),
    ]
}

fn endpoint_at(at: SocketAddr, identity: Option<&str>) -> Endpoint {
    Endpoint {
        ip: at.ip(),
        ports: vec![(SERVICE_PORT, at.port())],
        weight: 1,
        identity: identity.map(|id| SpiffeId::parse(id).unwrap()),
        meshed: identity.is_some(),
        plaintext_ports: Vec::new(),
        labels: Arc::new([]),
        metadata: metadata("db"),
        locality: Locality::default(),
    }
}

/// An application that listens, and hands each connection to `talk`.
pub(crate) async fn application<F: Future<Output = ()> + 'static>(
    talk: impl Fn(TcpStream) -> F + 'static,
) -> (SocketAddr, Rc<Cell<usize>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let accepted = Rc::new(Cell::new(0));
    let count = accepted.clone();
    spawn_local(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            count.set(count.get() + 1);
            spawn_local(talk(tcp));
        }
    });
    (at, accepted)
}

/// Runs a test where tasks of its own thread can run.
pub(crate) async fn local<T>(test: impl Future<Output = T>) -> T {
    LocalSet::new().run_until(test).await
}
