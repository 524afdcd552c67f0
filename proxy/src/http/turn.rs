//! Streams of HTTP/2 whose client takes nothing of its response (hardening C7).
//!
//! The library does not say what the task of a stream waits for, nor does it ask for a body's next frame while the
//! client leaves no room for the last one. So a body tells its connection's `Turn` when it is asked: a task that ends
//! its turn without having asked the body that it asked before waits for the client.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::patience::Patience;
use crate::overload::Overload;
use crate::relief::Relief;

/// A client that leaves no room for its response for so many looks in a row, 300 s, is not sent the rest: as long as one
/// of HTTP/1 may do without reading. Where memory is nearly used up a moment is enough (hardening G3).
const UNREAD_LOOKS: u32 = 60;
/// How often a response that waits for its client is looked at.
const LOOK: Duration = Duration::from_secs(5);

/// What became of the body of the stream whose turn it is: the streams of one connection take turns.
#[derive(Debug, Default)]
pub struct Turn {
    asked: Cell<Asked>,
    overload: Overload,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Asked {
    /// It was not asked for anything.
    #[default]
    No,
    /// It gave a frame.
    Gave,
    /// It has nothing to give yet.
    Waits,
    /// Nobody will ask any more: its client takes nothing.
    Unread,
}

impl Turn {
    /// The turn of one connection.
    pub fn new(overload: Overload) -> Self {
        Self { asked: Cell::default(), overload }
    }

    /// The body of the stream was asked and gave a frame.
    pub fn gave(&self) {
        self.asked.set(Asked::Gave);
    }

    /// The body of the stream was asked and has nothing yet.
    pub fn waits(&self) {
        self.asked.set(Asked::Waits);
    }

    /// Whether the stream whose turn it is ends because its client takes nothing.
    pub fn is_unread(&self) -> bool {
        self.asked.get() == Asked::Unread
    }
}

/// The watch over one stream.
#[derive(Debug)]
pub struct Watch {
    turn: Rc<Turn>,
    /// The response has begun.
    begun: bool,
    patience: Patience,
    /// Looks in a row at which nothing had been taken.
    unread: u32,
    relief: Relief,
}

impl Watch {
    /// Watches a stream of the connection that has this turn.
    pub fn new(turn: Rc<Turn>) -> Self {
        let relief = Relief::new(turn.overload.clone());
        Self { turn, begun: false, patience: Patience::new(Some(LOOK), None), unread: 0, relief }
    }

    /// Gives the task of the stream its turn. Ready when it is done or is to be dropped, at once: then its client
    /// takes nothing, and its body learns that from the turn.
    pub fn drive<F: Future<Output = ()>>(&mut self, task: Pin<&mut F>, cx: &mut Context<'_>) -> Poll<()> {
        self.turn.asked.set(Asked::No);
        if task.poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let asked = self.turn.asked.get();
        if asked != Asked::No {
            self.begun = true;
            self.patience.moved();
            self.relief.moved();
            self.unread = 0;
        }
        if !self.begun || asked == Asked::Waits {
            return Poll::Pending;
        }
        if self.relief.poll(cx).is_pending() {
            ready!(self.poll_unread(cx));
        }
        self.turn.asked.set(Asked::Unread);
        Poll::Ready(())
    }

    fn poll_unread(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.unread < UNREAD_LOOKS {
            ready!(self.patience.poll(cx));
            self.patience = Patience::new(Some(LOOK), None);
            self.unread += 1;
        }
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;

    use tokio::time::Instant;
    use weft_core::overload::Memory;

    use super::*;

    /// How long a stream lives whose task does this, a number of turns of which each follows the last after a time.
    async fn lives(pause: Duration, turn: &Rc<Turn>, does: impl Fn(&Turn, u32)) -> Duration {
        let (mut watch, begun) = (Watch::new(Rc::clone(turn)), Instant::now());
        let mut turns = 0;
        let mut timer = Box::pin(tokio::time::sleep(pause));
        let mut task = pin!(poll_fn(|cx| {
            does(turn, turns);
            while timer.as_mut().poll(cx).is_ready() {
                timer.set(tokio::time::sleep(pause));
                turns += 1;
            }
            if turns < 100 { Poll::Pending } else { Poll::Ready(()) }
        }));
        poll_fn(|cx| watch.drive(task.as_mut(), cx)).await;
        begun.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn c7_only_a_stream_whose_client_takes_nothing_ends() {
        let (turn, pause) = (Rc::default(), Duration::from_secs(60));
        let whole = pause * 100;
        assert_eq!(lives(pause, &turn, |_, _| {}).await, whole, "no response yet");
        assert!(!turn.is_unread());
        assert_eq!(lives(pause, &turn, |turn, _| turn.waits()).await, whole, "nothing to give");
        assert_eq!(lives(pause, &turn, |turn, _| turn.gave()).await, whole, "taken");
        assert!(!turn.is_unread());
        let stalled = |turn: &Turn, turns| {
            if turns < 10 {
                turn.gave();
            }
        };
        let ended = lives(pause, &turn, stalled).await;
        assert!(turn.is_unread());
        let last = pause * 10 + LOOK * UNREAD_LOOKS;
        assert!((last..=last + LOOK * 2).contains(&ended), "{ended:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn g3_where_memory_is_nearly_used_up_it_ends_at_once() {
        let overload = Overload::default();
        overload.look(Some(Memory { used: 98, limit: 100 }));
        let (turn, pause) = (Rc::new(Turn::new(overload)), Duration::from_secs(60));
        assert_eq!(lives(pause, &turn, |turn, _| turn.waits()).await, pause * 100, "nothing to give");
        let stalled = |turn: &Turn, turns| {
            if turns == 0 {
                turn.gave();
            }
        };
        let ended = lives(pause, &turn, stalled).await;
        assert!(ended <= pause + Duration::from_secs(1), "{ended:?}");
    }
}
