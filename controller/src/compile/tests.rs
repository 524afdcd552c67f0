//! Manifests in, what one sidecar is told out.

use std::path::Path;

use weft_core::model::address::Meaning;
use weft_core::model::cluster::Balancer;
use weft_core::model::name::{AddressKey, ServiceName, SliceName};
use weft_core::model::policy::Action;
use weft_core::model::route::HttpAction;
use weft_core::model::workload::MtlsMode;

use super::*;
use crate::pipeline::Pipeline;
use crate::source::directory::{Directory, Files};

const PODS: &str = r"
apiVersion: v1
kind: Service
metadata: {name: content-service}
spec:
  clusterIP: 10.96.0.10
  selector: {app: content-service}
  ports: [{name: http, port: 80, targetPort: 8080}]
---
apiVersion: v1
kind: Pod
metadata:
  name: client
  labels: {app: client, security.istio.io/tlsMode: istio}
status: {podIPs: [{ip: 10.244.0.2}], phase: Running, conditions: [{type: Ready, status: 'True'}]}
---
apiVersion: v1
kind: Pod
metadata:
  name: content-v1
  labels: {app: content-service, version: v1, security.istio.io/tlsMode: istio}
  ownerReferences: [{kind: Deployment, name: content-service-v1, controller: true}]
spec: {serviceAccountName: content}
status: {podIPs: [{ip: 10.244.0.3}], phase: Running, conditions: [{type: Ready, status: 'True'}]}
---
apiVersion: v1
kind: Pod
metadata: {name: content-v2, labels: {app: content-service, version: v2}}
status: {podIPs: [{ip: 10.244.0.4}], phase: Running, conditions: [{type: Ready, status: 'False'}]}
";

fn world(texts: &[&str]) -> World {
    let files: Files = texts
        .iter()
        .enumerate()
        .map(|(i, text)| (Path::new(&format!("{i}.yaml")).into(), Ok((*text).into())))
        .collect();
    let changes = Directory::default().update(files);
    assert!(changes.problems.is_empty(), "{:?}", changes.problems);
    let mut pipeline = Pipeline::default();
    let dirty = pipeline.take(changes);
    pipeline.settled(&dirty).clone()
}

fn told(world: &World, pod: &str, name: ResourceName) -> Resource {
    let pod = ObjectName { namespace: "default".into(), name: pod.into() };
    compile(world, &[], &pod, &name).expect("a pod that is known")
}

fn service(world: &World, pod: &str) -> Service {
    let name = ServiceName::new("default", "content-service.default.svc.cluster.local");
    match told(world, pod, ResourceName::Service(name)) {
        Resource::Service(service) => service,
        other => panic!("{other:?}"),
    }
}

fn workload(world: &World, pod: &str) -> Workload {
    match told(world, pod, ResourceName::Workload) {
        Resource::Workload(workload) => workload,
        other => panic!("{other:?}"),
    }
}

