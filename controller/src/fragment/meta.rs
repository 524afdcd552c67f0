//! Names, ages and origins of objects; selectors; visibility.

use std::collections::BTreeMap;
use std::sync::Arc;

use weft_core::model::name::ObjectName;

/// What every object has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Namespace and name.
    pub name: ObjectName,
    /// When it was made; sorts by age, then by name.
    pub age: Age,
    /// Labels.
    pub labels: Arc<BTreeMap<String, String>>,
    /// Annotations.
    pub annotations: Arc<BTreeMap<String, String>>,
    /// Whose group the object was written in.
    pub origin: Origin,
}

/// The order in which objects of one kind count: the oldest first, then by name, then by namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Age {
    /// `creationTimestamp`, RFC 3339 in UTC, which sorts as text; empty where there is none (files): the oldest.
    pub created: Arc<str>,
    /// The name.
    pub name: Arc<str>,
    /// The namespace.
    pub namespace: Arc<str>,
}

/// Whose group an object was written in. Where both have one of a name, ours wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// `*.weft.dev`.
    Weft,
    /// `*.istio.io`.
    Istio,
    /// Kubernetes' own.
    Kubernetes,
}

/// `selector.matchLabels`; empty selects every pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector(pub Vec<(Arc<str>, Arc<str>)>);

/// `exportTo`: which namespaces' clients see the object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Visibility {
    /// All.
    #[default]
    Everyone,
    /// These; `.` has been replaced by the object's own.
    Namespaces(Vec<Arc<str>>),
}

impl Meta {
    /// An annotation's text.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.get(key).map(String::as_str)
    }
}

impl Selector {
    /// Whether a pod with these labels is selected.
    pub fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|(key, value)| labels.get(&**key).is_some_and(|v| **v == **value))
    }

    /// Whether every pod is selected.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Visibility {
    /// Whether clients of a namespace see the object.
    pub fn includes(&self, namespace: &str) -> bool {
        match self {
            Self::Everyone => true,
            Self::Namespaces(names) => names.iter().any(|name| **name == *namespace),
        }
    }
}
