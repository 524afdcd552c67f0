//! The wall clock, which only certificates and log lines read; every timer runs on tokio's monotonic clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A source of wall time that can be handed around; tests hand in one that they set.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    manual: Option<Arc<AtomicU64>>,
}

/// The hands of a clock made by [`Clock::manual`].
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<AtomicU64>);

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self::default()
    }

    /// A clock that stands still at `start` until it is set.
    pub fn manual(start: SystemTime) -> (Self, ManualClock) {
        let hands = Arc::new(AtomicU64::new(millis(start)));
        (Self { manual: Some(hands.clone()) }, ManualClock(hands))
    }

    /// The wall time.
    pub fn now(&self) -> SystemTime {
        match &self.manual {
            None => SystemTime::now(),
            Some(hands) => UNIX_EPOCH + Duration::from_millis(hands.load(Ordering::Relaxed)),
        }
    }

    /// Seconds since 1970.
    pub fn unix_seconds(&self) -> u64 {
        millis(self.now()) / 1000
    }
}

impl ManualClock {
    /// Sets the clock.
    pub fn set(&self, to: SystemTime) {
        self.0.store(millis(to), Ordering::Relaxed);
    }

    /// Moves the clock on.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(by.as_millis() as u64, Ordering::Relaxed);
    }
}

/// A time as RFC 3339 writes it, in UTC, with milliseconds.
pub fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let at = time::OffsetDateTime::UNIX_EPOCH + since;
    let (year, month, day) = at.to_calendar_date();
    let (hour, minute, second) = at.to_hms();
    let (month, millis) = (month as u8, at.millisecond());
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

fn millis(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
