//! Responses of HTTP/2 that their client leaves no room for (hardening C7).

use std::task::{Context, Poll, ready};
use std::time::Duration;

use crate::http::patience::Patience;
use crate::overload::Overload;
use crate::relief::Relief;

/// A client that leaves no room for its response for so many looks in a row, 300 s, is not sent the rest: as long as one
/// of HTTP/1 may do without reading. Where memory is nearly used up a moment is enough (hardening G3).
const LOOKS: u32 = 60;
/// How often a response that waits for its client is looked at.
const LOOK: Duration = Duration::from_secs(5);

/// The watch over one response.
#[derive(Debug)]
pub(super) struct Unread {
    patience: Patience,
    /// Looks in a row at which nothing had been taken.
    looks: u32,
    relief: Relief,
}

impl Default for Unread {
    fn default() -> Self {
        Self { patience: look(), looks: 0, relief: Relief::default() }
    }
}

impl Unread {
    /// The client has taken something.
    pub(super) fn moved(&mut self) {
        self.patience.moved();
        self.relief.moved();
        self.looks = 0;
    }

    /// Ready when the client is sent no more. To be polled while the response waits for it.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, overload: &Overload) -> Poll<()> {
        if self.relief.poll(cx, overload).is_ready() {
            return Poll::Ready(());
        }
        while self.looks < LOOKS {
            ready!(self.patience.poll(cx));
            self.patience = look();
            self.looks += 1;
        }
        Poll::Ready(())
    }
}

fn look() -> Patience {
    Patience::new(Some(LOOK), None)
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::time::{Instant, timeout};
    use weft_core::overload::Memory;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn c7_only_a_client_that_takes_nothing_is_given_up() {
        let (mut unread, overload) = (Unread::default(), Overload::default());
        let pause = Duration::from_secs(60);
        for _ in 0..100 {
            assert!(timeout(pause, poll_fn(|cx| unread.poll(cx, &overload))).await.is_err());
            unread.moved();
        }
        let last = Instant::now();
        poll_fn(|cx| unread.poll(cx, &overload)).await;
        let took = last.elapsed();
        assert!((LOOK * LOOKS..=LOOK * (LOOKS + 2)).contains(&took), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn g3_where_memory_is_nearly_used_up_it_is_given_up_at_once() {
        let (mut unread, overload) = (Unread::default(), Overload::default());
        overload.look(Some(Memory { used: 98, limit: 100 }));
        assert!(timeout(Duration::from_secs(1), poll_fn(|cx| unread.poll(cx, &overload))).await.is_ok());
    }
}
