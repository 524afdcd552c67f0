//! The controller over real sockets and TLS: a token, a certificate, a stream, and what comes over it.

#[cfg(test)]
mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{Controller, OTHER_TOKEN, TOKEN};
use time::OffsetDateTime;
use tonic::Code;
use weft_api::encoded::Encoded;
use weft_api::pb::ca::IstioCertificateRequest;
use weft_api::pb::config as pb;
use weft_api::resource::Resource;
use weft_api::session::client::Event;
use weft_controller::fragment::Fragment;
use weft_controller::fragment::kubernetes::{EndpointSlice, SliceEndpoint};
use weft_controller::fragment::meta::{Age, Meta, Origin};
use weft_controller::push::publisher::Compiler;
use weft_controller::status::peers::Peers;
use weft_controller::status::tally::{Tallies, Tally};
use weft_controller::webhook::certificate::{Material, Names, TTL};
use weft_controller::world::World;
use weft_controller::world::dirty::Dirty;
use weft_core::model::address::Meaning;
use weft_core::model::name::{AddressKey, ObjectName, ResourceName, ServiceName, SliceName};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

const PODS: &str = r"
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  clusterIP: 10.96.0.10
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: 8080}]
---
apiVersion: v1
kind: Pod
metadata: {name: client, labels: {app: client, security.istio.io/tlsMode: istio}}
spec: {serviceAccountName: caller}
status: {podIPs: [{ip: 10.244.0.2}], phase: Running, conditions: [{type: Ready, status: 'True'}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web-0, labels: {app: web, security.istio.io/tlsMode: istio}}
status: {podIPs: [{ip: 10.244.0.3}], phase: Running, conditions: [{type: Ready, status: 'True'}]}
";

const ROUTE: &str = r"
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web}
spec:
  hosts: [web]
  http: [{timeout: 3s, route: [{destination: {host: web}}]}]
";

