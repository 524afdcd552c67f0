//! Every sidecar that is connected, what it was told, and whether it took it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde::Serialize;
use weft_api::name::type_of;
use weft_api::session::server::{Session, Status};
use weft_core::model::name::{ObjectName, ResourceName};

/// The streams that are open.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    streams: Arc<Mutex<Streams>>,
    /// Counts what happens to streams.
    changes: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
struct Streams {
    last: u64,
    open: BTreeMap<u64, Arc<Sidecar>>,
}

/// One stream.
#[derive(Debug)]
pub struct Sidecar {
    /// The pod of its token.
    pub pod: ObjectName,
    /// Its uid; `None` where pods have none.
    pub uid: Option<Arc<str>>,
    /// Since when.
    pub connected: Timestamp,
    /// How many worlds were published up to the one that the stream works on.
    seen: AtomicU64,
    session: Mutex<Session>,
}

/// What one sidecar holds.
#[derive(Clone, Debug)]
pub struct Holding {
    /// Its pod.
    pub pod: ObjectName,
    /// Whether its stream works on the latest world, and has nothing left to say.
    pub current: bool,
    /// What became of each name.
    pub names: Vec<(ResourceName, Hold)>,
}

/// What became of a resource; the worst sorts last.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hold {
    /// It is in force.
    Programmed,
    /// It is on its way.
    Pending,
    /// It was refused: path and reason.
    Refused(String),
}

/// A stream's place in the registry, which it leaves when this is dropped.
#[derive(Debug)]
pub struct Entry {
    registry: Registry,
    id: u64,
    /// The stream.
    pub sidecar: Arc<Sidecar>,
}

/// What `GET /sync` says.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SyncReport {
    /// The version of the world that is published; 0 while there is none.
    pub as_of: u64,
    /// Every open stream.
    pub sidecars: Vec<SidecarReport>,
}

/// How it stands with one sidecar.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SidecarReport {
    /// The pod's namespace.
    pub namespace: Arc<str>,
    /// The pod's name.
    pub pod: Arc<str>,
    /// The sidecar's version, as it says.
    pub version: String,
    /// Since when the stream is open.
    pub connected: Timestamp,
    /// The highest version that it has seen.
    pub as_of: u64,
    /// Whether it has seen a later world than the one that is published, and waits.
    pub waiting: bool,
    /// What it subscribes to.
    pub resources: Vec<ResourceReport>,
}

/// How it stands with one resource.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ResourceReport {
    /// `workload`, `address`, `service`, `endpoints`.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// The version last sent; absent for a name that stands for nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<Arc<str>>,
    /// `unanswered`, `sent`, `programmed`, `refused`.
    pub status: &'static str,
    /// Where it was refused: the field.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Where it was refused: why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Registry {
    /// Enters a new stream of a pod.
    pub fn enter(&self, pod: ObjectName, uid: Option<Arc<str>>) -> Entry {
        let (connected, seen, session) = (Timestamp::now(), AtomicU64::new(0), Mutex::default());
        let sidecar = Arc::new(Sidecar { pod, uid, connected, seen, session });
        self.changes.fetch_add(1, Relaxed);
        let mut streams = lock(&self.streams);
        streams.last += 1;
        let id = streams.last;
        streams.open.insert(id, sidecar.clone());
        Entry { registry: self.clone(), id, sidecar }
    }

    /// Grows with everything that happens to streams.
    pub fn changes(&self) -> u64 {
        self.changes.load(Relaxed)
    }

    /// What every sidecar holds, given how many worlds were published.
    pub fn holdings(&self, generation: u64) -> Vec<Holding> {
        let open: Vec<_> = lock(&self.streams).open.values().cloned().collect();
        open.iter().map(|sidecar| sidecar.holding(generation)).collect()
    }

    /// How it stands with every sidecar, given the version of the world that is published.
    pub fn report(&self, as_of: u64) -> SyncReport {
        let open: Vec<_> = lock(&self.streams).open.values().cloned().collect();
        SyncReport { as_of, sidecars: open.iter().map(|sidecar| sidecar.report(as_of)).collect() }
    }
}

impl Sidecar {
    /// The protocol's state. Held for moments, never over a wait.
    pub fn session(&self) -> MutexGuard<'_, Session> {
        lock(&self.session)
    }

    fn holding(&self, generation: u64) -> Holding {
        let session = self.session();
        let hold = |status: &Status| match status {
            Status::Programmed => Hold::Programmed,
            Status::Unanswered | Status::Sent => Hold::Pending,
            Status::Refused { path, reason } => Hold::Refused(format!("{path}: {reason}")),
        };
        Holding {
            pod: self.pod.clone(),
            current: self.seen.load(Relaxed) >= generation && !session.has_more(),
            names: session.names().map(|(name, _, status)| (name.clone(), hold(status))).collect(),
        }
    }

    fn report(&self, as_of: u64) -> SidecarReport {
        let session = self.session();
        SidecarReport {
            namespace: self.pod.namespace.clone(),
            pod: self.pod.name.clone(),
            version: session.info().map(|info| info.version.clone()).unwrap_or_default(),
            connected: self.connected,
            as_of: session.held_as_of(),
            waiting: session.lags(as_of),
            resources: session
                .names()
                .map(|(name, version, status)| {
                    let kind = kind_of(type_of(name));
                    ResourceReport::new(kind, name.to_string(), version.cloned(), status)
                })
                .collect(),
        }
    }
}

impl ResourceReport {
    fn new(kind: &'static str, name: String, version: Option<Arc<str>>, status: &Status) -> Self {
        let (status, refusal) = match status {
            Status::Unanswered => ("unanswered", None),
            Status::Sent => ("sent", None),
            Status::Programmed => ("programmed", None),
            Status::Refused { path, reason } => ("refused", Some((path.clone(), reason.clone()))),
        };
        let (path, reason) = refusal.unzip();
        Self { kind, name, version, status, path, reason }
    }
}

impl Entry {
    /// The sidecar has answered, or asked for something.
    pub fn changed(&self) {
        self.registry.changes.fetch_add(1, Relaxed);
    }

    /// The stream works on a world: how many were published up to it.
    pub fn saw(&self, generation: u64) {
        self.sidecar.seen.store(generation, Relaxed);
        self.changed();
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.changed();
        lock(&self.registry.streams).open.remove(&self.id);
    }
}

fn kind_of(kind: weft_api::pb::config::ResourceType) -> &'static str {
    use weft_api::pb::config::ResourceType::{Address, Endpoints, Service, Unspecified, Workload};
    match kind {
        Workload | Unspecified => "workload",
        Address => "address",
        Service => "service",
        Endpoints => "endpoints",
    }
}

/// A panic while it was held leaves a state that is as good as any.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
