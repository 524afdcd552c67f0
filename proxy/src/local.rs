//! What the tasks of one worker share: the configuration as this worker sees it, connections, counters, chance.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use tokio::time::Instant;
use weft_core::model::name::ResourceName;
use weft_core::snapshot::Snapshot;
use weft_core::upstream::Nanos;

use crate::drain::Drain;
use crate::pool::Pool;
use crate::telemetry::WorkerTelemetry;

/// Where configuration comes from.
pub trait Directory {
    /// The view in force.
    fn snapshot(&self) -> Arc<Snapshot>;

    /// A number that is another for each view: asked for every request.
    fn is_current(&self, snapshot: &Arc<Snapshot>) -> bool;

    /// Asks for a resource and waits, within bounds, for a view that answers it; whether there is one.
    fn ask<'a>(&'a self, name: ResourceName) -> Pin<Box<dyn Future<Output = bool> + 'a>>;
}

/// What the tasks of one worker share.
pub struct Local {
    directory: Rc<dyn Directory>,
    view: RefCell<Rc<Arc<Snapshot>>>,
    /// Connections to upstreams and to the application.
    pub pool: Pool,
    /// What the worker counts on.
    pub telemetry: WorkerTelemetry,
    /// The word that connections are to end.
    pub drain: Drain,
    /// From when the clock of ejections and deadlines counts; the same for all workers.
    epoch: Instant,
    chance: Cell<u64>,
}

impl Local {
    /// A worker's own. `epoch` is the same for all workers, `seed` another for each.
    pub fn new(
        directory: Rc<dyn Directory>,
        pool: Pool,
        telemetry: WorkerTelemetry,
        drain: Drain,
        epoch: Instant,
        seed: u64,
    ) -> Self {
        let view = RefCell::new(Rc::new(directory.snapshot()));
        Self { directory, view, pool, telemetry, drain, epoch, chance: Cell::new(seed) }
    }

    /// The view in force, to be held for the length of a request.
    pub fn snapshot(&self) -> Rc<Arc<Snapshot>> {
        if !self.directory.is_current(&self.view.borrow()) {
            *self.view.borrow_mut() = Rc::new(self.directory.snapshot());
        }
        Rc::clone(&self.view.borrow())
    }

    /// Asks for a resource that the view lacks; the view that answers, if one came in time.
    pub async fn ask(&self, name: ResourceName) -> Option<Rc<Arc<Snapshot>>> {
        let answered = self.directory.ask(name).await;
        answered.then(|| self.snapshot())
    }

    /// A time on the clock of ejections.
    pub fn nanos(&self, now: Instant) -> Nanos {
        u64::try_from(now.saturating_duration_since(self.epoch).as_nanos()).unwrap_or(u64::MAX)
    }

    /// A random number (SplitMix64; nothing secret hangs on it).
    pub fn random(&self) -> u64 {
        let state = self.chance.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.chance.set(state);
        weft_core::chance::Chance::new(state).draw()
    }
}
