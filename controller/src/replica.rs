//! One replica of a cluster's controllers: where its root and its callers come from, and what it does while it leads.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use futures_util::future::join_all;
use kube::Client;
use prometheus::IntGauge;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use weft_core::model::name::ObjectName;

use crate::ca::authority::Authority;
use crate::ca::bundle::Bundles;
use crate::ca::secret;
use crate::leader::lease::Candidate;
use crate::leader::{self, Leadership};
use crate::metrics::Metrics;
use crate::pipeline::Published;
use crate::settings::Settings;
use crate::status::peers::{Peers, SERVICE};
use crate::status::writer::{Counts, StatusWriter};
use crate::tokens::Authenticator;
use crate::tokens::review::Reviews;
use crate::webhook;
use crate::webhook::certificate::Names;
use crate::webhook::injecting::Injection;
use crate::webhook::judge::Judge;
use crate::webhook::keeper::{Keeper, Served};

/// How long the end of a term may take.
const ENDING: Duration = Duration::from_secs(3);

/// What a replica works with.
pub struct Replica {
    /// The API server.
    pub client: Client,
    /// What it was told at its start.
    pub settings: Settings,
    /// What is known.
    pub worlds: watch::Receiver<Published>,
    /// The sidecars that it serves.
    pub counts: Counts,
    /// What is counted.
    pub metrics: Metrics,
    /// The webhooks' certificate.
    pub certificate: Arc<Served>,
}

/// A replica that stands for election.
pub struct Running {
    /// What signs.
    pub authority: Arc<Authority>,
    /// Of its revision, and of all.
    elections: [JoinHandle<()>; 2],
    webhooks: JoinHandle<()>,
}

impl Replica {
    /// Whose tokens are believed: the API server's.
    pub fn tokens(&self) -> Authenticator {
        Authenticator::Review(Box::new(Reviews::new(self.client.clone(), self.metrics.clone())))
    }

    /// Takes the root, and begins. Waits for an API server that is away.
    ///
    /// # Errors
    /// The Secret of the root holds nonsense.
    pub async fn start(self, shutdown: CancellationToken) -> Result<Running> {
        let root = secret::open(self.client.clone(), &self.settings.namespace).await?;
        let authority = root.authority.clone();
        tokio::spawn(root.keep(self.metrics.root_changed.clone()));
        let candidate = |lease: &str| {
            Candidate::new(self.client.clone(), &self.settings.namespace, lease, &self.pod().name)
        };
        let candidates =
            [candidate(&leader::of_revision(&self.settings.revision)), candidate(leader::SHARED)];
        let [of_revision, of_all] = candidates.each_ref().map(Candidate::leadership);
        self.lead(&of_all, &authority);
        let webhooks = self.webhooks(&of_revision, shutdown.clone()).await?;
        let elections = candidates.map(|candidate| tokio::spawn(candidate.run(shutdown.clone())));
        Ok(Running { authority, elections, webhooks })
    }

    /// Every replica answers the API server; the leader keeps the certificate that all of them show.
    async fn webhooks(&self, leadership: &Leadership, shutdown: CancellationToken) -> Result<JoinHandle<()>> {
        let (client, settings, service) = (self.client.clone(), &self.settings, self.service());
        let (namespace, revision) = (settings.namespace.as_str(), settings.revision.as_str());
        let mut names = Names::of_service(&service.name, namespace);
        names.names.extend(settings.names.iter().cloned());
        names.addresses.extend(&settings.addresses);
        let keeper = Keeper::new(client.clone(), namespace, revision, names);
        let injection = Arc::new(Injection::new(client, namespace, revision));
        let judge = Judge { worlds: self.worlds.clone(), injection };
        let listener = TcpListener::bind(settings.webhooks).await;
        let listener =
            listener.with_context(|| format!("--webhooks: cannot listen on {}", settings.webhooks))?;
        let (kept, certificate) = (keeper.clone(), self.certificate.clone());
        let serving = webhook::serve(keeper, judge, certificate, listener, shutdown);
        tokio::spawn(leadership.clone().run(move || {
            let keeper = kept.clone();
            async move { keeper.keep().await }
        }));
        Ok(tokio::spawn(async move {
            if let Err(error) = serving.await {
                tracing::error!("webhooks: {error:#}");
            }
        }))
    }

    /// What is done only by the leader of all revisions.
    fn lead(&self, leadership: &Leadership, authority: &Authority) {
        let gauge = self.metrics.leader.clone();
        tokio::spawn(leadership.clone().run(move || led(gauge.clone())));
        let bundles = Bundles {
            client: self.client.clone(),
            root_pem: authority.root_pem().into(),
            metrics: self.metrics.clone(),
        };
        tokio::spawn(leadership.clone().run(move || bundles.clone().keep()));
        let writer = StatusWriter {
            client: self.client.clone(),
            worlds: self.worlds.clone(),
            counts: self.counts.clone(),
            metrics: self.metrics.clone(),
        };
        let (namespace, port, me) = (self.pod().namespace, self.settings.admin.port(), self.pod());
        let work = move || writer.clone().keep(Peers::new(namespace.clone(), port, me.clone()));
        tokio::spawn(leadership.clone().run(work));
    }

    fn pod(&self) -> ObjectName {
        let host = || std::env::var("HOSTNAME").unwrap_or_else(|_| "weft-controller".to_owned());
        let name = self.settings.pod_name.clone().unwrap_or_else(host);
        ObjectName { namespace: self.settings.namespace.as_str().into(), name: name.into() }
    }

    /// The Service of this control plane.
    fn service(&self) -> ObjectName {
        let name = match self.settings.revision.as_str() {
            "default" => SERVICE.to_owned(),
            revision => format!("{SERVICE}-{revision}"),
        };
        ObjectName { namespace: self.settings.namespace.as_str().into(), name: name.into() }
    }
}

impl Running {
    /// Waits until the term is given back, once it was told to end.
    pub async fn end(self) {
        let elections = timeout(ENDING, join_all(self.elections));
        let (elections, webhooks) = tokio::join!(elections, timeout(ENDING, self.webhooks));
        if elections.is_err() {
            tracing::warn!("a term was not given back in time");
        }
        if webhooks.is_err() {
            tracing::warn!("webhooks: not every question was answered in time");
        }
    }
}

/// Shows that this replica leads, until it is dropped.
async fn led(gauge: IntGauge) {
    struct Shown(IntGauge);
    impl Drop for Shown {
        fn drop(&mut self) {
            self.0.set(0);
        }
    }
    gauge.set(1);
    let _shown = Shown(gauge);
    std::future::pending().await
}
