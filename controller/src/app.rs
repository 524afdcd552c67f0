//! The controller as a program: every part started in the order of the configuration's path, and ended together.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use kube::Client;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use weft_core::identity::TrustDomain;
use weft_core::model::workload::TrustBundle;

use crate::ca::authority::Authority;
use crate::ca::service::CertificateService;
use crate::ca::store;
use crate::log::{self, LogLevel};
use crate::metrics::Metrics;
use crate::pipeline::{Pipeline, Published};
use crate::push::epoch::Epoch;
use crate::push::publisher::Publisher;
use crate::push::registry::Registry;
use crate::push::service::PushService;
use crate::push::stream::Pace;
use crate::replica::{Replica, Running};
use crate::server::admin::Admin;
use crate::server::certificate::ServerIdentity;
use crate::server::grpc;
use crate::settings::Settings;
use crate::source::kubernetes::cluster::Cluster;
use crate::source::kubernetes::connect;
use crate::source::kubernetes::progress::Progress;
use crate::source::watch::Directories;
use crate::status::writer::Counts;
use crate::tokens::Authenticator;
use crate::tokens::directory::TokenDirectory;
use crate::webhook::keeper::Served;

/// Batches of changes that may wait for the pipeline.
const BATCHES: usize = 256;
/// How long streams may take to end, and a leader's term.
const ENDING: Duration = Duration::from_secs(5);

/// Runs until the process is told to end (SIGTERM, SIGINT).
///
/// # Errors
/// A setting does not hold: a directory cannot be watched, an address cannot be listened on, the root of trust
/// cannot be read.
pub fn run(settings: Settings) -> Result<()> {
    let log = log::start(&settings.log)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot make a runtime")?;
    runtime.block_on(serve_with(settings, log, CancellationToken::new()))
}

/// Runs until the token is cancelled or the process is told to end.
///
/// # Errors
/// As [`run`].
pub async fn serve(settings: Settings, shutdown: CancellationToken) -> Result<()> {
    serve_with(settings, LogLevel::default(), shutdown).await
}

async fn serve_with(settings: Settings, log: LogLevel, shutdown: CancellationToken) -> Result<()> {
    let client = if settings.kubernetes { Some(connect::client().await?) } else { None };
    let (metrics, progress) = (Metrics::new()?, Progress::default());
    let (worlds, watching) = start_pipeline(&settings, client.clone(), &progress);
    let counts = Counts { registry: Registry::default(), publisher: Publisher::default() };
    let certificate = Arc::<Served>::default();
    let admin = Admin {
        counts: counts.clone(),
        worlds: worlds.clone(),
        metrics: metrics.clone(),
        progress,
        log,
        webhooks: client.is_some().then(|| certificate.clone()),
    };
    let people = tokio::spawn(admin.serve(listen(settings.admin).await?, shutdown.clone()));
    let parts = Parts { settings, client, worlds, counts, metrics, certificate };
    let mut serving = tokio::spawn(parts.serve(shutdown.clone()));
    let ended = tokio::select! {
        served = &mut serving => {
            shutdown.cancel();
            return served?;
        }
        result = watching => result,
        () = told_to_end(shutdown.clone()) => Ok(()),
    };
    shutdown.cancel();
    if timeout(ENDING, serving).await.is_err() {
        tracing::warn!("not everything has ended within {ENDING:?}");
    }
    let _ = people.await;
    ended
}

/// What the parts of a controller share.
struct Parts {
    settings: Settings,
    client: Option<Client>,
    worlds: watch::Receiver<Published>,
    counts: Counts,
    metrics: Metrics,
    /// The webhooks', in a cluster.
    certificate: Arc<Served>,
}

/// Whose word counts, and what is signed with.
struct Trust {
    authority: Arc<Authority>,
    tokens: Arc<Authenticator>,
    /// Where the source of objects has no versions of its own.
    epoch: Option<Epoch>,
    /// Of several replicas, this one.
    replica: Option<Running>,
}

