//! One worker's view of the configuration.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use arc_swap::Cache;
use foldhash::fast::FixedState;
use hashbrown::HashSet;
use weft_core::model::address::Address;
use weft_core::model::name::{AddressKey, ResourceName, ServiceName};
use weft_core::snapshot::{ServiceState, Snapshot};

use super::mesh::{ConfigUnavailable, Mesh};

/// One worker's view; stays on its thread. What it finds is noted as used, so that names that nobody uses can be
/// given back.
pub struct MeshReader {
    mesh: Mesh,
    cache: RefCell<Cache<MeshSnapshot, Arc<Snapshot>>>,
    used: RefCell<HashSet<ResourceName, FixedState>>,
    epoch: Cell<u64>,
}

/// Where the cache looks for the snapshot.
#[derive(Clone, Debug)]
struct MeshSnapshot(Mesh);

impl std::ops::Deref for MeshSnapshot {
    type Target = arc_swap::ArcSwap<Snapshot>;

    fn deref(&self) -> &Self::Target {
        &self.0.shared().snapshot
    }
}

impl Mesh {
    /// One worker's view.
    pub fn reader(&self) -> MeshReader {
        MeshReader::new(self.clone())
    }
}

impl MeshReader {
    fn new(mesh: Mesh) -> Self {
        let cache = RefCell::new(Cache::new(MeshSnapshot(mesh.clone())));
        Self { mesh, cache, used: RefCell::default(), epoch: Cell::new(0) }
    }

    /// The configuration as it is now: hold it for the length of one request.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.cache.borrow_mut().load().clone()
    }

    /// Whether a snapshot is the one in force: compares pointers.
    pub fn is_current(&self, snapshot: &Arc<Snapshot>) -> bool {
        Arc::ptr_eq(self.cache.borrow_mut().load(), snapshot)
    }

    /// What was found may be kept while this number and the snapshot's generation stay: with the next, names that
    /// are still in use are to be looked up, and so noted, again.
    pub fn epoch(&self) -> u64 {
        self.mesh.shared().epoch.load(Relaxed)
    }

    /// What all threads share.
    pub fn mesh(&self) -> &Mesh {
        &self.mesh
    }

    /// What an address means, see [`Mesh::address`].
    ///
    /// # Errors
    /// Those of [`Mesh::address`].
    pub async fn address(&self, key: AddressKey) -> Result<Arc<Address>, ConfigUnavailable> {
        let known = self.cache.borrow_mut().load().address(key).cloned();
        match known {
            Some(address) => {
                self.note(ResourceName::Address(address.key));
                Ok(address)
            }
            None => self.mesh.address(key).await,
        }
    }

    /// A service with everything that its routes name, see [`Mesh::service`].
    ///
    /// # Errors
    /// Those of [`Mesh::service`].
    pub async fn service(&self, name: &ServiceName) -> Result<Arc<ServiceState>, ConfigUnavailable> {
        let known = self.cache.borrow_mut().load().service(name).cloned();
        match known {
            Some(service) => {
                self.note(ResourceName::Service(name.clone()));
                Ok(service)
            }
            None => self.mesh.service(name).await,
        }
    }

    /// Says once an epoch that a name is in use.
    fn note(&self, name: ResourceName) {
        let epoch = self.mesh.shared().epoch.load(Relaxed);
        let mut used = self.used.borrow_mut();
        if self.epoch.replace(epoch) != epoch {
            used.clear();
        }
        if !used.contains(&name) {
            self.mesh.used(name.clone());
            used.insert(name);
        }
    }
}
