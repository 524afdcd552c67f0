//! A directory of manifests: which objects its files hold, and what is wrong with them, by file and line.
//!
//! Every file stands for itself. One that cannot be read as it stands now keeps the objects that it held when it last could,
//! so that a half-written or broken file changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use weft_controller::source::files::manifests;

use crate::up::manifest::{Data, Meta, Object, PodSpec, ServiceSpec, Template, WorkloadSpec};

/// Files larger than this are refused.
const MAX_FILE: u64 = 16 << 20;

/// Something that is wrong with a file, or that has no effect here.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The file, as the user named the directory.
    pub file: PathBuf,
    /// The line, from 1; 0 when the file as a whole is meant.
    pub line: usize,
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
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// What it is.
    pub entity: Entity,
    /// `Kind namespace/name`.
    pub resource: String,
    /// Its file.
    pub file: PathBuf,
    /// The line that its document starts on.
    pub line: usize,
    /// Its document.
    pub text: Arc<str>,
}

impl Found {
    /// Something about it; a message that begins with a field's path stands on the field's line.
    pub fn problem(&self, message: String) -> Problem {
        let path = message.split_once(": ").map_or("", |(path, _)| path);
        let line = self.line + if path.contains(' ') { 0 } else { line_of(&self.text, path) };
        Problem { file: self.file.clone(), line, resource: self.resource.clone(), message }
    }
}

#[derive(Debug, Default)]
struct FileState {
    text: String,
    good: Vec<Found>,
    errors: Vec<Problem>,
    warnings: Vec<Problem>,
    /// Seen empty once: editors empty a file before they write it.
    emptied: bool,
}

/// The directory as last read.
#[derive(Debug)]
pub struct Folder {
    dir: PathBuf,
    files: BTreeMap<PathBuf, FileState>,
    gone: Option<Problem>,
    read: bool,
}

impl Folder {
    /// Nothing is read yet.
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_path_buf(), files: BTreeMap::new(), gone: None, read: false }
    }

    /// Reads what changed. Answers whether a file must be looked at again soon although nothing may tell of it.
    pub fn refresh(&mut self) -> bool {
        let names = match list(&self.dir) {
            Ok(names) => names,
            Err(e) => {
                let message = format!("cannot read the directory: {e}; what runs stays as it is");
                let problem = Problem { file: self.dir.clone(), line: 0, resource: String::new(), message };
                self.gone = Some(problem);
                return true;
            }
        };
        self.gone = None;
        self.read = true;
        self.files.retain(|name, _| names.contains(name));
        let mut again = false;
        for name in names {
            again |= self.file(name);
        }
        again
    }

    /// Whether it was read at all.
    pub fn was_read(&self) -> bool {
        self.read
    }

    /// All objects, those of broken files as they last were.
    pub fn objects(&self) -> impl Iterator<Item = &Found> {
        self.files.values().flat_map(|f| &f.good)
    }

    /// What is wrong now.
    pub fn errors(&self) -> Vec<Problem> {
        self.gone.iter().chain(self.files.values().flat_map(|f| &f.errors)).cloned().collect()
    }

    /// What has no effect here.
    pub fn warnings(&self) -> Vec<Problem> {
        self.files.values().flat_map(|f| &f.warnings).cloned().collect()
    }

    fn file(&mut self, name: PathBuf) -> bool {
        let state = self.files.entry(name.clone()).or_default();
        let text = match read(&name) {
            Ok(text) => text,
            Err(message) => {
                state.errors = vec![Problem { file: name, line: 0, resource: String::new(), message }];
                return false;
            }
        };
        if text.trim().is_empty() && !state.good.is_empty() && !state.emptied {
            state.emptied = true;
            return true;
        }
        state.emptied = false;
        if text != state.text || !state.errors.is_empty() {
            parse_into(state, &name, text);
        }
        false
    }
}

fn parse_into(state: &mut FileState, name: &Path, text: String) {
    let parsed = parse(name, &text);
    state.text = text;
    state.warnings = parsed.warnings;
    if parsed.errors.is_empty() {
        state.good = parsed.found;
    }
    state.errors = parsed.errors;
}

