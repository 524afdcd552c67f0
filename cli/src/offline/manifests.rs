//! From the manifests of a directory to the objects that a cluster would make of them: pods of workloads, with a sidecar
//! where the injector puts one, and addresses of Services.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use weft_controller::inject::{InjectionSettings, Injector, Namespace, Outcome};
use weft_controller::source::object::{Event, Object, ObjectId};
use weft_controller::source::watch::Directories;

use crate::objects::labels;
use crate::up::manifest::{Meta, ServiceSpec};
use crate::up::net::PodAddress;
use crate::up::services::Addresses;

/// More pods of one workload say nothing new.
const MOST_REPLICAS: u64 = 50;
/// Labels and annotations by which a pod says whether it gets a sidecar.
const INJECT: [&str; 2] = ["sidecar.istio.io/inject", "weft.dev/inject"];
/// Labels by which a namespace does.
const INJECTION: [&str; 4] = ["weft.dev/injection", "istio-injection", "weft.dev/rev", "istio.io/rev"];

/// The objects of a directory, and what its pods are taken to be.
pub(super) struct Manifests {
    /// Every object, pods of workloads among them.
    pub(super) objects: Vec<Object>,
    /// Whether nothing says which pods get sidecars, so that all do.
    pub(super) all_meshed: bool,
    /// What cannot be as it is written.
    pub(super) warnings: Vec<String>,
}

/// Reads files and directories.
///
/// # Errors
/// A file that cannot be read, or is no YAML, with its line.
pub(super) fn read(paths: &[PathBuf]) -> Result<Manifests> {
    for path in paths {
        std::fs::metadata(path).with_context(|| path.display().to_string())?;
    }
    let changes = Directories::new(paths.to_vec()).read();
    if let Some(problem) = changes.problems.first() {
        bail!("{problem}");
    }
    let applied = changes.events.into_iter().filter_map(|event| match event {
        Event::Apply(object) => Some(object),
        _ => None,
    });
    expand(applied.collect())
}

fn expand(objects: Vec<Object>) -> Result<Manifests> {
    let mut expansion = Expansion::new(&objects);
    let mut all = Vec::new();
    for object in objects {
        match (&*object.id.group, &*object.id.kind) {
            ("", "Service") => all.push(expansion.service(object)?),
            ("", "Pod") => all.push(expansion.pod(object)),
            _ => {
                all.extend(expansion.pods(&object));
                all.push(object);
            }
        }
    }
    Ok(Manifests { objects: all, all_meshed: expansion.all_meshed, warnings: expansion.warnings })
}

struct Expansion {
    injector: Injector,
    namespaces: BTreeMap<String, BTreeMap<String, String>>,
    all_meshed: bool,
    addresses: Addresses,
    pods: u32,
    warnings: Vec<String>,
}

impl Expansion {
    fn new(objects: &[Object]) -> Self {
        let is_namespace = |o: &&Object| o.id.group.is_empty() && &*o.id.kind == "Namespace";
        let namespaces: BTreeMap<_, _> =
            objects.iter().filter(is_namespace).map(|o| (o.id.name.to_string(), labels(&o.value))).collect();
        let says = |labels: &BTreeMap<String, String>| INJECTION.iter().any(|l| labels.contains_key(*l));
        let by_namespace = namespaces.values().any(says);
        let by_pod = objects.iter().filter_map(template).any(says_itself);
        Self {
            injector: Injector::new(InjectionSettings::default()),
            namespaces,
            all_meshed: !by_namespace && !by_pod,
            addresses: Addresses::default(),
            pods: 0,
            warnings: Vec::new(),
        }
    }

    /// A Service with the addresses that it has, or would have in `weft up`.
    fn service(&mut self, mut object: Object) -> Result<Object> {
        let place = |field: &str| match object.place.locate(field) {
            Some((file, line)) => format!("{}:{line}: {}", file.display(), object.id),
            None => object.id.to_string(),
        };
        let spec = object.value.get("spec").cloned().unwrap_or_else(|| json!({}));
        let spec: ServiceSpec = serde_json::from_value(spec).with_context(|| place("spec"))?;
        let (name, namespace) = (object.id.name.to_string(), object.id.namespace.to_string());
        let meta = Meta { name, namespace, ..Meta::default() };
        let given = self.addresses.assign(&meta, &spec);
        let given = given.map_err(|reason| anyhow::anyhow!("{}: {reason}", place("spec")))?;
        if let Some(first) = given.first() {
            let value = Arc::make_mut(&mut object.value);
            let all: Vec<String> = given.iter().map(ToString::to_string).collect();
            (value["spec"]["clusterIP"], value["spec"]["clusterIPs"]) =
                (json!(first.to_string()), json!(all));
        }
        Ok(object)
    }

