//! What all threads share: the snapshot, and the way to ask for more.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use arc_swap::ArcSwap;
use ipnet::IpNet;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use weft_core::model::address::{Address, Meaning};
use weft_core::model::name::{AddressKey, ResourceName, ServiceName};
use weft_core::reason::Reason;
use weft_core::snapshot::{ServiceState, Snapshot};

/// The controller has gone, and may be back in a moment: a name that is not known is waited for no longer than this.
const JUST_AWAY_TIMEOUT: Duration = Duration::from_secs(1);
/// It has been away for longer than [`JUST_AWAY`].
const AWAY_TIMEOUT: Duration = Duration::from_millis(100);
/// See [`AWAY_TIMEOUT`].
const JUST_AWAY: Duration = Duration::from_secs(3);
/// How long the stream's task may take to answer.
const TELL_TIMEOUT: Duration = Duration::from_secs(1);
/// Questions that may wait for the stream's task.
const QUEUE: usize = 1024;

/// The configuration; cheap to clone.
#[derive(Clone, Debug)]
pub struct Mesh(Arc<Shared>);

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) snapshot: ArcSwap<Snapshot>,
    pub(super) epoch: AtomicU64,
    changes: watch::Sender<u64>,
    link: watch::Sender<Link>,
    /// Services that the controller knows not to exist.
    absent: ArcSwap<BTreeSet<ServiceName>>,
    asks: mpsc::Sender<Ask>,
    lookup_timeout: Duration,
}

/// What is said to the stream's task.
#[derive(Debug)]
pub enum Ask {
    /// The name is wanted, or was used again.
    Want(ResourceName),
    /// How it stands.
    Status(oneshot::Sender<SyncStatus>),
    /// Names that were not used for long are to be given back.
    Sweep,
    /// What changed is to be kept now: the sidecar ends.
    Flush(oneshot::Sender<()>),
}

/// How the stream stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// It is up.
    Up,
    /// There is none.
    AwaySince(Instant),
}

/// How the configuration stands, for people.
#[derive(Clone, Debug, Default)]
pub struct SyncStatus {
    /// Whether the stream is up.
    pub connected: bool,
    /// The newest resource version of the controller that was taken in.
    pub as_of: u64,
    /// Names with the versions that are held.
    pub held: Vec<(String, Option<Arc<str>>)>,
    /// Names that were refused, with the field's path and the reason.
    pub refused: Vec<(String, String)>,
    /// Why the last connection ended.
    pub last_error: Option<String>,
}

/// A name that stands for nothing here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigUnavailable {
    /// The controller has not said what it means, and guessing is not safe.
    #[error("the controller has not answered what {0} is")]
    Unanswered(ResourceName),
    /// The controller knows no such service.
    #[error("there is no service {0}")]
    NoService(ServiceName),
}

impl ConfigUnavailable {
    /// The reason that answers a request.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Unanswered(_) => Reason::ConfigUnavailable,
            Self::NoService(_) => Reason::NoCluster,
        }
    }
}

impl Mesh {
    /// A configuration that holds nothing, and the questions that its stream's task is to answer.
    pub fn new(lookup_timeout: Duration) -> (Self, mpsc::Receiver<Ask>) {
        let (asks, questions) = mpsc::channel(QUEUE);
        let shared = Shared {
            snapshot: ArcSwap::default(),
            epoch: AtomicU64::new(0),
            changes: watch::Sender::new(0),
            link: watch::Sender::new(Link::AwaySince(Instant::now())),
            absent: ArcSwap::default(),
            asks,
            lookup_timeout,
        };
        (Self(Arc::new(shared)), questions)
    }

