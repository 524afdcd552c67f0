//! One replica writes: a Lease says which, and what others may believe of it.
//!
//! There are two Leases. What belongs to a revision, as its webhooks' certificate does, is written by the leader of that
//! revision; what all revisions of a namespace share, statuses and the roots that every namespace is told, by one of all
//! their replicas. Else two revisions would write the same objects against each other.
//!
//! Time is local and monotonic on both sides, so clocks may differ by any amount. A leader counts from the moment it
//! asked for its term, the others from the moment they saw that term: the leader's own count ends first. Every object
//! that only the leader writes is written with the version that it was read at, so that even a request that
//! was under way when a term ended can change nothing that the next leader has written.

/// Whose turn it is: pure.
pub mod election;
/// The Lease in the API server.
pub mod lease;

use std::future::Future;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::task::TaskTracker;

/// The Lease of what all revisions share.
pub const SHARED: &str = "weft-controller";
/// After work that ended by itself.
const PAUSE: Duration = Duration::from_secs(1);

/// The Lease of what belongs to one revision.
pub fn of_revision(revision: &str) -> String {
    format!("{SHARED}-{revision}")
}

/// Whether this replica leads, as of now.
#[derive(Clone, Debug)]
pub struct Leadership {
    /// Until when this replica leads; `None` if it does not.
    until: watch::Receiver<Option<Instant>>,
    /// What runs because it leads.
    working: TaskTracker,
}

impl Leadership {
    /// Follows a term that somebody else keeps; nobody waits for what runs in it.
    pub fn following(until: watch::Receiver<Option<Instant>>) -> Self {
        Self { until, working: TaskTracker::new() }
    }

    /// Whether this replica leads.
    pub fn leads(&self) -> bool {
        self.until.borrow().is_some_and(|until| Instant::now() < until)
    }

    /// Works whenever this replica leads. When its term ends, the work is dropped where it stands, also while it waits
    /// for an API server that does not answer. Ends when there is no election any more.
    pub async fn run<F: Future<Output = ()>>(mut self, mut work: impl FnMut() -> F) {
        while self.gained().await.is_ok() {
            let working = self.working.clone();
            tokio::select! {
                biased;
                () = self.lost() => continue,
                () = working.track_future(work()) => {}
            }
            sleep(PAUSE).await;
        }
    }

    async fn gained(&mut self) -> Result<(), watch::error::RecvError> {
        while !self.leads() {
            self.until.changed().await?;
        }
        Ok(())
    }

    async fn lost(&mut self) {
        loop {
            let until = *self.until.borrow_and_update();
            let Some(until) = until.filter(|until| Instant::now() < *until) else { return };
            tokio::select! {
                Ok(()) = self.until.changed() => {}
                () = sleep_until(until) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    /// Says when it starts, and when it is dropped.
    struct Work(mpsc::UnboundedSender<&'static str>);

    impl Drop for Work {
        fn drop(&mut self) {
            let _ = self.0.send("ended");
        }
    }

    #[tokio::test]
    async fn f11_work_ends_with_the_term_whoever_says_so_or_nobody() {
        let (term, until) = watch::channel(None);
        let leadership = Leadership::following(until);
        let (said, mut heard) = mpsc::unbounded_channel();
        let follower = leadership.clone();
        tokio::spawn(leadership.run(move || {
            let work = Work(said.clone());
            async move {
                let _ = work.0.send("started");
                std::future::pending().await
            }
        }));
        assert!(!follower.leads());
        term.send_replace(Some(Instant::now() + LONG));
        assert!(follower.leads());
        assert_eq!(heard.recv().await, Some("started"));
        term.send_replace(None);
        assert!(!follower.leads());
        assert_eq!(heard.recv().await, Some("ended"));
        term.send_replace(Some(Instant::now() + LONG));
        assert_eq!(heard.recv().await, Some("started"));
        // Renewed, and then nobody renews it: the clock alone ends it.
        term.send_replace(Some(Instant::now() + Duration::from_millis(20)));
        assert_eq!(heard.recv().await, Some("ended"));
        assert!(!follower.leads());
        term.send_replace(Some(Instant::now() + Duration::from_millis(20)));
        assert_eq!(heard.recv().await, Some("started"));
        drop(term);
        assert_eq!(heard.recv().await, Some("ended"));
        assert_eq!(heard.recv().await, None, "there is no election any more");
    }
}
