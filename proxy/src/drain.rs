//! The end of a sidecar: what stops at once, what may finish, what is cut.
//!
//! When a sidecar is told to end it takes no new connections from outside, asks its clients to go elsewhere, and goes
//! on serving its own application's outgoing traffic until nothing is left or the time is up.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How far a sidecar is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// It serves.
    #[default]
    Serving,
    /// It takes nothing new from outside; what is under way goes on, and so does what its application sends.
    Draining,
    /// Everything is cut.
    Over,
}

/// The shared end of the whole sidecar. Clones are handles of the same.
#[derive(Clone, Debug)]
pub struct Shutdown(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    phase: watch::Sender<Phase>,
    open: AtomicUsize,
}

/// One worker's view: tokens that belong to its thread.
#[derive(Clone, Debug, Default)]
pub struct Drain {
    draining: CancellationToken,
    over: CancellationToken,
}

/// Counts a connection while it is open.
#[derive(Debug)]
pub struct OpenConnection(Arc<Shared>);

/// The application may pause for so long between two connections before it is taken to have ended.
const QUIET: Duration = Duration::from_secs(1);
/// How often open connections are looked at while draining.
const LOOK: Duration = Duration::from_millis(50);

impl Shutdown {
    /// A sidecar that serves.
    pub fn new() -> Self {
        Self(Arc::new(Shared { phase: watch::Sender::new(Phase::Serving), open: AtomicUsize::new(0) }))
    }

    /// Begins to drain; no effect where that has begun.
    pub fn begin(&self) {
        self.advance(Phase::Draining);
    }

    /// Ends at once.
    pub fn end(&self) {
        self.advance(Phase::Over);
    }

    /// Where it is.
    pub fn phase(&self) -> Phase {
        *self.0.phase.borrow()
    }

    /// Waits until it is at least there.
    pub async fn reached(&self, phase: Phase) {
        // The sender is held by `self`, so the wait cannot fail.
        let _ = self.0.phase.subscribe().wait_for(|now| *now >= phase).await;
    }

    /// Counts a connection, to the end of the guard's life.
    pub fn open(&self) -> OpenConnection {
        self.0.open.fetch_add(1, Relaxed);
        OpenConnection(self.0.clone())
    }

    /// How many connections are open, of all workers.
    pub fn open_connections(&self) -> usize {
        self.0.open.load(Relaxed)
    }

    /// Waits until draining has begun and is over: no connection has been open for a while, or `timeout` has
    /// passed. Everything that is left is cut then.
    pub async fn complete(&self, timeout: Duration) {
        self.reached(Phase::Draining).await;
        let deadline = Instant::now() + timeout;
        let mut quiet_since = Instant::now();
        while Instant::now() < deadline && quiet_since.elapsed() < QUIET {
            tokio::time::sleep(LOOK).await;
            if self.open_connections() > 0 {
                quiet_since = Instant::now();
            }
        }
        self.advance(Phase::Over);
    }

    /// A worker's view; to be awaited on that worker.
    pub async fn follow(&self, view: Drain) {
        self.reached(Phase::Draining).await;
        view.draining.cancel();
        self.reached(Phase::Over).await;
        view.over.cancel();
    }

    fn advance(&self, to: Phase) {
        self.0.phase.send_if_modified(|now| {
            let later = to > *now;
            *now = to.max(*now);
            later
        });
    }
}

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}

impl Drain {
    /// Whether nothing new is to begin.
    pub fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    /// Ready when nothing new is to begin: clients are asked to go elsewhere.
    pub async fn draining(&self) {
        self.draining.cancelled().await;
    }

    /// Ready when everything that is left is to be cut.
    pub async fn over(&self) {
        self.over.cancelled().await;
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn g6_ends_once_the_last_connection_has_ended() {
        let shutdown = Shutdown::new();
        let connection = shutdown.open();
        let began = Instant::now();
        let work = async {
            shutdown.begin();
            tokio::time::sleep(Duration::from_secs(5)).await;
            drop(connection);
        };
        tokio::join!(shutdown.complete(Duration::from_secs(25)), work);
        assert_eq!(shutdown.phase(), Phase::Over);
        assert!((5..=6).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn g6_the_deadline_is_hard() {
        let shutdown = Shutdown::new();
        let _connection = shutdown.open();
        let began = Instant::now();
        shutdown.begin();
        shutdown.complete(Duration::from_secs(25)).await;
        assert_eq!(began.elapsed().as_secs(), 25);
        assert_eq!(shutdown.phase(), Phase::Over);
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_sees_each_phase() {
        let (shutdown, view) = (Shutdown::new(), Drain::default());
        let watching = view.clone();
        let follow = shutdown.follow(watching);
        let steps = async {
            assert!(!view.is_draining());
            shutdown.begin();
            view.draining().await;
            shutdown.complete(Duration::from_secs(2)).await;
            view.over().await;
        };
        tokio::join!(follow, steps);
        assert!(view.is_draining());
    }
}
