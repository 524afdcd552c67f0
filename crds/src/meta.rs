//! The frame around every object: `apiVersion`, `kind`, `metadata`, `spec`, `status`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// An object whose `spec` is `S`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, bound(deserialize = "S: Default + Deserialize<'de>"))]
pub struct Object<S> {
    /// Group and version, such as `networking.weft.dev/v1`.
    pub api_version: String,
    /// The kind, such as `VirtualService`.
    pub kind: String,
    /// Name, namespace, labels and what the API server adds.
    pub metadata: ObjectMeta,
    /// What the user wants. Left out, its default.
    pub spec: S,
    /// What the controller reports; not read.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub status: Value,
}

/// The metadata that Weft uses. Other fields are ignored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ObjectMeta {
    /// The name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The namespace; empty where none was written and for objects of the cluster.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// When the object was made, as RFC 3339 text. The older of two objects wins a conflict.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub creation_timestamp: Option<String>,
    /// Counts the changes of `spec`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// The API server's version of the object, an opaque text.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource_version: String,
    /// Tells an object from a later one of the same name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// When deletion was asked for, as RFC 3339 text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_timestamp: Option<String>,
    /// The objects that this one belongs to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub owner_references: Vec<OwnerReference>,
}

/// An object that another one belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OwnerReference {
    /// The owner's kind.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// The owner's name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Whether the owner made the object and keeps it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub controller: Option<bool>,
}

impl ObjectMeta {
    /// A label's value.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels.get(key).map(String::as_str)
    }

    /// An annotation's value.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.get(key).map(String::as_str)
    }
}
