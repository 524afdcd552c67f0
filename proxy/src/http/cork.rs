//! Frames of HTTP/2 that go out together.
//!
//! The library flushes after each frame of data that it does not copy. Behind a cork bytes wait until the worker has done
//! all that it can do for now: what was written for many streams then leaves with one call, under TLS in one record.
//!
//! A worker says so by `let_out`, before it sleeps. On a thread that never does, bytes wait until the task of the
//! connection has had its turn.

use std::cell::RefCell;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, BytesMut};
use smallvec::SmallVec;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The most bytes that wait; what is beyond goes at once, behind those that waited.
const LIMIT: usize = 64 * 1024;

thread_local! {
    /// The connections that hold something back until [`let_out`]; none where nobody calls it.
    static HOLDING: RefCell<Option<Vec<Rc<dyn Holding>>>> = const { RefCell::new(None) };
}

/// Lets out what the connections of this thread hold back. Who calls it once has to before each sleep.
pub fn let_out() {
    while let Some(corked) = HOLDING.with_borrow_mut(|holding| holding.get_or_insert_default().pop()) {
        corked.let_out();
    }
}

/// A connection whose writes wait; a handle.
pub struct Cork<T>(Rc<RefCell<Corked<T>>>);

trait Holding {
    fn let_out(&self);
}

struct Corked<T> {
    io: T,
    /// The task to wake, as long as this connection waits for [`let_out`].
    held: Option<Waker>,
    waiting: BytesMut,
    /// Something was written that may not be flushed.
    unflushed: bool,
    /// What went wrong when nobody was there to hear it.
    failed: Option<io::Error>,
}

impl<T: AsyncWrite + Unpin + 'static> Cork<T> {
    /// Corks a connection: whoever drives it has to do so by [`Self::drive`].
    pub fn new(io: T) -> Self {
        let corked = Corked { io, held: None, waiting: BytesMut::new(), unflushed: false, failed: None };
        Self(Rc::new(RefCell::new(corked)))
    }

    /// Gives a task that uses the connection its turn. What it wrote leaves with the worker's next [`let_out`], and at
    /// once when the task has ended.
    pub fn drive<F: Future>(&self, task: Pin<&mut F>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let polled = task.poll(cx);
        let mut corked = self.0.borrow_mut();
        match polled {
            Poll::Pending if !corked.has_written() || corked.held.is_some() => {}
            Poll::Pending if self.hold() => corked.held = Some(cx.waker().clone()),
            _ => corked.let_out(cx),
        }
        polled
    }

    /// False where nobody would let the bytes out.
    fn hold(&self) -> bool {
        HOLDING.with_borrow_mut(|holding| {
            let Some(holding) = holding else { return false };
            holding.push(Rc::clone(&self.0) as Rc<dyn Holding>);
            true
        })
    }
}

impl<T: AsyncWrite + Unpin> Holding for RefCell<Corked<T>> {
    fn let_out(&self) {
        let mut corked = self.borrow_mut();
        if let Some(waker) = corked.held.take() {
            corked.let_out(&mut Context::from_waker(&waker));
        }
    }
}

impl<T: AsyncWrite + Unpin> Corked<T> {
    fn has_written(&self) -> bool {
        self.unflushed || !self.waiting.is_empty()
    }

    fn let_out(&mut self, cx: &mut Context<'_>) {
        if let Poll::Ready(Err(error)) = self.poll_out(cx) {
            self.failed = Some(error);
            self.waiting = BytesMut::new();
            cx.waker().wake_by_ref();
        }
    }

    fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.waiting.is_empty() {
            ready!(self.poll_through(cx, &[]))?;
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.io).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Writes what waits, and as much as goes of what follows it.
    fn poll_through(&mut self, cx: &mut Context<'_>, more: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.unflushed = true;
        while !self.waiting.is_empty() {
            let written = ready!(self.poll_both(cx, more))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            if written < self.waiting.len() {
                self.waiting.advance(written);
                continue;
            }
            // An idle connection holds no buffer.
            let waited = std::mem::take(&mut self.waiting).len();
            if written > waited || more.is_empty() {
                return Poll::Ready(Ok(written - waited));
            }
        }
        Pin::new(&mut self.io).poll_write_vectored(cx, more)
    }

