//! A controller in this process, on loopback, and a sidecar's end of its stream.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::codegen::{BoxFuture, Service, http::Uri};
use tonic::metadata::MetadataValue;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};
use weft_api::decode;
use weft_api::error::DecodeError;
use weft_api::pb::ca::istio_certificate_service_client::IstioCertificateServiceClient;
use weft_api::pb::config::config_service_client::ConfigServiceClient;
use weft_api::pb::config::{ClientInfo, DeltaRequest, DeltaResponse, ResourceType};
use weft_api::resource::Resource;
use weft_api::session::client::{Event, Session, StreamId};
use weft_controller::ca::service::CertificateService;
use weft_controller::ca::store;
use weft_controller::log::LogLevel;
use weft_controller::metrics::Metrics;
use weft_controller::pipeline::{Pipeline, Published};
use weft_controller::push::epoch::Epoch;
use weft_controller::push::publisher::Publisher;
use weft_controller::push::registry::Registry;
use weft_controller::push::service::PushService;
use weft_controller::push::stream::Pace;
use weft_controller::server::admin::Admin;
use weft_controller::server::certificate::{SERVER_NAMES, ServerIdentity};
use weft_controller::server::grpc;
use weft_controller::source::watch::Directories;
use weft_controller::status::writer::Counts;
use weft_controller::tokens::Authenticator;
use weft_controller::tokens::directory::TokenDirectory;
use weft_controller::webhook::keeper::Served;
use weft_core::identity::TrustDomain;
use weft_core::model::name::ResourceName;

/// The token of `default/client`, account `caller`.
pub(crate) const TOKEN: &str = "token-of-the-client-pod";
/// The token of `default/web-0`.
pub(crate) const OTHER_TOKEN: &str = "token-of-the-web-pod-0";
/// Long enough for a loaded machine; a test that waits so long fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// A controller, and the directories that it works on.
pub(crate) struct Controller {
    dir: Arc<TempDir>,
    debounce: Duration,
    grpc: std::net::SocketAddr,
    pub(crate) admin: std::net::SocketAddr,
    /// The certificate of its webhooks: none at first.
    pub(crate) webhooks: Arc<Served>,
    shutdown: CancellationToken,
    _stop: DropGuard,
    pub(crate) publisher: Publisher,
    pub(crate) root_pem: String,
}

impl Controller {
    pub(crate) async fn start() -> Self {
        Self::start_unsynced().await.sync_now().await
    }

    /// Serves, and does not know the world.
    pub(crate) async fn start_unsynced() -> Self {
        Self::start_unsynced_with(Pace::default().debounce).await
    }

    /// Serves, and does not know the world; changes wait so long for others.
    pub(crate) async fn start_unsynced_with(debounce: Duration) -> Self {
        let dir = Arc::new(TempDir::new().unwrap());
        for sub in ["manifests", "tokens", "ca"] {
            std::fs::create_dir(dir.path().join(sub)).unwrap();
        }
        write_token(dir.path(), TOKEN, "client", "caller");
        write_token(dir.path(), OTHER_TOKEN, "web-0", "default");
        let (_, worlds) = watch::channel(Published::default());
        Self::serve(dir, debounce, worlds, Publisher::default()).await
    }