fn web() -> ServiceName {
    ServiceName::new("default", "web.default.svc.cluster.local")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_for_the_pod_of_the_token_whatever_the_request_says() {
    let controller = Controller::start().await;
    let mut ca = controller.certificates(Some(TOKEN)).await;
    let request = |csr: String| IstioCertificateRequest { csr, validity_duration: 600, metadata: None };
    let csr = common::csr("spiffe://cluster.local/ns/kube-system/sa/admin");
    let chain = ca.create_certificate(request(csr.clone())).await.unwrap().into_inner().cert_chain;
    assert_eq!(chain[1], controller.root_pem);
    let der = common::der(&chain[0]);
    let (_, certificate) = X509Certificate::from_der(&der).unwrap();
    let names = certificate.subject_alternative_name().unwrap().unwrap().value;
    assert_eq!(names.general_names, [GeneralName::URI("spiffe://cluster.local/ns/default/sa/caller")]);
    let root = common::der(&chain[1]);
    let (_, root) = X509Certificate::from_der(&root).unwrap();
    certificate.verify_signature(Some(root.public_key())).unwrap();

    let bad = ca.create_certificate(request("no request".into())).await.unwrap_err();
    assert_eq!(bad.code(), Code::InvalidArgument);
    for token in [None, Some("a token that is nobody's")] {
        let mut ca = controller.certificates(token).await;
        let refused = ca.create_certificate(request(csr.clone())).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_told_anything_without_a_token() {
    let controller = Controller::start().await;
    assert_eq!(controller.connect(None).await.err().unwrap().code(), Code::Unauthenticated);
    let wrong = controller.connect(Some("a token that is nobody's")).await;
    assert_eq!(wrong.err().unwrap().code(), Code::Unauthenticated);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sidecar_is_told_what_it_asks_for_and_what_changes_of_it() {
    let controller = Controller::start().await;
    controller.write("pods.yaml", PODS);
    let mut sidecar = controller.connect(Some(TOKEN)).await.unwrap();
    let address = ResourceName::Address(AddressKey::new([10, 96, 0, 10].into(), 80));
    let service = ResourceName::Service(web());
    let slice = ResourceName::Endpoints(SliceName { service: web(), slice: 0 });
    for name in [&ResourceName::Workload, &address, &service, &slice] {
        sidecar.want(name.clone()).await;
    }
    let told = sidecar.until(4).await;
    let Resource::Workload(workload) = &told[&ResourceName::Workload] else { panic!("{told:?}") };
    assert_eq!(workload.identity.as_str(), "spiffe://cluster.local/ns/default/sa/caller");
    let Resource::Address(meaning) = &told[&address] else { panic!("{told:?}") };
    assert!(matches!(&meaning.meaning, Meaning::Service(port) if port.service == web() && port.port == 80));
    let Resource::Endpoints(endpoints) = &told[&slice] else { panic!("{told:?}") };
    assert_eq!(endpoints.endpoints.len(), 1);

    controller.write("route.yaml", ROUTE);
    let told = sidecar.until(1).await;
    let Resource::Service(service) = &told[&service] else {
        panic!("only the service has changed: {told:?}")
    };
    assert_eq!(service.ports[0].http.rules.len(), 1);

    let sync = controller.sync().await;
    assert_eq!(sync["sidecars"][0]["pod"], "client");
    let resources = sync["sidecars"][0]["resources"].as_array().unwrap();
    assert_eq!(resources.len(), 4);
    assert!(resources.iter().all(|it| it["status"] == "programmed"), "{sync:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sample_goes_over_the_wire_whole() {
    let controller = Controller::start().await;
    let pods =
        PODS.replace("{name: web}", "{name: content-service}").replace("app: web", "app: content-service");
    controller
        .write("sample.yaml", &format!("{pods}---\n{}", include_str!("../../samples/content-service.yaml")));
    let name = ServiceName::new("default", "content-service.default.svc.cluster.local");
    let mut client = controller.connect(Some(TOKEN)).await.unwrap();
    client.want(ResourceName::Service(name.clone())).await;
    let told = client.until(1).await;
    let Resource::Service(service) = &told[&ResourceName::Service(name)] else { panic!("{told:?}") };
    assert_eq!((service.ports[0].http.rules.len(), service.clusters.len()), (2, 3));
    let mut server = controller.connect(Some(OTHER_TOKEN)).await.unwrap();
    server.want(ResourceName::Workload).await;
    let told = server.until(1).await;
    let Resource::Workload(workload) = &told[&ResourceName::Workload] else { panic!("{told:?}") };
    assert!(!workload.inbound.policies.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f7_a_refusal_reaches_the_user_with_its_path_and_the_others_are_in_force() {
    let controller = Controller::start().await;
    controller.write("pods.yaml", PODS);
    let mut sidecar = controller.connect(Some(TOKEN)).await.unwrap();
    sidecar.refuse(ResourceName::Service(web()), "ports[0].http[0]", "not today");
    sidecar.want(ResourceName::Service(web())).await;
    sidecar.want(ResourceName::Workload).await;
    let events = sidecar.receive(2).await;
    assert!(events.iter().any(|event| matches!(event, Event::Refused { .. })));
    let sync = controller.sync().await;
    let resources = sync["sidecars"][0]["resources"].as_array().unwrap();
    let refused = resources.iter().find(|it| it["kind"] == "service").unwrap();
    assert_eq!(refused["status"], "refused");
    assert_eq!(
        (refused["path"].as_str(), refused["reason"].as_str()),
        (Some("ports[0].http[0]"), Some("not today"))
    );
    let taken = resources.iter().find(|it| it["kind"] == "workload").unwrap();
    assert_eq!(taken["status"], "programmed");
    assert!(controller.get("/metrics").await.1.contains("weft_controller_refused_total 1"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stream_is_bound_to_the_pod_of_its_token() {
    let controller = Controller::start().await;
    controller.write("pods.yaml", PODS);
    let mut web = controller.connect(Some(OTHER_TOKEN)).await.unwrap();
    web.want(ResourceName::Workload).await;
    let told = web.until(1).await;
    let Resource::Workload(workload) = &told[&ResourceName::Workload] else { panic!("{told:?}") };
    assert_eq!(&*workload.metadata.pod, "web-0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f10_a_controller_that_starts_again_goes_on_where_sidecars_are_and_sends_nothing_twice() {
    let mut controller = Controller::start().await;
    controller.write("pods.yaml", PODS);
    let mut sidecar = controller.connect(Some(TOKEN)).await.unwrap();
    sidecar.want(ResourceName::Workload).await;
    sidecar.want(ResourceName::Service(web())).await;
    sidecar.until(2).await;
    let before = sidecar.session.as_of();
    controller.restart().await;
    controller.write("route.yaml", ROUTE);
    sidecar.reconnect(&controller).await;
    let told = sidecar.until(1).await;
    assert!(matches!(told.values().next(), Some(Resource::Service(_))), "{told:?}");
    assert_eq!(told.len(), 1);
    assert!(sidecar.session.as_of() > before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f9_a_sidecar_that_breaks_the_protocol_is_cut_off_alone() {
    let controller = Controller::start().await;
    controller.write("pods.yaml", PODS);
    let mut good = controller.connect(Some(OTHER_TOKEN)).await.unwrap();
    let mut bad = controller.connect(Some(TOKEN)).await.unwrap();
    let status = bad.say_nonsense().await;
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("is no name of RESOURCE_TYPE_SERVICE"), "{status}");
    good.want(ResourceName::Workload).await;
    assert_eq!(good.until(1).await.len(), 1);
}

/// A world in which the slice of a service has one endpoint, of this weight.
struct Weighted(u32);

impl Compiler for Weighted {
    fn knows(&self, _: &ObjectName, _: Option<&str>) -> bool {
        true
    }

    fn resource(&self, _: &ObjectName, _: &ResourceName) -> Option<Encoded> {
        let service =
            Some(pb::ServiceName { namespace: web().namespace.to_string(), host: web().host.to_string() });
        let endpoint =
            pb::Endpoint { ip: vec![10, 0, 0, 1].into(), weight: self.0, ..pb::Endpoint::default() };
        Some(Encoded::of(&pb::EndpointSlice { service, slice: 0, endpoints: vec![endpoint] }))
    }

    fn as_of(&self) -> u64 {
        self.0.into()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f17_changes_that_come_together_go_out_together() {
    let controller = Controller::start_unsynced_with(Duration::from_secs(1)).await;
    let publish = |weight| controller.publisher.publish(Arc::new(Weighted(weight)), Arc::new(Dirty::all()));
    publish(1);
    let mut sidecar = controller.connect(Some(TOKEN)).await.unwrap();
    let slice = ResourceName::Endpoints(SliceName { service: web(), slice: 0 });
    sidecar.want(slice.clone()).await;
    sidecar.until(1).await;
    (2..=5).for_each(publish);
    let told = sidecar.until(1).await;
    let Resource::Endpoints(endpoints) = &told[&slice] else { panic!("{told:?}") };
    assert_eq!(endpoints.endpoints[0].weight, 5);
    controller.sync().await;
    assert!(controller.get("/metrics").await.1.contains("weft_controller_pushes_total 2"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e3_a_policy_that_takes_the_place_of_another_leaves_no_moment_without_one() {
    let policy = |name: usize| {
        format!(
            "{PODS}---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
             metadata: {{name: p{name}}}\nspec: {{action: DENY, rules: [{{to: [{{operation: {{methods: [DELETE]}}}}]}}]}}\n"
        )
    };
    let controller = Controller::start().await;
    controller.write("all.yaml", &policy(0));
    let mut sidecar = controller.connect(Some(TOKEN)).await.unwrap();
    sidecar.want(ResourceName::Workload).await;
    let mut seen = 0;
    for number in 1..=20 {
        controller.write("all.yaml", &policy(number));
        loop {
            let told = sidecar.until(1).await;
            let Resource::Workload(workload) = &told[&ResourceName::Workload] else { panic!("{told:?}") };
            let names: Vec<_> = workload.inbound.policies.iter().map(|p| p.name.name.to_string()).collect();
            assert_eq!(names.len(), 1, "between p{} and p{number}: {names:?}", number - 1);
            seen += 1;
            if names == [format!("p{number}")] {
                break;
            }
        }
    }
    assert!(seen >= 20, "{seen}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_are_told_over_http() {
    let controller = Controller::start_unsynced().await;
    let (status, body) = controller.get("/healthz").await;
    assert_eq!((status, &*body), (503, "the world is not known yet\n"));
    controller.write("bad.yaml", &ROUTE.replace("3s", "soon"));
    let controller = controller.sync_now().await;
    assert_eq!(controller.get("/healthz").await.0, 200);
    let (_, errors) = controller.get("/errors").await;
    let errors: serde_json::Value = serde_json::from_str(&errors).unwrap();
    assert_eq!(errors["reports"][0]["field"], "spec.http[0].timeout", "{errors:#}");
    assert_eq!(controller.get("/other").await.0, 404);
    assert_eq!(controller.request("POST", "/sync").await.0, 405);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_is_ready_when_it_can_answer_webhooks_too() {
    let controller = Controller::start().await;
    controller.write("pods.yaml", PODS);
    let mut sidecar = controller.connect(Some(TOKEN)).await.unwrap();
    sidecar.want(ResourceName::Workload).await;
    sidecar.until(1).await;
    let ready = controller.get("/readyz").await;
    assert_eq!(ready, (503, "the webhooks have no certificate yet\n".to_owned()));
    let names = Names::of_service("weft-controller", "weft-system");
    controller.webhooks.take(&Material::generate(&names, TTL, OffsetDateTime::now_utc()).unwrap());
    assert_eq!(controller.get("/readyz").await, (200, "ready\n".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_replica_has_programmed_is_asked_over_http() {
    let controller = Controller::start().await;
    controller.write("all.yaml", &format!("{PODS}---\n{ROUTE}"));
    let mut sidecar = controller.connect(Some(TOKEN)).await.unwrap();
    sidecar.want(ResourceName::Service(web())).await;
    sidecar.until(1).await;
    controller.sync().await;
    let name = |name: &str| ObjectName { namespace: "weft-system".into(), name: name.into() };
    let mut world = World::default();
    world.apply(slice_of(
        &name("weft-controller"),
        [([127, 0, 0, 1], name("other")), ([127, 0, 0, 2], name("me"))],
    ));
    let mut peers = Peers::new("weft-system".into(), controller.admin.port(), name("me"));
    assert!(peers.ask(&world).await, "what it says is news");
    let mut sum = Tallies::new();
    peers.add_to(&mut sum);
    let told: Vec<_> = sum.iter().map(|(id, tally)| (id.to_string(), tally.clone())).collect();
    let everywhere = Tally { programmed: 1, total: 1, refusal: None };
    assert_eq!(told, [("VirtualService default/web".to_owned(), everywhere)]);
    assert!(!peers.ask(&world).await, "the same again is no news");
}

/// The EndpointSlice of a service with these pods.
fn slice_of(service: &ObjectName, pods: [([u8; 4], ObjectName); 2]) -> Fragment {
    let meta = Meta {
        name: service.clone(),
        age: Age::default(),
        labels: Arc::default(),
        annotations: Arc::default(),
        origin: Origin::Kubernetes,
    };
    let endpoint = |(ip, pod): ([u8; 4], ObjectName)| SliceEndpoint {
        ip: ip.into(),
        pod: Some(pod),
        ready: true,
        zone: "".into(),
    };
    let endpoints = pods.map(endpoint).into();
    Fragment::EndpointSlice(EndpointSlice { meta, service: service.clone(), ports: Vec::new(), endpoints })
}
