//! What stands between a client's connection and hyper: the strict scanner of HTTP/1 bytes.
//!
//! `ServerGuard` reads requests. hyper only ever sees whole heads that the scanner let through. A head that it
//! refuses, or that does not come in time, is replaced by a request of our own that only says "refused" (with a
//! secret of this connection, so that no client can send it): it takes its turn behind the requests before it,
//! reaches the service like any other, and is answered, logged and counted there.

use std::future::Future as _;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use futures_util::task::AtomicWaker;
use http::HeaderMap;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;
use weft_core::http::head::fault::{Fault, Refusal};
use weft_core::http::head::{HeadScanner, Limits, Progress};

use super::fault::FramingFault;
use super::through::write_through;
use crate::io::drain_into;

/// The header of our own request in place of a refused one.
const REFUSED_HEADER: &str = "x-weft-refused";
/// Bytes kept that came after a request to leave HTTP, before it is answered.
const HELD_LIMIT: usize = 64 * 1024;
/// How long, and for how many bytes, a refused client may go on sending: closing at once would reset the
/// connection under the answer.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 256 * 1024;

/// Why a request was refused before it was one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The bytes break the rules, with the status that says how.
    Bytes(Fault, u16),
    /// The head did not come in time.
    Late,
}

/// What the guard and the service of one server connection tell each other.
#[derive(Debug, Default)]
pub struct Exchange {
    refused: OnceLock<(Refused, u64)>,
    leave: AtomicU8,
    /// Of the guard that holds bytes until `leave` is decided: hyper itself does not look again.
    held: AtomicWaker,
}

const UNDECIDED: u8 = 0;
const TUNNEL: u8 = 1;
const STAY: u8 = 2;

impl Exchange {
    /// Whether these are the headers of the guard's own request, and for what.
    pub fn refused(&self, headers: &HeaderMap) -> Option<Refused> {
        let (refused, secret) = self.refused.get()?;
        let shown = headers.get(REFUSED_HEADER)?.to_str().ok()?;
        (u64::from_str_radix(shown, 16) == Ok(*secret)).then_some(*refused)
    }

    /// The upgrade was granted: what follows is no HTTP.
    pub fn tunnel(&self) {
        self.decide(TUNNEL);
    }

    /// The upgrade was not granted: what follows is the next request.
    pub fn stay(&self) {
        self.decide(STAY);
    }

    fn decide(&self, leave: u8) {
        self.leave.store(leave, Ordering::Relaxed);
        self.held.wake();
    }
}

/// The server's side: requests come in.
pub struct ServerGuard<T> {
    io: T,
    scanner: HeadScanner,
    exchange: Arc<Exchange>,
    /// Sound bytes that hyper has not taken yet.
    ready: BytesMut,
    /// The beginning of a head that is not whole.
    head: BytesMut,
    /// Bytes after a request to leave HTTP.
    held: BytesMut,
    head_time: Duration,
    head_timer: Option<Pin<Box<Sleep>>>,
    state: State,
    lingered: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Bytes are scanned.
    Open,
    /// A body broke the rules: the next read fails.
    Broken(Fault),
    /// Our own request was handed over; nothing else is read.
    Refused,
}

impl<T: AsyncRead + AsyncWrite + Unpin> ServerGuard<T> {
    /// Guards a connection that a client opened. A head must be whole `head_time` after its first byte.
    pub fn new(io: T, limits: Limits, head_time: Duration, exchange: Arc<Exchange>) -> Self {
        Self {
            io,
            scanner: HeadScanner::requests(limits),
            exchange,
            ready: BytesMut::new(),
            head: BytesMut::new(),
            held: BytesMut::new(),
            head_time,
            head_timer: None,
            state: State::Open,
            lingered: 0,
        }
    }

    /// The connection below.
    pub fn into_inner(self) -> T {
        self.io
    }

