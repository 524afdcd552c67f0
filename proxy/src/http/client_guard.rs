//! What stands between an upstream's connection and hyper: the strict scanner of HTTP/1 bytes. What it refuses becomes
//! an error that carries a `FramingFault`.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};

use http::Method;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use weft_core::http::head::{HeadScanner, Limits};

use super::fault::FramingFault;
use super::through::write_through;
use crate::flow::Flow;

/// What the next response on a client connection answers, set before the request is sent; and its flow.
#[derive(Clone, Debug, Default)]
pub struct Asked(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    what: AtomicU8,
    flow: Flow,
}

const ASKED: u8 = 1;
const ASKED_HEAD: u8 = 2;
const ASKED_UPGRADE: u8 = 4;

impl Asked {
    /// Of a connection with this flow.
    pub fn on(flow: Flow) -> Self {
        Self(Arc::new(Shared { what: AtomicU8::new(0), flow }))
    }

    /// The flow of the connection.
    pub fn flow(&self) -> &Flow {
        &self.0.flow
    }

    /// A request with this method is about to be sent. `upgrade`: it asks to leave HTTP.
    pub fn set(&self, method: &Method, upgrade: bool) {
        let head = if *method == Method::HEAD { ASKED_HEAD } else { 0 };
        let upgrade = if upgrade { ASKED_UPGRADE } else { 0 };
        self.0.what.store(ASKED | head | upgrade, Ordering::Relaxed);
    }

    fn take(&self) -> Option<(Method, bool)> {
        match self.0.what.swap(0, Ordering::Relaxed) {
            0 => None,
            asked if asked & ASKED_HEAD != 0 => Some((Method::HEAD, asked & ASKED_UPGRADE != 0)),
            asked => Some((Method::GET, asked & ASKED_UPGRADE != 0)),
        }
    }
}

/// The client's side: responses come in.
pub struct ClientGuard<T> {
    io: T,
    scanner: HeadScanner,
    asked: Asked,
    /// Lives as long as the connection, also after it left HTTP.
    _held: Box<dyn Send>,
}

impl<T: AsyncRead + AsyncWrite + Unpin> ClientGuard<T> {
    /// Guards a connection that this sidecar opened. `held` is dropped when the connection is.
    pub fn new(io: T, limits: Limits, asked: Asked, held: Box<dyn Send>) -> Self {
        Self { io, scanner: HeadScanner::responses(limits), asked, _held: held }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for ClientGuard<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.io).poll_read(cx, buf))?;
        let fresh = &buf.filled()[before..];
        if fresh.is_empty() {
            return Poll::Ready(Ok(()));
        }
        if let Some((method, upgrade)) = this.asked.take() {
            this.scanner.asked(&method, upgrade);
        }
        match this.scanner.scan(fresh) {
            Ok(_) => Poll::Ready(Ok(())),
            Err(refusal) => Poll::Ready(Err(FramingFault(refusal.fault).into())),
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for ClientGuard<T> {
    write_through!();

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}
