//! How the two connections of an exchange keep pace (hardening A16).
//!
//! A connection of HTTP/1 from which a body comes is not read while the one on which it goes out is full: what its
//! reader leaves is kept in the kernels' buffers, and here no more than was read last. How much that is depends on what
//! went before: a body is read in small pieces until it has shown that it is large. Then in large ones, which cost less
//! than half as much; so many connections of a worker at a time that what they all may keep is little.

use std::cell::Cell;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
use tokio::time::Instant;

/// The most bytes of one read, as long as nothing speaks for more. One less than a power of two: the buffers of the
/// library above grow only where a read fills them.
pub const NARROW: usize = (16 << 10) - 1;
/// The same of a large body that is taken in time.
const WIDE: usize = 4 * NARROW;
/// So many bytes without a pause make a large body.
const LARGE: usize = 64 << 10;
/// Connections of a worker that read a large body in large pieces at a time.
const WIDE_READERS: usize = 64;
/// A reader that takes nothing for so long may do it again.
const PAUSE: Duration = Duration::from_secs(1);

/// What the tasks of two connections tell each other; clones are handles of the same connection. Only tasks of one
/// worker hold them: the lock in it never waits.
#[derive(Clone, Debug, Default)]
pub struct Flow(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// What was written last did not find room.
    full: AtomicBool,
    /// Who waits for room to read on elsewhere.
    reader: AtomicWaker,
    /// Where what is read here goes, and what is written comes from; `joined` says whether there is anything.
    other: Mutex<Option<Flow>>,
    joined: AtomicBool,
}

/// A connection's own end of its flow.
#[derive(Debug, Default)]
pub struct Pace {
    flow: Flow,
    /// Bytes read in a row.
    run: usize,
    /// Held while it reads in large pieces.
    wide: Option<WideReader>,
    /// Since when there has been no room for more.
    waits: Option<Instant>,
}

impl Flow {
    /// From now on what is read of each of the two goes to the other.
    pub fn join(&self, other: &Self) {
        self.set(Some(other.clone()));
        other.set(Some(self.clone()));
    }

    /// They have nothing to do with each other any more.
    pub fn part(&self) {
        if self.is_joined()
            && let Some(other) = self.set(None)
        {
            other.set(None);
            other.0.reader.wake();
            self.0.reader.wake();
        }
    }

    fn set(&self, other: Option<Self>) -> Option<Self> {
        self.0.joined.store(other.is_some(), Relaxed);
        std::mem::replace(&mut *self.0.other.lock().unwrap_or_else(PoisonError::into_inner), other)
    }

    fn is_joined(&self) -> bool {
        self.0.joined.load(Relaxed)
    }

    /// Ready when there is room where it goes to.
    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.is_joined() {
            return Poll::Ready(());
        }
        match &*self.0.other.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(to) if to.0.full.load(Relaxed) => {
                to.0.reader.register(cx.waker());
                Poll::Pending
            }
            _ => Poll::Ready(()),
        }
    }

    fn has_room(&self) {
        if self.0.full.load(Relaxed) {
            self.0.full.store(false, Relaxed);
            self.0.reader.wake();
        }
    }
}

impl Pace {
    /// The connection's flow, for others.
    pub fn flow(&self) -> Flow {
        self.flow.clone()
    }

    /// A write found room, or did not.
    pub fn wrote(&self, room: bool) {
        if room { self.flow.has_room() } else { self.flow.0.full.store(true, Relaxed) }
    }

    /// How many bytes may be read now; pending while there is no room for them.
    pub fn poll_most(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        if self.flow.poll_room(cx).is_pending() {
            self.waits.get_or_insert_with(Instant::now);
            return Poll::Pending;
        }
        if self.waits.take().is_some_and(|since| since.elapsed() >= PAUSE) {
            self.run = 0;
        }
        self.wide = match self.run < LARGE || !self.flow.is_joined() {
            true => None,
            false => self.wide.take().or_else(WideReader::new),
        };
        Poll::Ready(if self.wide.is_some() { WIDE } else { NARROW })
    }

