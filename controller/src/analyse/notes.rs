//! What was found, by object.

use std::collections::BTreeMap;

use weft_core::model::name::ObjectName;
use weft_crds::kind::{self, Kind};

use crate::fragment::meta::{Meta, Origin};
use crate::source::object::ObjectId;
use crate::validate::findings::Finding;

/// The most warnings of one object: the first ones say enough.
const LIMIT: usize = 20;

/// Warnings by object.
#[derive(Default)]
pub struct Notes(BTreeMap<ObjectId, Vec<Finding>>);

impl Notes {
    /// Notes something about a field of an object.
    pub fn warn(&mut self, object: ObjectId, path: impl Into<String>, reason: impl Into<String>) {
        let all = self.0.entry(object).or_default();
        if all.len() < LIMIT {
            all.push(Finding { path: path.into(), reason: reason.into() });
        }
    }

    /// Notes something about a field of an object of the mesh's own kinds.
    pub fn about(&mut self, kind: Kind, meta: &Meta, path: impl Into<String>, reason: impl Into<String>) {
        self.warn(id_of(kind, &meta.name, meta.origin), path, reason);
    }

    /// Everything.
    pub fn done(self) -> BTreeMap<ObjectId, Vec<Finding>> {
        self.0
    }
}

/// The name under which a source knows an object.
pub fn id_of(kind: Kind, name: &ObjectName, origin: Origin) -> ObjectId {
    let group = match origin {
        Origin::Istio => kind::Origin::Istio,
        Origin::Weft | Origin::Kubernetes => kind::Origin::Weft,
    };
    ObjectId {
        group: kind.group(group).into(),
        kind: kind.name().into(),
        namespace: name.namespace.clone(),
        name: name.name.clone(),
    }
}

/// `VirtualService shop/reviews`, for reasons.
pub fn shown(kind: Kind, meta: &Meta) -> String {
    format!("{} {}/{}", kind.name(), meta.name.namespace, meta.name.name)
}

/// Up to five numbers as text.
pub fn listed(numbers: impl Iterator<Item = u16>) -> String {
    let mut all: Vec<_> = numbers.take(6).map(|n| n.to_string()).collect();
    if all.len() == 6 {
        all[5] = "...".to_owned();
    }
    all.join(", ")
}
