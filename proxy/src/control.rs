//! The control plane of one sidecar: configuration, identity, telemetry and administration, on a runtime of their
//! own beside the workers.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::Instant;
use weft_core::identity::{IdentityError, SpiffeId, TrustDomain};
use weft_core::snapshot::Snapshot;

use crate::admin::Admin;
use crate::app_metrics::AppMetrics;
use crate::clock::Clock;
use crate::collectors;
use crate::config::stream::sweep_forever;
use crate::config::{ConfigStream, Mesh, StreamParts};
use crate::controller::ControllerLink;
use crate::dial::Dialer;
use crate::drain::{Phase, Shutdown};
use crate::health::{Health, Scrape};
use crate::identity::{Credentials, IdentityKeeper, KeeperParts};
use crate::memory::{self, Cgroups};
use crate::overload::Overload;
use crate::probes::{Probes, ProbesError};
use crate::settings::{PodSettings, Settings};
use crate::state::{StateDir, StateError};
use crate::telemetry::log::LogLevel;
use crate::telemetry::{Telemetry, sweep_forever as sweep_series};
use crate::tls::Tls;
use crate::web::{self, Answers};

/// What workers take from the control plane; cheap to clone.
#[derive(Clone, Debug)]
pub struct Control {
    /// The configuration.
    pub mesh: Mesh,
    /// Handshakes: certificate and trust are kept current.
    pub tls: Tls,
    /// The certificate.
    pub credentials: Credentials,
    /// Metrics and logs.
    pub telemetry: Telemetry,
    /// The end of the sidecar.
    pub shutdown: Shutdown,
    /// From when the clock of ejections counts.
    pub epoch: Instant,
    /// The sidecar's own limits.
    pub overload: Overload,
    /// To be set when the workers listen.
    pub listening: Arc<watch::Sender<bool>>,
}

/// What runs on the control plane's runtime.
pub struct ControlTasks {
    control: Control,
    stream: ConfigStream,
    keeper: IdentityKeeper<ControllerLink>,
    admin: (TcpListener, Admin),
    health: (Vec<TcpListener>, Health),
    metrics: Vec<TcpListener>,
    dialer: Dialer,
    app_metrics: Option<AppMetrics>,
    memory_watch: bool,
}

