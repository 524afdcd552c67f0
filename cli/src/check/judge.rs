//! What is right and wrong with a cluster. Pure.

use serde::Serialize;
use serde_json::Value;

use crate::check::facts::Facts;
use crate::objects::{at, condition, items, label, name, namespace};

/// The least minor version of Kubernetes 1: init containers that stay are on by default.
const LEAST: u32 = 29;
/// Most names in one sentence.
const NAMES: usize = 5;

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How it stands.
    pub level: Level,
    /// What was found.
    pub what: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
}

/// How something stands; the worst is the greatest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Right,
    /// Perhaps not what is wanted.
    Doubtful,
    /// It does not work.
    Wrong,
}

/// Everything that can be said of a cluster, in the order in which to mend it.
pub fn judge(facts: &Facts) -> Vec<Finding> {
    let mut all = vec![version(facts)];
    if facts.installed() {
        all.extend([controller(facts), leader(facts), kinds(facts)]);
        all.extend(webhooks(facts));
    } else {
        all.extend(before(facts));
    }
    all.extend(
        facts.namespaces.iter().filter(|found| facts.claims(found)).flat_map(|found| pods(facts, found)),
    );
    all.extend(istio(facts));
    all.extend(objects(facts));
    all
}

fn right(what: impl Into<String>) -> Finding {
    Finding { level: Level::Right, what: what.into(), mend: None }
}

fn wrong(what: impl Into<String>, mend: impl Into<String>) -> Finding {
    Finding { level: Level::Wrong, what: what.into(), mend: Some(mend.into()) }
}

fn doubtful(what: impl Into<String>, mend: impl Into<String>) -> Finding {
    Finding { level: Level::Doubtful, ..wrong(what, mend) }
}

// === the cluster ===

fn version(facts: &Facts) -> Finding {
    let told = at(&facts.version, "/gitVersion");
    // Some providers write `29+`.
    let minor =
        at(&facts.version, "/minor").trim_end_matches(|c: char| !c.is_ascii_digit()).parse().unwrap_or(0);
    if minor >= LEAST || at(&facts.version, "/major") > "1" {
        return right(format!("Kubernetes {told}"));
    }
    wrong(format!("Kubernetes {told} has no native sidecars"), format!("upgrade it to 1.{LEAST} or later"))
}

/// Whether an install would work.
fn before(facts: &Facts) -> Vec<Finding> {
    let install = format!("helm install weft charts/weft -n {} --create-namespace", facts.root);
    let what = format!("no control plane of revision {} in {}", facts.revision, facts.root);
    let mut all = vec![doubtful(what, install)];
    if !facts.forbidden.is_empty() {
        let what = format!("you may not {}, which an install does", facts.forbidden.join(", "));
        all.push(wrong(what, "install as a user who may, such as one with the ClusterRole cluster-admin"));
    }
    all
}

fn istio(facts: &Facts) -> Option<Finding> {
    let only = |found: &&Value| {
        label(found, "istio-injection") == Some("enabled") && label(found, "weft.dev/injection").is_none()
    };
    let theirs = names(facts.namespaces.iter().filter(only).map(name));
    (facts.istio() && !theirs.is_empty()).then(|| {
        let what = format!("Istio is installed, and injects where only its label is: {theirs}");
        doubtful(what, "label a namespace weft.dev/injection=enabled to have sidecars of Weft there")
    })
}

// === the control plane ===

fn controller(facts: &Facts) -> Finding {
    let deployment = facts.deployment.as_ref().unwrap_or(&Value::Null);
    let count = |field: &str| deployment["status"][field].as_u64().unwrap_or(0);
    let (ready, wanted) = (count("readyReplicas"), deployment["spec"]["replicas"].as_u64().unwrap_or(1));
    let what = format!("{ready} of {wanted} controllers are ready");
    let look = format!("kubectl -n {} describe pods -l app.kubernetes.io/name=weft-controller", facts.root);
    match ready {
        0 => wrong(what, look),
        ready if ready < wanted => doubtful(what, look),
        _ => right(what),
    }
}

fn leader(facts: &Facts) -> Finding {
    let holder = facts.lease.as_ref().map_or("", |lease| at(lease, "/spec/holderIdentity"));
    let leads = |pod: &&Value| holder.starts_with(name(pod));
    match facts.pods_of(&facts.root).find(leads) {
        Some(pod) => right(format!("{} leads", name(pod))),
        None if holder.is_empty() => {
            wrong("no controller leads: nobody writes status and certificates", logs(facts))
        }
        None => doubtful(format!("{holder} leads, and is no pod that runs"), logs(facts)),
    }
}

fn logs(facts: &Facts) -> String {
    format!("kubectl -n {} logs -l app.kubernetes.io/name=weft-controller", facts.root)
}