    fn poll_both(&mut self, cx: &mut Context<'_>, more: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let first = std::iter::once(IoSlice::new(&self.waiting));
        let all: SmallVec<[IoSlice<'_>; 8]> = first.chain(more.iter().copied()).collect();
        Pin::new(&mut self.io).poll_write_vectored(cx, &all)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if let Some(error) = self.failed.take() {
            return Poll::Ready(Err(error));
        }
        let size = bufs.iter().map(|buf| buf.len()).sum();
        if self.waiting.len() + size > LIMIT {
            return self.poll_through(cx, bufs);
        }
        bufs.iter().for_each(|buf| self.waiting.extend_from_slice(buf));
        Poll::Ready(Ok(size))
    }
}

impl<T> Clone for Cork<T> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Cork<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self.0.borrow_mut();
        match this.failed.take() {
            Some(error) => Poll::Ready(Err(error)),
            None => Pin::new(&mut this.io).poll_read(cx, buf),
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Cork<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_write(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_write(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Done when the bytes are let out.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self.0.borrow_mut();
        ready!(this.poll_out(cx))?;
        Pin::new(&mut this.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    /// Writes within one turn, and what the other end has after it.
    async fn turn(cork: &Cork<DuplexStream>, pieces: &[&[u8]], other: &mut DuplexStream) -> Vec<u8> {
        let mut writer = cork.clone();
        let mut task = pin!(async {
            for piece in pieces {
                writer.write_all(piece).await.unwrap();
                writer.flush().await.unwrap();
            }
        });
        std::future::poll_fn(|cx| cork.drive(task.as_mut(), cx)).await;
        let mut came = vec![0; 1 << 20];
        let n = other.read(&mut came).await.unwrap();
        came.truncate(n);
        came
    }

    #[tokio::test]
    async fn what_is_written_in_one_turn_goes_together_and_in_order() {
        let (near, mut far) = duplex(1 << 20);
        let cork = Cork::new(near);
        assert_eq!(turn(&cork, &[b"a", b"bc", b"d"], &mut far).await, b"abcd");
        let large = vec![b'x'; LIMIT];
        let came = turn(&cork, &[b"1", &large, b"2"], &mut far).await;
        assert_eq!((came.len(), came[0], came[LIMIT + 1]), (LIMIT + 2, b'1', b'2'));
    }

    #[tokio::test]
    async fn what_many_turns_write_goes_together_before_the_worker_sleeps() {
        let_out();
        let (near, mut far) = duplex(1 << 20);
        let cork = Cork::new(near);
        for piece in [b"a", b"b"] {
            let mut writer = cork.clone();
            let mut task = pin!(async {
                writer.write_all(piece).await.unwrap();
                std::future::pending::<()>().await;
            });
            assert!(
                futures_util::poll!(std::future::poll_fn(|cx| cork.drive(task.as_mut(), cx))).is_pending()
            );
        }
        let mut came = [0; 8];
        assert!(futures_util::poll!(pin!(far.read(&mut came))).is_pending());
        let_out();
        assert_eq!(far.read(&mut came).await.unwrap(), 2);
        assert_eq!(&came[..2], b"ab");
    }

    #[tokio::test]
    async fn a_task_that_ends_leaves_nothing_behind() {
        let_out();
        let (near, mut far) = duplex(1 << 20);
        assert_eq!(turn(&Cork::new(near), &[b"last"], &mut far).await, b"last");
    }

    #[tokio::test]
    async fn a_full_socket_makes_the_writer_wait_and_loses_nothing() {
        let (near, mut far) = duplex(1000);
        let cork = Cork::new(near);
        let bytes: Vec<u8> = (0..LIMIT * 3).map(|n| (n % 251) as u8).collect();
        let mut writer = cork.clone();
        let mut task = pin!(async {
            for piece in bytes.chunks(700) {
                writer.write_all(piece).await.unwrap();
            }
            writer.shutdown().await.unwrap();
        });
        let mut came = Vec::new();
        let (_, read) = tokio::join!(
            std::future::poll_fn(|cx| cork.drive(task.as_mut(), cx)),
            far.read_to_end(&mut came)
        );
        read.unwrap();
        assert!(came == bytes, "{} bytes of {}", came.len(), bytes.len());
    }

    #[tokio::test]
    async fn an_error_of_the_socket_is_told_at_the_next_turn() {
        let (near, far) = duplex(1000);
        drop(far);
        let cork = Cork::new(near);
        let mut writer = cork.clone();
        let mut task = pin!(async { writer.write_all(b"lost").await });
        std::future::poll_fn(|cx| cork.drive(task.as_mut(), cx)).await.unwrap();
        let mut reader = cork.clone();
        assert_eq!(reader.read_u8().await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
