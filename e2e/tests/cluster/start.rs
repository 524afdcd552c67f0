//! What a sidecar adds to the start of a pod, against containers in its place that do nothing: a figure that is told, and no
//! limit, because it is the machine's as much as Weft's.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::fixture::fixture;
use crate::space::{ECHO, Space};

/// How often each pod is started.
const ROUNDS: usize = 7;
/// An init container that ends at once, and a native sidecar that goes on.
const IDLE: &str = "
  initContainers:
  - {name: first, image: IMAGE, command: [/weft, --version]}
  - {name: beside, image: IMAGE, args: [--http, \"9090\"], restartPolicy: Always}";

#[test]
fn a_pod_with_a_sidecar_starts_beside_one_whose_containers_do_nothing() {
    let Some(fixture) = fixture() else { return };
    let _alone = fixture.alone();
    let meshed = Space::meshed(fixture, "start");
    let plain = Space::new(fixture, "start-plain", "");
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        with.push(starts(&meshed, round, "").expect("a pod with a sidecar"));
        without.push(starts(&plain, round, &IDLE.replace("IMAGE", ECHO)).expect("a pod without one"));
    }
    let [with, without] = [with, without].map(median);
    meshed.say(format!(
        "a pod is ready after {with:.2} s, without a sidecar {without:.2} s: {:.2} s more",
        with - without
    ));
}

/// How long it takes from asking for a pod until it is ready.
fn starts(space: &Space<'_>, round: usize, more: &str) -> Result<Duration> {
    let name = format!("pod-{round}");
    let manifest = format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  terminationGracePeriodSeconds: 1{more}
  containers: [{{name: app, image: {ECHO}, args: [--http, \"8080\"]}}]
"
    );
    // The first pod of a namespace waits for its account.
    space
        .kubectl()
        .until("an account", crate::fixture::LIMIT, |k| k.run(&["get", "serviceaccount", "default"]))?;
    let began = Instant::now();
    space.kubectl().pipe(&["create", "--filename", "-"], &manifest)?;
    let pod = format!("pod/{name}");
    space.kubectl().run(&["wait", &pod, "--for=condition=Ready", "--timeout=120s"])?;
    let took = began.elapsed();
    let made = space.kubectl().get(&[&pod])?;
    let before = made["spec"]["initContainers"].as_array().map_or(0, Vec::len);
    ensure!(before == 2, "it has {before} containers in front of its own: {made}");
    space.kubectl().run(&["delete", &pod, "--wait=true"])?;
    Ok(took)
}

/// Seconds.
fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64()
}