fn meaning(world: &World, ip: &str, port: u16) -> Meaning {
    let key = AddressKey::new(ip.parse().unwrap(), port);
    match told(world, "client", ResourceName::Address(key)) {
        Resource::Address(address) => address.meaning,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_sample_as_a_client_sees_it() {
    let world = world(&[PODS, include_str!("../../../samples/content-service.yaml")]);
    let service = service(&world, "client");
    let rules = &service.ports[0].http.rules;
    assert_eq!(rules.len(), 2);
    assert_eq!(rules[0].matches[0].headers[0].0, "end-user");
    let HttpAction::Forward(forward) = &rules[1].action else { panic!("a route") };
    let shown: Vec<_> = forward.destinations.iter().map(|d| (d.cluster.to_string(), d.weight)).collect();
    assert_eq!(
        shown,
        [
            ("outbound|80|v1|content-service.default.svc.cluster.local".to_owned(), 80),
            ("outbound|80|v2|content-service.default.svc.cluster.local".to_owned(), 20),
        ]
    );
    let names: Vec<_> = service.clusters.iter().map(|c| c.name.subset.as_deref().unwrap_or("-")).collect();
    assert_eq!(names, ["-", "v1", "v2"]);
    let v1 = &service.clusters[1];
    assert_eq!(v1.balancer, Balancer::LeastRequest);
    assert_eq!(v1.connections.max_connections, Some(100));
    assert_eq!(v1.connections.max_requests_per_connection, Some(2));
    assert_eq!(v1.outlier.as_ref().map(|o| o.consecutive_5xx), Some(3));
    assert_eq!(&*v1.labels, &[("version".into(), "v1".into())]);
}

#[test]
fn endpoints_are_the_pods_that_are_ready() {
    let world = world(&[PODS]);
    let service = service(&world, "client");
    let name = SliceName { service: service.name, slice: 0 };
    let Resource::Endpoints(slice) = told(&world, "client", ResourceName::Endpoints(name)) else {
        panic!("a slice")
    };
    assert_eq!(slice.endpoints.len(), 1);
    let endpoint = &slice.endpoints[0];
    assert_eq!(endpoint.target_port(80), Some(8080));
    assert!(endpoint.meshed);
    assert_eq!(endpoint.identity.as_ref().unwrap().principal(), "cluster.local/ns/default/sa/content");
    assert_eq!(&*endpoint.metadata.workload, "content-service-v1");
}

#[test]
fn a_workload_knows_its_policies_and_ports() {
    let strict = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: default, namespace: istio-system}\nspec: {mtls: {mode: STRICT}}\n";
    let world = world(&[PODS, include_str!("../../../samples/content-service.yaml"), strict]);
    let content = workload(&world, "content-v1");
    assert_eq!(content.inbound.ports[0].number, 8080);
    assert_eq!(content.inbound.ports[0].mtls, MtlsMode::Strict);
    assert_eq!(content.inbound.policies.len(), 1);
    assert_eq!(content.inbound.policies[0].action, Action::Allow);
    let client = workload(&world, "client");
    assert!(client.inbound.policies.is_empty(), "the selector does not select it");
}

#[test]
fn addresses_mean_services_pods_or_nothing() {
    let world = world(&[PODS]);
    assert!(matches!(meaning(&world, "10.96.0.10", 80), Meaning::Service(r) if r.port == 80));
    let Meaning::Workload(pod) = meaning(&world, "10.244.0.3", 8080) else { panic!("a pod") };
    assert!(pod.meshed && pod.headless.is_none());
    assert!(pod.services[0].domains.contains(&"content-service".into()));
    let Meaning::Nothing { prefix } = meaning(&world, "10.244.7.7", 80) else { panic!("nothing") };
    assert_eq!(prefix.to_string(), "10.244.7.7/32", "inside the mesh's ranges only itself");
    let Meaning::Nothing { prefix } = meaning(&world, "203.0.113.1", 80) else { panic!("nothing") };
    assert!(prefix.prefix_len() < 8);
}

#[test]
fn pods_of_a_headless_service_have_names_below_each_of_its_own() {
    let headless = "apiVersion: v1\nkind: Service\nmetadata: {name: below}\nspec: {clusterIP: None, selector: {app: content-service}, ports: [{port: 8080}]}\n";
    let world = world(&[PODS, headless]);
    let Meaning::Workload(pod) = meaning(&world, "10.244.0.3", 8080) else { panic!("a pod") };
    let domains = |host: &str| {
        pod.services.iter().find(|s| s.target.service.host.starts_with(host)).unwrap().domains.clone()
    };
    for name in ["*.below", "*.below.default", "*.below.default.svc", "*.below.default.svc.cluster.local"] {
        assert!(domains("below").contains(&name.into()), "{:?}", domains("below"));
    }
    assert!(!domains("content-service").iter().any(|name| name.starts_with('*')));
}

#[test]
fn f4_a_route_to_nowhere_names_a_cluster_that_is_not_there() {
    let lost = "apiVersion: networking.weft.dev/v1\nkind: VirtualService\nmetadata: {name: lost}\nspec:\n  hosts: [content-service]\n  http:\n  - route:\n    - destination: {host: gone, subset: v9}\n";
    let world = world(&[PODS, lost]);
    let service = service(&world, "client");
    let HttpAction::Forward(forward) = &service.ports[0].http.rules[0].action else { panic!("a route") };
    let cluster = &forward.destinations[0].cluster;
    assert_eq!(&*cluster.service.host, "gone.default.svc.cluster.local");
    let Resource::Service(gone) = told(&world, "client", ResourceName::Service(cluster.service.clone()))
    else {
        panic!("an empty service")
    };
    assert!(gone.clusters.is_empty() && gone.ports.is_empty());
}

#[test]
fn rules_of_another_namespace_count_for_its_own_clients_only() {
    let elsewhere = "apiVersion: networking.weft.dev/v1\nkind: VirtualService\nmetadata: {name: theirs, namespace: other}\nspec:\n  hosts: [content-service.default.svc.cluster.local]\n  http:\n  - directResponse: {status: 418}\n";
    let client = "apiVersion: v1\nkind: Pod\nmetadata: {name: client, namespace: other}\nstatus: {podIPs: [{ip: 10.244.0.9}]}\n";
    let world = world(&[PODS, elsewhere, client]);
    assert!(service(&world, "client").ports[0].http.rules.is_empty());
    let theirs = ObjectName { namespace: "other".into(), name: "client".into() };
    let name = ServiceName::new("default", "content-service.default.svc.cluster.local");
    let Some(Resource::Service(seen)) = compile(&world, &[], &theirs, &ResourceName::Service(name)) else {
        panic!("a service")
    };
    assert_eq!(seen.ports[0].http.rules.len(), 1);
}

#[test]
fn our_group_wins_over_istios() {
    let both = |api: &str, status: u16| {
        format!(
            "apiVersion: {api}\nkind: VirtualService\nmetadata: {{name: v}}\nspec:\n  hosts: [content-service]\n  http:\n  - directResponse: {{status: {status}}}\n"
        )
    };
    let (ours, istios) = (both("networking.weft.dev/v1", 201), both("networking.istio.io/v1", 202));
    let world = world(&[PODS, &istios, &ours]);
    let rules = service(&world, "client").ports[0].http.rules.clone();
    assert_eq!(rules.len(), 1);
    assert!(matches!(&rules[0].action, HttpAction::Respond(r) if r.status == 201));
}

#[test]
fn several_objects_on_one_host_end_in_one_catch_all() {
    let object = |name: &str, created: &str, spec: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}, creationTimestamp: '{created}'}}\nspec:\n  hosts: [content-service]\n  http:\n{spec}"
        )
    };
    let old = object("old", "2024-01-01T00:00:00Z", "  - directResponse: {status: 200}\n");
    let new = object(
        "new",
        "2025-01-01T00:00:00Z",
        "  - match: [{uri: {prefix: /new}}]\n    directResponse: {status: 201}\n  - directResponse: {status: 202}\n",
    );
    let world = world(&[PODS, &new, &old]);
    let rules = service(&world, "client").ports[0].http.rules.clone();
    let shown: Vec<_> = rules.iter().map(|r| r.source.object.as_ref().unwrap().name.to_string()).collect();
    assert_eq!(shown, ["new", "old"]);
}

