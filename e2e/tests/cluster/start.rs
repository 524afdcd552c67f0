//! The order in which a pod starts: its sidecar is ready, and redirection in place, before an init container of the
//! application's own, and before the application itself.
//!
//! Each of them sends one request as the first thing that it does, to a service that takes nothing but mTLS: a request that
//! came before redirection would be refused in clear, and one that came before the sidecar is ready would meet nobody.

use anyhow::{Result, ensure};
use serde_json::Value;
use weft_e2e::kubectl::Kubectl;

use crate::fixture::{LIMIT, fixture};
use crate::space::{ECHO, Space, accepted};
use crate::strict::STRICT;

/// Pods that start at once.
const PODS: usize = 6;

#[test]
fn the_first_request_of_a_pod_goes_through_its_sidecar() {
    let Some(fixture) = fixture() else { return };
    let _calm = fixture.calm();
    let space = Space::meshed(fixture, "first");
    space.apply(STRICT).expect("STRICT");
    let strict =
        |kubectl: &Kubectl| accepted(kubectl, "peerauthentication.security.istio.io/default", "True");
    space.kubectl().until("accepted", LIMIT, strict).expect("what pods are told from their start");
    space.echo("web", 1, "").expect("web");
    space.ready("deployment/web").expect("it starts");
    let pods: Vec<_> = (0..PODS).map(|number| format!("pod-{number}")).collect();
    let manifests: Vec<_> = pods.iter().map(|name| asks_at_once(name)).collect();
    space.apply(&manifests.join("---\n")).expect("pods");
    for pod in &pods {
        for container in ["before", "app"] {
            let answered = |kubectl: &Kubectl| first_answer(kubectl, pod, container);
            let first = space.kubectl().until("answered", LIMIT, answered).expect("a request and its end");
            assert_eq!(first["statuses"], serde_json::json!({"200": 1}), "{pod}, {container}: {first}");
        }
    }
}

/// A pod whose containers ask once, end, and are not started again.
fn asks_at_once(name: &str) -> String {
    let ask = format!("image: {ECHO}, command: [/weft, load, \"http://web/\", -n, \"1\", -o, json]");
    format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  restartPolicy: Never
  initContainers: [{{name: before, {ask}}}]
  containers: [{{name: app, {ask}}}]
"
    )
}

/// What a container counted, once it has ended.
fn first_answer(kubectl: &Kubectl, pod: &str, container: &str) -> Result<Value> {
    let log = kubectl.run(&["logs", pod, "--container", container])?;
    let counted: Value = serde_json::from_str(&log)?;
    ensure!(counted["done"] == true, "{log}");
    Ok(counted)
}