    /// So many bytes were read at once.
    pub fn read(&mut self, bytes: usize) {
        self.run = if bytes < NARROW / 2 { 0 } else { self.run.saturating_add(bytes) };
    }
}

thread_local! {
    /// How many there are on this worker.
    static WIDE_NOW: Cell<usize> = const { Cell::new(0) };
}

/// One of the few that may read in large pieces.
#[derive(Debug)]
struct WideReader(());

impl WideReader {
    /// `None` where there are enough.
    fn new() -> Option<Self> {
        let now = WIDE_NOW.get();
        (now < WIDE_READERS).then(|| {
            WIDE_NOW.set(now + 1);
            Self(())
        })
    }
}

impl Drop for WideReader {
    fn drop(&mut self) {
        WIDE_NOW.set(WIDE_NOW.get().saturating_sub(1));
    }
}

/// A connection that ends has no more to say.
impl Drop for Pace {
    fn drop(&mut self) {
        self.flow.has_room();
    }
}

/// Reads no more than so many bytes at once.
pub fn poll_read_most(
    io: &mut (impl AsyncRead + Unpin),
    cx: &mut Context<'_>,
    buf: &mut ReadBuf<'_>,
    most: usize,
) -> Poll<std::io::Result<()>> {
    Pin::new(&mut io.take(most as u64)).poll_read(cx, buf)
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    async fn most(pace: &mut Pace) -> usize {
        poll_fn(|cx| pace.poll_most(cx)).await
    }

    async fn waits(pace: &mut Pace) -> bool {
        futures_util::poll!(std::pin::pin!(most(pace))).is_pending()
    }

    #[tokio::test(start_paused = true)]
    async fn a16_nothing_is_read_while_there_is_no_room_for_it() {
        let (mut from, to) = (Pace::default(), Pace::default());
        from.flow().join(&to.flow());
        assert_eq!(most(&mut from).await, NARROW);
        to.wrote(false);
        assert!(waits(&mut from).await);
        let wake = async { to.wrote(true) };
        tokio::join!(most(&mut from), wake);
        to.wrote(false);
        let part = async { to.flow().part() };
        tokio::join!(most(&mut from), part);
        from.flow().join(&to.flow());
        assert!(waits(&mut from).await);
        let end = async { drop(to) };
        tokio::join!(most(&mut from), end);
    }

    #[tokio::test(start_paused = true)]
    async fn a16_large_bodies_that_are_taken_are_read_in_large_pieces() {
        let (mut from, to) = (Pace::default(), Pace::default());
        from.flow().join(&to.flow());
        let large = |from: &mut Pace| (0..=LARGE / NARROW).for_each(|_| from.read(NARROW));
        large(&mut from);
        assert_eq!(most(&mut from).await, WIDE);
        for (pause, expected) in [(PAUSE / 2, WIDE), (PAUSE, NARROW)] {
            to.wrote(false);
            assert!(waits(&mut from).await);
            tokio::time::advance(pause).await;
            to.wrote(true);
            assert_eq!(most(&mut from).await, expected, "{pause:?}");
        }
        large(&mut from);
        assert_eq!(most(&mut from).await, WIDE);
        from.read(100);
        assert_eq!(most(&mut from).await, NARROW, "it comes in small pieces");
        large(&mut from);
        assert_eq!(most(&mut from).await, WIDE);
        from.flow().part();
        assert_eq!(most(&mut from).await, NARROW, "the body has ended");
    }

    #[tokio::test]
    async fn a16_no_more_than_a_few_are_read_in_large_pieces_at_a_time() {
        let to = Pace::default();
        let mut readers: Vec<_> = (0..=WIDE_READERS).map(|_| Pace::default()).collect();
        for reader in &mut readers {
            reader.flow().join(&to.flow());
            reader.read(LARGE);
        }
        for reader in &mut readers[..WIDE_READERS] {
            assert_eq!(most(reader).await, WIDE);
        }
        assert_eq!(most(&mut readers[WIDE_READERS]).await, NARROW);
        readers.swap_remove(0);
        assert_eq!(most(&mut readers[0]).await, WIDE, "another is over");
    }
}