    /// The configuration as it is now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.0.snapshot.load_full()
    }

    /// The generations of the snapshot: changes whenever another is swapped in.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// How the stream stands, as it changes.
    pub fn link(&self) -> watch::Receiver<Link> {
        self.0.link.subscribe()
    }

    /// Whether the stream is up.
    pub fn is_connected(&self) -> bool {
        *self.0.link.borrow() == Link::Up
    }

    /// Returns when the sidecar's own workload is known: nothing is let in or out before.
    pub async fn ready(&self) {
        self.wait_for(|snapshot| snapshot.workload().map(|_| ())).await;
    }

    /// Whether [`Self::ready`] would return at once.
    pub fn is_ready(&self) -> bool {
        self.0.snapshot.load().workload().is_some()
    }

    /// What an address means. Asks the controller where it is not known.
    ///
    /// # Errors
    /// No answer came in time, for an address inside the mesh's ranges. One outside means nothing then.
    pub async fn address(&self, key: AddressKey) -> Result<Arc<Address>, ConfigUnavailable> {
        let name = ResourceName::Address(key);
        match self.ask(&name, |snapshot| snapshot.address(key).cloned()).await {
            Ok(address) => Ok(address),
            Err(_) if self.is_outside(key) => Ok(Arc::new(nothing(key))),
            Err(error) => Err(error),
        }
    }

    /// A service with everything that its routes name. Asks the controller where it is not known.
    ///
    /// # Errors
    /// It did not come in time, or the controller knows no such service.
    pub async fn service(&self, name: &ServiceName) -> Result<Arc<ServiceState>, ConfigUnavailable> {
        let asked = ResourceName::Service(name.clone());
        let found = self.ask(&asked, |snapshot| match snapshot.service(name) {
            Some(service) => Some(Ok(service.clone())),
            None if self.0.absent.load().contains(name) => {
                Some(Err(ConfigUnavailable::NoService(name.clone())))
            }
            None => None,
        });
        found.await?
    }

    /// Asks for a resource by its name; whether a snapshot has it now.
    pub async fn want(&self, name: &ResourceName) -> bool {
        match name {
            ResourceName::Address(key) => self.address(*key).await.is_ok(),
            ResourceName::Service(name) => self.service(name).await.is_ok(),
            ResourceName::Workload => self.is_ready(),
            ResourceName::Endpoints(slice) => self.service(&slice.service).await.is_ok(),
        }
    }

    /// How the configuration stands; the default while the stream's task does not answer.
    pub async fn status(&self) -> SyncStatus {
        self.tell(Ask::Status).await.unwrap_or_default()
    }

    /// Keeps for a restart what has changed and was not kept yet.
    pub async fn flush(&self) {
        self.tell(Ask::Flush).await;
    }

    /// Says something to the stream's task and waits a little for its answer.
    async fn tell<T>(&self, ask: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        self.0.asks.send(ask(answer)).await.ok()?;
        tokio::time::timeout(TELL_TIMEOUT, answered).await.ok()?.ok()
    }

    /// Swaps another snapshot in; `absent` are the services that the controller knows not to exist.
    pub fn swap(&self, snapshot: Snapshot, absent: &BTreeSet<ServiceName>) {
        let generation = snapshot.generation();
        if **self.0.absent.load() != *absent {
            self.0.absent.store(Arc::new(absent.clone()));
        }
        self.0.snapshot.store(Arc::new(snapshot));
        self.0.changes.send_replace(generation);
    }

    pub(super) fn sweep(&self) {
        // A full queue: the next epoch sweeps.
        let _ = self.0.asks.try_send(Ask::Sweep);
    }

    pub(super) fn set_link(&self, link: Link) {
        self.0.link.send_replace(link);
    }

    /// Names that are used from now on are said to be used once more.
    pub(super) fn next_epoch(&self) {
        self.0.epoch.fetch_add(1, Relaxed);
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.0
    }

    /// Says that a name was used; a full queue forgets it, it will be said again.
    pub(super) fn used(&self, name: ResourceName) {
        let _ = self.0.asks.try_send(Ask::Want(name));
    }

    async fn ask<T>(
        &self,
        name: &ResourceName,
        find: impl Fn(&Snapshot) -> Option<T>,
    ) -> Result<T, ConfigUnavailable> {
        if let Some(found) = find(&self.0.snapshot.load()) {
            return Ok(found);
        }
        let answer = async {
            // Without the stream's task there is nobody to ask; the timeout tells.
            let _ = self.0.asks.send(Ask::Want(name.clone())).await;
            self.wait_for(&find).await
        };
        let answer = tokio::time::timeout(self.patience(), answer).await.ok().flatten();
        answer.ok_or_else(|| ConfigUnavailable::Unanswered(name.clone()))
    }

    async fn wait_for<T>(&self, find: impl Fn(&Snapshot) -> Option<T>) -> Option<T> {
        let mut changes = self.0.changes.subscribe();
        loop {
            if let Some(found) = find(&self.0.snapshot.load()) {
                return Some(found);
            }
            changes.changed().await.ok()?;
        }
    }

    fn patience(&self) -> Duration {
        let most = match *self.0.link.borrow() {
            Link::Up => Duration::MAX,
            Link::AwaySince(since) if since.elapsed() < JUST_AWAY => JUST_AWAY_TIMEOUT,
            Link::AwaySince(_) => AWAY_TIMEOUT,
        };
        self.0.lookup_timeout.min(most)
    }

    fn is_outside(&self, key: AddressKey) -> bool {
        let snapshot = self.0.snapshot.load();
        let inside = |ranges: &[IpNet]| ranges.iter().any(|range| range.contains(&key.ip));
        snapshot.workload().is_some_and(|workload| !inside(&workload.outbound.mesh_ranges))
    }
}

/// The answer for an address of which the controller could not be asked.
fn nothing(key: AddressKey) -> Address {
    Address { key, meaning: Meaning::Nothing { prefix: IpNet::from(key.ip) } }
}
