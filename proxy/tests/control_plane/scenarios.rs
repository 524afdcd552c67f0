//! What happens.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use weft_api::pb::config::DeltaResponse;
use weft_core::model::address::Meaning;
use weft_core::model::name::{AddressKey, ResourceName};
use weft_core::model::policy::Action;
use weft_core::snapshot::{Resource, Snapshot};
use weft_proxy::clock::Clock;
use weft_proxy::config::ConfigUnavailable;
use weft_proxy::control::Control;
use weft_proxy::overload::Overload;
use weft_proxy::telemetry::log::LogLevel;

use super::said::{
    cluster_name, from_the_future, say_all, say_service, say_workload, service, service_name, slice, vip,
};
use super::scene::{LONG, Scene, ask};

#[tokio::test]
async fn a_name_is_asked_for_when_it_is_needed_and_its_changes_follow() {
    let scene = Scene::new("asked").await;
    say_all(&scene.controller);
    let sidecar = scene.sidecar(&[]);
    sidecar.ready().await;
    let subscribed = scene.controller.state(|state| state.subscribed.clone());
    assert_eq!(
        subscribed,
        BTreeSet::from([ResourceName::Workload]),
        "nothing is asked for before it is needed"
    );

    let mesh = &sidecar.control.mesh;
    let address = mesh.address(vip()).await.unwrap();
    let Meaning::Service(target) = &address.meaning else { panic!("{address:?}") };
    let state = mesh.service(&target.service).await.unwrap();
    assert_eq!(state.ports[0].cluster.as_ref().unwrap().endpoints.len(), 1);

    scene.controller.set(Resource::Endpoints(Arc::new(slice("web", &[[10, 0, 0, 9], [10, 0, 0, 10]]))));
    let endpoints = |s: &Snapshot| s.cluster(&cluster_name("web")).unwrap().endpoints.len();
    sidecar.until("the second endpoint", |snapshot| endpoints(snapshot) == 2).await;
    assert!(scene.controller.state(|state| state.tokens.iter().all(|token| token == "Bearer a-token")));
}

#[tokio::test]
async fn a_service_waits_for_all_that_its_routes_name() {
    let scene = Scene::new("waits").await;
    say_workload(&scene.controller);
    say_service(&scene.controller, "front", &["back"]);
    say_service(&scene.controller, "back", &[]);
    let sidecar = scene.sidecar(&[]);
    sidecar.ready().await;
    let front = sidecar.control.mesh.service(&service_name("front")).await.unwrap();
    let target = front.ports[0].rules[0].pick(0).unwrap();
    assert!(target.cluster.is_some(), "the other service came first");
}

#[tokio::test]
async fn a_service_that_does_not_exist_is_said_so_at_once() {
    let scene = Scene::new("absent").await;
    say_workload(&scene.controller);
    let sidecar = scene.sidecar(&["--lookup-timeout=1h"]);
    sidecar.ready().await;
    let name = service_name("nobody");
    let error = tokio::time::timeout(LONG, sidecar.control.mesh.service(&name)).await.unwrap().unwrap_err();
    assert_eq!(error, ConfigUnavailable::NoService(name));
}

#[tokio::test]
async fn f7_one_bad_resource_is_refused_with_its_path_and_the_last_good_stays() {
    let scene = Scene::new("f7").await;
    say_all(&scene.controller);
    let sidecar = scene.sidecar(&[]);
    sidecar.ready().await;
    sidecar.control.mesh.service(&service_name("web")).await.unwrap();
    let mut bad = service("web", &["web"]);
    bad.ports.push(bad.ports[0].clone());
    bad.ports[1].name = "x".repeat(1 << 20).into();
    scene.controller.set(Resource::Service(Arc::new(bad)));
    let refusal = scene.controller.until(|state| state.refused.first().cloned()).await;
    assert_eq!(refusal.name, ResourceName::Service(service_name("web")));
    assert!(!refusal.path.is_empty(), "{refusal:?}");
    assert_eq!(sidecar.control.mesh.snapshot().service(&service_name("web")).unwrap().ports.len(), 1);
    let (_, sync) = ask(sidecar.ports.admin, "GET /sync").await;
    assert!(sync.contains("\"refused\"") && sync.contains(&refusal.path), "{sync}");
}

#[tokio::test]
async fn f5_policies_that_are_not_understood_deny_and_recover() {
    let scene = Scene::new("f5").await;
    say_workload(&scene.controller);
    let sidecar = scene.sidecar(&[]);
    sidecar.ready().await;
    let denies = |s: &Snapshot| {
        s.workload().unwrap().inbound.policies.iter().any(|policy| policy.action == Action::FailClosed)
    };
    scene.controller.set_encoded(ResourceName::Workload, from_the_future(&scene.controller));
    sidecar.until("the refusal", denies).await;
    say_workload(&scene.controller);
    sidecar.until("the recovery", |snapshot| !denies(snapshot)).await;
}

