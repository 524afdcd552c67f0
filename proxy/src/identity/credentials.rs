//! The key and certificate in use: a cell that handshakes read and renewal fills.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use rustls::sign::CertifiedKey;
use weft_core::identity::SpiffeId;

/// The sidecar's current key and certificate. Cheap to clone; a new certificate is seen by the next handshake and
/// leaves live connections alone.
#[derive(Clone, Default)]
pub struct Credentials(Arc<ArcSwapOption<Issued>>);

/// A certificate that was checked, with its key.
#[derive(Clone)]
pub struct Issued {
    /// Chain and key as rustls takes them.
    pub certified: Arc<CertifiedKey>,
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
        Self::default()
    }

    /// The certificate in use; `None` until the first is there.
    pub fn current(&self) -> Option<Arc<Issued>> {
        self.0.load_full()
    }

    /// The certificate in use, if its time has neither to come nor passed.
    pub fn valid_at(&self, now: SystemTime) -> Option<Arc<Issued>> {
        self.current().filter(|issued| issued.is_valid_at(now))
    }

    /// Puts another certificate to use.
    pub fn replace(&self, issued: Issued) {
        self.0.store(Some(Arc::new(issued)));
    }
}

impl Issued {
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
        self.0.load().fmt(f)
    }
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { identity, serial, not_before, not_after, .. } = self;
        write!(f, "Issued({identity}, serial {serial}, {not_before:?} to {not_after:?})")
    }
}
