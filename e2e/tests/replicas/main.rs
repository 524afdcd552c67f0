//! Replicas of the controller and a real API server: tokens, the root, the leader, what it writes; versions and revisions
//! side by side.

/// A sidecar's way to the controller.
#[path = "../../examples/control_plane/wire.rs"]
mod wire;
/// Versions and revisions side by side.
mod versions;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use weft_controller::ca::bundle::Bundles;
use weft_controller::ca::secret::{self, SecretError};
use weft_controller::leader::lease::Candidate;
use weft_controller::metrics::Metrics;
use weft_controller::pipeline::Published;
use weft_controller::push::publisher::Publisher;
use weft_controller::push::registry::Registry;
use weft_controller::report::Account;
use weft_controller::source::object::ObjectId;
use weft_controller::status::peers::Peers;
use weft_controller::status::writer::{Counts, StatusWriter};
use weft_controller::tokens::review::Reviews;
use weft_core::model::name::ObjectName;
use weft_crds::crd;
use weft_crds::kind::Origin;
use weft_e2e::cluster::ApiServer;
use weft_e2e::kubectl::{Kubectl, text};

const PATIENCE: Duration = Duration::from_secs(30);
/// How soon another replica leads when the leader is killed.
const FAILOVER: Duration = Duration::from_secs(5);

/// An API server that the tests share; each has a namespace of its own.
fn namespace(name: &str) -> Option<Kubectl> {
    static SERVER: OnceLock<Option<ApiServer>> = OnceLock::new();
    let kubectl = SERVER.get_or_init(ApiServer::start).as_ref()?.kubectl();
    kubectl.run(&["create", "namespace", name]).expect("a namespace");
    Some(kubectl.within(name))
}

async fn client(kubectl: &Kubectl) -> Client {
    let file = Kubeconfig::read_from(kubectl.kubeconfig()).expect("a kubeconfig");
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await;
    Client::try_from(config.expect("a configuration")).expect("a client")
}

fn reviews(client: Client) -> Reviews {
    Reviews::new(client, Metrics::new().expect("metrics"))
}

fn token(kubectl: &Kubectl, arguments: &[&str]) -> String {
    let mut all = vec!["create", "token", "web"];
    all.extend(arguments);
    kubectl.run(&all).expect("a token").trim().to_owned()
}

const POD: &str = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web-0"},
    "spec":{"serviceAccountName":"web","nodeName":"none","containers":[{"name":"c","image":"x"}]}}"#;
