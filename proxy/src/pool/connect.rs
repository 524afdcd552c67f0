//! Making connections: dial, then mTLS where the destination asks for it.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use weft_core::reason::Reason;
use weft_core::transport::Transport;
use weft_core::upstream::{ClusterState, EndpointId, EndpointState};

use super::Key;
use crate::dial::{DialError, DialOptions, Dialer};
use crate::http::version::HttpVersion;
use crate::io::{Io, Socket};
use crate::itself::Itself;
use crate::tls::{self, Alpn, Tls, TlsFault};

/// An upstream that reads nothing of what is written for so long is given up.
pub(super) const WRITE_TIME: Duration = Duration::from_secs(300);

/// Where a request goes.
#[derive(Clone, Debug)]
pub struct Destination {
    /// The cluster: limits, times.
    pub cluster: Arc<ClusterState>,
    /// The endpoint picked of it.
    pub endpoint: Arc<EndpointState>,
    /// The HTTP to speak with it.
    pub version: HttpVersion,
}

/// Makes connections: [`MeshConnect`], or a test's own.
pub trait Connect {
    /// A connection on which HTTP of the destination's version can begin.
    fn connect<'a>(&'a self, to: &'a Destination) -> Connecting<'a>;
}

/// A connection being made.
pub type Connecting<'a> = Pin<Box<dyn Future<Output = Result<Io, ConnectFault>> + 'a>>;

/// Why a connection could not be made. Nothing of a request was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectFault {
    /// Nobody listens there.
    #[error("connection refused")]
    Refused,
    /// No answer in time.
    #[error("no answer in time")]
    Timeout,
    /// Any other error of the socket.
    #[error("no connection: {0}")]
    Socket(std::io::ErrorKind),
    /// The TLS handshake failed.
    #[error("{0}")]
    Tls(TlsFault),
    /// mTLS is due, and nobody knows who must answer.
    #[error("the identity of the endpoint is not known")]
    NoIdentity,
    /// HTTP/2 did not begin.
    #[error("no HTTP/2 connection")]
    Http,
}

/// Dials, and shakes hands as the endpoint asks for.
pub struct MeshConnect {
    dialer: Dialer,
    tls: Arc<Tls>,
    itself: Itself,
}

impl Destination {
    pub(super) fn key(&self) -> Key {
        let transport = match self.endpoint.id {
            EndpointId::Listed(_) => None,
            EndpointId::Address(_) => self.endpoint.transport.clone().ok(),
        };
        Key { endpoint: self.endpoint.id, version: self.version, transport }
    }

    /// Whether the connection proves who both ends are.
    pub fn is_mutual(&self) -> bool {
        matches!(self.endpoint.transport, Ok(Transport::Mutual(_)))
    }

    /// What is dialled.
    pub fn address(&self) -> SocketAddr {
        self.endpoint.address
    }
}

impl ConnectFault {
    /// The reason that clients, logs and metrics see.
    pub fn reason(self) -> Reason {
        match self {
            Self::Tls(fault) => fault.reason(),
            Self::NoIdentity => Reason::PeerIdentity,
            _ => Reason::ConnectFailure,
        }
    }
}

impl From<DialError> for ConnectFault {
    fn from(error: DialError) -> Self {
        match error {
            DialError::Refused(_) => Self::Refused,
            DialError::Timeout(..) => Self::Timeout,
            DialError::Other(_, error) => Self::Socket(error.kind()),
        }
    }
}

impl MeshConnect {
    /// Connects by this dialer, with these certificates.
    pub fn new(dialer: Dialer, tls: Arc<Tls>) -> Self {
        Self { dialer, tls, itself: Itself::default() }
    }

    /// The same in a pod, which it may have to reach itself.
    pub fn of_pod(self, itself: Itself) -> Self {
        Self { itself, ..self }
    }

    /// A connection to an endpoint that carries `inside`, with mTLS where the endpoint asks for it.
    ///
    /// # Errors
    /// Why it could not be made: nothing was sent.
    pub async fn open(
        &self,
        endpoint: &EndpointState,
        options: &DialOptions,
        inside: Alpn,
    ) -> Result<Io, ConnectFault> {
        let transport = endpoint.transport.as_ref().map_err(|_| ConnectFault::NoIdentity)?;
        let to = endpoint.address;
        match transport {
            Transport::Plain => Ok(Io::plain(self.dialer.dial(to, options).await?)),
            Transport::Mutual(wanted) => {
                let tcp = match self.itself.is_at(to) {
                    true => self.itself.connect(to, self.dialer).await?,
                    false => self.dialer.dial(to, options).await?,
                };
                tls::connect(&self.tls, Socket::for_tls(tcp), wanted, inside).await.map_err(ConnectFault::Tls)
            }
        }
    }

    async fn open_http(&self, to: &Destination) -> Result<Io, ConnectFault> {
        let inside = match to.version {
            HttpVersion::Http1 => Alpn::Http1,
            HttpVersion::Http2 => Alpn::Http2,
        };
        self.open(&to.endpoint, &DialOptions::from(&to.cluster.cluster.connections), inside).await
    }
}

impl Connect for MeshConnect {
    fn connect<'a>(&'a self, to: &'a Destination) -> Connecting<'a> {
        Box::pin(self.open_http(to))
    }
}
