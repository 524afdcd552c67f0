//! Opaque bytes between two connections: both ways at once, each end closed when the other's bytes have ended.
//!
//! All relays of a worker read into one buffer, which belongs to the thread: what can be written at once never
//! touches another. Only what the other side does not take yet is kept by the relay, and until it has gone nothing
//! more is read: a slow reader slows the writer, and an idle connection holds no memory.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// What one read may bring: several records of TLS, several segments of TCP.
const BUFFER: usize = 128 * 1024;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; BUFFER].into_boxed_slice());
}

/// How many bytes have gone by.
#[derive(Debug, Default)]
pub struct Traffic {
    /// From the client to the server.
    pub sent: Cell<u64>,
    /// From the server to the client.
    pub received: Cell<u64>,
}

/// How a relay ended.
#[derive(Debug)]
pub enum End {
    /// Both sides have ended in order.
    Closed,
    /// Nothing moved for the idle time.
    Idle,
    /// The client broke off.
    ClientFailed(io::Error),
    /// The server broke off.
    ServerFailed(io::Error),
}

/// Relays until both sides have ended, one breaks off, or nothing moves for `idle`.
pub async fn relay<C, S>(client: &mut C, server: &mut S, idle: Option<Duration>, traffic: &Traffic) -> End
where
    C: AsyncRead + AsyncWrite + Unpin,
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut up, mut down) = (Flow::default(), Flow::default());
    let mut patience = idle.map(Patience::new);
    std::future::poll_fn(move |cx| {
        let sent = up.poll(cx, client, server, &traffic.sent);
        let received = down.poll(cx, server, client, &traffic.received);
        match (sent, received) {
            (Poll::Ready(Err(fault)), _) => {
                return Poll::Ready(fault.end(End::ClientFailed, End::ServerFailed));
            }
            (_, Poll::Ready(Err(fault))) => {
                return Poll::Ready(fault.end(End::ServerFailed, End::ClientFailed));
            }
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(End::Closed),
            _ => {}
        }
        let moved = traffic.sent.get().wrapping_add(traffic.received.get());
        match &mut patience {
            Some(patience) => patience.poll(cx, moved).map(|()| End::Idle),
            None => Poll::Pending,
        }
    })
    .await
}

/// One direction.
#[derive(Debug, Default)]
struct Flow {
    /// Read, and not taken by the other side yet.
    kept: Bytes,
    state: State,
    /// The writer may hold bytes back (TLS does).
    unflushed: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Open,
    Ending,
    Ended,
}

/// Which side broke off.
enum Fault {
    Reader(io::Error),
    Writer(io::Error),
}

impl Fault {
    fn end(self, reader: fn(io::Error) -> End, writer: fn(io::Error) -> End) -> End {
        match self {
            Self::Reader(error) => reader(error),
            Self::Writer(error) => writer(error),
        }
    }
}

