//! An object as it was found, and where.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::yaml::Document;

/// What tells an object from every other.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ObjectId {
    /// The API group without its version; empty for the core group.
    pub group: Arc<str>,
    /// The kind.
    pub kind: Arc<str>,
    /// The namespace; empty for kinds that have none.
    pub namespace: Arc<str>,
    /// The name.
    pub name: Arc<str>,
}

/// An object, not yet understood.
#[derive(Clone, Debug)]
pub struct Object {
    /// Which it is.
    pub id: ObjectId,
    /// The whole of it.
    pub value: Arc<Value>,
    /// Where it was found.
    pub place: Place,
}

/// Where an object was found.
#[derive(Clone, Debug)]
pub enum Place {
    /// In a file.
    File {
        /// The file.
        path: Arc<Path>,
        /// What stands there, for its lines.
        document: Arc<Document>,
    },
    /// In the API server.
    Cluster,
}

/// What a source has to say.
#[derive(Clone, Debug)]
pub enum Event {
    /// The object is there, or is now like this.
    Apply(Object),
    /// The object is gone.
    Delete(ObjectId),
    /// These are all there are; what is not among them is gone.
    Reset(Vec<Object>),
    /// What follows, up to [`Event::Listed`], names all objects of the scope there are.
    Listing(Scope),
    /// All objects of the scope have been named since [`Event::Listing`]; any other of it is gone.
    Listed(Scope),
    /// Everything has been named at least once: from now on the whole is known.
    Synced,
}

/// The objects that a listing names: those of a kind, everywhere or in one namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Scope {
    /// The API group without its version; empty for the core group.
    pub group: Arc<str>,
    /// The kind.
    pub kind: Arc<str>,
    /// The namespace; `None` for all.
    pub namespace: Option<Arc<str>>,
}

/// A file, or a part of one, that cannot be read as objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub path: Arc<Path>,
    /// The line, from 1; 0 where none can be named.
    pub line: u32,
    /// What is wrong.
    pub reason: String,
    /// What is in force for all that; empty where nobody asks.
    pub effect: &'static str,
}

/// Kinds that belong to no namespace.
const CLUSTER_SCOPED: [&str; 6] = [
    "Namespace",
    "Node",
    "CustomResourceDefinition",
    "ClusterRole",
    "ClusterRoleBinding",
    "PersistentVolume",
];

impl Object {
    /// Takes one document apart: an object, or the items of a `List`.
    pub fn of_document(path: &Arc<Path>, document: Document) -> Result<Vec<Self>, Problem> {
        let read = |document: Document| {
            let line = document.line_of("");
            let problem = |reason| Problem { path: path.clone(), line, reason, effect: "" };
            let id = ObjectId::of(&document.value).map_err(problem)?;
            let value = document.value.clone();
            Ok(Self { id, value, place: Place::File { path: path.clone(), document: Arc::new(document) } })
        };
        document.items().into_iter().map(read).collect()
    }

    /// `apiVersion`.
    pub fn api_version(&self) -> &str {
        self.value["apiVersion"].as_str().unwrap_or_default()
    }
}

impl Scope {
    /// Whether a listing of the scope names an object.
    pub fn includes(&self, id: &ObjectId) -> bool {
        self.group == id.group
            && self.kind == id.kind
            && self.namespace.as_ref().is_none_or(|namespace| *namespace == id.namespace)
    }
}

impl ObjectId {
    fn of(value: &Value) -> Result<Self, String> {
        let api = required(&value["apiVersion"], "apiVersion", "every object says its API's version")?;
        let kind = required(&value["kind"], "kind", "every object says its kind")?;
        let name = required(&value["metadata"]["name"], "metadata.name", "every object has a name")?;
        let written = optional(&value["metadata"]["namespace"], "metadata.namespace")?;
        let namespace = match CLUSTER_SCOPED.contains(&kind.as_str()) {
            true => String::new(),
            false => written.unwrap_or_else(|| "default".to_owned()),
        };
        let group = api.split_once('/').map_or("", |(group, _)| group);
        Ok(Self { group: group.into(), kind: kind.into(), namespace: namespace.into(), name: name.into() })
    }
}

fn required(value: &Value, field: &str, why: &str) -> Result<String, String> {
    optional(value, field)?.ok_or_else(|| format!("{field}: missing; {why}"))
}

fn optional(value: &Value, field: &str) -> Result<Option<String>, String> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.clone()).filter(|text| !text.is_empty())),
        // YAML as Kubernetes reads it: `y`, `no` and `on` are no texts.
        other => Err(format!("{field}: {other} is no text; put it in quotes")),
    }
}

impl Place {
    /// `file:line` of a field, where there is a file.
    pub fn locate(&self, field: &str) -> Option<(Arc<Path>, u32)> {
        match self {
            Self::File { path, document } => Some((path.clone(), document.line_of(field))),
            Self::Cluster => None,
        }
    }

    /// The same, so many lines further down.
    pub fn moved(&mut self, lines: i32) {
        if let (Self::File { document, .. }, false) = (self, lines == 0) {
            Arc::make_mut(document).moved(lines);
        }
    }

    /// Whether every field is on the same line of the same file as in `other`.
    pub fn same_lines(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::File { path: a, document: da }, Self::File { path: b, document: db }) => {
                a == b && (Arc::ptr_eq(da, db) || da.same_lines(db))
            }
            (Self::Cluster, Self::Cluster) => true,
            _ => false,
        }
    }
}

impl Problem {
    /// What is wrong, and what is in force for all that.
    pub fn text(&self) -> String {
        let semicolon = if self.effect.is_empty() { "" } else { "; " };
        format!("{}{semicolon}{}", self.reason, self.effect)
    }
}

/// `VirtualService default/reviews`.
impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.namespace.is_empty() {
            true => write!(f, "{} {}", self.kind, self.name),
            false => write!(f, "{} {}/{}", self.kind, self.namespace, self.name),
        }
    }
}

/// `VirtualService.networking.weft.dev`.
impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.kind)?;
        if !self.group.is_empty() {
            write!(f, ".{}", self.group)?;
        }
        self.namespace.as_ref().map_or(Ok(()), |namespace| write!(f, " in {namespace}"))
    }
}

/// `mesh.yaml:12: what is wrong`.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path.display(), self.text()),
            line => write!(f, "{}:{line}: {}", self.path.display(), self.text()),
        }
    }
}