#[tokio::test]
async fn e4_f14_not_ready_before_the_first_word_and_serving_on_after_a_restart_without_the_controller() {
    let scene = Scene::new("f14").await;
    let first = scene.sidecar(&[]);
    let (status, text) = ask(first.ports.health, "GET /healthz/ready").await;
    assert_eq!(status, 503);
    assert!(text.contains("has not sent this pod's configuration"), "{text}");
    say_all(&scene.controller);
    first.ready().await;
    first.control.mesh.service(&service_name("web")).await.unwrap();
    first.control.mesh.address(vip()).await.unwrap();
    assert_eq!(ask(first.ports.health, "GET /healthz/ready").await.0, 200);
    let serial = first.control.credentials.current().unwrap().facts.serial.clone();
    first.control.mesh.flush().await;
    first.task.abort();
    scene.controller.stop();

    let second = scene.sidecar(&[]);
    second.ready().await;
    assert_eq!(ask(second.ports.health, "GET /healthz/ready").await.0, 200);
    assert_eq!(second.control.credentials.current().unwrap().facts.serial, serial);
    assert!(second.control.mesh.snapshot().service(&service_name("web")).is_some());
    assert!(second.control.mesh.address(vip()).await.is_ok());
}

#[tokio::test]
async fn f8_the_controller_goes_and_comes_back() {
    let scene = Scene::new("f8").await;
    say_all(&scene.controller);
    let sidecar = scene.sidecar(&[]);
    sidecar.ready().await;
    let mesh = &sidecar.control.mesh;
    mesh.service(&service_name("web")).await.unwrap();
    scene.controller.stop();
    sidecar.until_connected(false).await;
    let (_, metrics) = ask(sidecar.ports.metrics, "GET /metrics").await;
    assert!(metrics.contains("weft_controller_connected 0"), "{metrics}");
    assert!(mesh.snapshot().service(&service_name("web")).is_some(), "what is held stays in force");

    let inside = AddressKey::new([10, 7, 7, 7].into(), 80);
    let unanswered = ConfigUnavailable::Unanswered(ResourceName::Address(inside));
    assert_eq!(mesh.address(inside).await.unwrap_err(), unanswered, "inside the mesh's ranges: closed");
    let outside = mesh.address(AddressKey::new([192, 0, 2, 1].into(), 443)).await.unwrap();
    assert!(matches!(outside.meaning, Meaning::Nothing { .. }), "outside: by the outbound mode");

    scene.controller.resume().await.unwrap();
    scene.controller.set(Resource::Endpoints(Arc::new(slice("web", &[]))));
    let empty = |s: &Snapshot| s.cluster(&cluster_name("web")).unwrap().endpoints.is_empty();
    sidecar.until("what changed meanwhile", empty).await;
}

