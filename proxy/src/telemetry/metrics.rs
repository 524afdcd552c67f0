//! Metrics of the sidecar itself, by the `prometheus` crate.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus::{
    Encoder, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder, core::Collector,
};

use weft_core::overload::Memory;

use super::idle::Idle;
use super::process;

/// Metrics of the sidecar itself.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// `weft_rejected_total{reason,policy}`: what the mesh refused.
    pub rejected: IntCounterVec,
    /// `weft_authorization_dry_run_total{result,policy}`: what policies on dry run would have decided.
    pub dry_run: IntCounterVec,
    /// `weft_panics_total`: tasks that ended by a defect.
    pub panics: IntCounter,
    /// `weft_access_log_dropped_total`.
    pub access_log_dropped: IntCounter,
    /// `weft_spans_total{result}`: `exported`, `failed` (the collector did not take them), `dropped` (no room).
    pub spans: IntCounterVec,
    /// `weft_tls_handshakes_total{result}`: of clients; `ok`, or what was wrong.
    pub handshakes: IntCounterVec,
    /// `weft_app_scrape_failures_total`: scrapes in which the application's own metrics were missing.
    pub app_scrape_failures: IntCounter,
    /// `weft_controller_connected`: 1 while the stream is up.
    pub controller_connected: IntGauge,
    /// `weft_controller_connections_total{result}`.
    pub controller_connections: IntCounterVec,
    /// `weft_config_updates_total{result}`: `accepted`, `rejected`.
    pub config_updates: IntCounterVec,
    /// `weft_config_resources`: resources held.
    pub config_resources: IntGauge,
    /// `weft_certificate_requests_total{result}`.
    pub certificate_requests: IntCounterVec,
    /// `weft_connections_active{direction}` counters are read from the listeners: accepted and ended.
    pub connections: IntCounterVec,
    /// `weft_overload_level`: 0 to 3, as memory is used up.
    pub overload_level: IntGauge,
    memory: Mutex<Option<Memory>>,
    config_seen: AtomicU64,
    certificate_ends: AtomicU64,
    /// Series that are named after policies, which come and go.
    of_policies: Mutex<[Swept; 2]>,
}

/// Counters whose series end when nothing was added to them for long.
#[derive(Debug)]
struct Swept {
    counters: IntCounterVec,
    idle: HashMap<BTreeMap<String, String>, Idle>,
}

impl Metrics {
    /// Metrics that begin at zero.
    pub fn new() -> Self {
        let registry = Registry::new();
        let r = &registry;
        let rejected = counters(r, "weft_rejected_total", "Refused by the mesh.", &["reason", "policy"]);
        let dry_run = counters(
            r,
            "weft_authorization_dry_run_total",
            "What policies on dry run would have decided.",
            &["result", "policy"],
        );
        Self {
            of_policies: Mutex::new([&rejected, &dry_run].map(Swept::new)),
            rejected,
            dry_run,
            panics: counter(r, "weft_panics_total", "Tasks that ended by a defect."),
            access_log_dropped: counter(
                r,
                "weft_access_log_dropped_total",
                "Lines that nobody read in time.",
            ),
            spans: counters(r, "weft_spans_total", "Spans by what became of them.", &["result"]),
            handshakes: counters(r, "weft_tls_handshakes_total", "Handshakes of clients.", &["result"]),
            app_scrape_failures: counter(
                r,
                "weft_app_scrape_failures_total",
                "Scrapes in which the application's own metrics were missing.",
            ),
            controller_connected: gauge(
                r,
                "weft_controller_connected",
                "1 while the controller is connected.",
            ),
            controller_connections: counters(
                r,
                "weft_controller_connections_total",
                "Tries to reach the controller.",
                &["result"],
            ),
            config_updates: counters(r, "weft_config_updates_total", "Resources received.", &["result"]),
            config_resources: gauge(r, "weft_config_resources", "Resources held."),
            certificate_requests: counters(
                r,
                "weft_certificate_requests_total",
                "Certificates asked for.",
                &["result"],
            ),
            connections: counters(r, "weft_connections_total", "Connections.", &["direction", "event"]),
            overload_level: gauge(
                r,
                "weft_overload_level",
                "0 fine, 1 idle connections end, 2 requests are shed, 3 connections too.",
            ),
            memory: Mutex::default(),
            config_seen: AtomicU64::new(0),
            certificate_ends: AtomicU64::new(0),
            registry,
        }
    }

    /// The controller was heard of at `now`.
    pub fn config_seen(&self, now: SystemTime) {
        self.config_seen.store(seconds(now), Relaxed);
    }

