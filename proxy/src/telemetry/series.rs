//! Time series of requests and connections: a shard per worker, written by that worker alone.
//!
//! A worker adds to its shard with plain loads and stores; a scrape sums the shards, and holds the list of them only for
//! as long as it takes to copy it: what it shows is written afterwards, series by series.
//!
//! The number of series is bounded:
//! beyond the limit everything is counted on one coarse series, and a series that nothing was added to for long ends.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};

use weft_core::model::telemetry::{Metric, Metrics, Sides};
use weft_core::reason::Reason;

use super::idle::Idle;
use super::labels::{Outcome, ScopeLabels, is_grpc};
use super::parts::Part;
use super::shown::{Series, shown};
use super::text::digits;

/// The most series of requests, and the most of connections.
pub const MAX_SERIES: usize = 2000;
/// Upper bounds of the histograms' buckets, in the metric's unit: Envoy's, hence Istio's.
const BOUNDS: [(u64, &str); 19] = [
    (500, "0.5"),
    (1_000, "1"),
    (5_000, "5"),
    (10_000, "10"),
    (25_000, "25"),
    (50_000, "50"),
    (100_000, "100"),
    (250_000, "250"),
    (500_000, "500"),
    (1_000_000, "1000"),
    (2_500_000, "2500"),
    (5_000_000, "5000"),
    (10_000_000, "10000"),
    (30_000_000, "30000"),
    (60_000_000, "60000"),
    (300_000_000, "300000"),
    (600_000_000, "600000"),
    (1_800_000_000, "1800000"),
    (3_600_000_000, "3600000"),
];

/// All series.
#[derive(Debug)]
pub struct Store {
    requests: Table<RequestShard>,
    tcp: Table<TcpShard>,
}

/// What one worker counted of requests with the same labels.
#[derive(Debug, Default)]
pub(super) struct RequestShard {
    duration_micros: Histogram,
    request_bytes: Histogram,
    response_bytes: Histogram,
    request_messages: Cell,
    response_messages: Cell,
    ended: AtomicBool,
}

/// What one worker counted of connections with the same labels.
#[derive(Debug, Default)]
pub(super) struct TcpShard {
    opened: Cell,
    closed: Cell,
    sent: Cell,
    received: Cell,
    ended: AtomicBool,
}

/// A number that one thread writes and others may read.
#[derive(Debug, Default)]
struct Cell(AtomicU64);

#[derive(Debug, Default)]
struct Histogram {
    buckets: [Cell; BOUNDS.len() + 1],
    sum: Cell,
}

#[derive(Debug)]
struct Table<S> {
    limit: usize,
    /// By their labels as they are shown: what is shown alike is one series.
    entries: Mutex<HashMap<Arc<str>, Entry<S>>>,
}

#[derive(Debug, Default)]
struct Entry<S> {
    shards: Vec<(usize, Arc<S>)>,
    idle: Idle,
}

/// What the two kinds of shards have in common.
pub(super) trait Shard: Default {
    fn activity(&self) -> u64;
    fn end(&self);
}

// === impl Store ===

impl Store {
    /// No series yet, and at most `limit` of each kind.
    pub fn new(limit: usize) -> Self {
        Self { requests: Table::new(limit), tcp: Table::new(limit) }
    }

    /// The worker's shard of a request's series.
    pub(super) fn request(
        &self,
        labels: &Arc<ScopeLabels>,
        outcome: Outcome,
        worker: usize,
    ) -> Arc<RequestShard> {
        let full = || labels.overflow().render_request(&outcome.coarse());
        self.requests.shard(labels.render_request(&outcome), full, worker)
    }

    /// The worker's shard of a connection's series.
    pub(super) fn tcp(
        &self,
        labels: &Arc<ScopeLabels>,
        reason: Option<Reason>,
        worker: usize,
    ) -> Arc<TcpShard> {
        self.tcp.shard(labels.render_tcp(reason), || labels.overflow().render_tcp(None), worker)
    }

    /// Ends series that nothing was added to for long. Called once a minute.
    pub fn sweep(&self) {
        self.requests.sweep();
        self.tcp.sweep();
    }

    /// How many series there are.
    pub fn len(&self) -> usize {
        self.requests.lock().len() + self.tcp.lock().len()
    }

