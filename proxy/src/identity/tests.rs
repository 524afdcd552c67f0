//! What the keeper believes, and what it does when nobody signs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use rustls::pki_types::CertificateDer;
use weft_core::identity::SpiffeId;
use weft_testkit::ca::TestCa;

use super::authority::{Authority, AuthorityError};
use super::request::{CertificateError, PendingKey, parse_chain};
use super::{Credentials, IdentityKeeper, KeeperParts};
use crate::clock::Clock;
use crate::state::StateDir;
use crate::telemetry::Metrics;

const HOUR: Duration = Duration::from_secs(3600);

fn identity() -> SpiffeId {
    SpiffeId::parse("spiffe://cluster.local/ns/default/sa/api").unwrap()
}

fn key() -> PendingKey {
    PendingKey::generate(identity()).unwrap()
}

fn accept(key: &PendingKey, chain: &str, ca: &TestCa) -> Result<(), CertificateError> {
    let chain = parse_chain(&[chain])?;
    key.accept(chain, &[ca.root_der()], SystemTime::now()).map(|_| ())
}

#[test]
fn our_identity_our_key_and_a_chain_are_accepted() {
    let (ca, key) = (TestCa::new(), key());
    let chain = ca.sign(&key.request_pem().unwrap(), HOUR);
    accept(&key, &chain, &ca).unwrap();
    let again = PendingKey::from_pem(&key.to_pem(), identity()).unwrap();
    accept(&again, &chain, &ca).unwrap();
}

#[test]
fn d14_a_certificate_for_somebody_else_is_refused() {
    let ca = TestCa::new();
    let key = key();
    let other = SpiffeId::parse("spiffe://cluster.local/ns/default/sa/admin").unwrap();
    let posing = PendingKey::from_pem(&key.to_pem(), other).unwrap();
    let chain = ca.sign(&posing.request_pem().unwrap(), HOUR);
    let error = accept(&key, &chain, &ca).unwrap_err();
    assert!(
        matches!(&error, CertificateError::Identity { found, .. } if found.ends_with("/admin")),
        "{error}"
    );
}

#[test]
fn d14_a_certificate_for_another_key_is_refused() {
    let ca = TestCa::new();
    let chain = ca.sign(&key().request_pem().unwrap(), HOUR);
    assert_eq!(accept(&key(), &chain, &ca), Err(CertificateError::Key));
}

#[test]
fn d14_a_chain_to_another_root_is_refused() {
    let key = key();
    let chain = TestCa::new().sign(&key.request_pem().unwrap(), HOUR);
    assert!(matches!(accept(&key, &chain, &TestCa::new()), Err(CertificateError::Chain(_))));
}

#[test]
fn d14_garbage_is_refused() {
    let (ca, key) = (TestCa::new(), key());
    let bad = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert!(matches!(accept(&key, bad, &ca), Err(CertificateError::Garbage(_))));
    assert!(matches!(accept(&key, "", &ca), Err(CertificateError::Garbage(_))));
    let server = ca.server("a.example");
    let refused = key.accept(server.chain, &[ca.root_der()], SystemTime::now());
    assert!(refused.is_err(), "no SPIFFE identity");
}

#[test]
fn d14_a_certificate_that_has_ended_is_refused() {
    let (ca, key) = (TestCa::new(), key());
    let chain = parse_chain(&[ca.sign(&key.request_pem().unwrap(), HOUR)]).unwrap();
    let refused = key.accept(chain, &[ca.root_der()], SystemTime::now() + 2 * HOUR);
    assert!(matches!(refused, Err(CertificateError::Chain(_))));
}

/// Signs the first `good` requests and refuses the rest.
#[derive(Clone)]
struct Moody {
    ca: Arc<TestCa>,
    good: usize,
    asked: Arc<AtomicUsize>,
}

impl Authority for Moody {
    async fn sign(&self, request_pem: String, life: Duration) -> Result<Vec<String>, AuthorityError> {
        if self.asked.fetch_add(1, Ordering::Relaxed) >= self.good {
            return Err(AuthorityError::Unavailable("away".to_owned()));
        }
        Ok(vec![self.ca.sign(&request_pem, life)])
    }

    fn roots(&self) -> Result<Vec<CertificateDer<'static>>, AuthorityError> {
        Ok(vec![self.ca.root_der()])
    }
}

struct Kept {
    authority: Moody,
    credentials: Credentials,
    metrics: Arc<Metrics>,
    keeper: IdentityKeeper<Moody>,
}

fn keeper(good: usize) -> Kept {
    let authority = Moody { ca: Arc::new(TestCa::new()), good, asked: Arc::default() };
    let (credentials, metrics) = (Credentials::new(), Arc::new(Metrics::new()));
    let keeper = IdentityKeeper::new(KeeperParts {
        authority: authority.clone(),
        identity: identity(),
        life: 24 * HOUR,
        state: StateDir::default(),
        clock: Clock::system(),
        metrics: metrics.clone(),
        credentials: credentials.clone(),
    });
    Kept { authority, credentials, metrics, keeper }
}

/// The wall clock stands while tokio's runs: renewal goes by the one that moves (hardening G1).
#[tokio::test(start_paused = true)]
async fn d11_g1_renewed_at_half_life_and_live_ones_are_left_alone() {
    let kept = keeper(100);
    let task = tokio::spawn(kept.keeper.run());
    kept.credentials.ready().await;
    let first = kept.credentials.current().unwrap();
    tokio::time::sleep(10 * HOUR).await;
    assert_eq!(kept.credentials.current().unwrap().facts, first.facts);
    tokio::time::sleep(4 * HOUR).await;
    assert_ne!(kept.credentials.current().unwrap().facts.serial, first.facts.serial);
    assert_eq!(kept.authority.asked.load(Ordering::Relaxed), 2);
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn d13_without_an_authority_the_old_certificate_stays_and_asking_goes_on_calmly() {
    let kept = keeper(1);
    let task = tokio::spawn(kept.keeper.run());
    kept.credentials.ready().await;
    let first = kept.credentials.current().unwrap();
    tokio::time::sleep(20 * HOUR).await;
    assert_eq!(kept.credentials.current().unwrap().facts, first.facts);
    let failures = kept.metrics.certificate_requests.with_label_values(&["failure"]).get();
    assert!((400..2000).contains(&failures), "about one a minute for some seven hours: {failures}");
    task.abort();
}
