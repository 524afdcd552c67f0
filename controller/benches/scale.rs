//! What a large mesh costs the controller: 10,000 services with a route each, and 50,000 pods.
//!
//! `cargo bench -p weft-controller --bench scale` prints times; the tests count instead.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use weft_controller::analyse::analyse;
use weft_controller::compile::compile;
use weft_controller::pipeline::Pipeline;
use weft_controller::source::directory::{Directory, Files};
use weft_controller::world::World;
use weft_core::model::name::{ObjectName, ResourceName, ServiceName, SliceName};

const SERVICES: usize = 10_000;
const PODS: usize = 5;
const PER_FILE: usize = 1_000;

fn main() {
    let mut directory = Directory::default();
    let mut pipeline = Pipeline::default();
    let texts: Vec<Arc<str>> = (0..SERVICES / PER_FILE).map(|file| manifests(file, "1s").into()).collect();
    let files = |texts: &[Arc<str>]| -> Files {
        let named = texts.iter().enumerate();
        named.map(|(i, text)| (Path::new(&format!("{i}.yaml")).into(), Ok(text.clone()))).collect()
    };
    let changes = timed("read the files", || directory.update(files(&texts)));
    assert!(changes.problems.is_empty(), "{:?}", changes.problems);
    let dirty = timed("validate and apply", || pipeline.take(changes));
    let world = timed("index", || pipeline.settled(&dirty).clone());
    timed("look at all together", || assert!(analyse(&world).is_empty()));

    let mut edited = texts.clone();
    edited[3] = manifests(3, "2s").into();
    let changes = timed("read one edited file of ten", || directory.update(files(&edited)));
    assert_eq!(changes.events.len(), PER_FILE);
    let dirty = timed("apply its 1,000 routes", || pipeline.take(changes));
    let world = timed("index", || pipeline.settled(&dirty).clone());
    one_name(&world);
    memory();
}

fn one_name(world: &World) {
    let client = ObjectName { namespace: "n0".into(), name: "s0-0".into() };
    let service = ServiceName::new("n7", "s7.n7.svc.cluster.local");
    let endpoints = ResourceName::Endpoints(SliceName { service: service.clone(), slice: 0 });
    for (what, name) in [
        ("compile one workload", ResourceName::Workload),
        ("compile one service", ResourceName::Service(service)),
        ("compile its endpoints", endpoints),
    ] {
        timed(what, || assert!(compile(world, &[], &client, &name).is_some()));
    }
}

fn manifests(file: usize, timeout: &str) -> String {
    let mut text = String::from("kind: List\nitems:\n");
    for i in file * PER_FILE..(file + 1) * PER_FILE {
        let (namespace, a, b) = (i % 10, i / 250, i % 250 + 1);
        let head = |api: &str, kind: &str, name: &str| {
            format!("- {{apiVersion: {api}, kind: {kind}, metadata: {{name: {name}, namespace: n{namespace}")
        };
        let service = head("v1", "Service", &format!("s{i}"));
        let route = head("networking.istio.io/v1", "VirtualService", &format!("s{i}"));
        let spec = format!(
            "{{clusterIP: 10.96.{a}.{b}, selector: {{app: s{i}}}, ports: [{{name: http, port: 80}}]}}"
        );
        let rule = format!("{{timeout: {timeout}, route: [{{destination: {{host: s{i}}}}}]}}");
        let _ = writeln!(
            text,
            "{service}}}, spec: {spec}}}\n{route}}}, spec: {{hosts: [s{i}], http: [{rule}]}}}}"
        );
        for p in 0..PODS {
            let pod = head("v1", "Pod", &format!("s{i}-{p}"));
            let ip = format!("10.{}.{a}.{b}", 100 + p);
            let status = format!("{{podIPs: [{{ip: {ip}}}], conditions: [{{type: Ready, status: 'True'}}]}}");
            let _ = writeln!(text, "{pod}, labels: {{app: s{i}, version: v1}}}}, status: {status}}}");
        }
    }
    text
}

fn timed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    tell(what, start.elapsed());
    result
}

fn tell(what: &str, took: Duration) {
    let _ = writeln!(std::io::stdout(), "{what:30} {took:>12.2?}");
}

/// The memory in use, where the system tells.
fn memory() {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or_default();
    let _ = writeln!(std::io::stdout(), "{line}");
}
