//! Every sidecar that is connected, what it was told, and whether it took it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde::Serialize;
use weft_api::name::type_of;
use weft_api::session::server::{Session, Status};
use weft_core::model::name::ObjectName;

/// The streams that are open.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    streams: Arc<Mutex<Streams>>,
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
    /// Since when.
    pub connected: Timestamp,
    session: Mutex<Session>,
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
    pub fn enter(&self, pod: ObjectName) -> Entry {
        let sidecar = Arc::new(Sidecar { pod, connected: Timestamp::now(), session: Mutex::default() });
        let mut streams = lock(&self.streams);
        streams.last += 1;
        let id = streams.last;
        streams.open.insert(id, sidecar.clone());
        Entry { registry: self.clone(), id, sidecar }
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

impl Drop for Entry {
    fn drop(&mut self) {
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
