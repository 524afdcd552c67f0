//! What the controller counts.

use prometheus::{
    Encoder, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder,
};

/// Counters and gauges, made once.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    /// Sidecars with an open stream.
    pub sidecars: IntGauge,
    /// Responses sent.
    pub pushes: IntCounter,
    /// Resources in them.
    pub resources: IntCounter,
    /// Bytes of those resources.
    pub bytes: IntCounter,
    /// Resources that sidecars refused.
    pub refused: IntCounter,
    /// Streams that ended because a message broke the protocol.
    pub broken: IntCounter,
    /// Calls without a token that belongs to a pod.
    pub unauthenticated: IntCounter,
    /// Certificates signed.
    pub certificates: IntCounter,
    /// Tokens shown to the API server, by `result`: `accepted`, `refused`, `cached`, `limited`, `unavailable`.
    pub token_reviews: IntCounterVec,
    /// Whether this replica leads.
    pub leader: IntGauge,
    /// Whether the Secret of the root is gone, or holds another than the one in use.
    pub root_changed: IntGauge,
    /// Statuses of objects, by `result`: `written`, `conflict`, `failed`.
    pub status_writes: IntCounterVec,
    /// Trust bundles written into namespaces, by `result`: `written`, `failed`.
    pub bundle_writes: IntCounterVec,
    /// Seconds from the publication of a world to a sidecar's answer that it has it.
    pub convergence: Histogram,
}

impl Metrics {
    /// Counters at zero, in a registry of their own.
    ///
    /// # Errors
    /// Two metrics of one name.
    pub fn new() -> Result<Self, prometheus::Error> {
        let buckets = prometheus::exponential_buckets(0.001, 2.0, 14)?;
        let options = HistogramOpts::new(
            "weft_controller_convergence_seconds",
            "From the publication of a world to the answer of a sidecar that was told of it.",
        );
        let metrics = Self {
            registry: Registry::new(),
            sidecars: IntGauge::new("weft_controller_sidecars", "Sidecars with an open stream.")?,
            pushes: IntCounter::new("weft_controller_pushes_total", "Responses sent to sidecars.")?,
            resources: IntCounter::new("weft_controller_resources_total", "Resources sent to sidecars.")?,
            bytes: IntCounter::new("weft_controller_resource_bytes_total", "Bytes of resources sent.")?,
            refused: IntCounter::new("weft_controller_refused_total", "Resources that sidecars refused.")?,
            broken: IntCounter::new(
                "weft_controller_broken_streams_total",
                "Streams that broke the protocol.",
            )?,
            unauthenticated: IntCounter::new(
                "weft_controller_unauthenticated_total",
                "Calls without a valid token.",
            )?,
            certificates: IntCounter::new("weft_controller_certificates_total", "Certificates signed.")?,
            token_reviews: by_result("weft_controller_token_reviews_total", "Tokens of callers.")?,
            leader: IntGauge::new("weft_controller_leader", "1 in the replica that writes objects.")?,
            root_changed: IntGauge::new(
                "weft_controller_root_changed",
                "1 while the Secret of the root is gone, or holds another than the one in use.",
            )?,
            status_writes: by_result("weft_controller_status_writes_total", "Statuses of objects.")?,
            bundle_writes: by_result("weft_controller_bundle_writes_total", "Trust bundles of namespaces.")?,
            convergence: Histogram::with_opts(options.buckets(buckets))?,
        };
        metrics.register()?;
        Ok(metrics)
    }

    /// All of them, as Prometheus reads it.
    pub fn text(&self) -> String {
        let mut out = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut out) {
            tracing::error!("metrics: {error}");
        }
        String::from_utf8(out).unwrap_or_default()
    }

    fn register(&self) -> Result<(), prometheus::Error> {
        self.registry.register(Box::new(self.sidecars.clone()))?;
        self.registry.register(Box::new(self.leader.clone()))?;
        self.registry.register(Box::new(self.root_changed.clone()))?;
        self.registry.register(Box::new(self.convergence.clone()))?;
        for counters in [&self.token_reviews, &self.status_writes, &self.bundle_writes] {
            self.registry.register(Box::new(counters.clone()))?;
        }
        let counters = [
            &self.pushes,
            &self.resources,
            &self.bytes,
            &self.refused,
            &self.broken,
            &self.unauthenticated,
            &self.certificates,
        ];
        counters.into_iter().try_for_each(|counter| self.registry.register(Box::new(counter.clone())))
    }
}

fn by_result(name: &str, help: &str) -> Result<IntCounterVec, prometheus::Error> {
    IntCounterVec::new(Opts::new(name, help), &["result"])
}