    /// A pod as it is written; one that never ran is taken to be ready.
    fn pod(&mut self, mut object: Object) -> Object {
        let mut value = self.injected(&object.id, (*object.value).clone());
        if value["status"]["podIP"].is_null() && value["status"]["podIPs"].is_null() {
            value["status"] = self.status();
        }
        object.value = Arc::new(value);
        object
    }

    /// The pods of a workload.
    fn pods(&mut self, object: &Object) -> Vec<Object> {
        let Some(template) = template(object) else { return Vec::new() };
        let spec = &object.value["spec"];
        let wanted = match &*object.id.kind {
            "Job" => spec["parallelism"].as_u64(),
            "DaemonSet" | "CronJob" => None,
            _ => spec["replicas"].as_u64(),
        };
        let replicas = wanted.unwrap_or(1).min(MOST_REPLICAS);
        (0..replicas).map(|n| self.replica(object, template, n)).collect()
    }

    fn replica(&mut self, owner: &Object, template: &Value, n: u64) -> Object {
        let name = format!("{}-{n}", owner.id.name);
        let mut pod = template.clone();
        if !pod["metadata"].is_object() {
            pod["metadata"] = json!({});
        }
        (pod["apiVersion"], pod["kind"]) = (json!("v1"), json!("Pod"));
        let id = ObjectId {
            group: "".into(),
            kind: "Pod".into(),
            namespace: owner.id.namespace.clone(),
            name: name.as_str().into(),
        };
        let mut pod = self.injected(&id, pod);
        let metadata = &mut pod["metadata"];
        (metadata["name"], metadata["namespace"]) = (json!(name), json!(&*owner.id.namespace));
        metadata["ownerReferences"] =
            json!([{ "kind": &*owner.id.kind, "name": &*owner.id.name, "controller": true, "uid": "" }]);
        pod["status"] = self.status();
        Object { id, value: Arc::new(pod), place: owner.place.clone() }
    }

    fn status(&mut self) -> Value {
        let address = PodAddress::nth(self.pods, false).v4.to_string();
        self.pods += 1;
        json!({ "phase": "Running", "podIP": address, "podIPs": [{ "ip": address }],
                "conditions": [{ "type": "Ready", "status": "True" }] })
    }

    /// A pod as the injector lets it into the cluster.
    fn injected(&mut self, id: &ObjectId, pod: Value) -> Value {
        if self.all_meshed {
            return meshed(pod);
        }
        let none = BTreeMap::new();
        let labels = self.namespaces.get(&*id.namespace).unwrap_or(&none);
        match self.injector.inject(Namespace { name: &id.namespace, labels }, &pod) {
            Outcome::Injected { pod, .. } => *pod,
            Outcome::Skipped { pod, .. } => *pod,
            Outcome::Refused(why) => {
                self.warnings.push(format!("{id}: {why}"));
                pod
            }
        }
    }
}

/// A pod of which the mesh knows that a sidecar is in it.
fn meshed(mut pod: Value) -> Value {
    if !pod["metadata"]["annotations"].is_object() {
        pod["metadata"]["annotations"] = json!({});
    }
    pod["metadata"]["annotations"]["weft.dev/status"] = json!("{}");
    pod
}

/// The template of a workload's pods, or a pod itself.
fn template(object: &Object) -> Option<&Value> {
    let spec = &object.value["spec"];
    let template = match (&*object.id.group, &*object.id.kind) {
        ("", "Pod") => &*object.value,
        ("apps", "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet") | ("batch", "Job") => {
            &spec["template"]
        }
        ("batch", "CronJob") => &spec["jobTemplate"]["spec"]["template"],
        _ => return None,
    };
    template.is_object().then_some(template)
}

fn says_itself(template: &Value) -> bool {
    let metadata = &template["metadata"];
    let has =
        |name: &&str| [&metadata["labels"], &metadata["annotations"]].iter().any(|m| !m[*name].is_null());
    INJECT.iter().any(has)
        || !metadata["annotations"]["weft.dev/status"].is_null()
        || !metadata["labels"]["security.istio.io/tlsMode"].is_null()
}
