//! All that is known, joined: what the compiler asks.
//!
//! A change is one `apply` or `delete`, whether it comes alone or from a resync; each says what it touched
//! (`Dirty`). After a batch, `World::settle` brings the indexes up to date. A world is cheap to clone: the
//! compiler works on a copy that nobody changes.

/// Which resources a change may have changed.
pub mod dirty;
/// Objects of one kind in both groups, where ours win.
pub mod table;
/// From hosts and addresses to objects.
pub mod index;
/// What a pod or a service touches in the world around it.
mod touched;
/// One copy of what many objects have in common.
pub mod share;

use std::collections::BTreeMap;
use std::sync::Arc;

use weft_core::model::name::ObjectName;

use self::dirty::Dirty;
use self::index::{Index, Stale, is_indexed, label_hash};
use self::table::{Table, put, take};
use self::touched::{
    by_change, by_peer_authentication, by_pod, by_policy, by_service, by_sidecar, by_telemetry,
};
use crate::fragment::destination_rule::DestinationRule;
use crate::fragment::kubernetes::{EndpointSlice, Namespace, Pod, Service};
use crate::fragment::mesh::{Mesh, ROOT_NAMESPACE};
use crate::fragment::meta::{Meta, Selector};
use crate::fragment::security::{AuthorizationPolicy, PeerAuthentication};
use crate::fragment::sidecar::Sidecar;
use crate::fragment::telemetry::Telemetry;
use crate::fragment::virtual_service::VirtualService;
use crate::fragment::{Fragment, FragmentKey, ObjectKey};

/// The joined state.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// Counts the batches that changed anything: the controller's resource version.
    pub version: u64,
    /// Mesh-wide settings.
    pub mesh: Arc<Mesh>,
    /// Namespaces by name.
    pub namespaces: Arc<BTreeMap<Arc<str>, Arc<Namespace>>>,
    /// Services.
    pub services: Arc<BTreeMap<ObjectName, Arc<Service>>>,
    /// Pods.
    pub pods: Arc<BTreeMap<ObjectName, Arc<Pod>>>,
    /// EndpointSlices.
    pub slices: Arc<BTreeMap<ObjectName, Arc<EndpointSlice>>>,
    /// VirtualServices.
    pub virtual_services: Table<VirtualService>,
    /// DestinationRules.
    pub destination_rules: Table<DestinationRule>,
    /// AuthorizationPolicies.
    pub authorization_policies: Table<AuthorizationPolicy>,
    /// PeerAuthentications.
    pub peer_authentications: Table<PeerAuthentication>,
    /// Sidecars.
    pub sidecars: Table<Sidecar>,
    /// Telemetries.
    pub telemetries: Table<Telemetry>,
    /// What is found by host, by address and by label.
    pub index: Arc<Index>,
    /// Mesh-wide settings by namespace.
    settings: BTreeMap<Arc<str>, Arc<Mesh>>,
    stale: Stale,
}

/// The table of a kind.
type TableOf<T> = fn(&mut World) -> &mut Table<T>;
/// What an object of a kind touches.
type By<T> = fn(&World, &T) -> Dirty;

impl World {
    /// Takes an object in, new or changed.
    pub fn apply(&mut self, fragment: Fragment) -> Dirty {
        match fragment {
            Fragment::Mesh(namespace, mesh) => self.set_mesh(namespace, Some(mesh)),
            Fragment::Namespace(namespace) => {
                let key = namespace.name.clone();
                put(Arc::make_mut(&mut self.namespaces), key, namespace, |_| Dirty::default())
            }
            Fragment::Service(service) => self.put_service(service),
            Fragment::Pod(pod) => self.put_pod(pod),
            Fragment::EndpointSlice(slice) => self.put_slice(slice),
            Fragment::VirtualService(o) => {
                self.stale.virtual_services = true;
                self.virtual_services.put(o.meta.clone(), o, Dirty::of_virtual_service)
            }
            Fragment::DestinationRule(o) => {
                self.stale.destination_rules = true;
                self.destination_rules.put(o.meta.clone(), *o, Dirty::of_destination_rule)
            }
            Fragment::AuthorizationPolicy(o) => {
                self.put_in(|world| &mut world.authorization_policies, o.meta.clone(), o, by_policy)
            }
            Fragment::PeerAuthentication(o) => self.put_in(
                |world| &mut world.peer_authentications,
                o.meta.clone(),
                o,
                by_peer_authentication,
            ),
            Fragment::Sidecar(o) => self.put_in(|world| &mut world.sidecars, o.meta.clone(), o, by_sidecar),
            Fragment::Telemetry(o) => {
                self.put_in(|world| &mut world.telemetries, o.meta.clone(), o, by_telemetry)
            }
        }
    }

