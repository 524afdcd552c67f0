//! What the tasks of one worker share: the configuration as this worker sees it, connections, counters, chance.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use http::HeaderValue;
use tokio::sync::watch;
use tokio::time::Instant;
use weft_core::chance::Chance;
use weft_core::model::metadata::WorkloadMetadata;
use weft_core::overload::Level;
use weft_core::upstream::Nanos;

use crate::config::MeshReader;
use crate::drain::Drain;
use crate::http::date::DateLine;
use crate::http::serve::Word;
use crate::overload::WorkerOverload;
use crate::pool::Pool;
use crate::telemetry::WorkerTelemetry;

/// What the tasks of one worker share.
pub struct Local {
    /// The configuration.
    pub mesh: MeshReader,
    /// Connections to upstreams and to the application.
    pub pool: Pool,
    /// What the worker counts on.
    pub telemetry: WorkerTelemetry,
    /// The word that connections are to end.
    pub drain: Drain,
    /// How near the sidecar is to its own limits.
    pub overload: WorkerOverload,
    /// What is known of a workload of which nothing is known.
    pub unknown: Arc<WorkloadMetadata>,
    /// From when the clock of ejections counts; the same for all workers.
    epoch: Instant,
    chance: Cell<u64>,
    date: DateLine,
}

impl Local {
    /// A worker's own. `epoch` is the same for all workers, `seed` another for each.
    pub fn new(
        mesh: MeshReader,
        pool: Pool,
        telemetry: WorkerTelemetry,
        (drain, overload): (Drain, WorkerOverload),
        epoch: Instant,
        seed: u64,
    ) -> Self {
        Self {
            mesh,
            pool,
            telemetry,
            drain,
            overload,
            unknown: Arc::default(),
            epoch,
            chance: Cell::new(seed),
            date: DateLine::default(),
        }
    }

    /// What tells connections to end.
    pub fn word(&self) -> Word<'_> {
        Word { drain: &self.drain, overload: self.overload.all() }
    }

    /// A time on the clock of ejections and deadlines.
    pub fn nanos(&self, now: Instant) -> Nanos {
        u64::try_from(now.saturating_duration_since(self.epoch).as_nanos()).unwrap_or(u64::MAX)
    }

    /// The wall clock.
    pub fn now(&self) -> SystemTime {
        self.telemetry.shared().clock.now()
    }

    /// The wall clock as `Date` has it.
    pub fn date(&self) -> HeaderValue {
        self.date.at(self.now())
    }

    /// A random number; nothing secret hangs on it.
    pub fn random(&self) -> u64 {
        let seed = self.chance.get();
        let mut chance = Chance::new(seed);
        let drawn = chance.draw();
        self.chance.set(seed.wrapping_add(0x9e37_79b9_7f4a_7c15));
        drawn
    }
}

/// Closes connections that no request uses whenever memory gets tighter, for as long as the worker runs.
pub async fn close_idle(local: Rc<Local>) {
    let mut level = Level::Fine;
    loop {
        local.overload.all().other_than(level).await;
        let before = std::mem::replace(&mut level, local.overload.level());
        if level > before {
            local.pool.close_idle();
        }
    }
}

/// Closes connections to endpoints that a new configuration no longer has, for as long as there are new ones.
pub async fn close_removed(local: Rc<Local>, mut changes: watch::Receiver<u64>) {
    while changes.changed().await.is_ok() {
        let snapshot = local.mesh.snapshot();
        local.pool.retire(|cluster, endpoint| {
            snapshot.cluster(cluster).is_some_and(|c| c.endpoints.iter().any(|e| e.id == endpoint))
        });
    }
}
