//! Sidecars of a cluster: ports that its API server forwards.

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::Pod;
use kube::client::UpgradeConnectionError;
use kube::{Api, Client};
use serde_json::Value;
use weft_controller::inject::parts::REDIRECT;

use super::{ADMIN, Admin, Bare, Sidecar, Target, Way, talk};
use crate::objects::{self, at, condition, get, items, label, name, namespace};
use crate::query::encode;
use crate::slips::listed;
use crate::up::intercepted::Intercepted;
use crate::up::plan::SIDECAR;

/// Where a controller's administration interface is, unless its pod says otherwise.
const CONTROLLER_ADMIN: u16 = 15014;

/// The sidecars that are meant; at least one.
pub(super) async fn sidecars(client: &Client, namespace: &str, target: &Target) -> Result<Vec<Sidecar>> {
    let pods = meant(client, namespace, target).await?;
    let found: Vec<_> = pods.iter().filter(|pod| runs(pod)).filter_map(|pod| sidecar(client, pod)).collect();
    match pods.first() {
        _ if !found.is_empty() => Ok(found),
        Some(pod) => bail!("{target} in namespace {namespace}: {}", why_none(pod)),
        None => bail!(
            "{target} in namespace {namespace} has no pods; `kubectl -n {namespace} get pods` shows those that there are"
        ),
    }
}

/// The pod that is meant, where none that is meant has a sidecar.
pub(super) async fn bare(client: &Client, namespace: &str, target: &Target) -> Result<Option<Bare>> {
    let pods = meant(client, namespace, target).await?;
    if pods.iter().any(|pod| container(pod).is_some()) {
        return Ok(None);
    }
    Ok(pods.first().map(|pod| Bare {
        namespace: objects::namespace(pod).to_owned(),
        pod: name(pod).to_owned(),
        address: at(pod, "/status/podIP").parse().ok(),
    }))
}

/// All sidecars that run.
pub(super) async fn everywhere(client: &Client, namespace: Option<&str>) -> Result<Vec<Sidecar>> {
    let within = namespace.map(|namespace| format!("/namespaces/{namespace}")).unwrap_or_default();
    let pods = list(client, &format!("/api/v1{within}/pods"), "list pods").await?;
    Ok(pods.iter().filter(|pod| runs(pod)).filter_map(|pod| sidecar(client, pod)).collect())
}

/// The controllers that run; at least one.
pub(super) async fn controllers(client: &Client, root: &str) -> Result<Vec<Admin>> {
    let selector = "labelSelector=app.kubernetes.io%2Fname%3Dweft-controller";
    let path = format!("/api/v1/namespaces/{root}/pods?{selector}");
    let pods = list(client, &path, &format!("list pods in namespace {root}")).await?;
    let found: Vec<_> = pods.iter().filter(|pod| runs(pod)).map(|pod| controller(client, pod)).collect();
    if found.is_empty() {
        bail!(
            "no controller runs in namespace {root}; `weft check` says more, --root names another namespace"
        );
    }
    Ok(found)
}

/// A forwarded port of a pod.
pub(super) async fn connect(client: &Client, namespace: &str, pod: &str, port: u16) -> Result<talk::Stream> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let mut forwarded = pods.portforward(pod, &[port]).await.map_err(|error| denied(error, namespace))?;
    let bytes = forwarded.take_stream(port).context("the API server forwards no port")?;
    let trouble = forwarded.take_error(port).context("the API server forwards no port")?;
    Ok(talk::Stream { bytes: Box::pin(bytes), trouble: Some(tokio::spawn(trouble)) })
}

/// What a user lacks who may not forward ports.
fn denied(error: kube::Error, namespace: &str) -> anyhow::Error {
    let forbidden = matches!(&error,
        kube::Error::UpgradeConnection(UpgradeConnectionError::ProtocolSwitch(status)) if status.as_u16() == 403);
    let error = anyhow::Error::from(error);
    match forbidden {
        true => error.context(format!(
            "you may not forward ports in namespace {namespace}: that takes `get` and `create` of pods/portforward"
        )),
        false => error.context("the API server does not forward the port"),
    }
}