    /// Takes an object out.
    pub fn delete(&mut self, key: &FragmentKey) -> Dirty {
        match key {
            FragmentKey::VirtualService(_) => self.stale.virtual_services = true,
            FragmentKey::DestinationRule(_) => self.stale.destination_rules = true,
            _ => {}
        }
        match key {
            FragmentKey::Mesh(namespace) => self.set_mesh(namespace.clone(), None),
            FragmentKey::Namespace(name) => {
                take(Arc::make_mut(&mut self.namespaces), name, |_| Dirty::default())
            }
            FragmentKey::Service(name) => self.take_service(name),
            FragmentKey::Pod(name) => self.take_pod(name),
            FragmentKey::EndpointSlice(name) => self.take_slice(name),
            FragmentKey::VirtualService(key) => self.virtual_services.take(key, Dirty::of_virtual_service),
            FragmentKey::DestinationRule(key) => self.destination_rules.take(key, Dirty::of_destination_rule),
            FragmentKey::AuthorizationPolicy(key) => {
                self.take_from(|world| &mut world.authorization_policies, key, by_policy)
            }
            FragmentKey::PeerAuthentication(key) => {
                self.take_from(|world| &mut world.peer_authentications, key, by_peer_authentication)
            }
            FragmentKey::Sidecar(key) => self.take_from(|world| &mut world.sidecars, key, by_sidecar),
            FragmentKey::Telemetry(key) => self.take_from(|world| &mut world.telemetries, key, by_telemetry),
        }
    }

    /// Ends a batch: if anything was touched, the indexes follow and the version grows.
    pub fn settle(&mut self, dirty: &Dirty) {
        if dirty.is_empty() {
            return;
        }
        self.version += 1;
        let stale = std::mem::take(&mut self.stale);
        self.index = Arc::new(self.index.renewed(self, stale));
    }