/// Every manifest below the directory, as the controller finds them.
fn list(dir: &Path) -> std::io::Result<BTreeSet<PathBuf>> {
    let mut found = manifests(dir);
    match found.unreadable.pop() {
        Some((_, e)) => Err(e),
        None => Ok(found.files),
    }
}

fn read(name: &Path) -> Result<String, String> {
    let length = fs::metadata(name).map_err(|e| format!("cannot read it: {e}"))?.len();
    if length > MAX_FILE {
        return Err(format!("{length} bytes are more than the {MAX_FILE} that a file may have"));
    }
    fs::read_to_string(name).map_err(|e| format!("cannot read it: {e}"))
}

/// What a file holds.
#[derive(Debug, Default)]
pub struct Parsed {
    /// Its objects.
    pub found: Vec<Found>,
    /// What is wrong.
    pub errors: Vec<Problem>,
    /// What has no effect.
    pub warnings: Vec<Problem>,
}

/// Reads the text of one file.
pub fn parse(file: &Path, text: &str) -> Parsed {
    let mut parsed = Parsed::default();
    for (line, document) in documents(text) {
        let at = |offset: usize, resource: String, message: String| Problem {
            file: file.to_path_buf(),
            line: line + offset,
            resource,
            message,
        };
        match serde_saphyr::from_str::<Value>(document) {
            Ok(Value::Null) => {}
            Ok(value) => one_or_list(value, &Document { file, line, text: document }, &mut parsed),
            Err(e) => {
                let offset =
                    e.location().map_or(0, |l| usize::try_from(l.line()).unwrap_or(1).saturating_sub(1));
                let message = e.without_snippet().to_string();
                parsed.errors.push(at(
                    offset,
                    String::new(),
                    message.lines().next().unwrap_or("").to_owned(),
                ));
            }
        }
    }
    parsed
}

/// The documents of a file, each with the line (from 1) that it starts on.
fn documents(text: &str) -> Vec<(usize, &str)> {
    let (mut all, mut start, mut start_line, mut offset) = (Vec::new(), 0, 1, 0);
    for (index, line) in text.split_inclusive('\n').enumerate() {
        if line == "---\n" || line == "---" || line.starts_with("--- ") || line == "---\r\n" {
            all.push((start_line, &text[start..offset]));
            (start, start_line) = (offset + line.len(), index + 2);
        }
        offset += line.len();
    }
    all.push((start_line, &text[start..]));
    all
}

struct Document<'a> {
    file: &'a Path,
    line: usize,
    text: &'a str,
}

fn one_or_list(mut value: Value, document: &Document<'_>, parsed: &mut Parsed) {
    let is_list = value.get("kind").and_then(Value::as_str) == Some("List");
    match value.get_mut("items").map(Value::take) {
        Some(Value::Array(items)) if is_list => {
            items.into_iter().for_each(|item| object(item, document, parsed));
        }
        _ => object(value, document, parsed),
    }
}

fn object(value: Value, document: &Document<'_>, parsed: &mut Parsed) {
    let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).unwrap_or("").to_owned();
    let (api, kind, name) = (text("/apiVersion"), text("/kind"), text("/metadata/name"));
    let namespace = Some(text("/metadata/namespace")).filter(|n| !n.is_empty()).unwrap_or("default".into());
    let resource =
        if kind == "Namespace" { format!("{kind} {name}") } else { format!("{kind} {namespace}/{name}") };
    let problem = |path: &str, message: String| Problem {
        file: document.file.to_path_buf(),
        line: document.line + line_of(document.text, path),
        resource: resource.clone(),
        message: if path.is_empty() { message } else { format!("{path}: {message}") },
    };
    if api.is_empty() || kind.is_empty() || name.is_empty() {
        let message = "apiVersion, kind and metadata.name are required".into();
        parsed.errors.push(Problem { resource: String::new(), ..problem("", message) });
        return;
    }
    let mut ignored = Vec::new();
    match entity(&api, &kind, value, &mut ignored) {
        Ok(entity) => {
            let (file, line, text) = (document.file.into(), document.line, document.text.into());
            parsed.found.push(Found { entity, resource: resource.clone(), file, line, text });
        }
        Err((path, message)) => parsed.errors.push(problem(&path, message)),
    }
    let warn = |path: &String| {
        let message = if path.is_empty() {
            "objects of this kind have no effect in a local mesh"
        } else {
            "has no effect in a local mesh"
        };
        problem(path, message.into())
    };
    parsed.warnings.extend(ignored.iter().map(warn));
}

