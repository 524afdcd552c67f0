//! A controller for tests: the real protocol over TLS, and resources that the test sets.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::codegen::Service;
use tonic::{Request, Response, Status, Streaming};
use weft_api::encode;
use weft_api::encoded::Encoded;
use weft_api::pb::ca::istio_certificate_service_server::{
    IstioCertificateService, IstioCertificateServiceServer,
};
use weft_api::pb::ca::{IstioCertificateRequest, IstioCertificateResponse};
use weft_api::pb::config::config_service_server::{ConfigService, ConfigServiceServer};
use weft_api::pb::config::{DeltaRequest, DeltaResponse};
use weft_api::session::server::{Refusal, Session};
use weft_core::model::name::ResourceName;
use weft_core::snapshot::Resource;

use crate::ca::TestCa;

/// The name that the controller's certificate has.
pub const SERVER_NAME: &str = "weft-controller.weft-system.svc";

/// A controller that says what the test sets.
#[derive(Clone)]
pub struct FakeController {
    shared: Arc<Shared>,
}

struct Shared {
    ca: TestCa,
    state: Mutex<State>,
    /// Grows with every change of the state, from either side.
    changed: watch::Sender<u64>,
    server: Mutex<Option<JoinHandle<()>>>,
    address: SocketAddr,
}

/// What the controller knows and has heard.
#[derive(Debug)]
pub struct State {
    /// The resource version.
    pub as_of: u64,
    /// What names stand for.
    pub resources: BTreeMap<ResourceName, Encoded>,
    /// What was refused, in order.
    pub refused: Vec<Refusal>,
    /// What is subscribed to on the newest stream.
    pub subscribed: BTreeSet<ResourceName>,
    /// How many streams there were.
    pub streams: usize,
    /// How many certificates were signed.
    pub certificates: usize,
    /// How long certificates live.
    pub certificate_life: Duration,
    /// The tokens that were shown.
    pub tokens: Vec<String>,
    /// What is said next, whatever the protocol says.
    pub outbursts: Vec<DeltaResponse>,
}

impl FakeController {
    /// A controller on a free port of the loopback.
    ///
    /// # Errors
    /// No port can be had.
    pub async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let shared = Shared {
            ca: TestCa::new(),
            state: Mutex::new(State::new()),
            changed: watch::Sender::new(0),
            server: Mutex::new(None),
            address: listener.local_addr()?,
        };
        let controller = Self { shared: Arc::new(shared) };
        controller.serve(listener);
        Ok(controller)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.shared.address
    }

    /// Its authority.
    pub fn ca(&self) -> &TestCa {
        &self.shared.ca
    }

    /// Says another thing of a resource's name.
    pub fn set(&self, resource: Resource) {
        let encoded = encode::resource(&resource);
        self.set_encoded(resource.name(), encoded);
    }

    /// Says any bytes of a name.
    pub fn set_encoded(&self, name: ResourceName, encoded: Encoded) {
        self.change(|state| {
            state.as_of += 1;
            state.resources.insert(name, encoded);
        });
    }

    /// Says that a name stands for nothing.
    pub fn remove(&self, name: &ResourceName) {
        self.change(|state| {
            state.as_of += 1;
            state.resources.remove(name);
        });
    }

    /// Changes anything.
    pub fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.shared.lock());
        self.shared.changed.send_modify(|count| *count += 1);
    }

    /// What `look` sees of the state.
    pub fn state<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.shared.lock())
    }

    /// Waits until `find` finds something in the state.
    pub async fn until<T>(&self, find: impl Fn(&State) -> Option<T>) -> T {
        let mut changed = self.shared.changed.subscribe();
        loop {
            if let Some(found) = self.state(&find) {
                return found;
            }
            let _ = changed.changed().await;
        }
    }

    /// Ends: connections break, nobody listens.
    pub fn stop(&self) {
        if let Some(server) = self.shared.server.lock().ok().and_then(|mut server| server.take()) {
            server.abort();
        }
    }

    /// Listens again after [`Self::stop`].
    ///
    /// # Errors
    /// Somebody else took the port.
    pub async fn resume(&self) -> io::Result<()> {
        let listener = TcpListener::bind(self.shared.address).await?;
        self.serve(listener);
        Ok(())
    }

    fn serve(&self, listener: TcpListener) {
        let task = tokio::spawn(accept(listener, self.clone()));
        if let Ok(mut server) = self.shared.server.lock() {
            *server = Some(task);
        }
    }

    fn note(&self, request: &tonic::metadata::MetadataMap) {
        let token =
            request.get("authorization").and_then(|token| token.to_str().ok()).unwrap_or_default().to_owned();
        self.change(|state| state.tokens.push(token));
    }
}

