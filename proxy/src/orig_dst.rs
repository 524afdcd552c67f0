//! Where a connection was going before it was redirected here.

use std::io;
use std::net::{IpAddr, SocketAddr};

use socket2::SockRef;
use tokio::net::TcpStream;
use weft_core::reason::Reason;

/// Where a listener's connections are going.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Where they went before redirection (`SO_ORIGINAL_DST`).
    Redirected,
    /// To one address, whatever the listener's own: an explicit listener of a Sidecar.
    Fixed(SocketAddr),
}

/// What a destination must not be, for no connection may come round to the sidecar again.
#[derive(Clone, Debug, Default)]
pub struct Own {
    /// The addresses of the pod.
    pub addresses: Vec<IpAddr>,
    /// The ports to which connections are redirected.
    pub ports: Vec<u16>,
}

impl Origin {
    /// Where this connection was going. IPv4 written as IPv6 is given as IPv4.
    ///
    /// # Errors
    /// [`Reason::NoOriginalDestination`] where it was not redirected: nothing else is believed.
    /// [`Reason::Loop`] where it was addressed to the sidecar itself.
    pub fn destination(self, tcp: &TcpStream, own: &Own) -> Result<SocketAddr, Reason> {
        let to = match self {
            Self::Redirected => redirected(tcp).map_err(|_| Reason::NoOriginalDestination)?,
            Self::Fixed(to) => to,
        };
        let to = SocketAddr::new(to.ip().to_canonical(), to.port());
        if own.is_own(to) { Err(Reason::Loop) } else { Ok(to) }
    }
}

impl Own {
    /// Whether a connection there would arrive here again.
    pub fn is_own(&self, to: SocketAddr) -> bool {
        let ip = to.ip().to_canonical();
        self.ports.contains(&to.port())
            && (ip.is_loopback() || ip.is_unspecified() || self.addresses.contains(&ip))
    }
}

fn redirected(tcp: &TcpStream) -> io::Result<SocketAddr> {
    let socket = SockRef::from(tcp);
    let to = match tcp.local_addr()?.ip().to_canonical() {
        IpAddr::V4(_) => socket.original_dst_v4()?,
        IpAddr::V6(_) => socket.original_dst_v6()?,
    };
    to.as_socket().ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    fn own() -> Own {
        Own { addresses: vec![[10, 0, 0, 7].into(), "fd00::7".parse().unwrap()], ports: vec![15001, 15006] }
    }

    async fn accepted() -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = listener.local_addr().unwrap();
        let (client, accepted) = tokio::join!(TcpStream::connect(to), listener.accept());
        drop(client.unwrap());
        accepted.unwrap().0
    }

    #[tokio::test]
    async fn g17_what_is_addressed_to_the_sidecar_is_a_loop() {
        let tcp = accepted().await;
        for loops in
            ["127.0.0.1:15001", "10.0.0.7:15006", "[fd00::7]:15001", "[::1]:15006", "[::ffff:10.0.0.7]:15006"]
        {
            let origin = Origin::Fixed(loops.parse().unwrap());
            assert_eq!(origin.destination(&tcp, &own()), Err(Reason::Loop), "{loops}");
        }
        for passes in ["10.0.0.8:15006", "10.0.0.7:8080", "127.0.0.1:80"] {
            let to: SocketAddr = passes.parse().unwrap();
            assert_eq!(Origin::Fixed(to).destination(&tcp, &own()), Ok(to));
        }
    }

    #[tokio::test]
    async fn g18_a_connection_that_was_not_redirected_goes_nowhere() {
        let tcp = accepted().await;
        let own = Own { ports: vec![tcp.local_addr().unwrap().port()], ..own() };
        let refused = Origin::Redirected.destination(&tcp, &own).unwrap_err();
        assert!(matches!(refused, Reason::NoOriginalDestination | Reason::Loop), "{refused}");
    }

    #[tokio::test]
    async fn ipv4_in_ipv6_is_given_as_ipv4() {
        let tcp = accepted().await;
        let origin = Origin::Fixed("[::ffff:10.1.2.3]:80".parse().unwrap());
        assert_eq!(origin.destination(&tcp, &own()), Ok("10.1.2.3:80".parse().unwrap()));
    }
}