type Refused = (String, String);

fn entity(api: &str, kind: &str, value: Value, ignored: &mut Vec<String>) -> Result<Entity, Refused> {
    Ok(match (api, kind) {
        ("v1", "Namespace") => Entity::Namespace(typed::<Object<Value>>(value, ignored)?.metadata),
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
    let object = typed::<Object<S>>(value, ignored)?;
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

/// The line, counted from 0 in its document, on which a field stands, as far as block style tells.
fn line_of(text: &str, path: &str) -> usize {
    let lines: Vec<&str> = text.lines().collect();
    let mut at = 0;
    for segment in path.split(['.', '[', ']']).filter(|s| !s.is_empty() && *s != "?") {
        let found = match segment.parse::<usize>() {
            Ok(index) => nth_item(&lines, at, index),
            Err(_) => (at..lines.len()).find(|&i| key_of(lines[i]) == Some(segment)),
        };
        let Some(found) = found else { return at };
        at = found;
    }
    at
}

fn nth_item(lines: &[&str], from: usize, index: usize) -> Option<usize> {
    let is_item = |line: &str| line.trim_start().starts_with("- ");
    let first = (from..lines.len()).find(|&i| is_item(lines[i]))?;
    let indent = |line: &str| line.len() - line.trim_start().len();
    let depth = indent(lines[first]);
    (first..lines.len()).filter(|&i| is_item(lines[i]) && indent(lines[i]) == depth).nth(index)
}

fn key_of(line: &str) -> Option<&str> {
    let rest = line.trim_start().trim_start_matches("- ").trim_start();
    rest.split_once(':').map(|(key, _)| key.trim_matches(['"', '\'']))
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: &str =
        "# a pod\napiVersion: v1\nkind: Pod\nmetadata:\n  name: a\nspec:\n  containers:\n  - name: c\n";

    fn of(text: &str) -> Parsed {
        parse(Path::new("a.yaml"), text)
    }

    #[test]
    fn several_documents_keep_their_lines() {
        let parsed = of(&format!("{POD}---\n{POD}    ports:\n    - containerPort: many\n"));
        assert_eq!(parsed.found.len(), 1);
        let error = &parsed.errors[0];
        assert_eq!((error.line, error.resource.as_str()), (19, "Pod default/a"), "{error}");
        assert!(error.message.starts_with("spec.containers[0].ports[0].containerPort: "), "{error}");
    }

    #[test]
    fn what_is_not_supported_is_named() {
        let parsed = of(&format!("{POD}    lifecycle: {{}}\n"));
        assert_eq!(parsed.errors, []);
        assert_eq!(
            parsed.warnings[0].to_string(),
            "a.yaml:9: Pod default/a: spec.containers[0].lifecycle: has no effect in a local mesh"
        );
    }

    #[test]
    fn broken_yaml_names_its_line() {
        let parsed = of("a: 1\n---\nb: [1\nc: 2\n");
        assert!(parsed.errors.iter().any(|e| e.line >= 3), "{:?}", parsed.errors);
    }

    #[test]
    fn a_broken_file_keeps_its_last_good_objects() {
        let mut state = FileState::default();
        parse_into(&mut state, Path::new("a.yaml"), POD.to_owned());
        parse_into(&mut state, Path::new("a.yaml"), "kind: [".to_owned());
        assert_eq!((state.good.len(), state.errors.len()), (1, 1));
        parse_into(&mut state, Path::new("a.yaml"), POD.to_owned());
        assert_eq!(state.errors, []);
    }

    #[test]
    fn kinds_of_the_mesh_are_left_to_the_controller() {
        let parsed = of(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a}\nspec: {x: 1}\n",
        );
        assert_eq!((parsed.found[0].entity.clone(), parsed.warnings.len()), (Entity::Other, 0));
    }
}