    /// Memory as it was looked at last; `None` where nothing limits it.
    pub fn memory(&self, memory: Option<Memory>) {
        *self.memory.lock().unwrap_or_else(PoisonError::into_inner) = memory;
    }

    /// Memory as it was looked at last.
    pub fn last_memory(&self) -> Option<Memory> {
        *self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The certificate in use ends at `end`.
    pub fn certificate_ends(&self, end: SystemTime) {
        self.certificate_ends.store(seconds(end), Relaxed);
    }

    /// How long ago the stream broke, or was last heard of; zero while it is up; `None` if nothing was ever heard.
    pub fn staleness(&self, now: SystemTime) -> Option<Duration> {
        if self.controller_connected.get() == 1 {
            return Some(Duration::ZERO);
        }
        let seen = self.config_seen.load(Relaxed);
        (seen > 0).then(|| Duration::from_secs(seconds(now).saturating_sub(seen)))
    }

    /// Ends series of policies that have decided nothing for long: they may be gone. Called once a minute.
    pub fn sweep(&self) {
        let mut all = self.of_policies.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter_mut().for_each(Swept::sweep);
    }

    /// Appends all of them in Prometheus' text format.
    pub fn render(&self, text: &mut String, now: SystemTime) {
        let mut bytes = Vec::new();
        if TextEncoder::new().encode(&self.registry.gather(), &mut bytes).is_ok() {
            text.push_str(&String::from_utf8_lossy(&bytes));
        }
        self.render_times(text, now);
        process::render(text, now);
    }

    fn render_times(&self, text: &mut String, now: SystemTime) {
        use std::fmt::Write;
        let mut put = |name: &str, value: i64| {
            let _ = writeln!(text, "# TYPE {name} gauge\n{name} {value}");
        };
        if let Some(stale) = self.staleness(now) {
            put("weft_config_staleness_seconds", stale.as_secs() as i64);
        }
        if let Some(memory) = self.last_memory() {
            put("weft_memory_used_bytes", memory.used as i64);
            put("weft_memory_limit_bytes", memory.limit as i64);
        }
        let ends = self.certificate_ends.load(Relaxed);
        if ends > 0 {
            put("weft_certificate_expiry_timestamp_seconds", ends as i64);
            put("weft_certificate_remaining_seconds", ends as i64 - seconds(now) as i64);
        }
    }
}

impl Swept {
    fn new(counters: &IntCounterVec) -> Self {
        Self { counters: counters.clone(), idle: HashMap::new() }
    }

    fn sweep(&mut self) {
        let mut before = std::mem::take(&mut self.idle);
        for metric in self.counters.collect().iter().flat_map(|family| family.get_metric()) {
            let pairs = metric.get_label().iter();
            let labels: BTreeMap<_, _> =
                pairs.map(|pair| (pair.name().to_owned(), pair.value().to_owned())).collect();
            let mut idle = before.remove(&labels).unwrap_or_default();
            if idle.is_over(metric.get_counter().get_value() as u64) {
                let labels: HashMap<&str, &str> =
                    labels.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
                // It was there a moment ago; whoever removed it did what is wanted.
                let _ = self.counters.remove(&labels);
            } else {
                self.idle.insert(labels, idle);
            }
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn counter(registry: &Registry, name: &str, help: &str) -> IntCounter {
    registered(registry, IntCounter::new(name, help).expect("the name of a metric is valid"))
}

fn gauge(registry: &Registry, name: &str, help: &str) -> IntGauge {
    registered(registry, IntGauge::new(name, help).expect("the name of a metric is valid"))
}

fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    registered(
        registry,
        IntCounterVec::new(Opts::new(name, help), labels).expect("the name of a metric is valid"),
    )
}

fn registered<M: Collector + Clone + 'static>(registry: &Registry, metric: M) -> M {
    registry.register(Box::new(metric.clone())).expect("each metric is registered once");
    metric
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_of_policies_end_when_they_decide_nothing_any_more() {
        let metrics = Metrics::new();
        let refused = |policy: &str| metrics.rejected.with_label_values(&["policy_denied", policy]).inc();
        let shown = |policy: &str| {
            let mut text = String::new();
            metrics.render(&mut text, UNIX_EPOCH);
            text.contains(&format!("weft_rejected_total{{policy=\"{policy}\",reason=\"policy_denied\"}} "))
        };
        refused("default/gone");
        for _ in 0..100 {
            refused("default/lives");
            metrics.sweep();
        }
        assert!(shown("default/lives") && !shown("default/gone"));
        refused("default/gone");
        metrics.sweep();
        assert!(shown("default/gone"), "it is back");
        assert_eq!(metrics.rejected.with_label_values(&["policy_denied", "default/lives"]).get(), 100);
    }
}
