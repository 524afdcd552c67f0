//! The way to the controller: TLS checked against the root file, over a socket that `Dialer` makes.
//!
//! Root file and token are read again on every use, so that a rotation of either needs no restart.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::codegen::Service;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};

use crate::clock::Clock;
use crate::dial::{DialOptions, Dialer};
use crate::names;
use crate::settings::ControllerSettings;

/// Until the connection and its handshake stand.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A controller that does not answer a ping for this long is gone.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// Connects to the controller.
#[derive(Clone, Debug)]
pub struct ControllerLink {
    settings: ControllerSettings,
    dialer: Dialer,
    clock: Clock,
}

/// Why the controller cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// A file that the link needs cannot be used.
    #[error("{file}: {problem}; it is given by {setting}")]
    File {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        problem: String,
        /// The setting that names it.
        setting: &'static str,
    },
    /// The controller's name has no address.
    #[error("controller {0} cannot be resolved: {1}; check WEFT_CONTROLLER")]
    Resolve(String, String),
    /// There is no connection.
    #[error("controller {0} cannot be reached: {1}")]
    Connect(String, String),
    /// The controller's certificate, or the handshake, is not good.
    #[error(
        "controller {0}: TLS: {1}; its certificate must be for `{2}` and signed by a root in WEFT_ROOT_FILE"
    )]
    Tls(String, String, String),
}

impl ControllerLink {
    /// A link that is not connected yet.
    pub fn new(settings: ControllerSettings, dialer: Dialer, clock: Clock) -> Self {
        Self { settings, dialer, clock }
    }

    /// Connects anew.
    ///
    /// # Errors
    /// [`LinkError`]: what failed and which setting to look at.
    pub async fn connect(&self) -> Result<Channel, LinkError> {
        let address = self.address();
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .and_then(|endpoint| endpoint.user_agent(concat!("weft-proxy/", env!("CARGO_PKG_VERSION"))))
            .map_err(|e| LinkError::Connect(address.clone(), e.to_string()))?
            .origin(self.origin())
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE)
            .keep_alive_while_idle(true);
        // Connected here and handed over, so that the error is ours and says what to do.
        let stream = tokio::time::timeout(CONNECT_TIMEOUT, self.handshake()).await.map_err(|_| {
            LinkError::Connect(address.clone(), format!("no handshake within {CONNECT_TIMEOUT:?}"))
        })??;
        let connector = Once(Some(stream));
        endpoint
            .connect_with_connector(connector)
            .await
            .map_err(|e| LinkError::Connect(address, e.to_string()))
    }

    /// The pod's token, as the header that proves who asks.
    ///
    /// # Errors
    /// The file cannot be read, or does not hold a token.
    pub fn authorization(&self) -> Result<MetadataValue<Ascii>, LinkError> {
        let file = &self.settings.token_file;
        let broken =
            |problem: String| LinkError::File { file: file.clone(), problem, setting: "WEFT_TOKEN_FILE" };
        let token = std::fs::read_to_string(file).map_err(|e| broken(e.to_string()))?;
        let header = format!("Bearer {}", token.trim()).parse::<MetadataValue<Ascii>>();
        let mut header = header.map_err(|_| broken("is no token: it holds control characters".to_owned()))?;
        header.set_sensitive(true);
        Ok(header)
    }

    /// The roots by which the controller is believed.
    ///
    /// # Errors
    /// The file cannot be read, or holds no certificate.
    pub fn roots(&self) -> Result<Vec<CertificateDer<'static>>, LinkError> {
        read_certificates(&self.settings.root_file)
    }

    /// Host and port, for people.
    pub fn address(&self) -> String {
        let at = &self.settings.address;
        if at.host.contains(':') {
            format!("[{}]:{}", at.host, at.port)
        } else {
            format!("{}:{}", at.host, at.port)
        }
    }

    fn origin(&self) -> Uri {
        let origin = format!("https://{}:{}", self.settings.server_name, self.settings.address.port);
        origin.parse().unwrap_or_else(|_| Uri::from_static("https://weft-controller"))
    }

    async fn handshake(&self) -> Result<TlsStream<TcpStream>, LinkError> {
        let config = self.tls_config()?;
        let name = &self.settings.server_name;
        let failed = |problem: String| LinkError::Tls(self.address(), problem, name.clone());
        let server = ServerName::try_from(name.clone()).map_err(|e| failed(e.to_string()))?;
        let tcp = self.dial().await?;
        TlsConnector::from(config).connect(server, tcp).await.map_err(|e| failed(e.to_string()))
    }

    async fn dial(&self) -> Result<TcpStream, LinkError> {
        let options = DialOptions { connect_timeout: CONNECT_TIMEOUT / 2, ..DialOptions::default() };
        let mut problem = "it has no address".to_owned();
        for address in self.resolve().await? {
            match self.dialer.dial(address, &options).await {
                Ok(stream) => return Ok(stream),
                Err(error) => problem = error.to_string(),
            }
        }
        Err(LinkError::Connect(self.address(), problem))
    }

    async fn resolve(&self) -> Result<Vec<SocketAddr>, LinkError> {
        let at = &self.settings.address;
        let found = names::resolve(self.dialer, &at.host).await;
        let found = found.map_err(|problem| LinkError::Resolve(self.address(), problem))?;
        Ok(found.into_iter().map(|address| SocketAddr::new(address, at.port)).collect())
    }

    fn tls_config(&self) -> Result<Arc<ClientConfig>, LinkError> {
        let mut roots = RootCertStore::empty();
        let (usable, _) = roots.add_parsable_certificates(self.roots()?);
        if usable == 0 {
            return Err(root_problem(
                &self.settings.root_file,
                "holds no usable root certificate".to_owned(),
            ));
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_details(provider, Arc::new(RustlsClock(self.clock.clone())))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|e| LinkError::Connect(self.address(), e.to_string()))?;
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Arc::new(config))
    }
}

/// All certificates of a PEM file; at least one.
fn read_certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, LinkError> {
    let pem = std::fs::read(file).map_err(|e| root_problem(file, e.to_string()))?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let certificates = certificates.map_err(|e| root_problem(file, format!("is not PEM: {e}")))?;
    if certificates.is_empty() {
        return Err(root_problem(file, "holds no certificate".to_owned()));
    }
    Ok(certificates)
}

fn root_problem(file: &Path, problem: String) -> LinkError {
    LinkError::File { file: file.to_owned(), problem, setting: "WEFT_ROOT_FILE" }
}

/// Our wall clock, as rustls reads it.
#[derive(Debug)]
struct RustlsClock(Clock);

impl rustls::time_provider::TimeProvider for RustlsClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0.unix_seconds())))
    }
}

/// A connector that hands over one connection, once: who wants another asks [`ControllerLink::connect`].
struct Once(Option<TlsStream<TcpStream>>);

type Connecting = Pin<Box<dyn Future<Output = io::Result<TokioIo<TlsStream<TcpStream>>>> + Send>>;

impl Service<Uri> for Once {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = Connecting;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Connecting {
        let stream = self.0.take().ok_or_else(|| io::Error::from(io::ErrorKind::ConnectionAborted));
        Box::pin(async move { stream.map(TokioIo::new) })
    }
}