    async fn serve(
        dir: Arc<TempDir>,
        debounce: Duration,
        worlds: watch::Receiver<Published>,
        publisher: Publisher,
    ) -> Self {
        let authority = Arc::new(store::open(&dir.path().join("ca")).unwrap());
        let tokens = Arc::new(Authenticator::Directory(TokenDirectory::new(dir.path().join("tokens"))));
        let (metrics, registry) = (Metrics::new().unwrap(), Registry::default());
        let shutdown = CancellationToken::new();
        let (_, trust_domain) = watch::channel(TrustDomain::new("cluster.local").unwrap());
        let certificates = CertificateService {
            authority: authority.clone(),
            tokens: tokens.clone(),
            trust_domain,
            ttl: Duration::from_secs(3600),
            metrics: metrics.clone(),
        };
        let push = PushService {
            tokens,
            publisher: publisher.clone(),
            registry: registry.clone(),
            pace: Pace { debounce, ..Pace::default() },
            metrics: metrics.clone(),
            shutdown: shutdown.clone(),
        };
        let root_pem = authority.root_pem().to_owned();
        let identity = ServerIdentity::new(authority, &[], &[[127, 0, 0, 1].into()]).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let grpc = listener.local_addr().unwrap();
        tokio::spawn(grpc::serve(listener, identity, certificates, push, shutdown.clone()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let admin = listener.local_addr().unwrap();
        let progress = Default::default();
        let counts = Counts { registry, publisher: publisher.clone() };
        let webhooks = Arc::<Served>::default();
        let people = Admin {
            counts,
            worlds,
            metrics,
            progress,
            log: LogLevel::default(),
            webhooks: Some(webhooks.clone()),
        };
        tokio::spawn(people.serve(listener, shutdown.clone()));
        let _stop = shutdown.clone().drop_guard();
        Self { dir, debounce, grpc, admin, webhooks, shutdown, _stop, publisher, root_pem }
    }

    /// Starts again with a directory that is read and watched.
    pub(crate) async fn sync_now(&self) -> Self {
        self.shutdown.cancel();
        let publisher = Publisher::default();
        let (publish, worlds) = watch::channel(Published::default());
        let (changes, received) = mpsc::channel(16);
        tokio::spawn(Directories::new(vec![self.dir.path().join("manifests")]).run(changes));
        tokio::spawn(Pipeline::default().run(received, publish));
        let epoch = Epoch::next(&self.dir.path().join("ca")).unwrap();
        let (following, seen) = (publisher.clone(), worlds.clone());
        tokio::spawn(async move { following.follow(seen, Arc::new([]), Some(epoch)).await });
        let controller = Self::serve(self.dir.clone(), self.debounce, worlds, publisher).await;
        controller.published_after(0).await;
        controller
    }

    /// Waits until a world later than that is published.
    pub(crate) async fn published_after(&self, as_of: u64) {
        let mut worlds = self.publisher.subscribe();
        let later = async {
            while self.publisher.as_of() <= as_of {
                worlds.changed().await;
                worlds.take();
            }
        };
        tokio::time::timeout(PATIENCE, later).await.expect("a world is published");
    }

    /// Stops, and starts again on the same directories.
    pub(crate) async fn restart(&mut self) {
        *self = self.sync_now().await;
    }

    /// Puts a manifest in place whole.
    pub(crate) fn write(&self, file: &str, text: &str) {
        let draft = self.dir.path().join("draft");
        std::fs::write(&draft, text).unwrap();
        std::fs::rename(draft, self.dir.path().join("manifests").join(file)).unwrap();
    }

    pub(crate) async fn connect(&self, token: Option<&str>) -> Result<Sidecar, Status> {
        Sidecar::connect(self, token).await
    }

    pub(crate) async fn certificates(
        &self,
        token: Option<&str>,
    ) -> IstioCertificateServiceClient<Authorized> {
        IstioCertificateServiceClient::new(self.channel(token).await)
    }

    async fn channel(&self, token: Option<&str>) -> Authorized {
        let mut roots = RootCertStore::empty();
        roots.add(der(&self.root_pem)).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config =
            ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS13]);
        let mut config = config.unwrap().with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let connector = Connector { address: self.grpc, config: Arc::new(config) };
        let channel =
            Endpoint::from_static("http://controller").connect_with_connector(connector).await.unwrap();
        let header = token.map(|token| MetadataValue::try_from(format!("Bearer {token}")).unwrap());
        InterceptedService::new(channel, Bearer(header))
    }

    /// `/sync`, once everything that the one sidecar asked for is answered on both sides.
    pub(crate) async fn sync(&self) -> serde_json::Value {
        let settled = |it: &serde_json::Value| it["status"] == "programmed" || it["status"] == "refused";
        let poll = async {
            loop {
                let sync: serde_json::Value = serde_json::from_str(&self.get("/sync").await.1).unwrap();
                if sync["sidecars"][0]["resources"].as_array().is_some_and(|all| all.iter().all(settled)) {
                    return sync;
                }
            }
        };
        tokio::time::timeout(PATIENCE, poll).await.expect("everything is answered")
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        self.request("GET", path).await
    }

    pub(crate) async fn request(&self, method: &str, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.admin).await.unwrap();
        let request = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).await.unwrap();
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }
}

fn write_token(dir: &Path, token: &str, pod: &str, account: &str) {
    let text =
        serde_json::json!({"token": token, "namespace": "default", "pod": pod, "serviceAccount": account});
    std::fs::write(dir.join(format!("tokens/{pod}.json")), text.to_string()).unwrap();
}

pub(crate) type Authorized = InterceptedService<Channel, Bearer>;

/// Adds the token to each call.
#[derive(Clone)]
pub(crate) struct Bearer(Option<MetadataValue<tonic::metadata::Ascii>>);

