//! Gets the first certificate, keeps it where a restart finds it, and renews it for as long as the sidecar runs.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use tokio::time::Instant;
use weft_core::identity::SpiffeId;

use super::authority::{Authority, AuthorityError};
use super::credentials::{Credentials, Issued};
use super::request::{CertificateError, PendingKey, parse_chain};
use super::schedule::{Alarm, alarm, backoff, until_renewal};
use crate::clock::Clock;
use crate::state::{StateDir, StateError};
use crate::telemetry::Metrics;

/// Name of the file of state.
const FILE: &str = "identity.pem";
/// The longest pause before there is a first certificate.
const STARTING: Duration = Duration::from_secs(3);
/// The wall clock is looked at at least this often.
const LOOK: Duration = Duration::from_secs(60);

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
    /// What handshakes read.
    pub credentials: Credentials,
}

/// Keeps the certificate fresh.
pub struct IdentityKeeper<A> {
    parts: KeeperParts<A>,
    since: Instant,
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
}

impl<A: Authority> IdentityKeeper<A> {
    /// A keeper. What an earlier process left is taken into use at once, if it is still good.
    pub fn new(parts: KeeperParts<A>) -> Self {
        let mut keeper = Self { parts, since: Instant::now() };
        match keeper.restore() {
            Ok(true) => tracing::info!("certificate of an earlier process is still good"),
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "certificate of an earlier process is not used"),
        }
        keeper
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
                    tokio::time::sleep(self.pause(failures)).await;
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
        tracing::info!(serial = %issued.facts.serial, "certificate obtained");
        self.install(issued);
        self.count("success");
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
        self.install(issued);
        Ok(true)
    }

    fn install(&mut self, issued: Issued) {
        self.parts.metrics.certificate_ends(issued.facts.not_after);
        self.parts.credentials.replace(issued);
        self.since = Instant::now();
    }

    async fn wait_for_renewal(&self) {
        let Some(issued) = self.parts.credentials.current() else { return };
        let chance = chance();
        loop {
            let left = until_renewal(&issued.facts, self.parts.clock.now(), self.since.elapsed(), chance);
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left.min(LOOK)).await;
        }
    }

    fn failed(&self, error: &KeeperError) {
        self.count("failure");
        let now = self.parts.clock.now();
        match self.parts.credentials.current().map_or(Alarm::Over, |issued| alarm(&issued.facts, now)) {
            Alarm::None | Alarm::Late => tracing::warn!(%error, "no new certificate yet"),
            Alarm::Urgent => tracing::error!(%error, "no new certificate, and the one in use ends soon"),
            Alarm::Over => tracing::error!(%error, "no valid certificate: mTLS fails until there is one"),
        }
    }

    /// A pod that waits to start does not wait for long once the controller is back.
    fn pause(&self, failures: u32) -> Duration {
        let pause = backoff(failures, chance());
        if self.parts.credentials.current().is_none() { pause.min(STARTING) } else { pause }
    }

    fn count(&self, result: &str) {
        self.parts.metrics.certificate_requests.with_label_values(&[result]).inc();
    }
}

fn chance() -> f64 {
    rand::rng().random()
}
