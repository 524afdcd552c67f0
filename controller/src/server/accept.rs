//! Connections, from TCP to TLS: bounded handshakes, each within its time, none in another's way.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;

/// The longest handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Handshakes under way at a time.
const HANDSHAKES: usize = 256;
/// After a failure to accept, such as too many open files.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// A connection whose handshake is done.
pub struct Secured(TlsStream<TcpStream>);

/// Accepts connections until told to stop; yields those whose handshake is done.
pub fn accept(
    listener: TcpListener,
    config: Arc<ServerConfig>,
    shutdown: CancellationToken,
) -> ReceiverStream<io::Result<Secured>> {
    let (ready, receiver) = mpsc::channel(HANDSHAKES);
    let loops = accept_all(listener, TlsAcceptor::from(config), ready);
    tokio::spawn(async move { shutdown.run_until_cancelled(loops).await });
    ReceiverStream::new(receiver)
}

async fn accept_all(listener: TcpListener, acceptor: TlsAcceptor, ready: mpsc::Sender<io::Result<Secured>>) {
    let permits = Arc::new(Semaphore::new(HANDSHAKES));
    loop {
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!("accept: {error}");
                sleep(ACCEPT_BACKOFF).await;
                continue;
            }
        };
        let (acceptor, ready) = (acceptor.clone(), ready.clone());
        tokio::spawn(async move {
            handshake(stream, &acceptor, &ready).await;
            drop(permit);
        });
    }
}

async fn handshake(stream: TcpStream, acceptor: &TlsAcceptor, ready: &mpsc::Sender<io::Result<Secured>>) {
    let from = stream.peer_addr();
    let secured = async {
        stream.set_nodelay(true)?;
        acceptor.accept(stream).await
    };
    let failure = match timeout(HANDSHAKE_TIMEOUT, secured).await {
        // Nobody takes it any more when the server stops.
        Ok(Ok(stream)) => return drop(ready.send(Ok(Secured(stream))).await),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "no handshake in time".to_owned(),
    };
    tracing::debug!("connection from {from:?}: {failure}");
}

impl Connected for Secured {
    type ConnectInfo = ();

    fn connect_info(&self) -> Self::ConnectInfo {}
}

impl AsyncRead for Secured {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Secured {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
