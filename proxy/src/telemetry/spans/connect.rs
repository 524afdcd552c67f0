//! Connections to a collector, made by the one place that makes outgoing sockets: redirection does not catch them.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tonic::codegen::Service;

use crate::dial::{DialOptions, Dialer};
use crate::names;

/// Until one address has answered.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Finds the addresses of a service of the mesh; none where it is not known, or has none of its own.
pub type Lookup = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Vec<IpAddr>> + Send>> + Send + Sync>;

/// Connects to one collector, whatever the URI says.
#[derive(Clone)]
pub struct Connector {
    /// Makes the sockets.
    pub dialer: Dialer,
    /// Asked before the name servers are.
    pub lookup: Lookup,
    /// A name or an address.
    pub host: Arc<str>,
    /// The port.
    pub port: u16,
}

type Connecting = Pin<Box<dyn Future<Output = io::Result<TokioIo<TcpStream>>> + Send>>;

impl Service<Uri> for Connector {
    type Response = TokioIo<TcpStream>;
    type Error = io::Error;
    type Future = Connecting;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Connecting {
        let connector = self.clone();
        Box::pin(async move { connector.connect().await.map(TokioIo::new) })
    }
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Connector({}:{})", self.host, self.port)
    }
}

impl Connector {
    /// Connects by the first address that answers.
    ///
    /// # Errors
    /// Why the last address did not, or that the name has none.
    pub async fn connect(&self) -> io::Result<TcpStream> {
        let mut addresses = (self.lookup)().await;
        if addresses.is_empty() {
            addresses = names::resolve(self.dialer, &self.host).await.map_err(io::Error::other)?;
        }
        let options = DialOptions { connect_timeout: CONNECT_TIMEOUT, ..DialOptions::default() };
        let mut problem = io::Error::other(format!("{} has no address", self.host));
        for address in addresses {
            match self.dialer.dial(SocketAddr::new(address, self.port), &options).await {
                Ok(stream) => return Ok(stream),
                Err(error) => problem = io::Error::other(error),
            }
        }
        Err(problem)
    }
}
