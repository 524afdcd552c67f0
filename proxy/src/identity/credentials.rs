//! The key and certificate in use: a cell that handshakes read and renewal fills.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use rustls::sign::CertifiedKey;
use tokio::sync::watch;
use weft_core::identity::SpiffeId;

/// The sidecar's current key and certificate. Cheap to clone; a new certificate is seen by the next handshake and
/// leaves live connections alone.
#[derive(Clone)]
pub struct Credentials {
    cell: Arc<ArcSwapOption<Issued>>,
    ready: Arc<watch::Sender<bool>>,
}

/// A certificate that passed every check, with its key.
#[derive(Clone)]
pub struct Issued {
    /// Chain and key as rustls takes them.
    pub certified: Arc<CertifiedKey>,
    /// What is shown of it.
    pub facts: CertificateFacts,
}

/// What is shown of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFacts {
    /// Whose it is.
    pub identity: SpiffeId,
    /// Serial number, hexadecimal.
    pub serial: String,
    /// Begin of its life.
    pub not_before: SystemTime,
    /// End of its life.
    pub not_after: SystemTime,
}

impl Credentials {
    /// No certificate yet.
    pub fn new() -> Self {
        Self { cell: Arc::default(), ready: Arc::new(watch::Sender::new(false)) }
    }

    /// The certificate in use; `None` until the first is there.
    pub fn current(&self) -> Option<Arc<Issued>> {
        self.cell.load_full()
    }

    /// The certificate in use, if its time has neither to come nor passed.
    pub fn valid_at(&self, now: SystemTime) -> Option<Arc<Issued>> {
        self.current().filter(|issued| issued.facts.is_valid_at(now))
    }

    /// Puts another certificate to use.
    pub fn replace(&self, issued: Issued) {
        self.cell.store(Some(Arc::new(issued)));
        self.ready.send_replace(true);
    }

    /// Returns when there is a certificate.
    pub async fn ready(&self) {
        // The sender lives in `self`: waiting cannot fail.
        let _ = self.ready.subscribe().wait_for(|ready| *ready).await;
    }
}

impl Default for Credentials {
    fn default() -> Self {
        Self::new()
    }
}

impl CertificateFacts {
    /// Whether `now` is in its life.
    pub fn is_valid_at(&self, now: SystemTime) -> bool {
        (self.not_before..self.not_after).contains(&now)
    }

    /// How long it lives.
    pub fn lifetime(&self) -> Duration {
        self.not_after.duration_since(self.not_before).unwrap_or_default()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({:?})", self.current())
    }
}

/// Without the key.
impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.facts.fmt(f)
    }
}
