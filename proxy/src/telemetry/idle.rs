//! Series that nothing is added to any more.

/// Sweeps, a minute each, without a change after which a series ends.
const IDLE_SWEEPS: u32 = 60;

/// How long a series has stood still.
#[derive(Debug, Default)]
pub(super) struct Idle {
    seen: u64,
    sweeps: u32,
}

impl Idle {
    /// Whether the series is over. `total`: whatever grows when something is added to it.
    pub(super) fn is_over(&mut self, total: u64) -> bool {
        self.sweeps = if total == self.seen { self.sweeps + 1 } else { 0 };
        self.seen = total;
        self.sweeps >= IDLE_SWEEPS
    }
}