impl Parts {
    /// Serves sidecars until told to stop.
    async fn serve(self, shutdown: CancellationToken) -> Result<()> {
        let Some(trust) = shutdown.run_until_cancelled(self.trust(&shutdown)).await else { return Ok(()) };
        let trust = trust?;
        let Counts { registry, publisher } = self.counts;
        let following = follow(publisher.clone(), self.worlds.clone(), trust.authority.clone(), trust.epoch);
        let push = PushService {
            tokens: trust.tokens.clone(),
            publisher,
            registry,
            pace: Pace::default(),
            metrics: self.metrics.clone(),
            shutdown: shutdown.clone(),
        };
        let certificates = CertificateService {
            authority: trust.authority.clone(),
            tokens: trust.tokens,
            trust_domain: trust_domain(self.worlds),
            ttl: self.settings.workload_cert_ttl,
            metrics: self.metrics,
        };
        let identity = ServerIdentity::new(trust.authority, &self.settings.names, &self.settings.addresses)?;
        let listener = listen(self.settings.listen).await?;
        tracing::info!(listen = %self.settings.listen, admin = %self.settings.admin, "ready");
        tokio::select! {
            served = grpc::serve(listener, identity, certificates, push, shutdown.clone()) => served?,
            () = following => {}
        }
        if let Some(replica) = trust.replica {
            replica.end().await;
        }
        Ok(())
    }

    async fn trust(&self, shutdown: &CancellationToken) -> Result<Trust> {
        if let Some(client) = self.client.clone() {
            let (settings, worlds) = (self.settings.clone(), self.worlds.clone());
            let (counts, metrics) = (self.counts.clone(), self.metrics.clone());
            let certificate = self.certificate.clone();
            let replica = Replica { client, settings, worlds, counts, metrics, certificate };
            let tokens = Arc::new(replica.tokens());
            let running = replica.start(shutdown.clone()).await?;
            // The API server's objects have versions of their own.
            return Ok(Trust {
                authority: running.authority.clone(),
                tokens,
                epoch: None,
                replica: Some(running),
            });
        }
        let ca_dir = self.settings.ca_dir.as_deref().context("--ca-dir: missing")?;
        let tokens_dir = self.settings.tokens_dir.as_deref().context("--tokens-dir: missing")?;
        let authority = Arc::new(store::open(ca_dir)?);
        let tokens = Arc::new(Authenticator::Directory(TokenDirectory::new(tokens_dir)));
        Ok(Trust { authority, tokens, epoch: Some(Epoch::next(ca_dir)?), replica: None })
    }
}

/// Starts source -> validate -> world; the future ends only when the source does.
fn start_pipeline(
    settings: &Settings,
    client: Option<Client>,
    progress: &Progress,
) -> (watch::Receiver<Published>, impl Future<Output = Result<()>> + use<>) {
    let (send, changes) = mpsc::channel(BATCHES);
    let (publish, worlds) = watch::channel(Published::default());
    let watching = if let Some(client) = client {
        let cluster = Cluster::new(client, send, progress.clone());
        tokio::spawn(async move {
            cluster.run().await;
            Ok(())
        })
    } else {
        let directories = Directories::new(settings.directories.clone());
        tokio::spawn(async move { directories.run(send).await.context("--dir: cannot watch") })
    };
    tokio::spawn(Pipeline::default().run(changes, publish));
    (worlds, async move { watching.await? })
}

/// Publishes every world, once the first is known: its trust domain and aliases say whose certificates are believed.
async fn follow(
    publisher: Publisher,
    mut worlds: watch::Receiver<Published>,
    authority: Arc<Authority>,
    epoch: Option<Epoch>,
) {
    let trust: Arc<[TrustBundle]> = match worlds.wait_for(|published| published.synced).await {
        Ok(published) => {
            let mesh = &published.world.mesh;
            let bundle = |domain: &TrustDomain| TrustBundle {
                domain: domain.clone(),
                roots: authority.roots().to_vec(),
            };
            std::iter::once(&mesh.trust_domain).chain(&mesh.trust_domain_aliases).map(bundle).collect()
        }
        Err(_) => return,
    };
    publisher.follow(worlds, trust, epoch).await;
}

/// The trust domain of the mesh, as it is.
fn trust_domain(mut worlds: watch::Receiver<Published>) -> watch::Receiver<TrustDomain> {
    let (send, receive) = watch::channel(worlds.borrow().world.mesh.trust_domain.clone());
    tokio::spawn(async move {
        while worlds.changed().await.is_ok() {
            let now = worlds.borrow_and_update().world.mesh.trust_domain.clone();
            send.send_if_modified(|domain| std::mem::replace(domain, now.clone()) != now);
        }
    });
    receive
}

async fn listen(address: std::net::SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}: is another controller there?"))
}

async fn told_to_end(shutdown: CancellationToken) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return shutdown.cancelled().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = shutdown.cancelled() => {}
    }
}
