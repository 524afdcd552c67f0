//! The socket of an HTTP connection, with a tape of the bytes of the request heads: hyper gives header names in lower
//! case and an order of its own, and what an application really received is what tests of a proxy ask for.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Most bytes of a head that are kept.
const MAX_HEAD: usize = 256 << 10;

/// A socket, its reads recorded on a [`Tape`].
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    tape: Tape,
}

/// The bytes of the present request's head.
#[derive(Clone, Debug, Default)]
pub struct Tape(Arc<Mutex<Recording>>);

#[derive(Debug, Default)]
struct Recording {
    bytes: Vec<u8>,
    /// Set between the end of a head and the end of its body.
    paused: bool,
    cut: bool,
}

impl Wire {
    /// A socket, and the tape of what is read from it.
    pub fn new(stream: TcpStream) -> (Self, Tape) {
        let tape = Tape::default();
        (Self { stream, tape: tape.clone() }, tape)
    }

    /// Closes the connection; with a reset, where that was asked for.
    pub fn close(self) {
        if self.tape.0.lock().unwrap_or_else(PoisonError::into_inner).cut {
            // A socket that is closed already has been reset by the other side.
            let _ = self.stream.set_zero_linger();
        }
    }
}

impl Tape {
    /// Takes the head that was just read off the tape: its header lines in the order and case in which they came.
    /// `None` when the tape does not begin with this request (it was pipelined behind another).
    pub fn take(&self, method: &str, target: &str) -> Option<Vec<(String, String)>> {
        let mut recording = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        recording.paused = true;
        lines(&std::mem::take(&mut recording.bytes), method, target)
    }

    /// Records again: the request's body has ended.
    pub fn rearm(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).paused = false;
    }

    /// Has the connection end with a reset.
    pub fn cut(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).cut = true;
    }

    fn record(&self, bytes: &[u8]) {
        let mut recording = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !recording.paused && recording.bytes.len() + bytes.len() <= MAX_HEAD {
            recording.bytes.extend_from_slice(bytes);
        }
    }
}

fn lines(bytes: &[u8], method: &str, target: &str) -> Option<Vec<(String, String)>> {
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n")?;
    let text = String::from_utf8_lossy(&bytes[..end]);
    let mut lines = text.split("\r\n");
    let mut first = lines.next()?.split(' ');
    if first.next() != Some(method) || first.next() != Some(target) {
        return None;
    }
    lines.map(|line| line.split_once(':').map(|(n, v)| (n.to_owned(), v.trim().to_owned()))).collect()
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buf));
        self.tape.record(&buf.filled()[before..]);
        Poll::Ready(read)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_keeps_case_order_and_repetitions() {
        let tape = Tape::default();
        tape.record(b"GET /a?b HTTP/1.1\r\nHost: x\r\nX-Two:  2\r\n");
        tape.record(b"x-one: 1\r\nX-TWO: 3\r\n\r\nbody");
        let head = tape.take("GET", "/a?b").unwrap();
        let pairs: Vec<_> = head.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(pairs, [("Host", "x"), ("X-Two", "2"), ("x-one", "1"), ("X-TWO", "3")]);
    }

    #[test]
    fn bytes_of_bodies_are_not_recorded_and_other_heads_not_given() {
        let tape = Tape::default();
        tape.record(b"PUT / HTTP/1.1\r\n\r\n");
        assert_eq!(tape.take("PUT", "/"), Some(vec![]));
        tape.record(b"body");
        tape.rearm();
        tape.record(b"GET /x HTTP/1.1\r\na: b\r\n\r\n");
        assert_eq!(tape.take("GET", "/y"), None);
    }
}