    /// Whether there is no series.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every series in Prometheus' text format, as a Telemetry wants them shown.
    pub(super) fn parts(&self, told: Sides<Metrics>) -> impl Iterator<Item = Part> + Send + use<> {
        let told = Arc::new(told);
        let (requests, connections) = (Arc::new(self.requests.series()), Arc::new(self.tcp.series()));
        requests_of(&requests, &told).chain(messages(&requests, &told)).chain(tcp(&connections, &told))
    }
}

fn requests_of(
    series: &Arc<Series<RequestShard>>,
    told: &Arc<Sides<Metrics>>,
) -> impl Iterator<Item = Part> + Send + use<> {
    type Pick = fn(&RequestShard) -> &Histogram;
    let histograms: [(Metric, u64, Pick); 3] = [
        (Metric::RequestDuration, 1000, |s| &s.duration_micros),
        (Metric::RequestSize, 1, |s| &s.request_bytes),
        (Metric::ResponseSize, 1, |s| &s.response_bytes),
    ];
    let count = counter(series, told, Metric::RequestCount, |s| s.duration_micros.count());
    let (series, told) = (Arc::clone(series), Arc::clone(told));
    count.chain(histograms.into_iter().flat_map(move |(metric, scale, pick)| {
        let write = move |text: &mut String, labels: &str, shards: &[Arc<RequestShard>]| {
            let parts: Vec<_> = shards.iter().map(|shard| pick(shard)).collect();
            render_histogram(text, metric.name(), labels, scale, &parts);
        };
        family(&series, &told, metric, "histogram", write)
    }))
}

/// Of gRPC alone.
fn messages(
    series: &Arc<Series<RequestShard>>,
    told: &Arc<Sides<Metrics>>,
) -> impl Iterator<Item = Part> + Send + use<> {
    let grpc = series.iter().filter(|(labels, _)| is_grpc(labels)).cloned().collect();
    let grpc: Arc<Series<RequestShard>> = Arc::new(grpc);
    let requests = counter(&grpc, told, Metric::GrpcRequestMessages, |s| s.request_messages.get());
    requests.chain(counter(&grpc, told, Metric::GrpcResponseMessages, |s| s.response_messages.get()))
}

fn tcp(
    series: &Arc<Series<TcpShard>>,
    told: &Arc<Sides<Metrics>>,
) -> impl Iterator<Item = Part> + Send + use<> {
    let opened = counter(series, told, Metric::TcpOpenedConnections, |s| s.opened.get());
    let closed = counter(series, told, Metric::TcpClosedConnections, |s| s.closed.get());
    let sent = counter(series, told, Metric::TcpSentBytes, |s| s.sent.get());
    let received = counter(series, told, Metric::TcpReceivedBytes, |s| s.received.get());
    opened.chain(closed).chain(sent).chain(received)
}

// === impl shards ===

impl RequestShard {
    /// Counts one request.
    pub(super) fn add(&self, micros: u64, request_bytes: u64, response_bytes: u64) {
        self.duration_micros.add(micros, micros);
        self.request_bytes.add(request_bytes.saturating_mul(1000), request_bytes);
        self.response_bytes.add(response_bytes.saturating_mul(1000), response_bytes);
    }

    /// Counts the messages of a gRPC request, and of its response.
    pub(super) fn add_messages(&self, (request, response): (u64, u64)) {
        self.request_messages.add(request);
        self.response_messages.add(response);
    }

    /// Whether the series is no longer shown: another shard is to be asked for.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Relaxed)
    }
}

impl Shard for RequestShard {
    fn activity(&self) -> u64 {
        self.duration_micros.count()
    }

    fn end(&self) {
        self.ended.store(true, Relaxed);
    }
}

impl TcpShard {
    pub(super) fn opened(&self) {
        self.opened.add(1);
    }

    pub(super) fn closed(&self) {
        self.closed.add(1);
    }

    pub(super) fn bytes(&self, sent: u64, received: u64) {
        self.sent.add(sent);
        self.received.add(received);
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Relaxed)
    }
}

impl Shard for TcpShard {
    fn activity(&self) -> u64 {
        [&self.opened, &self.closed, &self.sent, &self.received]
            .iter()
            .map(|c| c.get())
            .fold(0, u64::wrapping_add)
    }

    fn end(&self) {
        self.ended.store(true, Relaxed);
    }
}

