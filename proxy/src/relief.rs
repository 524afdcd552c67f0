//! What stands still gives way where memory is nearly used up (hardening G3).
//!
//! It is woken as soon as the level becomes critical: a burst of clients that read nothing leaves no time to look around.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use weft_core::overload::Level;

use crate::overload::Overload;
use crate::rarely::Rarely;

/// A reader that takes nothing for a moment is none that stands still.
const GRACE: Duration = Duration::from_millis(250);

/// The watch over one thing that may stand still. Costs nothing before it first does.
#[derive(Default)]
pub struct Relief {
    wait: Option<Wait>,
    /// It went on since `wait` began.
    moved: bool,
}

type Wait = Rarely<Pin<Box<dyn Future<Output = ()> + Send>>>;

impl Relief {
    /// It did not stand still.
    pub fn moved(&mut self) {
        self.moved = true;
    }

    /// Ready when memory is nearly used up and it has stood still for 250 to 500 ms. To be polled while it stands still.
    pub fn poll(&mut self, cx: &mut Context<'_>, overload: &Overload) -> Poll<()> {
        loop {
            if self.wait.is_none() {
                self.moved = false;
            }
            let wait = self.wait.get_or_insert_with(|| Rarely::new(Box::pin(critical(overload.clone()))));
            ready!(Pin::new(wait).poll(cx));
            self.wait = None;
            if !self.moved {
                return Poll::Ready(());
            }
        }
    }
}

/// Waits until memory has been nearly used up for [`GRACE`].
async fn critical(overload: Overload) {
    loop {
        let level = overload.level();
        let changed = overload.other_than(level);
        if level < Level::Critical {
            changed.await;
        } else if tokio::time::timeout(GRACE, changed).await.is_err() {
            return;
        }
    }
}

impl fmt::Debug for Relief {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relief").field("waits", &self.wait.is_some()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::time::{Instant, sleep, timeout};
    use weft_core::overload::Memory;

    use super::*;

    fn used(overload: &Overload, used: u64) {
        overload.look(Some(Memory { used, limit: 100 }));
    }

    #[tokio::test(start_paused = true)]
    async fn g3_what_stands_still_hears_at_once_that_memory_is_nearly_used_up() {
        let overload = Overload::default();
        let mut relief = Relief::default();
        let hour = Duration::from_secs(3600);
        assert!(timeout(hour, poll_fn(|cx| relief.poll(cx, &overload))).await.is_err(), "there is memory");
        used(&overload, 96);
        assert!(
            timeout(hour, poll_fn(|cx| relief.poll(cx, &overload))).await.is_err(),
            "it is short, but not used up"
        );
        let filled = async {
            sleep(hour).await;
            used(&overload, 98);
            Instant::now()
        };
        let ((), filled) = tokio::join!(poll_fn(|cx| relief.poll(cx, &overload)), filled);
        assert!(filled.elapsed() <= GRACE * 2, "{:?}", filled.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn g3_what_goes_on_in_between_stays() {
        let overload = Overload::default();
        used(&overload, 98);
        let mut relief = Relief::default();
        for _ in 0..100 {
            assert!(timeout(GRACE / 2, poll_fn(|cx| relief.poll(cx, &overload))).await.is_err());
            relief.moved();
        }
        assert!(timeout(GRACE * 2, poll_fn(|cx| relief.poll(cx, &overload))).await.is_ok());
        let mut short = Relief::default();
        assert!(timeout(GRACE / 2, poll_fn(|cx| short.poll(cx, &overload))).await.is_err());
        used(&overload, 10);
        assert!(
            timeout(GRACE * 9, poll_fn(|cx| short.poll(cx, &overload))).await.is_err(),
            "it was over in time"
        );
    }
}
