//! One copy of what many objects have in common: the labels of the pods of one deployment, the names of nodes and accounts.

use std::collections::{BTreeMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;

use crate::fragment::Fragment;
use crate::fragment::kubernetes::{EndpointSlice, Pod, Service};
use crate::fragment::meta::Meta;

/// A set is looked through for what nobody else holds any more when it has grown to twice what was left the last time.
const FIRST_LOOK: usize = 1024;

/// What is shared.
#[derive(Debug, Default)]
pub struct Shared {
    maps: Pool<BTreeMap<String, String>>,
    texts: Pool<str>,
    ports: Pool<[(Arc<str>, u16)]>,
}

#[derive(Debug)]
struct Pool<T: ?Sized> {
    all: HashSet<Arc<T>>,
    look_at: usize,
}

impl Shared {
    /// Makes a fragment share what others have too.
    pub fn share(&mut self, fragment: &mut Fragment) {
        match fragment {
            Fragment::Pod(pod) => self.pod(pod),
            Fragment::Service(service) => self.service(service),
            Fragment::EndpointSlice(slice) => self.slice(slice),
            _ => {}
        }
    }

    fn pod(&mut self, pod: &mut Pod) {
        self.meta(&mut pod.meta);
        pod.addresses.shrink_to_fit();
        self.texts.put(&mut pod.service_account);
        self.texts.put(&mut pod.node);
        self.texts.put(&mut pod.workload);
        self.ports.put(&mut pod.ports);
    }

    fn service(&mut self, service: &mut Service) {
        self.meta(&mut service.meta);
        service.addresses.shrink_to_fit();
        service.ports.shrink_to_fit();
        service.ports.iter_mut().for_each(|port| self.texts.put(&mut port.name));
    }

    fn slice(&mut self, slice: &mut EndpointSlice) {
        self.meta(&mut slice.meta);
        slice.endpoints.shrink_to_fit();
        slice.ports.iter_mut().for_each(|(name, _)| self.texts.put(name));
        slice.endpoints.iter_mut().for_each(|endpoint| self.texts.put(&mut endpoint.zone));
    }

    fn meta(&mut self, meta: &mut Meta) {
        self.maps.put(&mut meta.labels);
        self.maps.put(&mut meta.annotations);
        self.texts.put(&mut meta.age.created);
    }
}

impl<T: ?Sized + Eq + Hash> Pool<T> {
    fn put(&mut self, new: &mut Arc<T>) {
        if let Some(known) = self.all.get(new) {
            *new = known.clone();
            return;
        }
        if self.all.len() >= self.look_at {
            self.all.retain(|held| Arc::strong_count(held) > 1);
            self.look_at = FIRST_LOOK.max(self.all.len() * 2);
        }
        self.all.insert(new.clone());
    }
}

impl<T: ?Sized> Default for Pool<T> {
    fn default() -> Self {
        Self { all: HashSet::new(), look_at: FIRST_LOOK }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_equal_is_held_once_and_what_nobody_holds_is_given_back() {
        let mut pool = Pool::<str>::default();
        let (mut a, mut b): (Arc<str>, Arc<str>) = ("x".into(), "x".into());
        pool.put(&mut a);
        pool.put(&mut b);
        assert!(Arc::ptr_eq(&a, &b));
        for i in 0..10 * FIRST_LOOK {
            pool.put(&mut i.to_string().into());
        }
        assert!(pool.all.len() <= FIRST_LOOK + 1, "{}", pool.all.len());
        assert!(pool.all.contains("x"));
    }
}
