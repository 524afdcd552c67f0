//! Reads files and directories once and says all that is wrong with them: what `weft validate` prints.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use crate::analyse::analyse;
use crate::report::{Report, Reports};
use crate::source::directory::{Changes, Directory, Files};
use crate::source::object::{Event, Object, ObjectId, Problem};
use crate::source::watch::Directories;
use crate::validate::validate;
use crate::world::World;
use crate::world::dirty::Dirty;

/// Stands for standard input among paths.
const STANDARD_INPUT: &str = "-";

/// What was found in a set of files.
#[derive(Clone, Debug, Default)]
pub struct Checked {
    /// How many objects there are, of any kind.
    pub objects: usize,
    /// What is wrong with them, by file and line.
    pub reports: Vec<Report>,
}

/// Checks files, directories and (as `-`) standard input.
pub fn check(paths: Vec<PathBuf>) -> Checked {
    let (stdin, paths): (Vec<_>, Vec<_>) =
        paths.into_iter().partition(|path| *path == Path::new(STANDARD_INPUT));
    let mut changes = Directories::new(paths).read();
    if !stdin.is_empty() {
        let text = std::io::read_to_string(std::io::stdin()).map(Arc::from).map_err(|e| e.to_string());
        let more = Directory::default().update(Files::from([(Path::new("<stdin>").into(), text)]));
        changes.events.extend(more.events);
        changes.problems.extend(more.problems);
    }
    check_changes(changes)
}

/// Checks what a source says at first.
pub fn check_changes(changes: Changes) -> Checked {
    let mut reports = Reports::default();
    let problems = changes.problems.into_iter().map(|problem| Problem { effect: "", ..problem });
    reports.set_files(&problems.collect::<Vec<_>>());
    let mut world = World::default();
    let mut objects = 0;
    for event in changes.events {
        let Event::Apply(object) = event else { continue };
        objects += 1;
        let verdict = validate(&object);
        reports.set_object(&object, &verdict.findings);
        for fragment in verdict.fragment.into_iter().chain(stand_in(&object)) {
            world.apply(fragment);
        }
    }
    world.settle(&Dirty::all());
    reports.set_crossing(analyse(&world));
    Checked { objects, reports: reports.all() }
}

/// A pod as a workload's template makes it: what selectors are looked at with where there are no pods.
fn stand_in(object: &Object) -> Option<crate::fragment::Fragment> {
    let spec = &object.value["spec"];
    let template = match &*object.id.kind {
        "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" | "Job" => &spec["template"],
        "CronJob" => &spec["jobTemplate"]["spec"]["template"],
        _ => return None,
    };
    let mut pod = template.as_object()?.clone();
    let name = format!("{}-{}", object.id.name, object.id.kind.to_lowercase());
    let metadata = pod.entry("metadata").or_insert_with(|| Value::Object(Default::default()));
    metadata.as_object_mut()?.insert("name".to_owned(), name.as_str().into());
    pod.insert("apiVersion".to_owned(), "v1".into());
    let id = ObjectId {
        group: "".into(),
        kind: "Pod".into(),
        namespace: object.id.namespace.clone(),
        name: name.into(),
    };
    let pod = Object { id, value: Arc::new(Value::Object(pod)), place: object.place.clone() };
    validate(&pod).fragment
}
