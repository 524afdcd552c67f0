//! A sidecar's way to its controller: TLS, counting what comes.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use anyhow::Result;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tonic::codegen::{BoxFuture, Service, http::Uri};
use tonic::transport::{Channel, Endpoint};

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

impl Trust {
    /// A connection to the controller; the bytes that come are added to `received`.
    pub(crate) async fn connect(&self, received: Arc<AtomicU64>) -> Result<Channel> {
        let connector = Connector::new(self, received)?;
        Ok(Endpoint::from_static("http://controller").connect_with_connector(connector).await?)
    }
}

/// TLS to the controller, counting what comes.
#[derive(Clone)]
struct Connector {
    address: SocketAddr,
    config: Arc<ClientConfig>,
    received: Arc<AtomicU64>,
}

impl Connector {
    fn new(trust: &Trust, received: Arc<AtomicU64>) -> Result<Self> {
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
