//! A sidecar's end of the configuration stream: asks for addresses, then for the services that they mean, then for their
//! endpoints, and answers everything, as a sidecar with traffic does.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use anyhow::Result;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Request;
use tonic::codegen::{BoxFuture, Service, http::Uri};
use tonic::transport::Endpoint;
use weft_api::decode;
use weft_api::pb::config::config_service_client::ConfigServiceClient;
use weft_api::pb::config::{ClientInfo, DeltaRequest};
use weft_api::resource::Resource;
use weft_api::session::client::{Event, Session};
use weft_core::model::address::Meaning;
use weft_core::model::name::{AddressKey, ResourceName, SliceName};

/// The name of the controller in its certificate.
const SERVER: &str = "weft-controller.weft-system.svc";

/// What a sidecar needs to reach its controller.
#[derive(Clone)]
pub(crate) struct Trust {
    /// Where it is.
    pub(crate) address: SocketAddr,
    /// The root of trust, PEM.
    pub(crate) root: Arc<[u8]>,
}

/// That a sidecar has everything it asked for at first, or that it has answered something later.
pub(crate) struct Heard {
    /// When the answer was on its way.
    pub(crate) at: Instant,
}

/// A sidecar.
pub(crate) struct Sidecar {
    number: usize,
    received: Arc<AtomicU64>,
}

impl Sidecar {
    /// Connects and follows, and tells `heard` of it: once when all is configured, then of every response that says
    /// anything.
    pub(crate) fn begin(
        number: usize,
        trust: Trust,
        token: String,
        addresses: Vec<SocketAddr>,
        heard: mpsc::UnboundedSender<Heard>,
    ) -> Arc<Self> {
        let sidecar = Arc::new(Self { number, received: Arc::default() });
        let this = sidecar.clone();
        tokio::spawn(async move {
            let told = heard.clone();
            let ended = this.run(trust, token, addresses, heard).await;
            // At the end nobody listens any more.
            if let Err(error) = ended
                && !told.is_closed()
            {
                crate::note(&format!("sidecar {}: {error:#}", this.number));
            }
        });
        sidecar
    }

    /// Bytes that have come from the controller, with all of TLS.
    pub(crate) fn received(&self) -> u64 {
        self.received.load(Relaxed)
    }

    async fn run(
        &self,
        trust: Trust,
        token: String,
        addresses: Vec<SocketAddr>,
        heard: mpsc::UnboundedSender<Heard>,
    ) -> Result<()> {
        let connector = Connector::new(trust, self.received.clone())?;
        let channel = Endpoint::from_static("http://controller").connect_with_connector(connector).await?;
        let (requests, receiver) = mpsc::channel::<DeltaRequest>(64);
        let mut request = Request::new(ReceiverStream::new(receiver));
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse()?);
        let mut session = Session::new(ClientInfo { version: "bench".into(), features: Vec::new() });
        let stream = session.connect();
        session.want(ResourceName::Workload);
        for address in addresses {
            session.want(ResourceName::Address(AddressKey::new(address.ip(), address.port())));
        }
        send(&mut session, &requests).await?;
        let mut responses = ConfigServiceClient::new(channel).stream(request).await?.into_inner();
        let mut configured = false;
        while let Some(response) = responses.message().await? {
            let events = session.receive(stream, response, |name, body| decode::resource(name, body))?;
            let news = !events.is_empty();
            for event in events {
                follow(&mut session, event);
            }
            send(&mut session, &requests).await?;
            let complete = session.wanted().all(|(name, _)| session.is_answered(name));
            if complete && (news || !configured) {
                configured = true;
                heard.send(Heard { at: Instant::now() })?;
            }
        }
        Ok(())
    }
}

/// Asks for what something leads to.
fn follow(session: &mut Session, event: Event<Resource>) {
    let Event::Set { name, value, .. } = event else { return };
    match (name, value) {
        (ResourceName::Address(_), Resource::Address(address)) => {
            if let Meaning::Service(target) = &address.meaning {
                session.want(ResourceName::Service(target.service.clone()));
            }
        }
        (ResourceName::Service(service), Resource::Service(value)) => {
            for slice in 0..value.slices {
                session.want(ResourceName::Endpoints(SliceName { service: service.clone(), slice }));
            }
        }
        _ => {}
    }
}

async fn send(session: &mut Session, requests: &mpsc::Sender<DeltaRequest>) -> Result<()> {
    while let Some(request) = session.next_request() {
        requests.send(request).await?;
    }
    Ok(())
}

/// TLS to the controller, counting what comes.
#[derive(Clone)]
struct Connector {
    address: SocketAddr,
    config: Arc<ClientConfig>,
    received: Arc<AtomicU64>,
}

impl Connector {
    fn new(trust: Trust, received: Arc<AtomicU64>) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&trust.root)?)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?;
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self { address: trust.address, config: Arc::new(config), received })
    }
}

impl Service<Uri> for Connector {
    type Response = hyper_util::rt::TokioIo<tokio_rustls::client::TlsStream<Counted>>;
    type Error = io::Error;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let Self { address, config, received } = self.clone();
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let name = ServerName::try_from(SERVER).map_err(io::Error::other)?;
            let counted = Counted { stream, received };
            let stream = tokio_rustls::TlsConnector::from(config).connect(name, counted).await?;
            Ok(hyper_util::rt::TokioIo::new(stream))
        })
    }
}

/// A connection that counts what comes.
struct Counted {
    stream: TcpStream,
    received: Arc<AtomicU64>,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buf));
        self.received.fetch_add((buf.filled().len() - before) as u64, Relaxed);
        Poll::Ready(read)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
