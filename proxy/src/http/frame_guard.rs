//! What stands between a client's connection and hyper's HTTP/2: frames that say nothing are counted, and a client that
//! floods with them is sent away (hardening C1, C4).

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;
use weft_core::http::frames::{Calm, Flood, Frames};

/// The server's side of HTTP/2.
pub struct FrameGuard<T> {
    io: T,
    came: Frames,
    went: Frames,
    calm: Calm,
    connected: Instant,
}

/// The client sent too many frames that say nothing.
#[derive(Debug)]
pub struct FloodFault;

impl<T: AsyncRead + AsyncWrite + Unpin> FrameGuard<T> {
    /// Guards a connection that a client opened.
    pub fn new(io: T) -> Self {
        let (came, went) = (Frames::of_client(), Frames::of_server());
        Self { io, came, went, calm: Calm::new(), connected: Instant::now() }
    }

    fn count(&mut self, fresh: &[u8]) -> Result<(), Flood> {
        let (calm, connected) = (&mut self.calm, self.connected);
        self.came.scan(fresh, |frame| calm.came(frame, || connected.elapsed()))
    }

    fn earn(&mut self, written: &[u8]) {
        let calm = &mut self.calm;
        // Nothing that is sent can be a flood.
        let _ = self.went.scan(written, |frame| {
            calm.went(frame);
            Ok::<(), Flood>(())
        });
    }

    /// Says goodbye, where that does not fall into the middle of a frame; the connection ends in any case.
    fn send_away(&mut self, cx: &mut Context<'_>) -> io::Error {
        if self.went.is_between() {
            let _ = Pin::new(&mut self.io).poll_write(cx, &self.calm.go_away());
            let _ = Pin::new(&mut self.io).poll_flush(cx);
        }
        io::Error::other(FloodFault)
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for FrameGuard<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.io).poll_read(cx, buf))?;
        Poll::Ready(this.count(&buf.filled()[before..]).map_err(|Flood| this.send_away(cx)))
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for FrameGuard<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.io).poll_write(cx, buf))?;
        this.earn(&buf[..written]);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.io).poll_write_vectored(cx, bufs))?;
        let mut left = written;
        for buf in bufs {
            let part = left.min(buf.len());
            this.earn(&buf[..part]);
            left -= part;
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

impl fmt::Display for FloodFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the client sent too many frames that are no part of a request")
    }
}

impl std::error::Error for FloodFault {}
