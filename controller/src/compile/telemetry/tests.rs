//! Manifests in, what a sidecar tells of its traffic out.

use std::path::Path;

use weft_core::model::name::ObjectName;
use weft_core::model::telemetry::{CollectorProtocol, LogFormat, LogTarget, TagValue};

use super::*;
use crate::pipeline::Pipeline;
use crate::source::directory::{Directory, Files};
use crate::world::World;

const PODS: &str = r"
apiVersion: v1
kind: Pod
metadata: {name: a, labels: {app: a}}
status: {podIPs: [{ip: 10.244.0.2}]}
---
apiVersion: v1
kind: Pod
metadata:
  name: b
  labels: {app: b}
  annotations: {proxy.istio.io/config: '{tracing: {sampling: 50}}'}
status: {podIPs: [{ip: 10.244.0.3}]}
---
apiVersion: v1
kind: Pod
metadata: {name: c, labels: {app: b}, annotations: {weft.dev/trace-sampling: '100'}}
status: {podIPs: [{ip: 10.244.0.4}]}
---
apiVersion: v1
kind: Service
metadata: {name: otel, namespace: observability}
spec: {clusterIP: 10.96.0.9, ports: [{name: grpc, port: 4317}]}
";

fn mesh(settings: &str) -> String {
    let indented: String = settings.lines().map(|line| format!("    {line}\n")).collect();
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: weft, namespace: istio-system}}\ndata:\n  mesh: |\n{indented}"
    )
}

const PROVIDERS: &str = "\
extensionProviders:
- name: otel
  opentelemetry: {service: otel.observability.svc.cluster.local, port: 4317}
- name: far
  opentelemetry:
    service: collector.example.com
    port: 4318
    http: {path: /traces, timeout: 2s, headers: [{name: Authorization, value: Bearer x}]}
- name: json
  envoyFileAccessLog: {path: /dev/stderr, logFormat: {labels: {code: '%RESPONSE_CODE%'}}}
- name: zip
  zipkin: {service: z, port: 9411}
";

fn object(namespace: &str, name: &str, spec: &str) -> String {
    let spec: String = spec.lines().map(|line| format!("  {line}\n")).collect();
    format!(
        "apiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec:\n{spec}"
    )
}

fn world(texts: &[&str]) -> World {
    let files = texts.iter().enumerate();
    let files: Files =
        files.map(|(i, text)| (Path::new(&format!("{i}.yaml")).into(), Ok((*text).into()))).collect();
    let changes = Directory::default().update(files);
    assert!(changes.problems.is_empty(), "{:?}", changes.problems);
    let mut pipeline = Pipeline::default();
    let dirty = pipeline.take(changes);
    pipeline.settled(&dirty).clone()
}

fn told(texts: &[&str], pod: &str) -> Arc<Telemetry> {
    let all: Vec<_> = std::iter::once(PODS).chain(texts.iter().copied()).collect();
    let world = world(&all);
    let name = ObjectName { namespace: "default".into(), name: pod.into() };
    let client = world.pods.get(&name).expect("a pod that is known");
    telemetry(Context { world: &world, trust: &[], client })
}

#[test]
fn nothing_said_is_the_default() {
    assert_eq!(*told(&[], "a"), Telemetry::default());
}

#[test]
fn sampling_is_inherited_and_the_pods_own_annotation_goes_first() {
    let settings = mesh("defaultConfig: {tracing: {sampling: 20}}\nenableTracing: true");
    let sampling = |texts: &[&str], pod: &str| told(texts, pod).tracing.client.sampling;
    assert_eq!(sampling(&[&settings], "a"), 20.0);
    assert_eq!(sampling(&[&settings], "b"), 50.0);
    let object = object("default", "t", "tracing: [{randomSamplingPercentage: 7.5}]");
    assert_eq!(sampling(&[&settings, &object], "a"), 7.5);
    assert_eq!(sampling(&[&settings, &object], "b"), 7.5);
    assert_eq!(sampling(&[&settings, &object], "c"), 100.0);
}

