//! Workloads and services that are not a Deployment behind a ClusterIP.

use weft_e2e::kubectl::text;

use crate::fixture::fixture;
use crate::space::{ECHO, Space, all_succeeded, container};

#[test]
fn pods_of_a_stateful_set_are_reached_by_their_own_names() {
    let Some(fixture) = fixture() else { return };
    let _calm = fixture.calm();
    let space = Space::meshed(fixture, "stateful");
    let set = format!(
        "
apiVersion: v1
kind: Service
metadata: {{name: store}}
spec: {{clusterIP: None, selector: {{app: store}}, ports: [{{name: http, port: 8080}}]}}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {{name: store}}
spec:
  replicas: 2
  serviceName: store
  podManagementPolicy: Parallel
  selector: {{matchLabels: {{app: store}}}}
  template:
    metadata: {{labels: {{app: store}}}}
    spec: {{containers: [{}]}}
",
        container("")
    );
    space.apply(&set).expect("a StatefulSet");
    space.echo("client", 1, "").expect("client");
    space.ready("statefulset/store").expect("its pods start");
    space.ready("deployment/client").expect("the client starts");
    for pod in ["store-0", "store-1"] {
        let summary = space
            .load("deployment/client", &[&format!("http://{pod}.store:8080/"), "-n", "50"])
            .expect("load");
        all_succeeded(&summary).expect("it is reached");
        assert_eq!(summary.pods.keys().collect::<Vec<_>>(), [pod], "{summary:?}");
    }
    let both = space.load("deployment/client", &["http://store:8080/", "-n", "50"]).expect("load");
    all_succeeded(&both).expect("the headless service is reached");
}

#[test]
fn an_external_name_is_reached() {
    let Some(fixture) = fixture() else { return };
    let _calm = fixture.calm();
    let space = Space::meshed(fixture, "external");
    space.echo("web", 1, "").expect("web");
    space.echo("client", 1, "").expect("client");
    let alias = format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: alias}}, spec: {{type: ExternalName, externalName: web.{}.svc.cluster.local}}}}",
        space.name()
    );
    space.apply(&alias).expect("an ExternalName");
    space.ready("deployment/web").and_then(|()| space.ready("deployment/client")).expect("they start");
    all_succeeded(&space.load("deployment/client", &["http://alias/", "-n", "50"]).expect("load"))
        .expect("it is reached");
}

#[test]
fn a_job_with_a_sidecar_completes() {
    let Some(fixture) = fixture() else { return };
    let _calm = fixture.calm();
    let space = Space::meshed(fixture, "job");
    space.echo("web", 1, "").expect("web");
    space.ready("deployment/web").expect("it starts");
    let job = format!(
        "
apiVersion: batch/v1
kind: Job
metadata: {{name: once}}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      containers: [{{name: app, image: {ECHO}, command: [/weft, load, \"http://web/\", -n, \"50\", -o, json]}}]
"
    );
    space.apply(&job).expect("a Job");
    space
        .kubectl()
        .run(&["wait", "job/once", "--for=condition=complete", "--timeout=180s"])
        .expect("it completes");
    let counted = space.kubectl().run(&["logs", "job/once", "--container", "app"]).expect("its log");
    assert!(counted.contains("\"200\":50"), "{counted}");
    let pods = space.kubectl().get(&["pods", "--selector", "job-name=once"]).expect("its pod");
    assert_eq!(text(&pods, "/items/0/status/initContainerStatuses/0/name").expect("a sidecar"), "weft-proxy");
}