impl State {
    fn new() -> Self {
        Self {
            as_of: 1,
            resources: BTreeMap::new(),
            refused: Vec::new(),
            subscribed: BTreeSet::new(),
            streams: 0,
            certificates: 0,
            certificate_life: Duration::from_secs(86_400),
            tokens: Vec::new(),
            outbursts: Vec::new(),
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

// === the server ===

/// Connections end with this task.
async fn accept(listener: TcpListener, controller: FakeController) {
    let acceptor = TlsAcceptor::from(Arc::new(tls(controller.ca())));
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((tcp, _)) = listener.accept().await {
        connections.spawn(serve_connection(tcp, acceptor.clone(), controller.clone()));
    }
}

fn tls(ca: &TestCa) -> ServerConfig {
    let certificate = ca.server(SERVER_NAME);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_no_client_auth();
    let mut config = config.with_single_cert(certificate.chain, certificate.key).expect("a certificate");
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

async fn serve_connection(tcp: TcpStream, acceptor: TlsAcceptor, controller: FakeController) {
    let Ok(tls) = acceptor.accept(tcp).await else { return };
    let config = ConfigServiceServer::new(controller.clone());
    let ca = IstioCertificateServiceServer::new(controller);
    let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
        let (mut config, mut ca) = (config.clone(), ca.clone());
        async move {
            if request.uri().path().starts_with("/istio.v1.auth.") {
                ca.call(request).await
            } else {
                config.call(request).await
            }
        }
    });
    let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    let _ = server.serve_connection(TokioIo::new(tls), service).await as Result<(), hyper::Error>;
}

#[tonic::async_trait]
impl IstioCertificateService for FakeController {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        self.note(request.metadata());
        let life = self.state(|state| state.certificate_life);
        let leaf = self.ca().sign(&request.into_inner().csr, life);
        self.change(|state| state.certificates += 1);
        Ok(Response::new(IstioCertificateResponse { cert_chain: vec![leaf, self.ca().root_pem()] }))
    }
}

#[tonic::async_trait]
impl ConfigService for FakeController {
    type StreamStream = UnboundedReceiverStream<Result<DeltaResponse, Status>>;

    async fn stream(
        &self,
        request: Request<Streaming<DeltaRequest>>,
    ) -> Result<Response<Self::StreamStream>, Status> {
        self.note(request.metadata());
        self.change(|state| state.streams += 1);
        let (responses, out) = mpsc::unbounded_channel();
        tokio::spawn(converse(self.clone(), request.into_inner(), responses));
        Ok(Response::new(UnboundedReceiverStream::new(out)))
    }
}

type Responses = mpsc::UnboundedSender<Result<DeltaResponse, Status>>;

/// One stream, by the protocol's own session.
async fn converse(controller: FakeController, mut requests: Streaming<DeltaRequest>, responses: Responses) {
    let mut session = Session::default();
    let mut changed = controller.shared.changed.subscribe();
    loop {
        tokio::select! {
            request = requests.message() => match request {
                Ok(Some(request)) => take(&controller, &mut session, request),
                _ => return,
            },
            _ = changed.changed() => session.mark_all(),
            () = responses.closed() => return,
        }
        let outbursts = std::mem::take(&mut controller.shared.lock().outbursts);
        for response in outbursts.into_iter().chain(std::iter::from_fn(|| next(&controller, &mut session))) {
            let _ = responses.send(Ok(response));
        }
    }
}

fn take(controller: &FakeController, session: &mut Session, request: DeltaRequest) {
    let refused = session.receive(request).map(|change| change.refused).unwrap_or_default();
    let subscribed: BTreeSet<_> = session.names().map(|(name, ..)| name.clone()).collect();
    if !refused.is_empty() || controller.state(|state| state.subscribed != subscribed) {
        controller.change(|state| {
            state.refused.extend(refused);
            state.subscribed = subscribed;
        });
    }
}

fn next(controller: &FakeController, session: &mut Session) -> Option<DeltaResponse> {
    controller.state(|state| session.next_response(state.as_of, |name| state.resources.get(name).cloned()))
}
