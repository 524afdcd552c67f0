//! The one place that makes outgoing sockets: to upstreams, to the application, to the controller.
//!
//! Every socket gets the mark that keeps redirection from catching it, no delay, and keepalive,
//! so that a peer which vanished without a word is noticed.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpSocket, TcpStream};
use weft_core::model::cluster::{ConnectionPolicy, TcpKeepalive as KeepalivePolicy};

/// Keepalive where no policy says otherwise.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_PROBES: u32 = 3;
/// `connectTimeout` where no policy says otherwise.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Makes outgoing sockets.
#[derive(Clone, Copy, Debug, Default)]
pub struct Dialer {
    /// `SO_MARK` of every socket; needs `CAP_NET_ADMIN`. `None`: the sidecar is told by its uid.
    pub mark: Option<u32>,
}

/// What one connection asks for.
#[derive(Clone, Copy, Debug)]
pub struct DialOptions {
    /// The time until the connection must stand.
    pub connect_timeout: Duration,
    /// Keepalive; `None` is the sidecar's own.
    pub keepalive: Option<KeepalivePolicy>,
    /// The address to dial from.
    pub bind: Option<SocketAddr>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Nobody listens there, or a firewall says no.
    #[error("{0}: connection refused")]
    Refused(SocketAddr),
    /// No answer in time.
    #[error("{0}: no answer within {1:?}")]
    Timeout(SocketAddr, Duration),
    /// Anything else: no route, no descriptors, no permission for the mark.
    #[error("{0}: {1}")]
    Other(SocketAddr, #[source] io::Error),
}

impl Dialer {
    /// Connects to an address.
    ///
    /// # Errors
    /// [`DialError`], by the stage at which it failed.
    pub async fn dial(&self, to: SocketAddr, options: &DialOptions) -> Result<TcpStream, DialError> {
        let socket = self.socket(to, options).map_err(|error| DialError::Other(to, error))?;
        match tokio::time::timeout(options.connect_timeout, socket.connect(to)).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Err(DialError::Refused(to)),
            Ok(Err(error)) => Err(DialError::Other(to, error)),
            Err(_) => Err(DialError::Timeout(to, options.connect_timeout)),
        }
    }

    fn socket(&self, to: SocketAddr, options: &DialOptions) -> io::Result<TcpSocket> {
        let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if let Some(mark) = self.mark {
            SockRef::from(&socket).set_mark(mark)?;
        }
        tune(SockRef::from(&socket), options.keepalive)?;
        if let Some(bind) = options.bind {
            socket.bind(bind)?;
        }
        Ok(socket)
    }
}

impl Default for DialOptions {
    fn default() -> Self {
        Self { connect_timeout: CONNECT_TIMEOUT, keepalive: None, bind: None }
    }
}

impl From<&ConnectionPolicy> for DialOptions {
    fn from(policy: &ConnectionPolicy) -> Self {
        Self { connect_timeout: policy.connect_timeout, keepalive: policy.keepalive, ..Self::default() }
    }
}

/// Sets what every connection of the data plane has, accepted or dialled.
///
/// # Errors
/// Those of `setsockopt`: the connection is gone.
pub fn tune(socket: SockRef<'_>, keepalive: Option<KeepalivePolicy>) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&probes(keepalive))
}

fn probes(policy: Option<KeepalivePolicy>) -> TcpKeepalive {
    let own = KeepalivePolicy {
        probes: Some(KEEPALIVE_PROBES),
        time: Some(KEEPALIVE_IDLE),
        interval: Some(KEEPALIVE_INTERVAL),
    };
    let policy = policy.unwrap_or(own);
    let mut keepalive = TcpKeepalive::new();
    if let Some(time) = policy.time {
        keepalive = keepalive.with_time(time);
    }
    if let Some(interval) = policy.interval {
        keepalive = keepalive.with_interval(interval);
    }
    if let Some(probes) = policy.probes {
        keepalive = keepalive.with_retries(probes);
    }
    keepalive
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn g16_sockets_notice_a_peer_that_vanished() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = listener.local_addr().unwrap();
        let stream = Dialer::default().dial(to, &DialOptions::default()).await.unwrap();
        let socket = SockRef::from(&stream);
        assert!(socket.tcp_nodelay().unwrap());
        assert!(socket.keepalive().unwrap());
        // With one, Linux counts no probes: an idle connection would end when it is over, not before.
        assert_eq!(socket.tcp_user_timeout().unwrap(), None);
        let unanswered = KEEPALIVE_IDLE + KEEPALIVE_INTERVAL * KEEPALIVE_PROBES;
        assert!(unanswered <= Duration::from_secs(30));
        assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEPALIVE_IDLE);
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), KEEPALIVE_INTERVAL);
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), KEEPALIVE_PROBES);
    }

    #[tokio::test]
    async fn a_refusal_is_told_from_silence() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = listener.local_addr().unwrap();
        drop(listener);
        let error = Dialer::default().dial(to, &DialOptions::default()).await.unwrap_err();
        assert!(matches!(error, DialError::Refused(addr) if addr == to), "{error}");
    }
}
