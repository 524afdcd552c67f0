//! Objects of one kind in both groups, where ours win.

use std::collections::BTreeMap;
use std::sync::Arc;

use weft_core::model::name::ObjectName;

use super::dirty::Dirty;
use crate::fragment::ObjectKey;
use crate::fragment::meta::{Meta, Origin};

/// All objects of one kind.
#[derive(Clone, Debug)]
pub struct Table<T>(BTreeMap<ObjectKey, Arc<T>>);

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T: PartialEq> Table<T> {
    /// Takes an object in; says what it and the one it replaces touch.
    pub fn put(&mut self, meta: Meta, new: T, touched: impl Fn(&T) -> Dirty) -> Dirty {
        put(&mut self.0, (meta.name, meta.origin), new, touched)
    }

    /// Takes an object out.
    pub fn take(&mut self, key: &ObjectKey, touched: impl Fn(&T) -> Dirty) -> Dirty {
        take(&mut self.0, key, touched)
    }
}

impl<T> Table<T> {
    /// The objects that are in force: one a name, ours before Istio's.
    pub fn in_force(&self) -> impl Iterator<Item = &Arc<T>> {
        first_of_each_name(self.0.iter())
    }

    /// The objects in force of one namespace.
    pub fn of_namespace(&self, namespace: &str) -> impl Iterator<Item = &Arc<T>> {
        let first = ObjectName { namespace: namespace.into(), name: "".into() };
        let namespace: Arc<str> = namespace.into();
        let all = self.0.range((first, Origin::Weft)..);
        first_of_each_name(all.take_while(move |((name, _), _)| name.namespace == namespace))
    }

    /// Names that both groups have: Istio's object is not in force.
    pub fn shadowed(&self) -> impl Iterator<Item = &ObjectName> {
        self.0
            .keys()
            .filter(|(name, origin)| {
                *origin == Origin::Istio && self.0.contains_key(&(name.clone(), Origin::Weft))
            })
            .map(|(name, _)| name)
    }
}

/// Of objects in order of their names and groups, the first of each name.
fn first_of_each_name<'a, T: 'a>(
    all: impl Iterator<Item = (&'a ObjectKey, &'a Arc<T>)>,
) -> impl Iterator<Item = &'a Arc<T>> {
    let mut last: Option<&ObjectName> = None;
    all.filter_map(move |((name, _), object)| (last.replace(name) != Some(name)).then_some(object))
}

/// Takes an object in; says what it and the one it replaces touch. One that is equal touches nothing.
pub(super) fn put<K: Ord, T: PartialEq>(
    map: &mut BTreeMap<K, Arc<T>>,
    key: K,
    new: T,
    touched: impl Fn(&T) -> Dirty,
) -> Dirty {
    let mut dirty = touched(&new);
    if let Some(old) = map.get(&key) {
        if **old == new {
            return Dirty::default();
        }
        dirty.add(touched(old));
    }
    map.insert(key, Arc::new(new));
    dirty
}

/// Takes an object out; says what it touched.
pub(super) fn take<K: Ord, T>(
    map: &mut BTreeMap<K, Arc<T>>,
    key: &K,
    touched: impl Fn(&T) -> Dirty,
) -> Dirty {
    map.remove(key).map(|old| touched(&old)).unwrap_or_default()
}
