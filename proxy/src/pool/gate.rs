//! A word between workers about the connections of one cluster, where their number is limited: "one has ended" to
//! those who wait, "give up an idle one" to those who have.

use std::collections::HashMap;
use std::sync::atomic::{Ordering, fence};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::Notify;
use weft_core::admission::{Admission, ConnectionPermit};

/// The gates of all clusters, shared by all workers. Asked when a worker first meets an endpoint, not for each
/// request.
#[derive(Clone, Debug, Default)]
pub struct Gates(Arc<Mutex<HashMap<usize, Entry>>>);

#[derive(Debug)]
struct Entry {
    admission: Weak<Admission>,
    gate: Arc<Gate>,
}

/// The gate of one cluster.
#[derive(Debug, Default)]
pub(super) struct Gate {
    freed: Notify,
    wanted: Notify,
}

/// A connection that counts against its cluster's limit; who waits for one is told when it ends.
#[derive(Debug)]
pub(super) struct OpenConnection {
    permit: Option<ConnectionPermit>,
    admission: Arc<Admission>,
    gate: Arc<Gate>,
}

/// Somebody was denied a connection and waits.
pub(super) struct Wanted {
    admission: Arc<Admission>,
    gate: Arc<Gate>,
}

impl Gates {
    /// The gate of the cluster with these counts.
    pub(super) fn of(&self, admission: &Arc<Admission>) -> Arc<Gate> {
        let mut gates = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = Arc::as_ptr(admission) as usize;
        if let Some(entry) = gates.get(&place).filter(|entry| entry.admission.strong_count() > 0) {
            return Arc::clone(&entry.gate);
        }
        gates.retain(|_, entry| entry.admission.strong_count() > 0);
        let gate = Arc::new(Gate::default());
        gates.insert(place, Entry { admission: Arc::downgrade(admission), gate: Arc::clone(&gate) });
        gate
    }
}

impl Gate {
    /// Asks the other workers for an idle connection.
    pub(super) fn ask(&self) {
        self.wanted.notify_waiters();
    }

    /// Another worker asks for an idle connection.
    pub(super) async fn asked(&self) {
        self.wanted.notified().await;
    }
}

impl OpenConnection {
    /// A connection that is open from now on.
    pub(super) fn new(permit: ConnectionPermit, admission: &Arc<Admission>, gate: &Arc<Gate>) -> Self {
        Self { permit: Some(permit), admission: Arc::clone(admission), gate: Arc::clone(gate) }
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.permit = None;
        fence(Ordering::SeqCst);
        if self.admission.is_wanted() {
            self.gate.freed.notify_one();
        }
    }
}

impl Wanted {
    /// Says so.
    pub(super) fn new(admission: &Arc<Admission>, gate: &Arc<Gate>) -> Self {
        admission.want();
        fence(Ordering::SeqCst);
        Self { admission: Arc::clone(admission), gate: Arc::clone(gate) }
    }

    /// A connection has ended.
    pub(super) async fn freed(&self) {
        self.gate.freed.notified().await;
    }
}

impl Drop for Wanted {
    fn drop(&mut self) {
        self.admission.unwant();
    }
}
