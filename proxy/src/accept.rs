//! Listening sockets, and taking connections from them.
//!
//! Every worker has sockets of its own on the same ports (`SO_REUSEPORT`): the kernel deals connections out. What
//! a connection inherits from its listener (no delay, keepalive) is set there once.

use std::fs::File;
use std::future::Future;
use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::time::Duration;

use futures_util::FutureExt;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

use crate::dial;

/// Connections that wait to be accepted; the kernel takes less where `net.core.somaxconn` is less.
const BACKLOG: i32 = 4096;
/// The pauses after a failed accept, from the first to the longest.
const PAUSES: [Duration; 2] = [Duration::from_millis(5), Duration::from_secs(1)];

/// A socket with an address, on which the kernel refuses connections until it listens.
#[derive(Debug)]
pub struct Bound(Socket);

impl Bound {
    /// Takes an address; other workers may take the same. An IPv6 one takes no IPv4.
    ///
    /// # Errors
    /// Where the address is taken by somebody else, does not exist here, or its family is off.
    pub fn new(at: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(at), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        if at.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        dial::tune(SockRef::from(&socket), None)?;
        socket.bind(&at.into())?;
        Ok(Self(socket))
    }

    /// Takes a port on every address of both families; of IPv4 alone where IPv6 is off.
    ///
    /// # Errors
    /// Where the port is taken by somebody else.
    pub fn everywhere(port: u16) -> io::Result<Vec<Self>> {
        let v4 = Self::new(SocketAddr::from(([0, 0, 0, 0], port)))?;
        match Self::new((Ipv6Addr::UNSPECIFIED, v4.port()?).into()) {
            Ok(v6) => Ok(vec![v4, v6]),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(error),
            Err(_) => Ok(vec![v4]),
        }
    }

    /// Lets connections in. To be called on the runtime that accepts them.
    ///
    /// # Errors
    /// Where the runtime cannot watch the socket.
    pub fn listen(self) -> io::Result<TcpListener> {
        self.0.listen(BACKLOG)?;
        TcpListener::from_std(self.0.into())
    }

    /// Its port.
    ///
    /// # Errors
    /// Never seen.
    pub fn port(&self) -> io::Result<u16> {
        Ok(self.0.local_addr()?.as_socket().map_or(0, |at| at.port()))
    }
}

/// Takes connections until `stop`; those that the kernel has taken by then are served too.
///
/// Without free descriptors it pauses, longer each time, and `starved` hears of it: connections that stand are not
/// harmed, and one reserved descriptor lets a waiting client be turned away instead of being left hanging.
pub async fn accept_until(
    listener: TcpListener,
    stop: impl Future<Output = ()>,
    mut each: impl FnMut(TcpStream, SocketAddr),
    mut starved: impl FnMut(&io::Error),
) {
    let mut reserve = Reserve::new();
    let mut stop = std::pin::pin!(stop);
    let mut failures = 0;
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut stop => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((tcp, peer)) => {
                failures = 0;
                each(tcp, peer);
            }
            Err(error) if concerns_one_connection(&error) => {}
            Err(error) => {
                starved(&error);
                reserve.turn_one_away(&listener);
                tokio::time::sleep(pause(failures)).await;
                failures += 1;
            }
        }
    }
    while let Some(Ok((tcp, peer))) = listener.accept().now_or_never() {
        each(tcp, peer);
    }
}

/// The client was gone before it was taken: nothing is wrong here.
fn concerns_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

fn pause(failures: u32) -> Duration {
    PAUSES[0].saturating_mul(1 << failures.min(10)).min(PAUSES[1])
}

/// A descriptor kept for the time when there are no others.
struct Reserve(Option<File>);

impl Reserve {
    fn new() -> Self {
        Self(File::open("/dev/null").ok())
    }

    fn turn_one_away(&mut self, listener: &TcpListener) {
        self.0 = None;
        drop(listener.accept().now_or_never());
        *self = Self::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::rc::Rc;
    use tokio::io::AsyncReadExt;

    fn listen() -> TcpListener {
        Bound::new("127.0.0.1:0".parse().unwrap()).unwrap().listen().unwrap()
    }

    #[tokio::test]
    async fn e4_until_it_listens_the_kernel_refuses() {
        let bound = Bound::new("127.0.0.1:0".parse().unwrap()).unwrap();
        let at = SocketAddr::from(([127, 0, 0, 1], bound.port().unwrap()));
        let refused = TcpStream::connect(at).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        let _listens = bound.listen().unwrap();
        assert!(TcpStream::connect(at).await.is_ok());
    }

    #[tokio::test]
    async fn workers_share_a_port_and_connections_inherit_its_options() {
        let first = listen();
        let at = first.local_addr().unwrap();
        Bound::new(at).unwrap();
        let (client, accepted) = tokio::join!(TcpStream::connect(at), first.accept());
        let (tcp, peer) = accepted.unwrap();
        assert_eq!(client.unwrap().local_addr().unwrap(), peer);
        assert!(tcp.nodelay().unwrap());
        let socket = SockRef::from(&tcp);
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_user_timeout().unwrap(), None);
        let listening = SockRef::from(&first);
        assert_eq!(socket.tcp_keepalive_time().unwrap(), listening.tcp_keepalive_time().unwrap());
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), listening.tcp_keepalive_retries().unwrap());
    }

    #[tokio::test]
    async fn g6_connections_that_wait_are_served_before_the_listener_closes() {
        let listener = listen();
        let at = listener.local_addr().unwrap();
        let _waits = TcpStream::connect(at).await.unwrap();
        let taken = Rc::new(RefCell::new(Vec::new()));
        let each = |tcp, _| taken.borrow_mut().push(tcp);
        accept_until(listener, std::future::ready(()), each, |_| ()).await;
        assert_eq!(taken.borrow().len(), 1);
        assert!(TcpStream::connect(at).await.is_err());
    }

    #[tokio::test]
    async fn g2_the_reserve_turns_a_waiting_client_away() {
        let listener = listen();
        let mut waits = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut reserve = Reserve::new();
        std::future::poll_fn(|cx| listener.poll_accept(cx).map(drop)).await;
        assert_eq!(waits.read(&mut [0]).await.unwrap(), 0);
        let mut waits = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        reserve.turn_one_away(&listener);
        assert!(reserve.0.is_some());
        assert_eq!(waits.read(&mut [0]).await.unwrap_or(0), 0);
    }

    #[test]
    fn g2_pauses_grow_to_a_second() {
        let pauses: Vec<_> = (0..20).map(|n| pause(n).as_millis()).collect();
        assert_eq!(pauses[..3], [5, 10, 20]);
        assert_eq!(pauses[19], 1000);
    }
}
