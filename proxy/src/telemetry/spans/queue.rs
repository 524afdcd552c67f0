//! Spans on their way to a collector: a bounded number, those that wait and those that are being sent together. What
//! finds no room is dropped and counted; nobody waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::runtime::Tokio;
use opentelemetry_sdk::trace::span_processor_with_async_runtime::BatchSpanProcessor;
use opentelemetry_sdk::trace::{BatchConfigBuilder, SpanData, SpanExporter, SpanProcessor};
use prometheus::IntCounterVec;

/// The most spans that wait or are being sent.
pub const LIMIT: usize = 2048;
/// The most spans of one export.
const BATCH: usize = 512;
/// How long a span may wait for others.
const DELAY: Duration = Duration::from_secs(1);

/// Spans on their way to one collector.
#[derive(Debug)]
pub struct Queue {
    processor: BatchSpanProcessor<Tokio>,
    room: Arc<Room>,
}

#[derive(Debug)]
struct Room {
    held: AtomicUsize,
    closed: AtomicBool,
    /// `weft_spans_total{result}`.
    spans: IntCounterVec,
}

/// An exporter whose spans leave the queue when they are sent.
#[derive(Debug)]
struct Leaving<E> {
    exporter: E,
    room: Arc<Room>,
    collector: Arc<str>,
    timeout: Duration,
    ailing: AtomicBool,
}

/// Spans that are being sent: counted as failed unless they have arrived, however the try ends.
struct Batch<'a> {
    room: &'a Room,
    spans: usize,
    arrived: bool,
}

impl Queue {
    /// A queue to `exporter`, sent from the runtime that this is called on. `timeout` is the longest of one export.
    pub fn new<E: SpanExporter + 'static>(
        exporter: E,
        collector: Arc<str>,
        resource: &Resource,
        timeout: Duration,
        spans: IntCounterVec,
    ) -> Self {
        let room = Arc::new(Room { held: AtomicUsize::new(0), closed: AtomicBool::new(false), spans });
        let leaving =
            Leaving { exporter, room: Arc::clone(&room), collector, timeout, ailing: AtomicBool::new(false) };
        let config = BatchConfigBuilder::default()
            // Room is ours to give; a few places more are for the word that ends it.
            .with_max_queue_size(LIMIT + 16)
            .with_max_export_batch_size(BATCH)
            .with_scheduled_delay(DELAY)
            // Ours is the shorter: it can say that it is over.
            .with_max_export_timeout(timeout + DELAY)
            .with_max_concurrent_exports(1)
            .build();
        let mut processor = BatchSpanProcessor::builder(leaving, Tokio).with_batch_config(config).build();
        processor.set_resource(resource);
        Self { processor, room }
    }

    /// Hands a span over; drops and counts it when there is no room.
    pub fn push(&self, span: SpanData) {
        if self.room.enter() {
            self.processor.on_end(span);
        } else {
            self.room.count("dropped", 1);
        }
    }

    /// How many spans wait or are being sent.
    pub fn held(&self) -> usize {
        self.room.held.load(Relaxed)
    }

    /// Sends what waits, and ends. Whatever comes later is dropped and counted.
    pub async fn close(self: Arc<Self>) {
        if self.room.closed.swap(true, Relaxed) {
            return;
        }
        // The library waits by blocking its thread, which must be none that the export needs.
        let ended = tokio::task::spawn_blocking(move || self.processor.shutdown());
        if let Ok(Err(error)) = ended.await {
            tracing::warn!(%error, "spans were left when the export to their collector ended");
        }
    }
}

impl Room {
    fn enter(&self) -> bool {
        if self.closed.load(Relaxed) {
            return false;
        }
        let entered = self.held.fetch_add(1, Relaxed) < LIMIT;
        if !entered {
            self.held.fetch_sub(1, Relaxed);
        }
        entered
    }

    fn count(&self, result: &str, spans: usize) {
        self.spans.with_label_values(&[result]).inc_by(spans as u64);
    }
}

impl<E: SpanExporter> SpanExporter for Leaving<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let mut leaving = Batch { room: &self.room, spans: batch.len(), arrived: false };
        let export = tokio::time::timeout(self.timeout, self.exporter.export(batch)).await;
        let result = export.unwrap_or(Err(OTelSdkError::Timeout(self.timeout)));
        leaving.arrived = result.is_ok();
        self.tell(&result);
        result
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