impl Flow {
    /// Ready when everything has been passed on, with the end.
    fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
        count: &Cell<u64>,
    ) -> Poll<Result<(), Fault>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        while self.state == State::Open {
            ready!(self.poll_kept(cx, to, count)).map_err(Fault::Writer)?;
            if self.poll_once(cx, from, to, count)?.is_pending() {
                return self.poll_flush(cx, to).map_err(Fault::Writer);
            }
        }
        if self.state == State::Ending {
            ready!(self.poll_kept(cx, to, count)).map_err(Fault::Writer)?;
            ready!(Pin::new(to).poll_shutdown(cx)).map_err(Fault::Writer)?;
            self.state = State::Ended;
        }
        Poll::Ready(Ok(()))
    }

    /// One read, and one write of what it brought.
    fn poll_once<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
        count: &Cell<u64>,
    ) -> Result<Poll<()>, Fault>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buf = ReadBuf::new(scratch);
            match Pin::new(from).poll_read(cx, &mut buf) {
                Poll::Pending => return Ok(Poll::Pending),
                Poll::Ready(read) => read.map_err(Fault::Reader)?,
            }
            let filled = buf.filled();
            if filled.is_empty() {
                self.state = State::Ending;
                return Ok(Poll::Ready(()));
            }
            let written = match Pin::new(to).poll_write(cx, filled) {
                Poll::Ready(written) => checked(written).map_err(Fault::Writer)?,
                Poll::Pending => 0,
            };
            self.unflushed = true;
            count.set(count.get() + written as u64);
            if written < filled.len() {
                self.kept = Bytes::copy_from_slice(&filled[written..]);
            }
            Ok(Poll::Ready(()))
        })
    }

    fn poll_kept<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut W,
        count: &Cell<u64>,
    ) -> Poll<io::Result<()>> {
        while !self.kept.is_empty() {
            let written = checked(ready!(Pin::new(&mut *to).poll_write(cx, &self.kept)))?;
            self.kept.advance(written);
            count.set(count.get() + written as u64);
        }
        self.kept = Bytes::new();
        Poll::Ready(Ok(()))
    }

    /// Pending in any case: there is more to read, some day.
    fn poll_flush<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut W,
    ) -> Poll<io::Result<()>> {
        if self.unflushed {
            ready!(Pin::new(to).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Pending
    }
}

/// A writer that takes nothing never will.
fn checked(written: io::Result<usize>) -> io::Result<usize> {
    match written {
        Ok(0) => Err(io::ErrorKind::WriteZero.into()),
        other => other,
    }
}

/// The idle timer. It is not set anew with each byte: when it fires, what has moved since decides, so that an idle
/// connection ends between one and two idle times after its last byte.
#[derive(Debug)]
struct Patience {
    idle: Duration,
    timer: Pin<Box<Sleep>>,
    moved: u64,
}

impl Patience {
    fn new(idle: Duration) -> Self {
        Self { idle, timer: Box::pin(tokio::time::sleep(idle)), moved: 0 }
    }

    fn poll(&mut self, cx: &mut Context<'_>, moved: u64) -> Poll<()> {
        while self.timer.as_mut().poll(cx).is_ready() {
            if self.moved == moved {
                return Poll::Ready(());
            }
            self.moved = moved;
            self.timer.as_mut().reset(Instant::now() + self.idle);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    /// Runs `talk` between a client and a server with a relay between them.
    async fn between<F>(
        idle: Option<Duration>,
        talk: impl FnOnce(DuplexStream, DuplexStream) -> F,
    ) -> (End, u64, u64)
    where
        F: Future<Output = ()>,
    {
        let (client, near) = duplex(1000);
        let (far, server) = duplex(1000);
        let traffic = Traffic::default();
        let relayed = async {
            let (mut near, mut far) = (near, far);
            relay(&mut near, &mut far, idle, &traffic).await
        };
        let (end, ()) = tokio::join!(relayed, talk(client, server));
        (end, traffic.sent.get(), traffic.received.get())
    }

    #[tokio::test]
    async fn g9_half_close_is_relayed_both_ways() {
        let talk = |mut client: DuplexStream, mut server: DuplexStream| async move {
            client.write_all(b"question").await.unwrap();
            client.shutdown().await.unwrap();
            let mut all = Vec::new();
            server.read_to_end(&mut all).await.unwrap();
            assert_eq!(all, b"question");
            server.write_all(b"a late answer").await.unwrap();
            server.shutdown().await.unwrap();
            all.clear();
            client.read_to_end(&mut all).await.unwrap();
            assert_eq!(all, b"a late answer");
        };
        let (end, sent, received) = between(None, talk).await;
        assert!(matches!(end, End::Closed), "{end:?}");
        assert_eq!((sent, received), (8, 13));
    }

    #[tokio::test]
    async fn every_byte_arrives_though_the_reader_is_slow() {
        let sent: Vec<u8> = (0..1_000_000_u32).map(|i| (i % 251) as u8).collect();
        let expected = sent.clone();
        let talk = |mut client: DuplexStream, mut server: DuplexStream| async move {
            let write = async {
                client.write_all(&sent).await.unwrap();
                client.shutdown().await.unwrap();
                client
            };
            let read = async {
                let mut all = Vec::new();
                let mut piece = [0; 777];
                loop {
                    match server.read(&mut piece).await.unwrap() {
                        0 => break all,
                        n => all.extend_from_slice(&piece[..n]),
                    }
                }
            };
            let (_client, all) = tokio::join!(write, read);
            assert!(all == expected);
        };
        let (end, sent, _) = between(None, talk).await;
        assert!(matches!(end, End::Closed), "{end:?}");
        assert_eq!(sent, 1_000_000);
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_ends_and_a_busy_one_does_not() {
        let began = Instant::now();
        let talk = |mut client: DuplexStream, mut server: DuplexStream| async move {
            for _ in 0..10 {
                tokio::time::sleep(Duration::from_secs(40)).await;
                client.write_all(b"x").await.unwrap();
                server.read_u8().await.unwrap();
            }
            assert_eq!(server.read(&mut [0]).await.unwrap(), 0);
        };
        let (end, sent, _) = between(Some(Duration::from_secs(60)), talk).await;
        assert!(matches!(end, End::Idle), "{end:?}");
        assert_eq!(sent, 10);
        let idle = began.elapsed() - Duration::from_secs(400);
        assert!((60..=120).contains(&idle.as_secs()), "{idle:?}");
    }
}
