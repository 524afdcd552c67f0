//! From the objects in the files to what is wanted: workloads, services, and what is wrong with them. Pure.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use weft_controller::inject::Namespace;
use xxhash_rust::xxh64::xxh64;

use crate::up::files::{Entity, Found, Problem};
use crate::up::injection;
use crate::up::manifest::{Claim, Data, Map, Meta, Template, Volume, WorkloadSpec};
use crate::up::resolve;
use crate::up::rollout::{Kind, Workload};
use crate::up::services::{Addresses, Service, meant};
use crate::up::values::References;

/// What is wanted.
#[derive(Debug, Default)]
pub(crate) struct Desired {
    /// Workloads by key.
    pub(crate) workloads: BTreeMap<String, Workload>,
    /// Services, by namespace and name.
    pub(crate) services: Vec<Service>,
    /// ConfigMaps by `namespace/name`.
    pub(crate) config_maps: BTreeMap<String, Data>,
    /// Secrets by `namespace/name`.
    pub(crate) secrets: BTreeMap<String, Data>,
    /// What cannot be done.
    pub(crate) problems: Vec<Problem>,
    /// What is done, but may not do what it seems to.
    pub(crate) warnings: Vec<Problem>,
}

impl Desired {
    /// What the objects ask for. A workload that cannot be run as it stands now stays as it was before.
    pub(crate) fn new(objects: &[&Found], before: &Self, addresses: &mut Addresses) -> Self {
        let mut all = Self::default();
        let mut namespaces: BTreeMap<&str, &Map> = BTreeMap::new();
        for found in objects {
            match &found.entity {
                Entity::Namespace(meta) => drop(namespaces.insert(&meta.name, &meta.labels)),
                Entity::ConfigMap(data) => drop(all.config_maps.insert(key(&data.metadata), data.clone())),
                Entity::Secret(data) => drop(all.secrets.insert(key(&data.metadata), data.clone())),
                _ => {}
            }
        }
        let none = Map::new();
        let labels = |namespace: &str| namespaces.get(namespace).copied().unwrap_or(&none);
        for found in objects {
            match &found.entity {
                Entity::Workload(kind, meta, spec) => {
                    all.workload(found, before, labels(&meta.namespace), wanted(kind, meta, spec))
                }
                Entity::Pod(pod) => all.workload(found, before, labels(&pod.metadata.namespace), alone(pod)),
                Entity::Service(meta, spec) => match addresses.assign(meta, spec) {
                    Ok(addresses) => {
                        all.services.push(Service { meta: meta.clone(), spec: (**spec).clone(), addresses })
                    }
                    Err(message) => all.problem(found, message),
                },
                _ => {}
            }
        }
        all.unnamed(objects);
        all.services
            .sort_by(|a, b| (&a.meta.namespace, &a.meta.name).cmp(&(&b.meta.namespace, &b.meta.name)));
        all
    }

    /// What templates may refer to.
    pub(crate) fn refs(&self) -> References<'_> {
        References { config_maps: &self.config_maps, secrets: &self.secrets }
    }

    fn workload(&mut self, found: &Found, before: &Self, namespace: &Map, mut workload: Workload) {
        workload.key.clone_from(&found.resource);
        let meta =
            Meta { name: workload.name.clone(), namespace: workload.namespace.clone(), ..Meta::default() };
        workload.template.metadata.namespace.clone_from(&workload.namespace);
        self.inject(found, namespace, &mut workload);
        let within = if workload.kind == Kind::Pod { "" } else { "spec.template." };
        match resolve::check(&meta, &workload.template, self.refs()) {
            Err(message) => {
                self.problem(found, format!("{within}{message}"));
                let Some(kept) = before.workloads.get(&workload.key) else { return };
                workload = kept.clone();
            }
            Ok(warnings) => {
                let warnings = warnings.into_iter().filter(|_| workload.injected);
                self.warnings.extend(warnings.map(|message| found.problem(format!("{within}{message}"))));
                workload.revision = self.revision(&workload);
            }
        }
        match self.workloads.entry(workload.key.clone()) {
            Entry::Vacant(free) => drop(free.insert(workload)),
            Entry::Occupied(_) => self.problem(found, "is written twice; the first one counts".into()),
        }
    }

    fn inject(&mut self, found: &Found, labels: &Map, workload: &mut Workload) {
        let namespace = Namespace { name: &workload.namespace, labels };
        match injection::injected(namespace, &workload.template) {
            Ok(()) => {
                workload.injected = true;
                // By this label the mesh knows that a pod has a sidecar.
                let labels = &mut workload.template.metadata.labels;
                labels.entry("security.istio.io/tlsMode".into()).or_insert_with(|| "istio".into());
            }
            Err(why) if why.is_surprising() => self.warnings.push(found.problem(why.to_string())),
            Err(_) => {}
        }
    }

    /// Pods are replaced when their template changes, or what it refers to: their values are read when a pod starts.
    fn revision(&self, workload: &Workload) -> String {
        let namespace = format!("{}/", workload.namespace);
        let text = format!("{:?}", workload.template.spec);
        let used = self.config_maps.iter().chain(&self.secrets);
        let used = used.filter(|(key, _)| {
            key.strip_prefix(&namespace).is_some_and(|name| text.contains(&format!("{name:?}")))
        });
        let parts = format!("{:?}{}{:?}", workload.template, workload.injected, used.collect::<Vec<_>>());
        format!("{:010x}", xxh64(parts.as_bytes(), 0) >> 24)
    }

    /// Names outside the mesh mean nothing in it: there is no name server.
    fn unnamed(&mut self, objects: &[&Found]) {
        for found in objects {
            let Entity::Service(meta, spec) = &found.entity else { continue };
            let Some(name) = spec.external().filter(|name| meant(name, &self.services).is_none()) else {
                continue;
            };
            let message = format!(
                "spec.externalName: {name:?} is no Service of this mesh and no address, and there is no name server: \
                 {} is not found by its name here",
                meta.name
            );
            self.warnings.push(found.problem(message));
        }
    }

    fn problem(&mut self, found: &Found, message: String) {
        self.problems.push(found.problem(message));
    }
}