fn kinds(facts: &Facts) -> Finding {
    let needed = ["virtualservices", "destinationrules"].map(|kind| format!("{kind}.networking.istio.io"));
    let ours = "virtualservices.networking.weft.dev".to_owned();
    let missing =
        names(needed.iter().chain([&ours]).filter(|kind| !facts.kinds.contains(*kind)).map(String::as_str));
    if missing.is_empty() {
        return right("the kinds are installed");
    }
    doubtful(format!("not installed: {missing}"), "helm upgrade with crds.weft=true and crds.istio=true")
}

fn webhooks(facts: &Facts) -> Vec<Finding> {
    let judged = |all: &[Value], wanted: String| {
        let Some(found) = all.iter().find(|hook| name(hook) == wanted) else {
            return wrong(format!("{wanted} is not there"), "helm upgrade");
        };
        let certified = |hook: &Value| !at(hook, "/clientConfig/caBundle").is_empty();
        match items(found, "/webhooks").iter().all(certified) {
            true => right(format!("{wanted} has its certificate")),
            false => {
                wrong(format!("{wanted} has no certificate, so the API server cannot call it"), logs(facts))
            }
        }
    };
    vec![
        judged(&facts.injectors, format!("weft-injector-{}", facts.revision)),
        judged(&facts.validators, format!("weft-validator-{}", facts.revision)),
    ]
}

// === pods ===

/// The pods of a namespace that asks for sidecars.
fn pods(facts: &Facts, found: &Value) -> Vec<Finding> {
    let namespace = name(found);
    let mut all = Vec::new();
    if matches!(label(found, "pod-security.kubernetes.io/enforce"), Some("baseline" | "restricted")) {
        let what = format!(
            "{namespace}: Pod Security refuses NET_ADMIN, which redirection needs: injected pods do not start"
        );
        let mend = format!(
            "kubectl label namespace {namespace} --overwrite pod-security.kubernetes.io/enforce=privileged"
        );
        all.push(wrong(what, mend));
    }
    if facts.installed() && !facts.rooted.contains(namespace) {
        all.push(wrong(
            format!("{namespace}: the ConfigMap weft-root is missing, so pods do not start"),
            logs(facts),
        ));
    }
    let without = names(facts.pods_of(namespace).filter(|pod| wants(pod) && !meshed(pod)).map(name));
    if !without.is_empty() {
        let mend = format!("kubectl rollout restart deployment,statefulset,daemonset -n {namespace}");
        all.push(doubtful(format!("{namespace}: pods without a sidecar: {without}"), mend));
    }
    let waiting = names(facts.pods_of(namespace).filter(|pod| meshed(pod) && !ready(pod)).map(name));
    if !waiting.is_empty() {
        let mend =
            format!("kubectl -n {namespace} logs POD -c weft-proxy; kubectl -n {namespace} describe pod POD");
        all.push(wrong(format!("{namespace}: sidecars that are not ready: {waiting}"), mend));
    }
    if all.is_empty() {
        let count = facts.pods_of(namespace).filter(|pod| meshed(pod)).count();
        all.push(right(format!("{namespace}: {count} pods with a sidecar")));
    }
    all
}

fn wants(pod: &Value) -> bool {
    let no = |key| label(pod, key) == Some("false");
    pod["spec"]["hostNetwork"] != true && !no("weft.dev/inject") && !no("sidecar.istio.io/inject")
}

fn meshed(pod: &Value) -> bool {
    pod["metadata"]["annotations"]["weft.dev/status"].is_string()
}

/// Whether the sidecar is.
fn ready(pod: &Value) -> bool {
    let containers = items(pod, "/status/initContainerStatuses");
    containers.iter().any(|status| status["name"] == "weft-proxy" && status["ready"] == true)
}

// === objects ===

fn objects(facts: &Facts) -> Vec<Finding> {
    let refused = facts.objects.iter().filter_map(|object| {
        let (status, message) = condition(object, "Accepted");
        (status == "False").then(|| {
            let what = format!("{} {}/{}: {message}", at(object, "/kind"), namespace(object), name(object));
            wrong(what, "mend the field; the last good version stays in force until then")
        })
    });
    refused.collect()
}

