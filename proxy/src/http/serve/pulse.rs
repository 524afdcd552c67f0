//! When a connection is to take no more requests.

use std::cell::Cell;
use std::time::Duration;

use weft_core::overload::Level;

use super::Word;
use crate::overload::Overload;

/// A connection without a request for so long is closed (`idleTimeout` of Istio's HTTP settings).
const IDLE_TIME: Duration = Duration::from_secs(3600);
/// The same where memory is tight (hardening G3).
const TIGHT_IDLE_TIME: Duration = Duration::from_secs(1);

/// Whether a connection is in use.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    begun: Cell<u64>,
    under_way: Cell<u32>,
}

/// A request that is being answered.
pub(super) struct Beat<'p>(&'p Pulse);

impl Pulse {
    pub(super) fn begin(&self) -> Beat<'_> {
        self.begun.set(self.begun.get().wrapping_add(1));
        self.under_way.set(self.under_way.get() + 1);
        Beat(self)
    }

    /// Waits until the connection is to take no more requests: the sidecar ends, or it was idle (true).
    pub(super) async fn end(&self, word: &Word<'_>) -> bool {
        tokio::select! {
            () = word.drain.draining() => false,
            () = self.idle(word.overload) => true,
        }
    }

    /// Waits until there was no request for [`IDLE_TIME`], to twice that: nothing is set anew with each. Where memory is
    /// tight for [`TIGHT_IDLE_TIME`].
    async fn idle(&self, overload: &Overload) {
        let mut seen = self.begun.get();
        loop {
            let level = overload.level();
            let time = if level >= Level::Tight { TIGHT_IDLE_TIME } else { IDLE_TIME };
            if tokio::time::timeout(time, overload.other_than(level)).await.is_ok() {
                continue;
            }
            if std::mem::replace(&mut seen, self.begun.get()) == seen && self.under_way.get() == 0 {
                return;
            }
        }
    }
}

impl Drop for Beat<'_> {
    fn drop(&mut self) {
        self.0.under_way.set(self.0.under_way.get() - 1);
    }
}
