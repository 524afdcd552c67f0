//! What the sidecar tells of itself: metrics, the access log, its own log.
//!
//! [`Telemetry`] is shared by all threads. Each worker makes itself a [`WorkerTelemetry`], which resolves the labels
//! of an exchange to a [`Scope`] once, keeps it, and counts on it without locks, hashing of labels or formatting.

/// Lines of the access log, written by a thread of their own.
pub mod access_log;
/// The labels of Istio's metrics.
pub mod labels;
/// The sidecar's own log.
pub mod log;
/// Metrics of the sidecar itself.
pub mod metrics;
/// Memory, CPU and descriptors of the process.
pub mod process;
/// What is known of one request or connection when it ends.
pub mod record;
/// What a worker resolves and counts on.
pub mod scope;
/// Time series of requests and connections.
pub mod series;

pub use access_log::{AccessEntry, AccessLog};
pub use labels::{AppProtocol, Outcome, PeerRef, Reporter, ScopeRef, Security, ServiceLabels};
pub use metrics::Metrics;
pub use record::{RequestRecord, TcpRecord};
pub use scope::{Scope, WorkerTelemetry};

use std::sync::Arc;

use crate::clock::Clock;
use crate::settings::AccessLogFormat;

/// Everything that is counted and written; shared by all threads.
#[derive(Clone, Debug)]
pub struct Telemetry {
    /// Metrics of the sidecar itself.
    pub metrics: Arc<Metrics>,
    /// Time series of requests and connections.
    pub series: Arc<series::Store>,
    /// The access log.
    pub access_log: AccessLog,
    /// Wall time, for the start times in the access log.
    pub clock: Clock,
}

impl Telemetry {
    /// Telemetry whose access log goes to standard output.
    pub fn new(format: AccessLogFormat, clock: Clock) -> Self {
        let metrics = Arc::new(Metrics::new());
        let access_log = AccessLog::to_stdout(format, metrics.access_log_dropped.clone());
        Self { metrics, series: Arc::new(series::Store::new(series::MAX_SERIES)), access_log, clock }
    }

    /// What one worker counts on; `worker` is its number, used by one thread only.
    pub fn worker(&self, worker: usize) -> WorkerTelemetry {
        WorkerTelemetry::new(self.clone(), worker)
    }

    /// All metrics in Prometheus' text format.
    pub fn render(&self) -> String {
        let mut text = String::with_capacity(64 * 1024);
        self.series.render(&mut text);
        self.metrics.render(&mut text, self.clock.now());
        text
    }
}

/// Ends series that nobody adds to any more, for as long as the sidecar runs.
pub async fn sweep_forever(telemetry: Telemetry) {
    let mut ticks = tokio::time::interval(std::time::Duration::from_secs(60));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        telemetry.series.sweep();
    }
}
