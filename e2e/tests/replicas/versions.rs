//! Two controllers of different versions, as in a rolling upgrade, and two revisions, as beside a canary: processes of their
//! own, on one API server.
//!
//! What differs between versions is played by what a newer one would write or ask: the older one must serve all the rest.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use serde_json::json;
use weft_controller::ca::authority::Authority;
use weft_controller::leader::SHARED;
use weft_controller::webhook::injecting::Injection;
use weft_controller::webhook::review::{Operation, Request as Review};
use weft_e2e::kubectl::{Kubectl, text};

use crate::stage::{CALM, ROUTE, Stage, VIRTUAL_SERVICE, WORKLOAD};
use crate::{FAILOVER, PATIENCE};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_and_a_newer_replica_lead_once_and_serve_all_sidecars() {
    let Some(stage) = Stage::set(27300) else { return };
    let controllers = [stage.controller("a", "default"), stage.controller("b", "default")];
    let mut sidecars = Vec::new();
    for controller in &controllers {
        let mut sidecar = stage.sidecar(controller).await.expect("a stream");
        sidecar.is_served(&stage, &format!("policy-{}", controller.pod)).await.expect(controller.pod);
        sidecars.push(sidecar);
    }
    stage.accepted();
    stage.stays(&stage.kubectl, &[VIRTUAL_SERVICE]).await;

    // What a newer version says besides stays when the older one writes.
    let more = json!({"status": {"ofTomorrow": {"a": 1}}}).to_string();
    let status = ["--subresource=status", "--type=merge", "--patch"];
    stage.kubectl.run(&[&["patch", VIRTUAL_SERVICE][..], &status, &[&more]].concat()).expect("patched");
    stage
        .kubectl
        .apply(&ROUTE.replace(r#""route""#, r#""timeout":"3s","route""#))
        .expect("another generation");
    assert_eq!(stage.accepted()["status"]["ofTomorrow"]["a"], 1);

    let holder = stage.holder(SHARED).expect("a leader");
    let [killed, left] = match controllers {
        [a, b] if a.pod == holder => [a, b],
        [a, b] => [b, a],
    };
    assert_eq!(killed.pod, holder);
    let mut sidecar = if killed.pod == "a" { sidecars.pop() } else { Some(sidecars.remove(0)) }.expect("one");
    let (before, began) = (stage.accepted(), Instant::now());
    drop(killed);
    let other = |_: &Kubectl| {
        let now = stage.holder(SHARED)?;
        ensure!(now == left.pod, "{now} leads still");
        Ok(())
    };
    stage.kubectl.until("another leader", PATIENCE, other).expect("the other leads");
    assert!(began.elapsed() < FAILOVER, "{:?}", began.elapsed());
    tokio::time::sleep(CALM).await;
    assert_eq!(
        stage.accepted()["metadata"]["resourceVersion"],
        before["metadata"]["resourceVersion"],
        "nothing new"
    );
    let delete = ["delete", "authorizationpolicies.security.istio.io", "--all"];
    stage.kubectl.run(&delete).expect("a change");
    sidecar.told(WORKLOAD).await.expect("its stream goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_revisions_do_not_write_against_each_other() {
    let Some(stage) = Stage::set(27400) else { return };
    let stable = stage.controller("a", "default");
    let map = ["configmap", "weft-root"];
    let told = |kubectl: &Kubectl| Ok(text(&kubectl.get(&map)?, "/data/root-cert.pem")?.to_owned());
    let first = stage.kubectl.until("told", PATIENCE, told).expect("the root");
    // The first step from one root to another, of which the revision that runs has not heard.
    let (_, next) = Authority::generate(std::time::SystemTime::now().into()).expect("a root");
    let both = json!({"stringData": {"root-cert.pem": format!("{first}{next}")}}).to_string();
    stage.root().run(&["patch", "secret", "weft-ca", "--patch", &both]).expect("two roots");
    let canary = stage.controller("b", "canary");
    for (lease, pod) in [(SHARED, "a"), ("weft-controller-default", "a"), ("weft-controller-canary", "b")] {
        let holds = |_: &Kubectl| {
            let holder = stage.holder(lease)?;
            ensure!(holder == pod, "{lease}: {holder}");
            Ok(())
        };
        stage.kubectl.until("led", PATIENCE, holds).expect("a leader");
    }
    for controller in [&stable, &canary] {
        let mut sidecar = stage.sidecar(controller).await.expect("a stream");
        sidecar.is_served(&stage, &format!("policy-{}", controller.pod)).await.expect(controller.pod);
    }
    stage.accepted();
    stage.stays(&stage.kubectl, &[VIRTUAL_SERVICE]).await;
    stage.stays(&stage.kubectl, &map).await;
    assert_eq!(told(&stage.kubectl).expect("roots"), first);
    drop(stable);
    let both = |kubectl: &Kubectl| {
        let now = told(kubectl)?;
        ensure!(now.len() > first.len(), "{now}");
        Ok(())
    };
    stage.kubectl.until("told of both", PATIENCE, both).expect("the one that is left writes");
}

/// The chart comes before the controller in an upgrade: what it says of injection may be news to the replicas that run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn injection_settings_of_a_newer_chart_leave_those_in_force_that_are_understood() {
    let Some(kubectl) = crate::namespace("newer") else { return };
    let settings = |more: &str| {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "weft-injection-default"},
            "data": {"config": format!("image: localhost/weft-proxy:1\n{more}")}})
    };
    kubectl.apply(&settings("").to_string()).expect("settings");
    let shop = crate::namespace("newer-shop").expect("a namespace");
    shop.run(&["label", "namespace", "newer-shop", "weft.dev/injection=enabled"]).expect("a label");
    let injection = Arc::new(Injection::new(crate::client(&kubectl).await, "newer", "default"));
    let following = injection.clone();
    tokio::spawn(async move { following.follow().await });
    let pod = json!({"metadata": {"name": "a"}, "spec": {"containers": [{"name": "a", "image": "b"}]}});
    let kind = serde_json::from_value(json!({"group": "", "version": "v1", "kind": "Pod"})).expect("a kind");
    let review = Review {
        namespace: shop.namespace().into(),
        object: pod,
        kind,
        operation: Operation::Create,
        ..Review::default()
    };
    let injects = async |image: &str| {
        let began = Instant::now();
        loop {
            let answer = injection.review(&review).await;
            if answer.patch.to_string().contains(image) {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "{image}: {answer:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    injects("weft-proxy:1").await;
    kubectl
        .apply(&settings("ofTomorrow: 1").to_string().replace("proxy:1", "proxy:2"))
        .expect("newer settings");
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let answer = injection.review(&review).await;
        assert!(answer.denied.is_none() && answer.patch.to_string().contains("weft-proxy:1"), "{answer:?}");
    }
    kubectl.apply(&settings("").to_string().replace("proxy:1", "proxy:3")).expect("settings");
    injects("weft-proxy:3").await;
}
