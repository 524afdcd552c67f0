//! Connections of the sidecar to its own pod: an application that calls a Service may be given to itself.
//!
//! Such a connection never leaves the loopback interface, where nothing is redirected. So it is not dialled: its other
//! end is handed to this sidecar's inbound side, and mTLS, policies and metrics are those of any other connection.

use std::cell::OnceCell;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;

use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};

use crate::dial::{self, DialError, DialOptions, Dialer};

/// Takes the other end: where it was to go, and from where.
type Inbound = Box<dyn Fn(TcpStream, SocketAddr, SocketAddr)>;

/// The pod of one worker's sidecar. Clones are handles of the same.
#[derive(Clone, Default)]
pub struct Itself(Rc<Inner>);

#[derive(Default)]
struct Inner {
    addresses: Vec<IpAddr>,
    inbound: OnceCell<Inbound>,
}

impl Itself {
    /// The pod with these addresses.
    pub fn new(addresses: Vec<IpAddr>) -> Self {
        Self(Rc::new(Inner { addresses, inbound: OnceCell::new() }))
    }

    /// Says who serves connections from outside; only the first word counts.
    pub fn serve(&self, inbound: impl Fn(TcpStream, SocketAddr, SocketAddr) + 'static) {
        let _ = self.0.inbound.set(Box::new(inbound));
    }

    /// Whether a connection there is one to itself.
    pub fn is_at(&self, to: SocketAddr) -> bool {
        self.0.inbound.get().is_some() && self.0.addresses.contains(&to.ip().to_canonical())
    }

    /// A connection to itself: one end is here, the other at the inbound side.
    ///
    /// # Errors
    /// No port or no descriptor is left.
    pub async fn connect(&self, to: SocketAddr, dialer: Dialer) -> Result<TcpStream, DialError> {
        let other = |error| DialError::Other(to, error);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(other)?;
        let at = listener.local_addr().map_err(other)?;
        let near = dialer.dial(at, &DialOptions::default()).await?;
        let (far, from) = far_end(&listener, &near).await.map_err(other)?;
        if let Some(inbound) = self.0.inbound.get() {
            inbound(far, to, SocketAddr::new(to.ip(), from.port()));
        }
        Ok(near)
    }
}

/// The application may have found the port: its connections are let go.
async fn far_end(listener: &TcpListener, near: &TcpStream) -> io::Result<(TcpStream, SocketAddr)> {
    let own = near.local_addr()?;
    loop {
        let (far, from) = listener.accept().await?;
        if from == own {
            dial::tune(SockRef::from(&far), None)?;
            return Ok((far, from));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn what_goes_to_itself_arrives_at_the_inbound_side() {
        let to: SocketAddr = "10.0.0.7:8080".parse().unwrap();
        let itself = Itself::new(vec![to.ip()]);
        assert!(!itself.is_at(to), "nobody serves yet");
        let arrived = Rc::new(RefCell::new(None));
        let sink = arrived.clone();
        itself.serve(move |tcp, dialled, client| *sink.borrow_mut() = Some((tcp, dialled, client)));
        assert!(itself.is_at(to) && !itself.is_at("10.0.0.8:8080".parse().unwrap()));
        let mut near = itself.connect(to, Dialer::default()).await.unwrap();
        let (mut far, dialled, client) = arrived.borrow_mut().take().unwrap();
        assert_eq!((dialled, client), (to, SocketAddr::new(to.ip(), near.local_addr().unwrap().port())));
        near.write_all(b"x").await.unwrap();
        assert_eq!(far.read_u8().await.unwrap(), b'x');
    }
}
