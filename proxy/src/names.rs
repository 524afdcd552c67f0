//! Names to addresses, without the C library: a static binary has no `getaddrinfo` that works.
//!
//! `/etc/resolv.conf` with its search list and `ndots`, and `/etc/hosts`, are read anew for each question: who asks is
//! the way to the controller, which does so rarely, and after something has changed.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::time::Duration;

use hickory_resolver::net::runtime::iocompat::AsyncIoTokioAsStd;
use hickory_resolver::net::runtime::{RuntimeProvider, TokioHandle, TokioRuntimeProvider, TokioTime};
use hickory_resolver::{Resolver, ResolverBuilder};
use socket2::SockRef;
use tokio::net::{TcpStream, UdpSocket};

use crate::dial::{DialOptions, Dialer};

/// The longest that one question may take, all servers and search domains together.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The addresses of a host, which may be an address itself; those of IPv4 and IPv6 in the order that they came.
///
/// # Errors
/// What went wrong, for people.
pub async fn resolve(dialer: Dialer, host: &str) -> Result<Vec<IpAddr>, String> {
    if let Ok(address) = host.parse() {
        return Ok(vec![address]);
    }
    let sockets = Sockets { usual: TokioRuntimeProvider::new(), dialer };
    let resolver = Resolver::builder(sockets).and_then(ResolverBuilder::build);
    let resolver = resolver.map_err(|error| format!("/etc/resolv.conf cannot be used: {error}"))?;
    match tokio::time::timeout(TIMEOUT, resolver.lookup_ip(host)).await {
        Ok(Ok(found)) => Ok(found.iter().collect()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no name server of /etc/resolv.conf answered within {TIMEOUT:?}")),
    }
}

/// The resolver's sockets, made like every other one of the sidecar.
#[derive(Clone)]
struct Sockets {
    usual: TokioRuntimeProvider,
    dialer: Dialer,
}

type Opening<T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send>>;

impl RuntimeProvider for Sockets {
    type Handle = TokioHandle;
    type Timer = TokioTime;
    type Udp = UdpSocket;
    type Tcp = AsyncIoTokioAsStd<TcpStream>;

    fn create_handle(&self) -> TokioHandle {
        self.usual.create_handle()
    }

    fn connect_tcp(
        &self,
        server: SocketAddr,
        bind: Option<SocketAddr>,
        timeout: Option<Duration>,
    ) -> Opening<Self::Tcp> {
        let (dialer, usual) = (self.dialer, DialOptions::default());
        let connect_timeout = timeout.unwrap_or(usual.connect_timeout);
        Box::pin(async move {
            let options = DialOptions { connect_timeout, bind, ..usual };
            let stream = dialer.dial(server, &options).await.map_err(io::Error::other)?;
            Ok(AsyncIoTokioAsStd(stream))
        })
    }

    fn bind_udp(&self, local: SocketAddr, _server: SocketAddr) -> Opening<UdpSocket> {
        let mark = self.dialer.mark;
        Box::pin(async move {
            let socket = UdpSocket::bind(local).await?;
            if let Some(mark) = mark {
                SockRef::from(&socket).set_mark(mark)?;
            }
            Ok(socket)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_is_its_own_answer() {
        let addresses = |host| async move { resolve(Dialer::default(), host).await.unwrap() };
        assert_eq!(addresses("10.0.0.1").await, [IpAddr::from([10, 0, 0, 1])]);
        assert_eq!(addresses("fd00::1").await, ["fd00::1".parse::<IpAddr>().unwrap()]);
    }

    #[tokio::test]
    async fn a_name_is_looked_up_without_the_c_library() {
        let addresses = resolve(Dialer::default(), "localhost").await.unwrap();
        assert!(!addresses.is_empty() && addresses.iter().all(IpAddr::is_loopback), "{addresses:?}");
    }
}