async fn meant(client: &Client, namespace: &str, target: &Target) -> Result<Vec<Value>> {
    let pods = format!("/api/v1/namespaces/{namespace}/pods");
    let (kind, name) = match target {
        Target::Pod(name) => {
            let found = get(client, &format!("{pods}/{name}")).await;
            return match found.map_err(|error| unseen(error, target, namespace))? {
                Some(pod) => Ok(vec![pod]),
                None => {
                    bail!("there is no {target} in namespace {namespace}{}", instead(client, &pods).await)
                }
            };
        }
        Target::Workload { kind, name } => (kind, name),
    };
    let (group, plural) = resource(kind);
    let found = get(client, &format!("/apis/{group}/namespaces/{namespace}/{plural}/{name}")).await;
    let Some(object) = found.map_err(|error| unseen(error, target, namespace))? else {
        bail!("there is no {target} in namespace {namespace}{}", instead(client, &pods).await);
    };
    let selector = selector(&object["spec"]["selector"]);
    anyhow::ensure!(!selector.is_empty(), "{target} in namespace {namespace} selects no pods");
    list(client, &format!("{pods}?labelSelector={}", encode(&selector)), "list pods").await
}

fn resource(kind: &str) -> (&'static str, &'static str) {
    match kind {
        "StatefulSet" => ("apps/v1", "statefulsets"),
        "DaemonSet" => ("apps/v1", "daemonsets"),
        "ReplicaSet" => ("apps/v1", "replicasets"),
        "Job" => ("batch/v1", "jobs"),
        _ => ("apps/v1", "deployments"),
    }
}

/// A selector of a workload as a query writes it.
fn selector(selector: &Value) -> String {
    let labels = selector["matchLabels"].as_object().into_iter().flatten();
    let equal = labels.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()));
    let expressions = items(selector, "/matchExpressions").iter().map(|expression| {
        let key = at(expression, "/key");
        let values: Vec<_> = items(expression, "/values").iter().filter_map(Value::as_str).collect();
        match at(expression, "/operator") {
            "Exists" => key.to_owned(),
            "DoesNotExist" => format!("!{key}"),
            "NotIn" => format!("{key} notin ({})", values.join(",")),
            _ => format!("{key} in ({})", values.join(",")),
        }
    });
    equal.chain(expressions).collect::<Vec<_>>().join(",")
}

/// All items of a list.
async fn list(client: &Client, path: &str, what: &str) -> Result<Vec<Value>> {
    let mut all = Vec::new();
    let listed = objects::list(client, path, &mut all).await;
    listed.with_context(|| format!("the API server does not let you {what}"))?;
    Ok(all)
}

fn unseen(error: kube::Error, target: &Target, namespace: &str) -> anyhow::Error {
    anyhow::Error::from(error).context(format!("{target} in namespace {namespace} cannot be looked at"))
}

async fn instead(client: &Client, pods: &str) -> String {
    let there = list(client, pods, "list pods").await.unwrap_or_default();
    match there.is_empty() {
        true => "; -n names another namespace".to_owned(),
        false => format!("; its pods are: {}", listed(there.iter().map(name))),
    }
}

fn runs(pod: &Value) -> bool {
    at(pod, "/status/phase") == "Running" && pod.pointer("/metadata/deletionTimestamp").is_none()
}

/// The sidecar among a pod's containers, native or not.
fn container(pod: &Value) -> Option<&Value> {
    let all = items(pod, "/spec/initContainers").iter().chain(items(pod, "/spec/containers"));
    all.into_iter().find(|container| container["name"] == SIDECAR)
}

fn sidecar(client: &Client, pod: &Value) -> Option<Sidecar> {
    let port = port_of(container(pod)?, "WEFT_ADMIN").unwrap_or(ADMIN);
    Some(Sidecar {
        namespace: namespace(pod).to_owned(),
        pod: name(pod).to_owned(),
        workload: workload(pod),
        ready: condition(pod, "Ready").0 == "True",
        address: at(pod, "/status/podIP").parse().ok(),
        intercepted: intercepted(pod),
        admin: Admin::of_sidecar(&Way::Cluster(client.clone()), namespace(pod), name(pod), port),
    })
}

