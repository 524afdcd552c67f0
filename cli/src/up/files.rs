//! A directory of manifests as a local mesh takes it: the objects that the controller's own reader finds, typed, and what
//! is wrong with them, by file and line.
//!
//! A file that cannot be read keeps the objects that it held when it last could, an object whose fields cannot be
//! read stays as it last was: a half-written or broken file changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use weft_controller::source::directory::{Directory, Files};
use weft_controller::source::files::Tree;
use weft_controller::source::object::{self, Object, ObjectId, Place};

use crate::up::manifest::{Data, Meta, Object as Typed, PodSpec, ServiceSpec, Template, WorkloadSpec};

/// Something that is wrong with a file, or that has no effect here.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The file, as the user named the directory.
    pub file: PathBuf,
    /// The line, from 1; 0 when the file as a whole is meant.
    pub line: u32,
    /// `Kind namespace/name`, when that much is known.
    pub resource: String,
    /// What is wrong, with the field's path in front.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        if !self.resource.is_empty() {
            write!(f, ": {}", self.resource)?;
        }
        write!(f, ": {}", self.message)
    }
}

impl From<&object::Problem> for Problem {
    fn from(of: &object::Problem) -> Self {
        Self { file: of.path.to_path_buf(), line: of.line, resource: String::new(), message: of.text() }
    }
}

/// An object that a local mesh acts upon.
#[derive(Clone, Debug, PartialEq)]
pub enum Entity {
    /// A namespace, for its labels.
    Namespace(Meta),
    /// `Deployment`, `StatefulSet`, `Job`, `ReplicaSet` or `DaemonSet`.
    Workload(String, Meta, Box<WorkloadSpec>),
    /// A pod by itself.
    Pod(Box<Template>),
    /// A Service.
    Service(Meta, Box<ServiceSpec>),
    /// A ConfigMap.
    ConfigMap(Data),
    /// A Secret.
    Secret(Data),
    /// What only the controller reads.
    Other,
}

/// An object and where it stands.
#[derive(Clone, Debug)]
pub struct Found {
    /// What it is.
    pub entity: Entity,
    /// `Kind namespace/name`.
    pub resource: String,
    /// Where it is.
    pub place: Place,
}

impl Found {
    /// Something about it; a message that begins with a field's path stands on the field's line.
    pub fn problem(&self, message: String) -> Problem {
        let path = message.split_once(": ").map(|(path, _)| path).filter(|path| !path.contains(' '));
        let path = path.unwrap_or_default().to_owned();
        problem(&self.place, &self.resource, &path, message)
    }
}

fn problem(place: &Place, resource: &str, path: &str, message: String) -> Problem {
    let (file, line) = place.locate(path).unwrap_or((Path::new("").into(), 0));
    Problem { file: file.to_path_buf(), line, resource: resource.to_owned(), message }
}

/// The directory as last read.
pub struct Folder {
    tree: Tree,
    directory: Directory,
    /// The files as they were last taken.
    taken: Files,
    /// Files seen empty once: editors empty a file before they write it.
    emptied: BTreeSet<Arc<Path>>,
    objects: BTreeMap<ObjectId, Read>,
    errors: Vec<Problem>,
    read: bool,
}

impl Folder {
    /// Nothing is read yet.
    pub fn new(dir: &Path) -> Self {
        Self {
            tree: Tree::new(dir.to_owned()),
            directory: Directory::default(),
            taken: Files::new(),
            emptied: BTreeSet::new(),
            objects: BTreeMap::new(),
            errors: Vec::new(),
            read: false,
        }
    }

    /// Reads what changed. Answers whether a file must be looked at again soon although nothing may tell of it.
    pub fn refresh(&mut self) -> bool {
        let (files, unreadable) = self.tree.read(&BTreeSet::new());
        self.read |= !unreadable.iter().any(|problem| *problem.path == *self.tree.root());
        let again = self.take(files);
        self.errors.extend(unreadable.iter().map(Problem::from));
        again || !unreadable.is_empty()
    }

    /// Whether it was read at all.
    pub fn was_read(&self) -> bool {
        self.read
    }

    /// All objects, broken ones as they last were.
    pub fn objects(&self) -> impl Iterator<Item = &Found> {
        self.objects.values().filter_map(|read| read.good.as_ref())
    }

    /// What is wrong now.
    pub fn errors(&self) -> Vec<Problem> {
        let of_objects = self.objects.values().filter_map(|read| read.error.as_ref());
        self.errors.iter().chain(of_objects).cloned().collect()
    }

