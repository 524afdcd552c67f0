//! How near the sidecar is to its own limits, as every thread sees it (hardening G3, G4).
//!
//! The level is one atomic number that workers read as they go; who waits for a change of it is woken. Requests under
//! way are counted by each worker for itself, and added up only where a worker has more than its share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering::Relaxed};

use tokio::sync::watch;
use weft_core::overload::{Level, Memory, admits};

/// The sidecar's limits; clones are handles of the same.
#[derive(Clone, Debug)]
pub struct Overload(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    level: AtomicU8,
    changes: watch::Sender<Level>,
    /// The most requests under way.
    most: AtomicU32,
    /// What the settings say of it: then memory has no say.
    told: Option<u32>,
    /// Requests under way, by worker.
    under_way: Box<[UnderWay]>,
}

/// One worker's count, on a line of the cache of its own; only that worker writes it.
#[derive(Debug, Default)]
#[repr(align(64))]
struct UnderWay(AtomicU32);

/// One worker's view.
#[derive(Clone, Debug)]
pub struct WorkerOverload {
    all: Overload,
    worker: usize,
}

impl Overload {
    /// The limits of so many workers. `most_requests`: as the settings say; `None`: as memory allows.
    pub fn new(workers: usize, most_requests: Option<u32>) -> Self {
        Self(Arc::new(Shared {
            level: AtomicU8::default(),
            changes: watch::Sender::new(Level::Fine),
            most: AtomicU32::new(most_requests.unwrap_or(u32::MAX)),
            told: most_requests,
            under_way: (0..workers.max(1)).map(|_| UnderWay::default()).collect(),
        }))
    }

    /// The level as it is.
    pub fn level(&self) -> Level {
        Level::ALL.get(usize::from(self.0.level.load(Relaxed))).copied().unwrap_or_default()
    }

    /// Memory was looked at: the level that follows, and whether it is another than before.
    pub fn look(&self, memory: Option<Memory>) -> (Level, bool) {
        self.0.most.store(self.0.told.unwrap_or_else(|| Memory::most_requests(memory)), Relaxed);
        let before = self.level();
        let level = before.after(memory);
        if level != before {
            self.0.level.store(level as u8, Relaxed);
            self.0.changes.send_replace(level);
        }
        (level, level != before)
    }

    /// Waits until the level is another than this one.
    pub async fn other_than(&self, level: Level) {
        // The sender is held by `self`, so the wait cannot fail.
        let _ = self.0.changes.subscribe().wait_for(|now| *now != level).await;
    }

    /// Requests under way.
    pub fn requests(&self) -> u32 {
        self.0.under_way.iter().map(|count| count.0.load(Relaxed)).fold(0, u32::saturating_add)
    }

    /// The most requests under way.
    pub fn most_requests(&self) -> u32 {
        self.0.most.load(Relaxed)
    }

    /// The view of a worker, by its number.
    pub fn worker(&self, number: usize) -> WorkerOverload {
        WorkerOverload { all: self.clone(), worker: number % self.0.under_way.len() }
    }
}

impl Default for Overload {
    fn default() -> Self {
        Self::new(1, None)
    }
}

impl WorkerOverload {
    /// All workers' limits.
    pub fn all(&self) -> &Overload {
        &self.all
    }

    /// The level as it is.
    pub fn level(&self) -> Level {
        self.all.level()
    }

    /// One more request, where there is room for one; to be followed by [`Self::leave`].
    pub fn enter(&self) -> bool {
        let (count, own) = self.own();
        let shared = &self.all.0;
        let fits = || admits(shared.most.load(Relaxed), own, shared.under_way.len(), || self.all.requests());
        if self.level() >= Level::Short || !fits() {
            return false;
        }
        count.store(own + 1, Relaxed);
        true
    }

    /// One request less.
    pub fn leave(&self) {
        let (count, own) = self.own();
        count.store(own.saturating_sub(1), Relaxed);
    }

    fn own(&self) -> (&AtomicU32, u32) {
        let count = &self.all.0.under_way[self.worker].0;
        (count, count.load(Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(used: u64) -> Option<Memory> {
        Some(Memory { used, limit: 100 << 20 })
    }

    #[test]
    fn g4_workers_share_one_cap() {
        let overload = Overload::new(2, Some(3));
        let (one, other) = (overload.worker(0), overload.worker(1));
        assert!(one.enter() && one.enter() && one.enter(), "all the room may be one worker's");
        assert!(!one.enter());
        one.leave();
        assert!(other.enter());
        assert_eq!(overload.requests(), 3);
        assert!(!one.enter());
    }

    #[test]
    fn g4_memory_says_how_many_unless_the_settings_do() {
        let told = Overload::new(1, Some(7));
        told.look(used(0));
        assert_eq!(told.most_requests(), 7);
        let overload = Overload::new(1, None);
        overload.look(used(0));
        assert_eq!(overload.most_requests(), 1600);
        overload.look(None);
        assert_eq!(overload.most_requests(), u32::MAX);
    }

    #[tokio::test]
    async fn g3_who_waits_hears_of_each_other_level() {
        let overload = Overload::default();
        let mut other = Box::pin(overload.other_than(Level::Fine));
        assert!(futures_util::poll!(other.as_mut()).is_pending());
        assert_eq!(overload.look(used(96 << 20)), (Level::Short, true));
        other.await;
        assert!(!overload.worker(0).enter(), "no new request");
        assert_eq!(overload.look(used(94 << 20)), (Level::Short, false));
        overload.look(used(0));
        overload.other_than(Level::Short).await;
        assert!(overload.worker(0).enter());
    }
}