impl tonic::service::Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(header) = &self.0 {
            request.metadata_mut().insert("authorization", header.clone());
        }
        Ok(request)
    }
}

/// Connects to the controller under the name of its Service.
#[derive(Clone)]
struct Connector {
    address: std::net::SocketAddr,
    config: Arc<ClientConfig>,
}

impl Service<Uri> for Connector {
    type Response = hyper_util::rt::TokioIo<tokio_rustls::client::TlsStream<TcpStream>>;
    type Error = std::io::Error;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let Self { address, config } = self.clone();
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            let name = ServerName::try_from(SERVER_NAMES[0]).unwrap();
            let stream = tokio_rustls::TlsConnector::from(config).connect(name, stream).await?;
            Ok(hyper_util::rt::TokioIo::new(stream))
        })
    }
}

/// A sidecar's end.
pub(crate) struct Sidecar {
    pub(crate) session: Session,
    stream: StreamId,
    requests: mpsc::Sender<DeltaRequest>,
    responses: Streaming<DeltaResponse>,
    token: Option<String>,
    refusals: HashMap<ResourceName, DecodeError>,
    events: VecDeque<Event<Resource>>,
}

impl Sidecar {
    async fn connect(controller: &Controller, token: Option<&str>) -> Result<Self, Status> {
        let (requests, responses) = open(controller, token).await?;
        let mut session = Session::new(ClientInfo { version: "test".into(), features: Vec::new() });
        let stream = session.connect();
        let token = token.map(str::to_owned);
        let (refusals, events) = (HashMap::new(), VecDeque::new());
        Ok(Self { session, stream, requests, responses, token, refusals, events })
    }

    pub(crate) async fn reconnect(&mut self, controller: &Controller) {
        let (requests, responses) = open(controller, self.token.as_deref()).await.unwrap();
        self.stream = self.session.connect();
        (self.requests, self.responses) = (requests, responses);
        self.send().await;
    }

    pub(crate) async fn want(&mut self, name: ResourceName) {
        self.session.want(name);
        self.send().await;
    }

    /// From now on this resource is refused.
    pub(crate) fn refuse(&mut self, name: ResourceName, path: &str, reason: &str) {
        self.refusals.insert(name, DecodeError::invalid(reason).in_field(path));
    }

    /// The next so many events.
    pub(crate) async fn receive(&mut self, count: usize) -> Vec<Event<Resource>> {
        while self.events.len() < count {
            self.message().await;
        }
        self.events.drain(..count).collect()
    }

    /// What so many names stand for, by the next so many events.
    pub(crate) async fn until(&mut self, count: usize) -> BTreeMap<ResourceName, Resource> {
        let events = self.receive(count).await.into_iter();
        events
            .map(|event| match event {
                Event::Set { name, value, .. } => (name, value),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    pub(crate) async fn say_nonsense(&mut self) -> Status {
        let kind = ResourceType::Service.into();
        let request =
            DeltaRequest { r#type: kind, subscribe: vec!["nonsense".into()], ..DeltaRequest::default() };
        self.requests.send(request).await.unwrap();
        tokio::time::timeout(PATIENCE, self.responses.message()).await.unwrap().unwrap_err()
    }

    async fn message(&mut self) {
        let response = tokio::time::timeout(PATIENCE, self.responses.message()).await;
        let response = response.expect("the controller says something").unwrap().expect("the stream is open");
        let refusals = &self.refusals;
        let events = self.session.receive(self.stream, response, |name, body| match refusals.get(name) {
            Some(error) => Err(error.clone()),
            None => decode::resource(name, body),
        });
        self.events.extend(events.unwrap());
        self.send().await;
    }

    async fn send(&mut self) {
        while let Some(request) = self.session.next_request() {
            self.requests.send(request).await.unwrap();
        }
    }
}

async fn open(
    controller: &Controller,
    token: Option<&str>,
) -> Result<(mpsc::Sender<DeltaRequest>, Streaming<DeltaResponse>), Status> {
    let (requests, receiver) = mpsc::channel(16);
    let mut client = ConfigServiceClient::new(controller.channel(token).await);
    let responses = client.stream(ReceiverStream::new(receiver)).await?.into_inner();
    Ok((requests, responses))
}

/// A signing request that claims a name.
pub(crate) fn csr(claim: &str) -> String {
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.subject_alt_names = vec![rcgen::SanType::URI(claim.try_into().unwrap())];
    params.serialize_request(&rcgen::KeyPair::generate().unwrap()).unwrap().pem().unwrap()
}

pub(crate) fn der(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}
