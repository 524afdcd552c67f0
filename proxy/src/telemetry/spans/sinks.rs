//! Where the spans of each side go: what the control plane sets, and workers look up for requests that are traced.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use http::HeaderName;
use opentelemetry::{Key, KeyValue};
use weft_core::model::telemetry::Sides;

use super::queue::Queue;
use crate::telemetry::labels::Reporter;

/// Where the spans of each side go; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Spans(Arc<Sides<ArcSwapOption<Sink>>>);

/// Where the spans of one side go.
#[derive(Debug)]
pub struct Sink {
    /// The way to the collector.
    pub queue: Arc<Queue>,
    /// Tags that every span has.
    pub fixed: Vec<KeyValue>,
    /// Tags that are read of a request's headers, with their defaults.
    pub headers: Vec<(Key, HeaderName, Arc<str>)>,
}

impl Spans {
    /// Where spans of this side go; `None`: nowhere.
    pub fn sink(&self, side: Reporter) -> Option<Arc<Sink>> {
        side.of(&self.0).load_full()
    }

    /// Sends spans elsewhere from now on.
    pub fn set(&self, sinks: Sides<Option<Arc<Sink>>>) {
        self.0.client.store(sinks.client);
        self.0.server.store(sinks.server);
    }

    /// Sends what waits, within a time, and takes no more.
    pub async fn close(&self, within: Duration) {
        let queues = [self.0.client.swap(None), self.0.server.swap(None)];
        let closing = async {
            for sink in queues.into_iter().flatten() {
                Arc::clone(&sink.queue).close().await;
            }
        };
        if tokio::time::timeout(within, closing).await.is_err() {
            tracing::warn!("a collector did not take the last spans in time");
        }
    }
}
