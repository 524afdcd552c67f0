//! What the controller counts.

use prometheus::{Encoder, Histogram, HistogramOpts, IntCounter, IntGauge, Registry, TextEncoder};

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
        self.registry.register(Box::new(self.convergence.clone()))?;
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
