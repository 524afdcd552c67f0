//! Replicas of the controller and a real API server: tokens, the root, the leader, what it writes; versions and revisions
//! side by side.

/// A sidecar's way to the controller.
#[path = "../../examples/control_plane/wire.rs"]
mod wire;
/// Controllers as processes.
mod stage;
/// An API server that is away.
mod away;
/// Statuses beside those of others.
mod statuses;
/// Versions and revisions side by side.
mod versions;

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tokio_util::sync::CancellationToken;
use weft_controller::ca::bundle::Bundles;
use weft_controller::ca::secret::{self, SecretError};
use weft_controller::leader::lease::Candidate;
use weft_controller::metrics::Metrics;
use weft_controller::tokens::review::Reviews;
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
async fn a_root_that_is_edited_later_is_told_of_and_one_that_is_deleted_is_put_back() {
    let Some(kubectl) = namespace("edited") else { return };
    let root = secret::open(client(&kubectl).await, "edited").await.expect("a root");
    let metrics = Metrics::new().expect("metrics");
    let changed = metrics.root_changed.clone();
    tokio::spawn(root.keep(changed.clone()));
    let data = |kubectl: &Kubectl| -> anyhow::Result<serde_json::Value> {
        Ok(kubectl.get(&["secret", "weft-ca"])?["data"].clone())
    };
    let before = data(&kubectl).expect("the root");
    let shows = |wanted: i64| {
        let said = |_: &Kubectl| {
            anyhow::ensure!(changed.get() == wanted, "{}", changed.get());
            Ok(())
        };
        kubectl.until("shown", 2 * PATIENCE, said).expect("the metric");
    };
    let nonsense = r#"{"stringData":{"root-cert.pem":"nonsense"}}"#;
    kubectl.run(&["patch", "secret", "weft-ca", "--patch", nonsense]).expect("edited");
    shows(1);
    let edited = data(&kubectl).expect("the root");
    assert_ne!(edited, before, "what somebody has put there is not overwritten");
    kubectl.run(&["delete", "secret", "weft-ca"]).expect("deleted");
    let back = |kubectl: &Kubectl| {
        let now = data(kubectl)?;
        anyhow::ensure!(now == before, "{now}");
        Ok(())
    };
    kubectl.until("put back", 2 * PATIENCE, back).expect("the root in use");
    shows(0);
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