#[tokio::test]
async fn f9_a_controller_that_talks_nonsense_is_left_and_what_is_held_stays() {
    let scene = Scene::new("f9").await;
    say_all(&scene.controller);
    let sidecar = scene.sidecar(&[]);
    sidecar.ready().await;
    sidecar.control.mesh.service(&service_name("web")).await.unwrap();
    let response =
        |kind, nonce, as_of| DeltaResponse { r#type: kind, nonce, as_of, ..DeltaResponse::default() };
    let huge = DeltaResponse { removed: vec!["x".repeat(5 << 20)], ..response(1, 1000, 1000) };
    let nonsense = [response(9, 1000, 1000), response(1, 0, 1000), response(1, 1000, 0), huge];
    for outburst in nonsense {
        let streams = scene.controller.state(|state| state.streams);
        scene.controller.change(|state| state.outbursts.push(outburst));
        let again = scene.controller.until(|state| (state.streams > streams).then_some(()));
        tokio::time::timeout(LONG, again).await.expect("another stream");
        assert!(sidecar.control.mesh.snapshot().service(&service_name("web")).is_some());
    }
    scene.controller.set(Resource::Endpoints(Arc::new(slice("web", &[]))));
    let empty = |s: &Snapshot| s.cluster(&cluster_name("web")).unwrap().endpoints.is_empty();
    sidecar.until("what came afterwards", empty).await;
    let status = sidecar.control.mesh.status().await;
    assert!(status.refused.is_empty() && status.as_of < 1000, "{status:?}");
}

#[tokio::test]
async fn f10_f11_a_controller_that_knows_less_is_not_believed() {
    let scene = Scene::new("f10").await;
    say_all(&scene.controller);
    let sidecar = scene.sidecar(&[]);
    sidecar.ready().await;
    sidecar.control.mesh.service(&service_name("web")).await.unwrap();
    let as_of = sidecar.control.mesh.status().await.as_of;
    scene.controller.stop();
    sidecar.until_connected(false).await;
    let world = scene.controller.state(|state| state.resources.clone());
    scene.controller.change(|state| {
        state.as_of = 1;
        state.resources.clear();
    });
    scene.controller.resume().await.unwrap();
    sidecar.until_connected(true).await;
    assert!(
        sidecar.control.mesh.snapshot().service(&service_name("web")).is_some(),
        "an empty world is none"
    );
    scene.controller.change(|state| {
        state.as_of = as_of;
        state.resources = world;
    });
    scene.controller.set(Resource::Endpoints(Arc::new(slice("web", &[]))));
    let empty = |s: &Snapshot| s.cluster(&cluster_name("web")).unwrap().endpoints.is_empty();
    sidecar.until("what it knows once it has caught up", empty).await;
}

#[tokio::test]
async fn names_that_nobody_uses_are_given_back() {
    let scene = Scene::new("lru").await;
    say_workload(&scene.controller);
    let names: Vec<String> = (0..10).map(|n| format!("s{n}")).collect();
    names.iter().for_each(|name| say_service(&scene.controller, name, &[]));
    let sidecar = scene.sidecar(&["--max-idle-names=2"]);
    sidecar.ready().await;
    for name in &names {
        sidecar.control.mesh.service(&service_name(name)).await.unwrap();
    }
    let is_service = |name: &&ResourceName| matches!(name, ResourceName::Service(_));
    let subscribed = || scene.controller.state(|state| state.subscribed.iter().filter(is_service).count());
    assert!(subscribed() <= 8, "four times the limit is the most: {}", subscribed());
    assert!(sidecar.control.mesh.snapshot().service(&service_name("s9")).is_some());
    sidecar.control.mesh.service(&service_name("s0")).await.unwrap();
}

#[tokio::test]
async fn d11_a_certificate_is_renewed_at_half_life() {
    let scene = Scene::new("d11").await;
    scene.controller.change(|state| state.certificate_life = Duration::from_secs(2));
    say_workload(&scene.controller);
    let sidecar = scene.sidecar(&[]);
    sidecar.ready().await;
    let first = sidecar.control.credentials.current().unwrap();
    let again = scene.controller.until(|state| (state.certificates >= 2).then_some(()));
    tokio::time::timeout(LONG, again).await.expect("renewal");
    assert_eq!(first.facts.identity.as_str(), "spiffe://cluster.local/ns/default/sa/api");
    let (_, certs) = ask(sidecar.ports.admin, "GET /certs").await;
    assert!(certs.contains("spiffe://cluster.local/ns/default/sa/api"), "{certs}");
}

#[tokio::test]
async fn administration_shows_and_moves() {
    let scene = Scene::new("admin").await;
    say_all(&scene.controller);
    let sidecar = scene.sidecar(&[]);
    sidecar.ready().await;
    sidecar.control.mesh.service(&service_name("web")).await.unwrap();
    let admin = sidecar.ports.admin;
    let (_, config) = ask(admin, "GET /config").await;
    let config: serde_json::Value = serde_json::from_str(&config).unwrap();
    assert_eq!(config["workload"]["inbound"]["mtls"], "Strict");
    assert_eq!(config["services"][0]["name"], "default/web.default.svc.cluster.local");
    let (_, clusters) = ask(admin, "GET /clusters").await;
    let clusters: serde_json::Value = serde_json::from_str(&clusters).unwrap();
    let endpoint = &clusters["clusters"][0]["endpoints"][0];
    assert_eq!((&endpoint["address"], &endpoint["state"]), (&"10.0.0.9:8080".into(), &"active".into()));
    assert_eq!(ask(admin, "GET /quit").await.0, 405);
    assert_eq!(ask(admin, "POST /logging?level=loud").await.0, 400);
    assert_eq!(ask(admin, "POST /drain").await.0, 200);
    assert_eq!(ask(sidecar.ports.health, "GET /healthz/ready").await.0, 503);
    assert_eq!(ask(admin, "POST /quit").await.0, 200);
    tokio::time::timeout(LONG, sidecar.task).await.expect("it ends").unwrap();
}

#[tokio::test]
async fn two_sidecars_on_one_port_are_an_error_that_names_the_setting() {
    let scene = Scene::new("ports").await;
    let taken = std::net::TcpListener::bind("0.0.0.0:0").unwrap().local_addr().unwrap();
    let holder = std::net::TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], taken.port()))).unwrap();
    let (mut settings, _) = scene.settings(&[]);
    settings.ports.health = holder.local_addr().unwrap().port();
    let error = Control::start(&settings, Clock::system(), LogLevel::fixed(), Overload::default())
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("WEFT_HEALTH_PORT"), "{error}");
}