impl Cell {
    fn add(&self, by: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(by), Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl Histogram {
    /// `thousandths` is the value in thousandths of the metric's unit, by which the bucket is found.
    fn add(&self, thousandths: u64, value: u64) {
        let bucket = BOUNDS.iter().position(|(bound, _)| thousandths <= *bound).unwrap_or(BOUNDS.len());
        self.buckets[bucket].add(1);
        self.sum.add(value);
    }

    fn count(&self) -> u64 {
        self.buckets.iter().map(Cell::get).sum()
    }
}

// === impl Table ===

impl<S: Shard> Table<S> {
    fn new(limit: usize) -> Self {
        Self { limit, entries: Mutex::default() }
    }

    fn shard(&self, labels: String, full: impl FnOnce() -> String, worker: usize) -> Arc<S> {
        let mut entries = self.lock();
        let known = entries.len() < self.limit || entries.contains_key(labels.as_str());
        let entry = entries.entry(if known { labels } else { full() }.into()).or_default();
        if let Some((_, shard)) = entry.shards.iter().find(|(w, _)| *w == worker) {
            return shard.clone();
        }
        let shard = Arc::new(S::default());
        entry.shards.push((worker, shard.clone()));
        shard
    }

    fn sweep(&self) {
        self.lock().retain(|_, entry| entry.is_wanted());
    }

    fn series(&self) -> Series<S> {
        let shards = |entry: &Entry<S>| entry.shards.iter().map(|(_, shard)| Arc::clone(shard)).collect();
        self.lock().iter().map(|(labels, entry)| (Arc::clone(labels), shards(entry))).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Entry<S>>> {
        self.entries.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl<S: Shard> Entry<S> {
    fn is_wanted(&mut self) -> bool {
        let activity = self.shards.iter().map(|(_, s)| s.activity()).fold(0, u64::wrapping_add);
        let wanted = !self.idle.is_over(activity);
        if !wanted {
            self.shards.iter().for_each(|(_, shard)| shard.end());
        }
        wanted
    }
}

// === text ===

/// All series of a metric. `write` is given the labels of each, and what is added up under them.
fn family<S, F>(
    series: &Arc<Series<S>>,
    told: &Arc<Sides<Metrics>>,
    metric: Metric,
    kind: &'static str,
    write: F,
) -> impl Iterator<Item = Part> + Send + use<S, F>
where
    S: Send + Sync + 'static,
    F: Fn(&mut String, &str, &[Arc<S>]) + Copy + Send + 'static,
{
    let (series, told) = (Arc::clone(series), Arc::clone(told));
    let head: Part = Box::new(move |text| {
        let _ = writeln!(text, "# TYPE {} {kind}", metric.name());
    });
    let lines = std::iter::once_with(move || shown(&told, metric, &series)).flatten();
    let part = move |(labels, shards): (Arc<str>, Vec<Arc<S>>)| -> Part {
        Box::new(move |text| write(text, &labels, &shards))
    };
    std::iter::once(head).chain(lines.map(part))
}

fn counter<S: Send + Sync + 'static>(
    series: &Arc<Series<S>>,
    told: &Arc<Sides<Metrics>>,
    metric: Metric,
    value: fn(&S) -> u64,
) -> impl Iterator<Item = Part> + Send + use<S> {
    family(series, told, metric, "counter", move |text, labels, shards| {
        let sum = shards.iter().map(|shard| value(shard)).sum();
        line(text, &[metric.name(), "{", labels, "} "], sum);
    })
}

/// A scrape has many lines, and each most of its bytes in common with others: they are copied, not formatted.
fn line(text: &mut String, parts: &[&str], value: u64) {
    parts.iter().for_each(|part| text.push_str(part));
    text.push_str(digits(value, &mut [0; 20]));
    text.push('\n');
}

fn render_histogram(text: &mut String, name: &str, labels: &str, scale: u64, parts: &[&Histogram]) {
    let mut total = 0;
    let bounds = BOUNDS.iter().map(|(_, bound)| *bound).chain(["+Inf"]);
    for (i, bound) in bounds.enumerate() {
        total += parts.iter().map(|h| h.buckets[i].get()).sum::<u64>();
        line(text, &[name, "_bucket{", labels, ",le=\"", bound, "\"} "], total);
    }
    let sum: u64 = parts.iter().map(|h| h.sum.get()).sum();
    let _ = writeln!(text, "{name}_sum{{{labels}}} {}", sum as f64 / scale as f64);
    line(text, &[name, "_count{", labels, "} "], total);
}