/// The first few, and how many more.
fn names<'a>(all: impl Iterator<Item = &'a str>) -> String {
    let all: Vec<&str> = all.collect();
    let first = all[..all.len().min(NAMES)].join(", ");
    if all.len() > NAMES { format!("{first} and {} more", all.len() - NAMES) } else { first }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn installed() -> Facts {
        let hook = |name: &str| json!({"metadata": {"name": name}, "webhooks": [{"clientConfig": {"caBundle": "AA=="}}]});
        let kinds = [
            "virtualservices.networking.istio.io",
            "destinationrules.networking.istio.io",
            "virtualservices.networking.weft.dev",
        ];
        Facts {
            root: "weft-system".into(),
            revision: "default".into(),
            version: json!({"major": "1", "minor": "29+", "gitVersion": "v1.29.3"}),
            namespaces: vec![
                json!({"metadata": {"name": "shop", "labels": {"weft.dev/injection": "enabled"}}}),
            ],
            pods: vec![
                json!({"metadata": {"name": "weft-controller-1", "namespace": "weft-system"}}),
                json!({"metadata": {"name": "web", "namespace": "shop", "annotations": {"weft.dev/status": "{}"}},
                       "status": {"initContainerStatuses": [{"name": "weft-proxy", "ready": true}]}}),
            ],
            deployment: Some(json!({"spec": {"replicas": 2}, "status": {"readyReplicas": 2}})),
            lease: Some(json!({"spec": {"holderIdentity": "weft-controller-1"}})),
            injectors: vec![hook("weft-injector-default")],
            validators: vec![hook("weft-validator-default")],
            kinds: kinds.map(String::from).into(),
            rooted: ["shop".to_owned()].into(),
            ..Facts::default()
        }
    }

    fn worst(facts: &Facts) -> (Level, String) {
        let finding = judge(facts).into_iter().max_by_key(|finding| finding.level).unwrap();
        (finding.level, format!("{} {}", finding.what, finding.mend.unwrap_or_default()))
    }

    /// Asserts that one change makes a finding of this level with this word.
    fn broken(level: Level, word: &str, change: impl FnOnce(&mut Facts)) {
        let mut facts = installed();
        change(&mut facts);
        let found = worst(&facts);
        assert!(found.0 == level && found.1.contains(word), "{word}: {found:?}");
    }

    #[test]
    fn a_cluster_as_it_should_be_has_nothing_wrong() {
        let findings = judge(&installed());
        assert!(findings.iter().all(|finding| finding.level == Level::Right), "{findings:#?}");
    }

    #[test]
    fn each_defect_is_named_with_its_mend() {
        broken(Level::Wrong, "upgrade it to 1.29", |f| f.version["minor"] = "28".into());
        broken(Level::Wrong, "0 of 2", |f| f.deployment = Some(json!({"spec": {"replicas": 2}})));
        broken(Level::Doubtful, "1 of 2", |f| {
            f.deployment = Some(json!({"spec": {"replicas": 2}, "status": {"readyReplicas": 1}}));
        });
        broken(Level::Wrong, "nobody writes", |f| f.lease = None);
        broken(Level::Doubtful, "no pod that runs", |f| drop(f.pods.remove(0)));
        broken(Level::Wrong, "weft-injector-default is not there", |f| f.injectors.clear());
        broken(Level::Wrong, "no certificate", |f| {
            f.validators[0]["webhooks"][0]["clientConfig"] = json!({})
        });
        broken(Level::Doubtful, "crds.istio=true", |f| f.kinds.clear());
        broken(Level::Wrong, "weft-root is missing", |f| f.rooted.clear());
        broken(Level::Wrong, "refuses NET_ADMIN", |f| {
            f.namespaces[0]["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] = "baseline".into();
        });
        broken(Level::Doubtful, "rollout restart", |f| {
            drop(f.pods[1]["metadata"].as_object_mut().unwrap().remove("annotations"))
        });
        broken(Level::Wrong, "not ready: web", |f| f.pods[1]["status"] = json!({}));
        broken(Level::Wrong, "spec.http[0]: odd", |f| {
            f.objects.push(json!({"kind": "VirtualService", "metadata": {"name": "a", "namespace": "shop"},
                "status": {"conditions": [{"type": "Accepted", "status": "False", "message": "spec.http[0]: odd"}]}}));
        });
    }

    #[test]
    fn before_the_install_it_says_how_and_whether() {
        let mut facts = Facts { deployment: None, ..installed() };
        assert!(
            judge(&facts)
                .iter()
                .any(|finding| finding.mend.as_deref().is_some_and(|m| m.starts_with("helm install")))
        );
        facts.forbidden = vec!["create clusterroles".into()];
        assert!(worst(&facts).1.contains("cluster-admin"));
    }

    #[test]
    fn istio_keeps_what_only_its_label_claims() {
        broken(Level::Doubtful, "Istio is installed", |f| {
            f.injectors.push(json!({"metadata": {"name": "istio-sidecar-injector"}}));
            f.namespaces.push(json!({"metadata": {"name": "old", "labels": {"istio-injection": "enabled"}}}));
        });
    }

    #[test]
    fn a_long_list_is_cut() {
        assert_eq!(names(["a", "b", "c", "d", "e", "f", "g"].into_iter()), "a, b, c, d, e and 2 more");
    }
}
