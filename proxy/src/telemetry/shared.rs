//! What all threads count on and write to.

use std::sync::Arc;

use weft_core::model::telemetry::{self as model, Sides};

use super::access_log::AccessLog;
use super::metrics::Metrics;
use super::parts::{Part, Pieces};
use super::series::{MAX_SERIES, Store};
use super::spans::Spans;
use super::tap::Taps;
use crate::clock::Clock;
use crate::settings::AccessLogFormat;

/// Everything that is counted and written; shared by all threads.
#[derive(Clone, Debug)]
pub struct Telemetry {
    /// Metrics of the sidecar itself.
    pub metrics: Arc<Metrics>,
    /// Time series of requests and connections.
    pub series: Arc<Store>,
    /// The access log.
    pub access_log: AccessLog,
    /// Who watches requests.
    pub taps: Taps,
    /// Where spans go.
    pub spans: Spans,
    /// Wall time, for the start times in the access log.
    pub clock: Clock,
}

impl Telemetry {
    /// Telemetry whose access log goes to the standard streams; `format` is what holds where the controller says nothing.
    pub fn new(format: AccessLogFormat, clock: Clock) -> Self {
        let metrics = Arc::new(Metrics::new());
        let access_log = AccessLog::to_streams(format, metrics.access_log_dropped.clone());
        Self {
            metrics,
            series: Arc::new(Store::new(MAX_SERIES)),
            access_log,
            taps: Taps::default(),
            spans: Spans::default(),
            clock,
        }
    }

    /// All metrics in Prometheus' text format, with nothing that a Telemetry changes.
    pub fn render(&self) -> String {
        self.pieces(Sides::default()).collect()
    }

    /// All metrics in Prometheus' text format, as a Telemetry wants them shown, in pieces that are written when they are
    /// taken.
    pub fn pieces(&self, told: Sides<model::Metrics>) -> impl Iterator<Item = String> + Send + use<> {
        let telemetry = self.clone();
        let own: Part = Box::new(move |text| telemetry.metrics.render(text, telemetry.clock.now()));
        Pieces(self.series.parts(told).chain([own]))
    }
}

/// Ends series that nobody adds to any more, for as long as the sidecar runs.
pub async fn sweep_forever(telemetry: Telemetry) {
    let mut ticks = tokio::time::interval(std::time::Duration::from_secs(60));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        telemetry.series.sweep();
        telemetry.metrics.sweep();
    }
}
