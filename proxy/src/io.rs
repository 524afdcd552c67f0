//! One type for every connection of the data plane: plain or TLS, client or server side, with bytes that were
//! looked at before they are read.
//!
//! TLS and HTTP/2 ask for little at a time, a record or a frame (a session of TLS 4 KiB): below them a socket is read in
//! large pieces. An idle connection holds no buffer: a read goes into room that the thread's connections share, and only
//! what its reader leaves is kept.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BufMut, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_util::io::poll_read_buf;

use crate::flow::{Flow, NARROW, Pace, poll_read_most};
use crate::overload::Overload;
use crate::vigil::Vigil;

/// The most that one read ahead may bring: one record of TLS.
const AHEAD_NARROW: usize = 17 * 1024;
/// The same where nothing speaks for less: four records.
const AHEAD_WIDE: usize = 4 * AHEAD_NARROW;

thread_local! {
    /// Where reads ahead go at first: how much comes is not known before.
    static ROOM: RefCell<BytesMut> = RefCell::default();
}

/// A connection of the data plane.
#[derive(Debug)]
pub struct Io {
    /// Bytes that were received and looked at, but not read yet.
    seen: BytesMut,
    stream: Stream,
    vigil: Vigil,
    /// Of a connection that is read no faster than what it brings is taken.
    pace: Option<Pace>,
}

/// What carries the bytes.
#[derive(Debug)]
enum Stream {
    Plain(Socket),
    TlsClient(Box<tokio_rustls::client::TlsStream<Socket>>),
    TlsServer(Box<tokio_rustls::server::TlsStream<Socket>>),
}

/// Passes a call on to whichever stream there is.
macro_rules! on_stream {
    ($stream:expr, $inner:ident => $call:expr) => {
        match $stream {
            Stream::Plain($inner) => $call,
            Stream::TlsClient($inner) => {
                let $inner = &mut **$inner;
                $call
            }
            Stream::TlsServer($inner) => {
                let $inner = &mut **$inner;
                $call
            }
        }
    };
}

impl Io {
    /// A connection without TLS.
    pub fn plain(tcp: TcpStream) -> Self {
        Self::over(Stream::Plain(Socket { reads_ahead: false, ..Socket::for_tls(tcp) }))
    }

    /// The client's side of a TLS session.
    pub fn tls_client(session: tokio_rustls::client::TlsStream<Socket>) -> Self {
        Self::over(Stream::TlsClient(Box::new(session)))
    }

    /// The server's side of a TLS session.
    pub fn tls_server(session: tokio_rustls::server::TlsStream<Socket>) -> Self {
        Self::over(Stream::TlsServer(Box::new(session)))
    }

    fn over(stream: Stream) -> Self {
        Self { seen: BytesMut::new(), stream, vigil: Vigil::default(), pace: None }
    }

    /// Ends the connection when its other end does not read for so long what is written.
    pub fn limit_writes(&mut self, longest: Duration) {
        self.vigil.limit_writes(longest);
    }

    /// Ends the connection where memory is nearly used up and its other end does not read.
    pub fn shed_writes(&mut self, overload: Overload) {
        self.vigil.shed_writes(overload);
    }

    /// From now on it is read in large pieces, whatever its reader asks for.
    pub fn read_ahead(&mut self) {
        if let Stream::Plain(socket) = &mut self.stream {
            socket.reads_ahead = true;
        }
    }

    /// From now on it keeps pace with the connections that its flow is joined with.
    pub fn keep_pace(&mut self) -> Flow {
        self.pace.get_or_insert_default().flow()
    }

    fn poll_stream(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Some(pace) = &mut self.pace else {
            return on_stream!(&mut self.stream, inner => Pin::new(inner).poll_read(cx, buf));
        };
        let most = ready!(pace.poll_most(cx));
        let before = buf.filled().len();
        let read = match &mut self.stream {
            Stream::Plain(socket) => poll_read_most(socket, cx, buf, most),
            Stream::TlsClient(session) => {
                session.get_mut().0.read_at_most(most);
                Pin::new(&mut **session).poll_read(cx, buf)
            }
            Stream::TlsServer(session) => {
                session.get_mut().0.read_at_most(most);
                Pin::new(&mut **session).poll_read(cx, buf)
            }
        };
        if read.is_ready() {
            pace.read(buf.filled().len() - before);
        }
        read
    }

    /// Waits for the other end to send.
    fn watch(&mut self, cx: &mut Context<'_>, read: Poll<io::Result<()>>) -> Poll<io::Result<()>> {
        if read.is_ready() {
            return read;
        }
        self.vigil.poll(cx, socket_of(&self.stream)).map(Err)
    }