#[test]
fn the_narrower_is_laid_over_the_wider() {
    let mesh = mesh(&format!("{PROVIDERS}defaultProviders: {{tracing: [otel]}}"));
    let root = object(
        "istio-system",
        "mesh",
        "tracing: [{randomSamplingPercentage: 10, customTags: {a: {literal: {value: x}}}}]",
    );
    let own = object("default", "ns", "tracing: [{match: {mode: CLIENT}, providers: [{name: far}]}]");
    let pod = object(
        "default",
        "pod",
        "selector: {matchLabels: {app: b}}\ntracing: [{match: {mode: SERVER}, disableSpanReporting: true, enableIstioTags: false}]",
    );
    let other = object("elsewhere", "ns", "tracing: [{randomSamplingPercentage: 99}]");
    let told = told(&[&mesh, &root, &own, &pod, &other], "b");
    let (client, server) = (&told.tracing.client, &told.tracing.server);
    assert_eq!((client.sampling, client.report, client.istio_tags), (10.0, true, true));
    assert_eq!((server.sampling, server.report, server.istio_tags), (10.0, false, false));
    assert_eq!(client.tags[0].value, TagValue::Literal("x".into()));
    let far = client.collector.as_ref().unwrap();
    assert_eq!((&*far.host, far.port, far.service.is_none()), ("collector.example.com", 4318, true));
    assert_eq!(far.protocol, CollectorProtocol::Http { path: "/traces".into() });
    assert_eq!((far.timeout.as_secs(), far.headers[0].0.as_str()), (2, "authorization"));
    let otel = server.collector.as_ref().unwrap();
    let service = otel.service.as_ref().unwrap();
    assert_eq!((&*otel.name, &*service.service.namespace, service.port), ("otel", "observability", 4317));
    assert_eq!(otel.protocol, CollectorProtocol::Grpc);
}

#[test]
fn the_oldest_of_one_width_counts() {
    let at = |name: &str, percent: u8, year: u16| {
        let object = object("default", name, &format!("tracing: [{{randomSamplingPercentage: {percent}}}]"));
        object.replace(
            "namespace: default}",
            &format!("namespace: default, creationTimestamp: '{year}-01-01T00:00:00Z'}}"),
        )
    };
    let told = told(&[&at("a", 1, 2024), &at("b", 2, 2023)], "a");
    assert_eq!(told.tracing.server.sampling, 2.0);
}

#[test]
fn access_logs_come_from_settings_and_objects() {
    let file = mesh("accessLogFile: /dev/stdout\naccessLogEncoding: JSON");
    let logs = |texts: &[&str]| told(texts, "a").access_log.clone();
    let both = logs(&[&file]);
    assert_eq!(both.client[0].format, LogFormat::DefaultJson);
    assert_eq!(both.client, both.server);
    let off = object("default", "t", "accessLogging: [{match: {mode: CLIENT}, disabled: true}]");
    let half = logs(&[&file, &off]);
    assert!(half.client.is_empty() && half.server.len() == 1);
    let errors = object("default", "t", "accessLogging: [{filter: {expression: 'response.code >= 400'}}]");
    let filtered = logs(&[&file, &errors]);
    assert_eq!(&**filtered.client[0].filter.as_ref().unwrap().source(), "response.code >= 400");
    let providers = mesh(PROVIDERS);
    let named = object(
        "default",
        "t",
        "accessLogging: [{providers: [{name: json}]}, {providers: [{name: envoy}], match: {mode: SERVER}}]",
    );
    let named = logs(&[&providers, &named]);
    assert_eq!(named.client[0].to, LogTarget::Stderr);
    assert!(matches!(&named.client[0].format, LogFormat::Json(fields) if &*fields[0].0 == "code"));
    assert_eq!((named.client.len(), named.server.len()), (1, 2));
    let plain = logs(&[&object("default", "t", "accessLogging: [{}]")]);
    assert_eq!(plain.client[0].format, LogFormat::DefaultText, "without a provider the usual line");
}

#[test]
fn metrics_are_switched_off_and_their_labels_changed() {
    let root = object(
        "istio-system",
        "mesh",
        "metrics: [{overrides: [{match: {metric: ALL_METRICS, mode: CLIENT}, disabled: true}]}]",
    );
    let own = object(
        "default",
        "t",
        "metrics: [{providers: [{name: prometheus}], overrides: [{match: {metric: REQUEST_COUNT}, disabled: false, tagOverrides: {source_app: {operation: REMOVE}, team: {value: \"'blue'\"}}}]}]",
    );
    let told = told(&[&root, &own], "a");
    let (client, server) = (&told.metrics.client, &told.metrics.server);
    assert!(client.shows(Metric::RequestCount) && !client.shows(Metric::RequestDuration));
    assert!(Metric::ALL.iter().all(|metric| server.shows(*metric)));
    let labels: Vec<_> = server.labels.iter().map(|l| (&*l.label, l.value.as_deref())).collect();
    assert_eq!(labels, [("source_app", None), ("team", Some("blue"))]);
}

#[test]
fn a_service_behind_a_collector_touches_the_workloads() {
    let settings = mesh(PROVIDERS);
    let mut pipeline = Pipeline::default();
    let text = |text: &str| -> Files {
        [(Path::new("a.yaml").into(), Ok(text.to_owned().into()))].into_iter().collect()
    };
    let mut directory = Directory::default();
    pipeline.take(directory.update(text(&settings)));
    let dirty = pipeline.take(directory.update(text(&format!("{settings}\n---\n{PODS}"))));
    let pod = ObjectName { namespace: "default".into(), name: "somebody".into() };
    assert!(dirty.touches(&pod, &weft_core::model::name::ResourceName::Workload));
}