impl<E> Leaving<E> {
    /// Says once that a collector takes nothing, and once that it does again.
    fn tell(&self, result: &OTelSdkResult) {
        let collector = &self.collector;
        match result {
            Ok(()) if self.ailing.swap(false, Relaxed) => tracing::info!(%collector, "spans arrive again"),
            Err(error) if !self.ailing.swap(true, Relaxed) => {
                tracing::warn!(%collector, %error, "spans do not arrive; they are dropped and counted");
            }
            _ => {}
        }
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        self.room.held.fetch_sub(self.spans, Relaxed);
        self.room.count(if self.arrived { "exported" } else { "failed" }, self.spans);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry::InstrumentationScope;
    use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
    use opentelemetry_sdk::trace::{SpanEvents, SpanLinks};
    use prometheus::Opts;
    use std::time::SystemTime;
    use tokio::sync::Semaphore;

    /// A collector that takes a batch for each permit, and answers as told.
    #[derive(Debug)]
    struct Collector {
        permits: Arc<Semaphore>,
        works: bool,
    }

    impl SpanExporter for Collector {
        async fn export(&self, _: Vec<SpanData>) -> OTelSdkResult {
            self.permits.acquire().await.expect("open").forget();
            if self.works { Ok(()) } else { Err(OTelSdkError::InternalFailure("503".into())) }
        }
    }

    fn span() -> SpanData {
        let (trace, id) = (TraceId::from(1u128), SpanId::from(1u64));
        SpanData {
            span_context: SpanContext::new(trace, id, TraceFlags::SAMPLED, false, TraceState::NONE),
            parent_span_id: SpanId::INVALID,
            parent_span_is_remote: false,
            span_kind: SpanKind::Client,
            name: "GET".into(),
            start_time: SystemTime::UNIX_EPOCH,
            end_time: SystemTime::UNIX_EPOCH,
            attributes: Vec::new(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: InstrumentationScope::default(),
        }
    }

    fn queue(permits: usize, works: bool, timeout: Duration) -> (Arc<Queue>, IntCounterVec) {
        let spans = IntCounterVec::new(Opts::new("spans", "spans"), &["result"]).unwrap();
        let collector = Collector { permits: Arc::new(Semaphore::new(permits)), works };
        let resource = Resource::builder_empty().build();
        (Arc::new(Queue::new(collector, "c".into(), &resource, timeout, spans.clone())), spans)
    }

    fn counts(spans: &IntCounterVec) -> [u64; 3] {
        ["exported", "failed", "dropped"].map(|result| spans.with_label_values(&[result]).get())
    }

    #[tokio::test]
    async fn a_collector_that_never_answers_costs_bounded_memory_and_nobody_waits() {
        let (queue, spans) = queue(0, true, Duration::from_secs(3600));
        for _ in 0..3 * LIMIT {
            queue.push(span());
        }
        tokio::task::yield_now().await;
        (0..10).for_each(|_| queue.push(span()));
        assert_eq!(queue.held(), LIMIT);
        assert_eq!(counts(&spans), [0, 0, (2 * LIMIT + 10) as u64]);
    }

    #[tokio::test]
    async fn an_export_that_takes_too_long_is_given_up_and_counted() {
        let (queue, spans) = queue(0, true, Duration::from_millis(20));
        (0..BATCH).for_each(|_| queue.push(span()));
        while queue.held() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(counts(&spans), [0, BATCH as u64, 0]);
    }

    #[tokio::test]
    async fn a_collector_that_answers_errors_gets_each_span_once() {
        let (queue, spans) = queue(100, false, Duration::from_secs(60));
        (0..BATCH + 1).for_each(|_| queue.push(span()));
        Arc::clone(&queue).close().await;
        assert_eq!(counts(&spans), [0, BATCH as u64 + 1, 0]);
    }

    #[tokio::test]
    async fn what_waits_at_the_end_is_sent_and_what_comes_later_is_counted() {
        let (queue, spans) = queue(100, true, Duration::from_secs(60));
        (0..LIMIT).for_each(|_| queue.push(span()));
        Arc::clone(&queue).close().await;
        queue.push(span());
        Arc::clone(&queue).close().await;
        assert_eq!(counts(&spans), [LIMIT as u64, 0, 1]);
    }
}