const BOUND: [&str; 4] = ["--bound-object-kind", "Pod", "--bound-object-name", "web-0"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_its_pods_as_long_as_pod_and_account_are_there() {
    let Some(kubectl) = namespace("tokens") else { return };
    kubectl.run(&["create", "serviceaccount", "web"]).expect("an account");
    kubectl.apply(POD).expect("a pod");
    let ours = token(&kubectl, &[&BOUND[..], &["--audience", "weft.dev"]].concat());
    let other = token(&kubectl, &BOUND);
    let unbound = token(&kubectl, &["--audience", "weft.dev"]);
    let client = client(&kubectl).await;
    let caller = reviews(client.clone()).find(&ours).await.expect("a pod");
    let uid = kubectl.get(&["pod", "web-0"]).expect("the pod");
    assert_eq!((caller.pod.to_string().as_str(), &*caller.service_account), ("tokens/web-0", "web"));
    assert_eq!(caller.uid.as_deref(), Some(text(&uid, "/metadata/uid").expect("a uid")));
    for (token, why) in [(&other, "must be for \"weft.dev\""), (&unbound, "bound to no pod")] {
        let refused = reviews(client.clone()).find(token).await.expect_err("a token that is not for us");
        assert!(format!("{refused:?}").contains("Unauthenticated"), "{refused}");
        assert!(refused.message().contains(why), "{refused}");
    }
    let away = Config::new("http://127.0.0.1:1".parse().expect("an address"));
    let away =
        reviews(Client::try_from(away).expect("a client")).find(&ours).await.expect_err("nobody there");
    assert!(format!("{away:?}").contains("Unavailable"), "{away}");
    kubectl.run(&["delete", "serviceaccount", "web"]).expect("deleted");
    // The API server itself believes a token for ten seconds.
    let (began, mut answer) = (Instant::now(), reviews(client.clone()).find(&ours).await);
    while answer.is_ok() && began.elapsed() < PATIENCE {
        tokio::time::sleep(Duration::from_millis(500)).await;
        answer = reviews(client.clone()).find(&ours).await;
    }
    let gone = answer.expect_err("its account is gone");
    assert!(format!("{gone:?}").contains("Unauthenticated"), "{gone}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_root_is_made_once_and_nonsense_is_refused_and_left_alone() {
    let Some(kubectl) = namespace("roots") else { return };
    let client = client(&kubectl).await;
    let (one, two) =
        tokio::join!(secret::open(client.clone(), "roots"), secret::open(client.clone(), "roots"));
    let root = one.expect("a root").authority.root_pem().to_owned();
    assert_eq!(root, two.expect("a root").authority.root_pem(), "two that start at once have one root");
    let nonsense = r#"{"stringData":{"root-key.pem":"nonsense"}}"#;
    kubectl.run(&["patch", "secret", "weft-ca", "--patch", nonsense]).expect("patched");
    let refused = secret::open(client, "roots").await.err().expect("nonsense");
    assert!(matches!(refused, SecretError::Nonsense { .. }));
    assert!(
        refused.to_string().contains("roots/weft-ca") && refused.to_string().contains("root-key.pem"),
        "{refused}"
    );
    let there = kubectl.get(&["secret", "weft-ca"]).expect("the secret");
    assert_eq!(text(&there, "/data/root-key.pem").expect("a key"), "bm9uc2Vuc2U=");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f11_another_leads_soon_when_the_leader_is_killed_and_at_once_when_it_goes() {
    let Some(kubectl) = namespace("leaders") else { return };
    let client = client(&kubectl).await;
    let candidate = |pod: &str| Candidate::new(client.clone(), "leaders", "one-of-three", pod);
    let (one, two, three) = (candidate("one"), candidate("two"), candidate("three"));
    let [a, b, c] = [&one, &two, &three].map(Candidate::leadership);
    let leads = async |it: &weft_controller::leader::Leadership| {
        let began = Instant::now();
        while !it.leads() {
            assert!(began.elapsed() < PATIENCE, "nobody leads");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        began.elapsed()
    };
    let killed = tokio::spawn(one.run(CancellationToken::new()));
    leads(&a).await;
    let end = CancellationToken::new();
    let going = tokio::spawn(two.run(end.clone()));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(a.leads() && !b.leads(), "one at a time");
    killed.abort();
    let failover = leads(&b).await;
    assert!(!a.leads(), "whoever was killed or stopped knows by its own clock");
    assert!(failover < FAILOVER, "{failover:?}");
    tokio::spawn(three.run(CancellationToken::new()));
    tokio::time::sleep(Duration::from_secs(1)).await;
    end.cancel();
    let handover = leads(&c).await;
    going.await.expect("it has ended");
    println!("failover {failover:?}, handover {handover:?}");
    assert!(handover < Duration::from_secs(2), "{handover:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_namespace_is_told_the_roots_and_what_is_edited_is_mended() {
    let Some(kubectl) = namespace("bundles") else { return };
    let metrics = Metrics::new().expect("metrics");
    let bundles = Bundles { client: client(&kubectl).await, root_pem: "the roots".into(), metrics };
    tokio::spawn(bundles.keep());
    let told = |kubectl: &Kubectl| {
        let map = kubectl.get(&["configmap", "weft-root"])?;
        anyhow::ensure!(text(&map, "/data/root-cert.pem")? == "the roots");
        Ok(())
    };
    kubectl.until("told", PATIENCE, told).expect("told");
    let later = namespace("bundles-later").expect("another namespace");
    later.until("told", Duration::from_secs(3), told).expect("told later");
    kubectl
        .run(&["patch", "configmap", "weft-root", "--patch", r#"{"data":{"root-cert.pem":"x"}}"#])
        .expect("edited");
    kubectl.until("mended", PATIENCE, told).expect("mended");
    kubectl.run(&["delete", "configmap", "weft-root"]).expect("deleted");
    kubectl.until("made again", PATIENCE, told).expect("made again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_status_is_written_beside_those_of_others() {
    let Some(kubectl) = namespace("statuses") else { return };
    let text = crd::yaml(&crd::crds(Origin::Istio)).expect("YAML");
    kubectl.pipe(&["apply", "--server-side", "--filename", "-"], &text).expect("definitions");
    let route = r#"{"apiVersion":"networking.istio.io/v1","kind":"VirtualService","metadata":{"name":"web"},
        "spec":{"hosts":["web"],"http":[{"route":[{"destination":{"host":"web"}}]}]}}"#;
    kubectl.until("served", PATIENCE, |kubectl| kubectl.apply(route)).expect("a route");
    let theirs = r#"{"status":{"conditions":[{"type":"Reconciled","status":"True","reason":"x","message":"y",
        "lastTransitionTime":"2026-01-01T00:00:00Z"}]}}"#;
    let name = "virtualservices.networking.istio.io/web";
    kubectl
        .run(&["patch", name, "--subresource=status", "--type=merge", "--patch", theirs])
        .expect("patched");

    let [group, kind, namespace, web] =
        ["networking.istio.io", "VirtualService", "statuses", "web"].map(Into::into);
    let id = ObjectId { group, kind, namespace, name: web };
    let account =
        Account { api_version: "networking.istio.io/v1".into(), generation: 1, reports: Vec::new() };
    let accounts = Arc::new(BTreeMap::from([(id, account)]));
    let (_worlds, receiver) = watch::channel(Published { synced: true, accounts, ..Published::default() });
    let writer = StatusWriter {
        client: client(&kubectl).await,
        worlds: receiver,
        counts: Counts { registry: Registry::default(), publisher: Publisher::default() },
        metrics: Metrics::new().expect("metrics"),
    };

    let me = ObjectName { namespace: "statuses".into(), name: "me".into() };
    tokio::spawn(writer.keep(Peers::new("statuses".into(), 1, me)));
    let conditions = |kubectl: &Kubectl| -> anyhow::Result<Vec<Value>> {
        let object = kubectl.get(&[name])?;
        let all = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        anyhow::ensure!(all.len() == 3, "{all:?}");
        Ok(all)
    };
    let all = kubectl.until("written", PATIENCE, conditions).expect("written");
    let types: Vec<_> = all.iter().filter_map(|it| it["type"].as_str()).collect();
    assert_eq!(types, ["Reconciled", "Accepted", "Programmed"]);
    assert_eq!((all[0]["message"].as_str(), all[1]["status"].as_str()), (Some("y"), Some("True")));
}
