//! Readiness and liveness, and the metrics that Prometheus scrapes.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use tokio::time::Instant;

use crate::app_metrics::{AppMetrics, without_end};
use crate::config::Mesh;
use crate::drain::{Phase, Shutdown};
use crate::identity::Credentials;
use crate::probes::Probes;
use crate::telemetry::{Telemetry, clusters};
use crate::web::{self, Answer, Answers, Question};

/// How long a startup probe is kept waiting for readiness; the kubelet waits for 3 seconds.
const PATIENCE: Duration = Duration::from_millis(2500);
/// How often readiness is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(20);

/// Answers on the health port: `/healthz/ready`, `/healthz/startup`, `/healthz/live`, and the application's probes under `/app-health/`.
#[derive(Clone, Debug)]
pub struct Health {
    /// The configuration.
    pub mesh: Mesh,
    /// The certificate.
    pub credentials: Credentials,
    /// The end of the sidecar.
    pub shutdown: Shutdown,
    /// Becomes true when the workers listen.
    pub listening: tokio::sync::watch::Receiver<bool>,
    /// The application's probes.
    pub probes: Probes,
}

/// Answers on the metrics port: `/stats/prometheus`, `/metrics`.
#[derive(Clone, Debug)]
pub struct Scrape {
    /// What is counted.
    pub telemetry: Telemetry,
    /// Whose clusters are shown.
    pub mesh: Mesh,
    /// From when the clock of ejections counts.
    pub epoch: Instant,
    /// The application's own metrics.
    pub app: Option<AppMetrics>,
}

impl Health {
    /// What the sidecar still waits for before it can take traffic (hardening E4); empty: it is ready.
    pub fn missing(&self) -> Vec<&'static str> {
        let checks = [
            (!self.mesh.is_ready(), "the controller has not sent this pod's configuration"),
            (self.credentials.current().is_none(), "there is no certificate"),
            (!*self.listening.borrow(), "the listeners are not open"),
            (self.shutdown.phase() != Phase::Serving, "the sidecar is draining"),
        ];
        checks.into_iter().filter(|(is_missing, _)| *is_missing).map(|(_, what)| what).collect()
    }

    /// Readiness, for which it waits a while: pods start as soon as their sidecar is ready, not when they ask next.
    async fn started(&self) -> Answer {
        let until = Instant::now() + PATIENCE;
        while !self.missing().is_empty() && Instant::now() < until {
            tokio::time::sleep(LOOK).await;
        }
        self.ready()
    }

    fn ready(&self) -> Answer {
        match self.missing().as_slice() {
            [] => web::text(StatusCode::OK, "ready\n"),
            missing => {
                web::text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {}\n", missing.join("; ")))
            }
        }
    }
}

impl Health {
    async fn of_application(&self, path: &str) -> Answer {
        match self.probes.ask(path).await {
            Some(verdict) => {
                // A redirection is good, and the kubelet is not to follow it here.
                let status = if (300..400).contains(&verdict.status) { 200 } else { verdict.status };
                let status = StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
                web::text(status, format!("{}\n", verdict.text))
            }
            None => web::text(StatusCode::NOT_FOUND, "no container has this probe\n"),
        }
    }
}

impl Scrape {
    async fn all(&self) -> Answer {
        let own = self.own();
        let app = match &self.app {
            Some(app) => app.fetch().await.map(Some),
            None => Ok(None),
        };
        let app = app.unwrap_or_else(|reason| {
            tracing::debug!(reason, "the application's metrics cannot be had");
            self.telemetry.metrics.app_scrape_failures.inc();
            None
        });
        let app = app.into_iter().map(|metrics| without_end(&metrics).into());
        web::metrics(own.map(Bytes::from).chain(app))
    }

    /// The sidecar's own, in pieces.
    fn own(&self) -> impl Iterator<Item = String> + Send + use<> {
        let snapshot = self.mesh.snapshot();
        let told = snapshot.workload().map(|workload| workload.telemetry.metrics.clone()).unwrap_or_default();
        let epoch = self.epoch;
        let clusters = std::iter::once_with(move || {
            let now = u64::try_from(epoch.elapsed().as_nanos()).unwrap_or(u64::MAX);
            clusters::render(&snapshot, now)
        });
        self.telemetry.pieces(told).chain(clusters)
    }
}

impl Answers for Health {
    async fn answer(&self, question: Question) -> Answer {
        match question.path.as_str() {
            "/healthz/ready" => self.ready(),
            "/healthz/startup" => self.started().await,
            "/healthz/live" => web::text(StatusCode::OK, "live\n"),
            path if path.starts_with("/app-health/") => self.of_application(path).await,
            _ => web::text(StatusCode::NOT_FOUND, "try /healthz/ready or /healthz/live\n"),
        }
    }
}

impl Answers for Scrape {
    async fn answer(&self, question: Question) -> Answer {
        match question.path.as_str() {
            "/stats/prometheus" | "/metrics" => self.all().await,
            _ => web::text(StatusCode::NOT_FOUND, "try /stats/prometheus or /metrics\n"),
        }
    }
}