    fn poll_requests(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            if !self.ready.is_empty() {
                drain_into(&mut self.ready, buf);
                return Poll::Ready(Ok(()));
            }
            match self.state {
                State::Open => {}
                State::Broken(fault) => return Poll::Ready(Err(FramingFault(fault).into())),
                State::Refused => return Poll::Pending,
            }
            if !self.held.is_empty() {
                ready!(self.poll_held(cx))?;
                continue;
            }
            let before = buf.filled().len();
            match Pin::new(&mut self.io).poll_read(cx, buf) {
                Poll::Ready(Ok(())) if buf.filled().len() == before => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(())) => self.scan_into(before, buf),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    ready!(self.poll_late(cx));
                    continue;
                }
            }
            if buf.filled().len() > before {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Scans what was just read; leaves in `buf` what hyper may have now.
    fn scan_into(&mut self, before: usize, buf: &mut ReadBuf<'_>) {
        let fresh = &buf.filled()[before..];
        let scanned = self.scanner.scan(fresh);
        let whole = matches!(scanned, Ok(Progress::All));
        if whole && self.head.is_empty() && !self.scanner.in_head() {
            return;
        }
        let fresh = BytesMut::from(fresh);
        buf.set_filled(before);
        self.sort(scanned, fresh);
    }

    /// Sorts bytes into those that may go on, those that wait, and those that are refused.
    fn sort(&mut self, scanned: Result<Progress, Refusal>, mut bytes: BytesMut) {
        match scanned {
            Ok(Progress::All) => self.sound(bytes),
            Ok(Progress::Held(at)) => {
                self.held = bytes.split_off(at);
                self.sound(bytes);
            }
            Err(refusal) => {
                bytes.truncate(refusal.at);
                if !bytes.is_empty() {
                    // The head that had begun before came to its end; the fault lies behind it.
                    self.ready.extend_from_slice(&std::mem::take(&mut self.head));
                    self.ready.extend_from_slice(&bytes);
                }
                self.refuse(refusal);
            }
        }
    }

    /// Passes on what is whole, keeps the beginning of a head.
    fn sound(&mut self, mut bytes: BytesMut) {
        if !self.head.is_empty() {
            self.head.extend_from_slice(&bytes);
            bytes = std::mem::take(&mut self.head);
        }
        let open = self.scanner.head_so_far();
        self.head = bytes.split_off(bytes.len().saturating_sub(open));
        if self.head.is_empty() {
            self.head_timer = None;
        }
        self.ready.extend_from_slice(&bytes);
    }

    fn refuse(&mut self, refusal: Refusal) {
        self.head = BytesMut::new();
        if refusal.in_body {
            self.state = State::Broken(refusal.fault);
        } else {
            self.say_refused(Refused::Bytes(refusal.fault, refusal.status));
        }
    }

    fn say_refused(&mut self, refused: Refused) {
        let secret = RandomState::new().hash_one(self as *const Self as usize);
        let head = format!("GET / HTTP/1.1\r\nhost: refused\r\n{REFUSED_HEADER}: {secret:x}\r\n\r\n");
        self.ready.extend_from_slice(head.as_bytes());
        // Only one refusal can happen, it ends the connection.
        let _ = self.exchange.refused.set((refused, secret));
        self.head_timer = None;
        self.state = State::Refused;
    }

    /// Waits for the answer to a request to leave HTTP, then takes up the bytes behind it.
    fn poll_held(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.exchange.held.register(cx.waker());
        match self.exchange.leave.swap(UNDECIDED, Ordering::Relaxed) {
            TUNNEL => self.scanner.tunnel(),
            STAY => self.scanner.stay(),
            _ if self.held.len() >= HELD_LIMIT => return Poll::Pending,
            _ => return self.poll_more_held(cx),
        }
        let held = std::mem::take(&mut self.held);
        let scanned = self.scanner.scan(&held);
        self.sort(scanned, held);
        Poll::Ready(Ok(()))
    }

    fn poll_more_held(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut room = [0_u8; 2048];
        let mut buf = ReadBuf::new(&mut room);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut buf))?;
        if buf.filled().is_empty() {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        self.held.extend_from_slice(buf.filled());
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Ready when a head that has begun did not come in time.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.head.is_empty() {
            return Poll::Pending;
        }
        let time = self.head_time;
        let timer = self.head_timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(time)));
        ready!(timer.as_mut().poll(cx));
        self.head = BytesMut::new();
        self.say_refused(Refused::Late);
        Poll::Ready(())
    }

    /// Reads what a refused client still sends, within bounds.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self.head_timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(LINGER)));
        if timer.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let mut room = [0_u8; 4096];
        while self.lingered < LINGER_BYTES {
            let mut buf = ReadBuf::new(&mut room);
            match ready!(Pin::new(&mut self.io).poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => self.lingered += buf.filled().len(),
                _ => break,
            }
        }
        Poll::Ready(())
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for ServerGuard<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.scanner.is_tunnel() && this.ready.is_empty() {
            return Pin::new(&mut this.io).poll_read(cx, buf);
        }
        this.poll_requests(cx, buf)
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for ServerGuard<T> {
    write_through!();

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(Pin::new(&mut this.io).poll_shutdown(cx))?;
        if this.state != State::Open {
            ready!(this.poll_linger(cx));
        }
        Poll::Ready(Ok(()))
    }
}