    /// The pods of a namespace.
    pub fn pods_of<'a>(&'a self, namespace: &Arc<str>) -> impl Iterator<Item = &'a Arc<Pod>> + use<'a> {
        let namespace = namespace.clone();
        let first = ObjectName { namespace: namespace.clone(), name: "".into() };
        self.pods.range(first..).take_while(move |(name, _)| name.namespace == namespace).map(|(_, pod)| pod)
    }

    /// The pods of a namespace that a selector selects, by name.
    pub fn pods_selected<'a>(
        &'a self,
        namespace: &'a Arc<str>,
        selector: &'a Selector,
    ) -> Box<dyn Iterator<Item = &'a Arc<Pod>> + 'a> {
        let by_label = |(key, value): &(Arc<str>, Arc<str>)| {
            let found = self.index.pods_by_label.get(&label_hash(namespace, key, value));
            found.map(Vec::as_slice).unwrap_or_default()
        };
        let indexed = selector.0.iter().filter(|(key, _)| is_indexed(key));
        match indexed.map(by_label).min_by_key(|pods| pods.len()) {
            None => Box::new(self.pods_of(namespace).filter(|pod| selector.selects(&pod.meta.labels))),
            Some(pods) => Box::new(pods.iter().filter(move |pod| {
                pod.meta.name.namespace == *namespace && selector.selects(&pod.meta.labels)
            })),
        }
    }

    /// The services that select a pod, the oldest first.
    pub fn services_of_pod<'a>(&'a self, pod: &Pod) -> Vec<&'a Arc<Service>> {
        let namespace = &pod.meta.name.namespace;
        let of_label = |(key, value): (&String, &String)| {
            self.index.services_by_label.get(&label_hash(namespace, key, value))
        };
        let selects = |service: &&Arc<Service>| {
            service.meta.name.namespace == *namespace
                && service.selector.as_ref().is_some_and(|s| s.selects(&pod.meta.labels))
        };
        let mut all: Vec<_> = pod.meta.labels.iter().filter_map(of_label).flatten().filter(selects).collect();
        all.sort_by(|a, b| a.meta.age.cmp(&b.meta.age));
        all
    }

    /// The service of a host.
    pub fn service_of_host(&self, host: &str) -> Option<&Arc<Service>> {
        self.index.services_by_host.get(host).and_then(|name| self.services.get(name))
    }

    /// Puts an object into its table; what it touches is asked of the rest of the world.
    fn put_in<T: PartialEq>(&mut self, table: TableOf<T>, meta: Meta, object: T, by: By<T>) -> Dirty {
        let mut taken = std::mem::take(table(self));
        let dirty = taken.put(meta, object, |object| by(self, object));
        *table(self) = taken;
        dirty
    }

    /// Takes an object out of its table.
    fn take_from<T: PartialEq>(&mut self, table: TableOf<T>, key: &ObjectKey, by: By<T>) -> Dirty {
        let mut taken = std::mem::take(table(self));
        let dirty = taken.take(key, |object| by(self, object));
        *table(self) = taken;
        dirty
    }

    fn put_service(&mut self, new: Service) -> Dirty {
        let old = self.services.get(&new.meta.name);
        let dirty = by_change(old, &new, |service| by_service(self, service));
        if !dirty.is_empty() {
            self.stale.services = true;
            Arc::make_mut(&mut self.services).insert(new.meta.name.clone(), Arc::new(new));
        }
        dirty
    }

    fn take_service(&mut self, name: &ObjectName) -> Dirty {
        let Some(old) = self.services.get(name).cloned() else { return Dirty::default() };
        self.stale.services = true;
        Arc::make_mut(&mut self.services).remove(name);
        by_service(self, &old)
    }

    fn put_pod(&mut self, new: Pod) -> Dirty {
        let old = self.pods.get(&new.meta.name);
        let mut dirty = by_change(old, &new, |pod| by_pod(self, pod));
        if old.is_some_and(|old| old.meta.labels != new.meta.labels) {
            // Rules are for clients of some labels.
            dirty.clients.insert(new.meta.name.clone());
        }
        if !dirty.is_empty() {
            self.stale.pods = true;
            Arc::make_mut(&mut self.pods).insert(new.meta.name.clone(), Arc::new(new));
        }
        dirty
    }

    fn take_pod(&mut self, name: &ObjectName) -> Dirty {
        let Some(old) = self.pods.get(name).cloned() else { return Dirty::default() };
        self.stale.pods = true;
        Arc::make_mut(&mut self.pods).remove(name);
        by_pod(self, &old)
    }

    fn put_slice(&mut self, new: EndpointSlice) -> Dirty {
        let dirty = by_change(self.slices.get(&new.meta.name), &new, Dirty::of_slice);
        if !dirty.is_empty() {
            self.stale.slices = true;
            Arc::make_mut(&mut self.slices).insert(new.meta.name.clone(), Arc::new(new));
        }
        dirty
    }

    fn take_slice(&mut self, name: &ObjectName) -> Dirty {
        let Some(old) = self.slices.get(name).cloned() else { return Dirty::default() };
        self.stale.slices = true;
        Arc::make_mut(&mut self.slices).remove(name);
        Dirty::of_slice(&old)
    }

    /// Of two root namespaces with settings, ours counts.
    fn set_mesh(&mut self, namespace: Arc<str>, mesh: Option<Mesh>) -> Dirty {
        match mesh {
            Some(mesh) => drop(self.settings.insert(namespace, Arc::new(mesh))),
            None => drop(self.settings.remove(&namespace)),
        }
        let first = self.settings.get(ROOT_NAMESPACE).or_else(|| self.settings.values().next());
        let mesh = first.cloned().unwrap_or_default();
        let same = self.mesh == mesh;
        self.mesh = mesh;
        if same { Dirty::default() } else { Dirty::all() }
    }
}
