//! Injection into manifests: whatever holds a pod or the template of one, as `weft inject -f` reads it.
//!
//! The webhook sees pods alone. Both come to the same, for both call [`Injector::inject`].

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Injector, Namespace, Outcome, Skipped};

/// Labels of namespaces, by name.
pub type NamespaceLabels = BTreeMap<String, BTreeMap<String, String>>;

/// What became of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The object: `Deployment shop/web`.
    pub object: String,
    /// What became of it.
    pub what: What,
}

/// What became of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// It has a sidecar.
    Injected,
    /// It has a sidecar, and something has no effect.
    Warning(String),
    /// It gets none.
    Skipped(Skipped),
    /// It must not be applied so.
    Refused(String),
}

/// Injects into manifests that belong together.
#[derive(Clone, Debug)]
pub struct Manifests<'a> {
    /// By what.
    pub injector: &'a Injector,
    /// The namespaces that are known.
    pub namespaces: NamespaceLabels,
    /// The labels of those that are not.
    pub unknown: BTreeMap<String, String>,
    /// The namespace of objects that name none.
    pub default_namespace: String,
}

impl Manifests<'_> {
    /// Remembers the labels of an object that is a Namespace.
    pub fn learn(&mut self, object: &Value) {
        for item in object["items"].as_array().into_iter().flatten() {
            self.learn(item);
        }
        let name = object["metadata"]["name"].as_str();
        if let (Some("Namespace"), Some("v1"), Some(name)) =
            (object["kind"].as_str(), object["apiVersion"].as_str(), name)
        {
            let labels = object["metadata"]["labels"].as_object().into_iter().flatten();
            let labels = labels.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())));
            self.namespaces.entry(name.to_owned()).or_default().extend(labels);
        }
    }

    /// Injects into an object, or into the items of a List; other kinds stay as they are.
    pub fn inject(&self, object: &mut Value) -> Vec<Note> {
        if object["kind"].as_str().is_some_and(|kind| kind.ends_with("List")) {
            let items = object.get_mut("items").and_then(Value::as_array_mut);
            return items.into_iter().flatten().flat_map(|item| self.inject(item)).collect();
        }
        let Some(path) = template(object) else { return Vec::new() };
        let namespace =
            object["metadata"]["namespace"].as_str().unwrap_or(&self.default_namespace).to_owned();
        let labels = self.namespaces.get(&namespace).unwrap_or(&self.unknown);
        let Some(pod) = object.pointer_mut(path) else { return Vec::new() };
        let outcome = self.injector.inject(Namespace { name: &namespace, labels }, pod);
        let notes = settle(pod, outcome, path);
        let object = described(object, &namespace);
        notes.into_iter().map(|what| Note { object: object.clone(), what }).collect()
    }
}

/// Where the pod or its template is, as a JSON pointer; `None` where there is none.
fn template(object: &Value) -> Option<&'static str> {
    let group = object["apiVersion"].as_str()?.split_once('/').map_or("", |(group, _)| group);
    match (group, object["kind"].as_str()?) {
        ("", "Pod") => Some(""),
        ("batch", "CronJob") => Some("/spec/jobTemplate/spec/template"),
        ("", "ReplicationController")
        | ("apps", "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet")
        | ("batch", "Job")
        | ("argoproj.io", "Rollout")
        | ("serving.knative.dev", "Service") => Some("/spec/template"),
        _ => None,
    }
}

fn settle(pod: &mut Value, outcome: Outcome, path: &str) -> Vec<What> {
    let at = path.trim_start_matches('/').replace('/', ".");
    let placed = |text: String| if at.is_empty() { text } else { format!("{at}: {text}") };
    match outcome {
        Outcome::Injected { pod: injected, warnings } => {
            *pod = *injected;
            let warnings = warnings.into_iter().map(|text| What::Warning(placed(text)));
            std::iter::once(What::Injected).chain(warnings).collect()
        }
        Outcome::Skipped { pod: cleared, why } => {
            *pod = *cleared;
            vec![What::Skipped(why)]
        }
        Outcome::Refused(why) => vec![What::Refused(placed(why))],
    }
}

fn described(object: &Value, namespace: &str) -> String {
    let metadata = &object["metadata"];
    let name = metadata["name"].as_str().or_else(|| metadata["generateName"].as_str()).unwrap_or_default();
    format!("{} {namespace}/{name}", object["kind"].as_str().unwrap_or_default())
}
