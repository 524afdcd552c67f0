//! A connection whose client has to take each answer within a time, however slowly it reads.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// A connection that ends with an error when what was written has not been taken in time.
pub(crate) struct Impatient<S> {
    inner: S,
    most: Duration,
    /// Runs from the first write that had to wait until all is taken.
    until: Option<Pin<Box<Sleep>>>,
}

impl<S> Impatient<S> {
    /// A connection of which each answer is to be taken within `most`.
    pub(crate) fn new(inner: S, most: Duration) -> Self {
        Self { inner, most, until: None }
    }

    fn waiting<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        let most = self.most;
        let until = self.until.get_or_insert_with(|| Box::pin(tokio::time::sleep(most)));
        until.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Time goes on while some of an answer is written and the rest is not.
    fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        self.until.as_mut().is_some_and(|until| until.as_mut().poll(cx).is_ready())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Impatient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Impatient<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_over(cx) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        match Pin::new(&mut self.inner).poll_write(cx, buf) {
            Poll::Pending => self.waiting(cx),
            ready => ready,
        }
    }

    /// Whoever flushes has written all.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.inner).poll_flush(cx);
        if flushed.is_ready() {
            self.until = None;
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    #[tokio::test(start_paused = true)]
    async fn a_scrape_that_reads_a_byte_a_second_is_let_go() {
        let (near, mut far) = duplex(16);
        let mut near = Impatient::new(near, Duration::from_secs(30));
        let reader = tokio::spawn(async move {
            let mut read = 0;
            while far.read_u8().await.is_ok() {
                read += 1;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            read
        });
        let error = near.write_all(&[b'x'; 1000]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(near);
        assert!(reader.await.unwrap() < 60);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_taken_begins_the_time_anew() {
        let (near, mut far) = duplex(16);
        let mut near = Impatient::new(near, Duration::from_secs(30));
        let reader = tokio::spawn(async move {
            let mut all = Vec::new();
            far.read_to_end(&mut all).await.map(|_| all.len())
        });
        for _ in 0..3 {
            near.write_all(&[b'x'; 100]).await.unwrap();
            near.flush().await.unwrap();
            tokio::time::sleep(Duration::from_secs(40)).await;
        }
        drop(near);
        assert_eq!(reader.await.unwrap().unwrap(), 300);
    }
}