    /// What has no effect here.
    pub fn warnings(&self) -> Vec<Problem> {
        self.objects.values().flat_map(|read| &read.warnings).cloned().collect()
    }

    fn take(&mut self, mut files: Files) -> bool {
        let again = self.hold_emptied(&mut files);
        self.taken.clone_from(&files);
        self.errors = self.directory.update(files).problems.iter().map(Problem::from).collect();
        let mut before = std::mem::take(&mut self.objects);
        let read = |object: &Object| (object.id.clone(), Read::again(object, before.remove(&object.id)));
        self.objects = self.directory.objects().map(read).collect();
        again
    }

    /// A file that was just emptied stays as it was, once; whether there is one.
    fn hold_emptied(&mut self, files: &mut Files) -> bool {
        let blank = |text: &Result<Arc<str>, String>| text.as_ref().is_ok_and(|text| text.trim().is_empty());
        let mut again = false;
        for (path, text) in files {
            if !blank(text) {
                self.emptied.remove(path);
                continue;
            }
            let before = self.taken.get(path).filter(|before| before.is_ok() && !blank(before));
            if let Some(before) = before
                && self.emptied.insert(path.clone())
            {
                text.clone_from(before);
                again = true;
            }
        }
        again
    }
}

/// An object as it was read.
struct Read {
    object: Object,
    good: Option<Found>,
    error: Option<Problem>,
    warnings: Vec<Problem>,
}

impl Read {
    /// Reads it, unless it is what it was.
    fn again(object: &Object, before: Option<Self>) -> Self {
        let same = |old: &Self| {
            Arc::ptr_eq(&old.object.value, &object.value) && old.object.place.same_lines(&object.place)
        };
        match before {
            Some(old) if same(&old) => old,
            before => Self::new(object, before.and_then(|old| old.good)),
        }
    }

    fn new(object: &Object, before: Option<Found>) -> Self {
        let resource = object.id.to_string();
        let mut ignored = Vec::new();
        let (good, error) = match entity(object, &mut ignored) {
            Ok(entity) => {
                (Some(Found { entity, resource: resource.clone(), place: object.place.clone() }), None)
            }
            Err((path, message)) => {
                let message = format!("{path}: {message}");
                (before, Some(problem(&object.place, &resource, &path, message)))
            }
        };
        let warn = |path: &String| {
            let message = match path.as_str() {
                "" => "objects of this kind have no effect in a local mesh".to_owned(),
                path => format!("{path}: has no effect in a local mesh"),
            };
            problem(&object.place, &resource, path, message)
        };
        let warnings = ignored.iter().map(warn).collect();
        Self { object: object.clone(), good, error, warnings }
    }
}

type Refused = (String, String);

fn entity(object: &Object, ignored: &mut Vec<String>) -> Result<Entity, Refused> {
    let (kind, value) = (&*object.id.kind, (*object.value).clone());
    Ok(match (object.api_version(), kind) {
        ("v1", "Namespace") => Entity::Namespace(typed::<Typed<Value>>(value, ignored)?.metadata),
        ("v1", "ConfigMap") => Entity::ConfigMap(with_namespace(typed::<Data>(value, ignored)?)),
        ("v1", "Secret") => Entity::Secret(with_namespace(typed::<Data>(value, ignored)?)),
        ("v1", "Pod") => {
            let (metadata, spec) = parts::<PodSpec>(value, ignored)?;
            Entity::Pod(Box::new(Template { metadata, spec }))
        }
        ("v1", "Service") => {
            let (metadata, spec) = parts::<ServiceSpec>(value, ignored)?;
            Entity::Service(metadata, Box::new(spec))
        }
        ("apps/v1", "Deployment" | "StatefulSet" | "ReplicaSet" | "DaemonSet") | ("batch/v1", "Job") => {
            let (metadata, spec) = parts::<WorkloadSpec>(value, ignored)?;
            Entity::Workload(kind.to_owned(), metadata, Box::new(spec))
        }
        ("v1", "ServiceAccount" | "Endpoints") | ("discovery.k8s.io/v1", "EndpointSlice") => Entity::Other,
        (api, _) if of_the_mesh(api) => Entity::Other,
        _ => {
            ignored.push(String::new());
            Entity::Other
        }
    })
}

