//! Gets the first certificate, keeps it where a restart finds it, and renews it for as long as the sidecar runs.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use rand::RngExt;
use tokio::sync::watch;
use tokio::time::Instant;
use weft_core::identity::SpiffeId;

use super::authority::{Authority, AuthorityError};
use super::request::{CertificateError, CertificateFacts, Issued, PendingKey, parse_chain};
use super::schedule::{Alarm, alarm, backoff, until_renewal};
use crate::clock::Clock;
use crate::state::{StateDir, StateError};
use crate::telemetry::Metrics;

/// Name of the file of state.
const FILE: &str = "identity.pem";
/// The wall clock is looked at at least this often.
const LOOK: Duration = Duration::from_secs(60);

/// What the sidecar shows of its certificate, and how long it waited for the first.
#[derive(Clone, Debug)]
pub struct IdentityStatus {
    facts: Arc<ArcSwapOption<CertificateFacts>>,
    ready: watch::Receiver<bool>,
}

/// What takes a certificate into use: handshakes that begin afterwards use it.
pub type Install = Box<dyn Fn(&Issued) -> Result<(), String> + Send + Sync>;

/// What the keeper is made of.
pub struct KeeperParts<A> {
    /// Who signs.
    pub authority: A,
    /// Who we are.
    pub identity: SpiffeId,
    /// The life that is asked for.
    pub life: Duration,
    /// Where key and certificate are kept.
    pub state: StateDir,
    /// Wall time.
    pub clock: Clock,
    /// Where success and failure are counted.
    pub metrics: Arc<Metrics>,
    /// What takes a certificate into use.
    pub install: Install,
}

/// Keeps the certificate fresh.
pub struct IdentityKeeper<A> {
    parts: KeeperParts<A>,
    facts: Arc<ArcSwapOption<CertificateFacts>>,
    ready: watch::Sender<bool>,
    since: Instant,
    announced: Alarm,
}

/// Why a try gave no certificate.
#[derive(Debug, thiserror::Error)]
enum KeeperError {
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error("the certificate cannot be taken into use: {0}")]
    Install(String),
}

impl IdentityStatus {
    /// The certificate in use.
    pub fn current(&self) -> Option<Arc<CertificateFacts>> {
        self.facts.load_full()
    }

    /// Returns when there is a certificate.
    pub async fn ready(&self) {
        // The keeper lives as long as the sidecar: its end is the end of whoever waits.
        let _ = self.ready.clone().wait_for(|ready| *ready).await;
    }
}

impl<A: Authority> IdentityKeeper<A> {
    /// A keeper, and what it shows. What an earlier process left is taken into use at once, if it is still good.
    pub fn new(parts: KeeperParts<A>) -> (Self, IdentityStatus) {
        let facts = Arc::new(ArcSwapOption::empty());
        let (ready, is_ready) = watch::channel(false);
        let status = IdentityStatus { facts: facts.clone(), ready: is_ready };
        let mut keeper = Self { parts, facts, ready, since: Instant::now(), announced: Alarm::None };
        match keeper.restore() {
            Ok(true) => tracing::info!("certificate of an earlier process is still good"),
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "certificate of an earlier process is not used"),
        }
        (keeper, status)
    }

    /// Renews for ever.
    pub async fn run(mut self) {
        let mut failures = 0;
        loop {
            self.wait_for_renewal().await;
            match self.obtain().await {
                Ok(()) => failures = 0,
                Err(error) => {
                    failures += 1;
                    self.failed(&error);
                    tokio::time::sleep(backoff(failures, chance())).await;
                }
            }
        }
    }

    /// Gets a new certificate for a new key and takes it into use.
    async fn obtain(&mut self) -> Result<(), KeeperError> {
        let key = PendingKey::generate(self.parts.identity.clone())?;
        let texts = self.parts.authority.sign(key.request_pem()?, self.parts.life).await?;
        let roots = self.parts.authority.roots()?;
        let issued = key.accept(parse_chain(&texts)?, &roots, self.parts.clock.now())?;
        self.install(&issued)?;
        self.count("success");
        tracing::info!(serial = %issued.facts.serial, "certificate obtained");
        let kept = self.parts.state.write(FILE, format!("{}{}", key.to_pem(), texts.join("\n")).as_bytes());
        if let Err(error) = kept {
            tracing::warn!(%error, "certificate is not kept: a restart will need the controller");
        }
        Ok(())
    }

    fn restore(&mut self) -> Result<bool, KeeperError> {
        let Some(pem) = self.parts.state.read(FILE)? else { return Ok(false) };
        let text = String::from_utf8_lossy(&pem);
        let key = PendingKey::from_pem(&text, self.parts.identity.clone())?;
        let roots = self.parts.authority.roots()?;
        let issued = key.accept(parse_chain(&[&pem])?, &roots, self.parts.clock.now())?;
        self.install(&issued)?;
        Ok(true)
    }

    fn install(&mut self, issued: &Issued) -> Result<(), KeeperError> {
        (self.parts.install)(issued).map_err(KeeperError::Install)?;
        self.facts.store(Some(Arc::new(issued.facts.clone())));
        self.parts.metrics.certificate_ends(issued.facts.not_after);
        (self.since, self.announced) = (Instant::now(), Alarm::None);
        self.ready.send_replace(true);
        Ok(())
    }

    async fn wait_for_renewal(&self) {
        let Some(facts) = self.facts.load_full() else { return };
        let chance = chance();
        loop {
            let left = until_renewal(&facts, self.parts.clock.now(), self.since.elapsed(), chance);
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left.min(LOOK)).await;
        }
    }

    fn failed(&mut self, error: &KeeperError) {
        self.count("failure");
        let now = self.parts.clock.now();
        let level = self.facts.load_full().map_or(Alarm::Over, |facts| alarm(&facts, now));
        match level {
            Alarm::None | Alarm::Late => tracing::warn!(%error, "no new certificate yet"),
            Alarm::Urgent => tracing::error!(%error, "no new certificate, and the one in use ends soon"),
            Alarm::Over => tracing::error!(%error, "no valid certificate: mTLS fails until there is one"),
        }
        self.announced = level;
    }

    fn count(&self, result: &str) {
        self.parts.metrics.certificate_requests.with_label_values(&[result]).inc();
    }
}

fn chance() -> f64 {
    rand::rng().random()
}