const FAULT: &str = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: content}
spec:
  hosts: [content-service]
  http:
  - fault:
      delay: {percent: 5, fixedDelay: 1.5s}
      abort: {grpcStatus: NOT_FOUND, percentage: {value: 0.0003}}
    route: [{destination: {host: content-service}}]
";

#[test]
fn f2_faults_are_told_in_millionths() {
    let service = service(&world(&[PODS, FAULT]), "client");
    let extras = service.ports[0].http.rules[0].extras.as_ref().expect("a fault");
    let fault = extras.fault.as_ref().expect("a fault");
    assert_eq!(fault.to_string(), "delay 1.5s for 5%, abort NOT_FOUND for 0.0003%");
}

const CORS: &str = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: content}
spec:
  hosts: [content-service]
  http:
  - match: [{uri: {exact: /old}}]
    corsPolicy: {allowOrigin: ['*']}
    redirect: {uri: /new}
  - corsPolicy:
      allowOrigin: ['*']
      allowMethods: [GET, POST]
      exposeHeaders: [x-a, x-b]
      maxAge: 24h
      allowCredentials: true
      unmatchedPreflights: IGNORE
    route: [{destination: {host: content-service}}]
";

#[test]
fn f3_lists_of_a_cors_policy_are_joined_and_a_redirect_has_none() {
    let service = service(&world(&[PODS, CORS]), "client");
    let rules = &service.ports[0].http.rules;
    assert_eq!(rules[0].extras, None);
    let cors = rules[1].extras.as_ref().and_then(|extras| extras.cors.as_ref()).expect("a policy");
    assert_eq!(
        cors.to_string(),
        "origins exact *, methods GET,POST, exposes x-a,x-b, for 86400s, with credentials, ignores others"
    );
}