fn of_the_mesh(api: &str) -> bool {
    api.split_once('/').is_some_and(|(group, _)| group.ends_with(".weft.dev") || group.ends_with(".istio.io"))
}

fn parts<S: DeserializeOwned + Default>(
    value: Value,
    ignored: &mut Vec<String>,
) -> Result<(Meta, S), Refused> {
    let object = typed::<Typed<S>>(value, ignored)?;
    let mut metadata = object.metadata;
    default_namespace(&mut metadata);
    Ok((metadata, object.spec.ok_or_else(|| ("spec".to_owned(), "is required".to_owned()))?))
}

fn with_namespace(mut data: Data) -> Data {
    default_namespace(&mut data.metadata);
    data
}

fn default_namespace(meta: &mut Meta) {
    if meta.namespace.is_empty() {
        meta.namespace = "default".into();
    }
}

fn typed<T: for<'de> Deserialize<'de>>(value: Value, ignored: &mut Vec<String>) -> Result<T, Refused> {
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(value, &mut track);
    let result = serde_ignored::deserialize(tracked, |path| ignored.push(clean(&path.to_string())));
    result.map_err(|e| (track.path().to_string(), e.to_string()))
}

/// Paths name optional fields with a `?`, which nobody writes, and items by `.0` where errors have `[0]`.
fn clean(path: &str) -> String {
    path.split('.').filter(|segment| *segment != "?").fold(String::new(), |path, segment| {
        match (path.is_empty(), segment.parse::<usize>()) {
            (_, Ok(index)) => format!("{path}[{index}]"),
            (true, _) => segment.to_owned(),
            (false, _) => format!("{path}.{segment}"),
        }
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    const POD: &str =
        "# a pod\napiVersion: v1\nkind: Pod\nmetadata:\n  name: a\nspec:\n  containers:\n  - name: c\n";

    fn save(folder: &mut Folder, text: &str) -> bool {
        folder.take(Files::from([(Path::new("a.yaml").into(), Ok(text.into()))]))
    }

    /// A directory with one file, `a.yaml`.
    pub(crate) fn of(text: &str) -> Folder {
        let mut folder = Folder::new(Path::new("."));
        save(&mut folder, text);
        folder
    }

    #[test]
    fn several_documents_keep_their_lines() {
        let second = POD.replace("name: a", "name: b");
        let folder = of(&format!("{POD}---\n{second}    ports:\n    - containerPort: many\n"));
        assert_eq!(folder.objects().count(), 1);
        let error = &folder.errors()[0];
        assert_eq!((error.line, error.resource.as_str()), (19, "Pod default/b"), "{error}");
        assert!(error.message.starts_with("spec.containers[0].ports[0].containerPort: "), "{error}");
    }

    #[test]
    fn what_is_not_supported_is_named() {
        let folder = of(&format!("{POD}    lifecycle: {{}}\n"));
        assert_eq!(folder.errors(), []);
        assert_eq!(
            folder.warnings()[0].to_string(),
            "a.yaml:9: Pod default/a: spec.containers[0].lifecycle: has no effect in a local mesh"
        );
    }

    #[test]
    fn a_broken_file_names_its_line_and_keeps_its_last_good_objects() {
        let mut folder = of(POD);
        save(&mut folder, &format!("{POD}---\nb: [1\nc: 2\n"));
        assert_eq!((folder.objects().count(), folder.errors().len()), (1, 1));
        assert!(folder.errors()[0].line >= 10, "{:?}", folder.errors());
        save(&mut folder, &format!("{POD}    ports: many\n"));
        assert_eq!((folder.objects().count(), folder.errors().len()), (1, 1));
        save(&mut folder, POD);
        assert_eq!(folder.errors(), []);
    }

    #[test]
    fn a_file_that_was_just_emptied_is_looked_at_again() {
        let mut folder = of(POD);
        assert!(save(&mut folder, "") && folder.objects().count() == 1);
        assert!(!save(&mut folder, "") && folder.objects().count() == 0);
        assert!(!save(&mut folder, POD) && folder.objects().count() == 1);
        assert!(save(&mut folder, "\n") && folder.objects().count() == 1);
    }

    #[test]
    fn kinds_of_the_mesh_are_left_to_the_controller() {
        let text =
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a}\nspec: {x: 1}\n";
        let folder = of(text);
        let all: Vec<_> = folder.objects().map(|found| &found.entity).collect();
        assert_eq!((all, folder.warnings().len()), (vec![&Entity::Other], 0));
    }
}