    /// Waits for the other end to read. The watch begins with what was written: nobody may come to read before
    /// something comes.
    fn watch_write<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Some(pace) = &self.pace {
            pace.wrote(written.is_ready());
        }
        if written.is_ready() {
            self.vigil.wrote();
            if self.vigil.is_armed() {
                return written;
            }
        } else {
            self.vigil.blocked();
        }
        match self.vigil.poll(cx, socket_of(&self.stream)) {
            Poll::Ready(error) => Poll::Ready(Err(error)),
            Poll::Pending => written,
        }
    }

    /// The bytes received so far that nobody has read.
    pub fn seen(&self) -> &[u8] {
        &self.seen
    }

    /// Waits for more bytes without reading them; [`Io::seen`] shows them. The answer is how many came, 0 at the
    /// end of the stream. Nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// Those of the socket or of the TLS session.
    pub async fn see_more(&mut self) -> io::Result<usize> {
        std::future::poll_fn(|cx| self.poll_see_more(cx)).await
    }

    fn poll_see_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut room = [0_u8; 4096];
        let mut buf = ReadBuf::new(&mut room);
        ready!(on_stream!(&mut self.stream, inner => Pin::new(inner).poll_read(cx, &mut buf)))?;
        self.seen.extend_from_slice(buf.filled());
        Poll::Ready(Ok(buf.filled().len()))
    }

    /// The socket with what was seen of it, to begin TLS on it; `None` where TLS is on already.
    pub fn into_socket(self) -> Option<Socket> {
        match self.stream {
            Stream::Plain(socket) => Some(Socket { ahead: self.seen, ..Socket::for_tls(socket.tcp) }),
            Stream::TlsClient(_) | Stream::TlsServer(_) => None,
        }
    }

    /// The TCP socket below.
    pub fn tcp(&self) -> &TcpStream {
        socket_of(&self.stream)
    }

    /// Whether bytes go out encrypted.
    pub fn is_tls(&self) -> bool {
        !matches!(self.stream, Stream::Plain(_))
    }

    /// The protocol that the handshake agreed on.
    pub fn alpn(&self) -> Option<&[u8]> {
        match &self.stream {
            Stream::Plain(_) => None,
            Stream::TlsClient(session) => session.get_ref().1.alpn_protocol(),
            Stream::TlsServer(session) => session.get_ref().1.alpn_protocol(),
        }
    }

    /// The other end's certificate, DER; `None` without TLS.
    pub fn peer_certificate(&self) -> Option<&[u8]> {
        let certificates = match &self.stream {
            Stream::Plain(_) => None,
            Stream::TlsClient(session) => session.get_ref().1.peer_certificates(),
            Stream::TlsServer(session) => session.get_ref().1.peer_certificates(),
        };
        certificates?.first().map(|certificate| &**certificate)
    }

    /// The other end's address.
    ///
    /// # Errors
    /// Where the connection is gone.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.tcp().peer_addr()
    }

    /// Closes with RST: the other end sees a refusal, not an orderly end.
    pub fn reset(self) {
        // A socket that cannot be told to reset is closed in the ordinary way.
        let _ = socket2::SockRef::from(self.tcp()).set_linger(Some(Duration::ZERO));
    }
}

fn socket_of(stream: &Stream) -> &TcpStream {
    match stream {
        Stream::Plain(socket) => &socket.tcp,
        Stream::TlsClient(session) => &session.get_ref().0.tcp,
        Stream::TlsServer(session) => &session.get_ref().0.tcp,
    }
}

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.seen.is_empty() {
            drain_into(&mut this.seen, buf);
            return Poll::Ready(Ok(()));
        }
        let read = this.poll_stream(cx, buf);
        this.watch(cx, read)
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = on_stream!(&mut this.stream, inner => Pin::new(inner).poll_write(cx, buf));
        this.watch_write(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = on_stream!(&mut this.stream, inner => Pin::new(inner).poll_write_vectored(cx, bufs));
        this.watch_write(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = on_stream!(&mut this.stream, inner => Pin::new(inner).poll_flush(cx));
        match (&flushed, &this.pace) {
            (Poll::Pending, _) => return this.watch_write(cx, flushed),
            (Poll::Ready(_), Some(pace)) => pace.wrote(true),
            (Poll::Ready(_), None) => {}
        }
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(&mut self.get_mut().stream, inner => Pin::new(inner).poll_shutdown(cx))
    }
}

/// A TCP socket, below TLS or not.
#[derive(Debug)]
pub struct Socket {
    tcp: TcpStream,
    /// What was read and its reader had no room for.
    ahead: BytesMut,
    /// Else a read brings what its reader has room for.
    reads_ahead: bool,
    /// The most that one read ahead may bring.
    most: usize,
}

impl Socket {
    /// A socket to begin TLS on.
    pub fn for_tls(tcp: TcpStream) -> Self {
        Self { tcp, ahead: BytesMut::new(), reads_ahead: true, most: AHEAD_WIDE }
    }

    fn read_at_most(&mut self, most: usize) {
        self.most = if most > NARROW { AHEAD_WIDE } else { AHEAD_NARROW };
    }

    fn poll_ahead(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
        room: &mut BytesMut,
    ) -> Poll<io::Result<()>> {
        room.clear();
        room.reserve(AHEAD_WIDE);
        ready!(poll_read_buf(Pin::new(&mut self.tcp), cx, &mut (&mut *room).limit(self.most)))?;
        pour(room, buf);
        match room.len() {
            0 => {}
            few if few <= AHEAD_NARROW => self.ahead = BytesMut::from(&room[..]),
            _ => self.ahead = std::mem::take(room),
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.ahead.is_empty() {
            drain_into(&mut this.ahead, buf);
            return Poll::Ready(Ok(()));
        }
        if !this.reads_ahead {
            return Pin::new(&mut this.tcp).poll_read(cx, buf);
        }
        ROOM.with_borrow_mut(|room| this.poll_ahead(cx, buf, room))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().tcp).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().tcp).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_shutdown(cx)
    }
}

/// Moves as many bytes as fit, and gives the room back when all have gone.
pub(crate) fn drain_into(from: &mut BytesMut, to: &mut ReadBuf<'_>) {
    pour(from, to);
    if from.is_empty() {
        *from = BytesMut::new();
    }
}

/// Moves as many bytes as fit.
fn pour(from: &mut BytesMut, to: &mut ReadBuf<'_>) {
    let n = from.len().min(to.remaining());
    to.put_slice(&from[..n]);
    from.advance(n);
}