/// What the init container that redirects was told; without one nothing is redirected.
fn intercepted(pod: &Value) -> Intercepted {
    let own = items(pod, "/spec/initContainers").iter().find(|container| container["name"] == REDIRECT);
    Intercepted(own.map(|container| {
        let words = items(container, "/args").iter().skip(1);
        words.filter_map(Value::as_str).map(str::to_owned).collect()
    }))
}

fn controller(client: &Client, pod: &Value) -> Admin {
    let port = items(pod, "/spec/containers").iter().find_map(|it| port_of(it, "WEFT_CONTROLLER_ADMIN"));
    let port = port.unwrap_or(CONTROLLER_ADMIN);
    Admin::of_controller(&Way::Cluster(client.clone()), namespace(pod), name(pod), port)
}

/// The port of an address in a container's environment.
fn port_of(container: &Value, variable: &str) -> Option<u16> {
    let found = items(container, "/env").iter().find(|entry| entry["name"] == variable)?;
    at(found, "/value").rsplit_once(':')?.1.parse().ok()
}

/// `Deployment/web` for a pod of its ReplicaSet.
fn workload(pod: &Value) -> String {
    let Some(owner) = items(pod, "/metadata/ownerReferences").first() else { return name(pod).to_owned() };
    let (kind, owner) = (at(owner, "/kind"), at(owner, "/name"));
    let hash = label(pod, "pod-template-hash").unwrap_or_default();
    match owner.strip_suffix(hash).and_then(|head| head.strip_suffix('-')) {
        Some(deployment) if kind == "ReplicaSet" && !hash.is_empty() => format!("Deployment/{deployment}"),
        _ => format!("{kind}/{owner}"),
    }
}

fn why_none(pod: &Value) -> String {
    match container(pod) {
        None => format!(
            "{} has no sidecar; label its namespace weft.dev/injection=enabled and restart it, `weft check` says more",
            name(pod)
        ),
        Some(_) => format!("{} does not run ({})", name(pod), at(pod, "/status/phase")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn selectors_are_written_as_queries() {
        let both = json!({"matchLabels": {"app": "web"}, "matchExpressions": [
            {"key": "tier", "operator": "In", "values": ["a", "b"]},
            {"key": "old", "operator": "DoesNotExist"}]});
        assert_eq!(selector(&both), "app=web,tier in (a,b),!old");
        assert_eq!(selector(&Value::Null), "");
    }

    #[test]
    fn what_a_pod_keeps_from_its_sidecar_is_what_its_init_container_was_told() {
        let told = json!({"spec": {"initContainers": [{"name": "weft-redirect",
            "args": ["redirect", "--uid=2000", "--exclude-outbound-ports=5432"]}]}});
        let to = |port| std::net::SocketAddr::from(([10, 96, 0, 1], port));
        assert!(intercepted(&told).takes_outbound(to(80)) && !intercepted(&told).takes_outbound(to(5432)));
        assert!(!intercepted(&json!({"spec": {}})).takes_outbound(to(80)));
    }

    #[test]
    fn pods_name_their_workload_and_their_admin_port() {
        let pod = json!({"metadata": {"name": "web-7d4f-x1", "labels": {"pod-template-hash": "7d4f"},
                "ownerReferences": [{"kind": "ReplicaSet", "name": "web-7d4f"}]},
            "spec": {"initContainers": [{"name": "weft-proxy",
                "env": [{"name": "WEFT_ADMIN", "value": "127.0.0.1:15099"}]}]}});
        assert_eq!(workload(&pod), "Deployment/web");
        assert_eq!(port_of(container(&pod).unwrap(), "WEFT_ADMIN"), Some(15099));
        let alone =
            json!({"metadata": {"name": "db-0", "ownerReferences": [{"kind": "StatefulSet", "name": "db"}]}});
        assert_eq!(workload(&alone), "StatefulSet/db");
        assert!(container(&alone).is_none() && why_none(&alone).contains("weft.dev/injection"));
    }
}
