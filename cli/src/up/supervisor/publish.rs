//! Publications: connections to this machine's loopback, relayed to a ready pod of a Service.
//!
//! The listener was made outside and handed in. A connection goes to one of the Service's ready pods, at random, straight to
//! the pod's address, as a client outside the mesh would: a pod with a sidecar takes it as plaintext, and refuses it under STRICT.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use tokio::net::{TcpListener, TcpStream};

/// The ready pods of each publication, kept up to date by the supervisor.
pub(crate) type Ready = Rc<RefCell<Vec<Vec<SocketAddr>>>>;

/// Accepts on a publication's listener until the mesh ends.
///
/// # Errors
/// When the descriptor is no listener.
pub(crate) fn start(index: usize, listener: OwnedFd, ready: Ready) -> std::io::Result<()> {
    let listener = std::net::TcpListener::from(listener);
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    tokio::task::spawn_local(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                // Out of descriptors: others must end first.
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                continue;
            };
            let all = ready.borrow().get(index).cloned().unwrap_or_default();
            tokio::task::spawn_local(relay(stream, all));
        }
    });
    Ok(())
}

/// Without a ready pod the connection is closed at once.
async fn relay(mut stream: TcpStream, mut pods: Vec<SocketAddr>) {
    while !pods.is_empty() {
        let pod = pods.swap_remove(rand::random_range(0..pods.len()));
        if let Ok(mut upstream) = TcpStream::connect(pod).await {
            let _ = tokio::io::copy_bidirectional(&mut stream, &mut upstream).await;
            return;
        }
    }
}
