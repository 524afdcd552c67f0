//! What a sidecar adds to the start of a pod, against containers in its place that do nothing.
//!
//! The kubelet notices the end of a container, and asks a startup probe, once a second: single times differ by that much, and
//! what counts is the median of many. Pods of the two kinds start in turns, at any moment of that second.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::fixture::fixture;
use crate::space::{ECHO, Space};

/// How often each pod is started.
const ROUNDS: u32 = 12;
/// How much later the application may be ready with a sidecar.
const LIMIT: Duration = Duration::from_millis(500);
/// What the machine may add to that while it does other things too: part of what the pod without a sidecar takes.
const NOISE: f64 = 0.15;
/// Moments between pods: no whole part of a second.
const STAGGER: Duration = Duration::from_millis(370);
/// An init container that ends at once, and a native sidecar that goes on.
const IDLE: &str = "
  initContainers:
  - {name: first, image: IMAGE, command: [/weft, --version]}
  - {name: beside, image: IMAGE, args: [--http, \"9090\"], restartPolicy: Always}";
/// What the kubelet waits for before it starts the application, as it does for a real sidecar.
const PROBE: &str =
    ", startupProbe: {httpGet: {path: /healthz, port: 9090}, periodSeconds: 1, failureThreshold: 60}}";

#[test]
fn a_pod_with_a_sidecar_starts_beside_one_whose_containers_do_nothing() {
    let Some(fixture) = fixture() else { return };
    let _alone = fixture.alone();
    let meshed = Space::meshed(fixture, "start");
    let plain = Space::new(fixture, "start-plain", "");
    let idle = IDLE.replace("IMAGE", ECHO);
    let probed = format!("{}{PROBE}", idle.trim_end_matches('}'));
    let pods = [
        ("with a sidecar", &meshed, ""),
        ("idle", &plain, &*idle),
        ("idle, with a startup probe", &plain, &*probed),
    ];
    let mut times = [const { Vec::new() }; 3];
    for round in 0..ROUNDS {
        for ((_, space, before), times) in pods.iter().zip(&mut times) {
            std::thread::sleep(STAGGER);
            times.push(starts(space, round, before).expect("a pod that starts"));
        }
    }
    let medians = times.map(median);
    for ((what, ..), median) in pods.iter().zip(medians) {
        meshed.say(format!("{what}: ready after {:.2} s", median.as_secs_f64()));
    }
    let [with, idle, _] = medians;
    assert!(with <= idle + LIMIT + idle.mul_f64(NOISE), "{with:?} with a sidecar, {idle:?} without");
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// How long it takes from asking for a pod until it is ready.
fn starts(space: &Space<'_>, round: u32, before: &str) -> Result<Duration> {
    let name = format!("pod-{round}");
    let manifest = format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  terminationGracePeriodSeconds: 1{before}
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
    let first = made["spec"]["initContainers"].as_array().map_or(0, Vec::len);
    ensure!(first == 2, "it has {first} containers in front of its own: {made}");
    space.kubectl().run(&["delete", &pod, "--wait=true"])?;
    Ok(took)
}