fn key(meta: &Meta) -> String {
    format!("{}/{}", meta.namespace, meta.name)
}

fn alone(pod: &Template) -> Workload {
    Workload {
        key: String::new(),
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        kind: Kind::Pod,
        replicas: 1,
        template: pod.clone(),
        revision: String::new(),
        injected: false,
    }
}

fn wanted(kind: &str, meta: &Meta, spec: &WorkloadSpec) -> Workload {
    let mut template = spec.template.clone();
    // Claims become empty directories of the same name.
    let claimed = |claim: &Claim| Volume { name: claim.metadata.name.clone(), ..Volume::default() };
    template.spec.volumes.extend(spec.volume_claim_templates.iter().map(claimed));
    let kind = match kind {
        "StatefulSet" => Kind::Numbered(spec.pod_management_policy.as_deref() != Some("Parallel")),
        "Job" => Kind::Job(
            spec.completions.unwrap_or(1),
            spec.parallelism.unwrap_or(1),
            spec.backoff_limit.unwrap_or(6),
        ),
        _ => Kind::Interchangeable,
    };
    let replicas = spec.replicas.unwrap_or(1);
    Workload {
        kind,
        replicas,
        template,
        name: meta.name.clone(),
        namespace: meta.namespace.clone(),
        ..alone(&Template::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::up::files::tests::of;

    const DEPLOYMENT: &str = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: shop}\nspec:\n  replicas: 2\n  template:\n    metadata: {labels: {app: web}}\n    spec: {containers: [{name: c, command: [run]}]}\n";
    const NAMESPACE: &str =
        "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {istio-injection: enabled}}\n";

    fn desired(text: &str, before: &Desired) -> Desired {
        let folder = of(text);
        assert_eq!(folder.errors(), []);
        Desired::new(&folder.objects().collect::<Vec<_>>(), before, &mut Addresses::default())
    }

    #[test]
    fn a_namespace_label_asks_for_sidecars() {
        let all = desired(&format!("{DEPLOYMENT}{NAMESPACE}"), &Desired::default());
        let web = &all.workloads["Deployment shop/web"];
        assert_eq!((web.replicas, web.injected), (2, true));
        assert_eq!(web.template.metadata.labels["security.istio.io/tlsMode"], "istio");
        assert!(!desired(DEPLOYMENT, &Desired::default()).workloads["Deployment shop/web"].injected);
    }

    #[test]
    fn a_workload_that_cannot_run_stays_as_it_was() {
        let good = desired(DEPLOYMENT, &Desired::default());
        let bad = desired(&DEPLOYMENT.replace("command: [run]", "image: x"), &good);
        assert_eq!(bad.workloads, good.workloads);
        assert!(
            bad.problems[0]
                .to_string()
                .starts_with("a.yaml:8: Deployment shop/web: spec.template.spec.containers[0].command")
        );
    }

    #[test]
    fn revisions_change_with_what_pods_are_made_of() {
        let revision =
            |text: &str| desired(text, &Desired::default()).workloads["Deployment shop/web"].revision.clone();
        assert_eq!(revision(DEPLOYMENT), revision(&DEPLOYMENT.replace("replicas: 2", "replicas: 3")));
        assert_ne!(revision(DEPLOYMENT), revision(&DEPLOYMENT.replace("[run]", "[run, fast]")));
    }
}