/// Why the control plane cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// A port cannot be listened on.
    #[error("{what} cannot listen on port {port}: {error}; another port can be given by {setting}")]
    Listen {
        /// Who listens.
        what: &'static str,
        /// Where.
        port: u16,
        /// Why not.
        error: io::Error,
        /// The setting.
        setting: &'static str,
    },
    /// Namespace, account or trust domain make no identity.
    #[error(
        "this pod has no identity: {0}; check WEFT_TRUST_DOMAIN, WEFT_POD_NAMESPACE and WEFT_SERVICE_ACCOUNT"
    )]
    Identity(#[from] IdentityError),
    /// The folder of state cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// What injection wrote of probes cannot be read.
    #[error(transparent)]
    Probes(#[from] ProbesError),
    /// What injection wrote of the application's metrics cannot be read.
    #[error("WEFT_APP_METRICS: {0}")]
    AppMetrics(String),
}

impl Control {
    /// Opens listeners and takes what an earlier process left into use. To be called on the control plane's runtime.
    ///
    /// # Errors
    /// [`ControlError`]: which setting to change.
    pub fn start(
        settings: &Settings,
        clock: Clock,
        log: LogLevel,
        overload: Overload,
    ) -> Result<(Self, ControlTasks), ControlError> {
        let state = StateDir::open(settings.controller.state_dir.as_deref())?;
        let (mesh, asks) = Mesh::new(settings.controller.lookup_timeout);
        let credentials = Credentials::new();
        let control = Self {
            tls: Tls::new(credentials.clone(), clock.clone()),
            telemetry: Telemetry::new(settings.logs.access_log, clock.clone()),
            shutdown: Shutdown::new(),
            overload,
            epoch: Instant::now(),
            listening: Arc::new(watch::Sender::new(false)),
            mesh: mesh.clone(),
            credentials: credentials.clone(),
        };
        let dialer = Dialer { mark: settings.host.mark };
        let link = ControllerLink::new(settings.controller.clone(), dialer, clock.clone());
        let metrics = control.telemetry.metrics.clone();
        let keeper = IdentityKeeper::new(KeeperParts {
            authority: link.clone(),
            identity: identity(&settings.pod)?,
            life: settings.controller.certificate_ttl,
            state: state.clone(),
            clock: clock.clone(),
            metrics: metrics.clone(),
            credentials,
        });
        let before_swap = trust_follower(control.tls.clone());
        let parts = StreamParts { mesh, asks, link, state, clock: clock.clone(), metrics, before_swap };
        let stream = ConfigStream::new(parts, &settings.controller);
        let tasks = ControlTasks {
            admin: (listen_admin(settings.ports.admin)?, control.admin(clock, log, dialer)),
            health: (
                listen("health", settings.ports.health, "WEFT_HEALTH_PORT")?,
                control.health(probes(&settings.pod, dialer)?),
            ),
            metrics: listen("metrics", settings.ports.metrics, "WEFT_METRICS_PORT")?,
            app_metrics: app_metrics(&settings.pod, dialer)?,
            memory_watch: settings.host.memory_watch,
            control: control.clone(),
            dialer,
            stream,
            keeper,
        };
        Ok((control, tasks))
    }

    fn admin(&self, clock: Clock, log: LogLevel, dialer: Dialer) -> Admin {
        Admin {
            mesh: self.mesh.clone(),
            credentials: self.credentials.clone(),
            log,
            telemetry: self.telemetry.clone(),
            shutdown: self.shutdown.clone(),
            overload: self.overload.clone(),
            clock,
            epoch: self.epoch,
            dialer,
        }
    }

    fn health(&self, probes: Probes) -> Health {
        Health {
            probes,
            mesh: self.mesh.clone(),
            credentials: self.credentials.clone(),
            shutdown: self.shutdown.clone(),
            listening: self.listening.subscribe(),
        }
    }
}

impl ControlTasks {
    /// Runs until the sidecar is over.
    pub async fn run(self) {
        let Self { control, stream, keeper, dialer, app_metrics: app, memory_watch, .. } = self;
        let (admin_at, admin) = self.admin;
        let ((health_at, health), metrics) = (self.health, self.metrics);
        let (telemetry, mesh) = (control.telemetry.clone(), control.mesh.clone());
        let scrape = Arc::new(Scrape { telemetry, mesh, epoch: control.epoch, app });
        let shutdown = control.shutdown.clone();
        tokio::spawn(stream.run());
        tokio::spawn(keeper.run());
        tokio::spawn(sweep_forever(control.mesh.clone()));
        tokio::spawn(sweep_series(control.telemetry.clone()));
        tokio::spawn(collectors::follow(control.mesh.clone(), control.telemetry.clone(), dialer));
        if memory_watch {
            let (overload, metrics) = (control.overload.clone(), control.telemetry.metrics.clone());
            tokio::spawn(memory::follow(|| Cgroups::default().memory(), overload, metrics));
        }
        tokio::spawn(web::serve(admin_at, Arc::new(admin)));
        serve_all(health_at, &Arc::new(health));
        serve_all(metrics, &scrape);
        shutdown.reached(Phase::Over).await;
        control.mesh.flush().await;
    }
}

fn serve_all<A: Answers>(listeners: Vec<TcpListener>, answers: &Arc<A>) {
    for listener in listeners {
        tokio::spawn(web::serve(listener, answers.clone()));
    }
}

/// Hands the trust domains' roots to handshakes whenever they change, before the snapshot that holds them is in force.
fn trust_follower(tls: Tls) -> Box<dyn Fn(&Snapshot) + Send> {
    let known = Mutex::new(Vec::new());
    Box::new(move |snapshot| {
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(workload) = snapshot.workload().filter(|workload| workload.trust != *known) else { return };
        if let Err(error) = tls.set_trust(&workload.trust) {
            tracing::error!(%error, "the roots of the trust domains cannot be used, those of before stay");
        }
        known.clone_from(&workload.trust);
    })
}

fn identity(pod: &PodSettings) -> Result<SpiffeId, IdentityError> {
    SpiffeId::of_service_account(&TrustDomain::new(&pod.trust_domain)?, &pod.namespace, &pod.service_account)
}

fn probes(pod: &PodSettings, dialer: Dialer) -> Result<Probes, ProbesError> {
    Probes::read(pod.app_probes.as_deref(), pod.ips.first().copied(), dialer)
}

fn app_metrics(pod: &PodSettings, dialer: Dialer) -> Result<Option<AppMetrics>, ControlError> {
    let parse = |text: &str| AppMetrics::parse(text, dialer);
    pod.app_metrics.as_deref().map(parse).transpose().map_err(ControlError::AppMetrics)
}

fn listen_admin(at: SocketAddr) -> Result<TcpListener, ControlError> {
    let refused =
        |error| ControlError::Listen { what: "admin", port: at.port(), error, setting: "WEFT_ADMIN" };
    web::listen(at).map_err(refused)
}

fn listen(what: &'static str, port: u16, setting: &'static str) -> Result<Vec<TcpListener>, ControlError> {
    web::listen_everywhere(port).map_err(|error| ControlError::Listen { what, port, error, setting })
}
