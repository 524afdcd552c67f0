//! One type for every connection of the data plane: plain or TLS, client or server side, with bytes that were
//! looked at before they are read.
//!
//! Reads ahead of a TLS session go to the socket in large pieces (a session by itself asks for 4 KiB at a time).
//! An idle connection holds no buffer: room is made when there is something to read, and given back when it
//! has been read.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::flow::{Flow, NARROW, Pace, poll_read_most};
use crate::overload::Overload;
use crate::vigil::Vigil;

/// What one read from a socket under TLS may bring at first, and while reads stay small: one record.
const READ_AHEAD_MIN: usize = 17 * 1024;
/// The same while reads fill what they are given: four records.
const READ_AHEAD_MAX: usize = 4 * READ_AHEAD_MIN;

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
        Self::over(Stream::Plain(Socket { read_ahead: 0, ..Socket::for_tls(tcp) }))
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

/// A TCP socket below TLS, which reads ahead in large pieces.
#[derive(Debug)]
pub struct Socket {
    tcp: TcpStream,
    ahead: BytesMut,
    /// How much the next read asks for; 0 where there is no TLS above: the reader's own buffer is used.
    read_ahead: usize,
    /// How much it may become.
    most: usize,
}

impl Socket {
    /// A socket to begin TLS on.
    pub fn for_tls(tcp: TcpStream) -> Self {
        Self { tcp, ahead: BytesMut::new(), read_ahead: READ_AHEAD_MIN, most: READ_AHEAD_MAX }
    }

    fn read_at_most(&mut self, most: usize) {
        self.most = if most > NARROW { READ_AHEAD_MAX } else { READ_AHEAD_MIN };
        self.read_ahead = self.read_ahead.min(self.most);
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.tcp.poll_read_ready(cx))?;
        self.ahead = BytesMut::with_capacity(self.read_ahead);
        let read = tokio_util::io::poll_read_buf(Pin::new(&mut self.tcp), cx, &mut self.ahead);
        match self.ahead.len() {
            0 => self.ahead = BytesMut::new(),
            full if full >= self.read_ahead => self.read_ahead = self.most,
            few if few < READ_AHEAD_MIN => self.read_ahead = READ_AHEAD_MIN,
            _ => {}
        }
        read.map_ok(|_| ())
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.read_ahead == 0 {
            return Pin::new(&mut this.tcp).poll_read(cx, buf);
        }
        if this.ahead.is_empty() {
            ready!(this.poll_fill(cx))?;
        }
        drain_into(&mut this.ahead, buf);
        Poll::Ready(Ok(()))
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
fn drain_into(from: &mut BytesMut, to: &mut ReadBuf<'_>) {
    let n = from.len().min(to.remaining());
    to.put_slice(&from[..n]);
    from.advance(n);
    if from.is_empty() {
        *from = BytesMut::new();
    }
}
