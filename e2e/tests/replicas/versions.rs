//! Two controllers of different versions, as in a rolling upgrade, and two revisions, as beside a canary: processes of their
//! own, on one API server.
//!
//! What differs between versions is played by what a newer one would write or ask: the older one must serve all the rest.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use base64::Engine;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Streaming};
use weft_api::pb::config::config_service_client::ConfigServiceClient;
use weft_api::pb::config::{ClientInfo, DeltaRequest, DeltaResponse, ResourceType};
use weft_controller::ca::authority::Authority;
use weft_controller::webhook::injecting::Injection;
use weft_controller::webhook::review::{Operation, Request as Review};
use weft_crds::crd;
use weft_crds::kind::Origin;
use weft_e2e::cluster::ApiServer;
use weft_e2e::kubectl::{Kubectl, text};
use weft_e2e::local::binary;

use crate::wire::Trust;
use crate::{BOUND, FAILOVER, PATIENCE, POD, token};

/// The namespace of the control plane.
const ROOT: &str = "weft-system";
/// The Lease of what all replicas of all revisions share.
const SHARED: &str = "weft-controller";
/// A type of resources of a later version.
const TOMORROWS: i32 = 4711;
/// How long something must stay as it is.
const CALM: Duration = Duration::from_secs(4);

const ROUTE: &str = r#"{"apiVersion":"networking.istio.io/v1","kind":"VirtualService","metadata":{"name":"web"},
    "spec":{"hosts":["web"],"http":[{"route":[{"destination":{"host":"web"}}]}]}}"#;
const VIRTUAL_SERVICE: &str = "virtualservices.networking.istio.io/web";

/// An API server with all kinds, and a pod.
struct Stage {
    kubectl: Kubectl,
    port: u16,
    _server: ApiServer,
}

impl Stage {
    fn set(port: u16) -> Option<Self> {
        let server = ApiServer::start()?;
        let kubectl = server.kubectl().within("default");
        for origin in Origin::ALL {
            let kinds = crd::yaml(&crd::crds(origin)).expect("YAML");
            kubectl.pipe(&["apply", "--server-side", "--filename", "-"], &kinds).expect("kinds");
        }
        for object in [
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": ROOT}}),
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "web"}}),
        ] {
            kubectl.apply(&object.to_string()).expect("an object");
        }
        kubectl.until("a pod", PATIENCE, |k| k.apply(POD)).expect("a pod");
        kubectl.until("a route", PATIENCE, |k| k.apply(ROUTE)).expect("a route");
        Some(Self { kubectl, port, _server: server })
    }

    fn root(&self) -> Kubectl {
        self.kubectl.within(ROOT)
    }

    /// Starts one, and waits until it is ready.
    fn controller(&self, pod: &'static str, revision: &str) -> Controller {
        let port = self.port + 10 * u16::from(pod.as_bytes()[0] - b'a');
        let at = |offset: u16| format!("127.0.0.1:{}", port + offset);
        let child = Command::new(binary())
            .args([
                "controller-run",
                "--kubernetes",
                "--address",
                "127.0.0.1",
                "--log",
                "weft_controller=warn",
            ])
            .args(["--pod-name", pod, "--revision", revision])
            .args(["--listen", &at(0), "--admin", &at(1), "--webhooks", &at(2)])
            .env("KUBECONFIG", self.kubectl.kubeconfig())
            .stdout(Stdio::null())
            .spawn()
            .expect("a controller");
        let made = Controller { child, pod, address: ([127, 0, 0, 1], port).into() };
        let listens = |_: &Kubectl| Ok(std::net::TcpStream::connect(made.address)?);
        self.kubectl.until("it listens", PATIENCE, listens).expect("it listens");
        made
    }

    /// Who holds a Lease: a pod's name.
    fn holder(&self, lease: &str) -> Result<String> {
        let lease = self.root().get(&["lease", lease])?;
        let holder = text(&lease, "/spec/holderIdentity")?;
        Ok(holder.split('_').next().unwrap_or_default().to_owned())
    }

    /// The status of the route, once it speaks of what was written last.
    fn accepted(&self) -> Value {
        let accepted = |kubectl: &Kubectl| {
            let object = kubectl.get(&[VIRTUAL_SERVICE])?;
            let status = &object["status"];
            ensure!(status["observedGeneration"] == object["metadata"]["generation"], "{object}");
            ensure!(status["conditions"].to_string().contains("Programmed"), "{object}");
            Ok(object)
        };
        self.kubectl.until("accepted", PATIENCE, accepted).expect("a status")
    }

    /// Nobody writes an object for a while.
    async fn stays(&self, kubectl: &Kubectl, object: &[&str]) {
        let version = || kubectl.get(object).expect("an object")["metadata"]["resourceVersion"].clone();
        let before = version();
        tokio::time::sleep(CALM).await;
        assert_eq!(version(), before, "{object:?} is written again and again");
    }

    /// A sidecar's stream at a controller: what it says, and how it is asked.
    async fn sidecar(&self, controller: &Controller) -> Result<Sidecar> {
        let secret = self.root().get(&["secret", "weft-ca"])?;
        let root = base64::engine::general_purpose::STANDARD.decode(text(&secret, "/data/root-cert.pem")?)?;
        let trust = Trust { address: controller.address, root: root.into() };
        let channel = trust.connect(Arc::default()).await?;
        let (asks, receiver) = mpsc::channel(8);
        let mut request = Request::new(ReceiverStream::new(receiver));
        let token = token(&self.kubectl, &[&BOUND[..], &["--audience", "weft.dev"]].concat());
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse()?);
        asks.send(ask(ResourceType::Workload.into(), "self")).await?;
        let answers = ConfigServiceClient::new(channel).stream(request).await?.into_inner();
        Ok(Sidecar { asks, answers })
    }
}

/// A controller, killed when this is dropped.
struct Controller {
    child: Child,
    pod: &'static str,
    address: SocketAddr,
}

impl Drop for Controller {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A sidecar of tomorrow's version.
struct Sidecar {
    asks: mpsc::Sender<DeltaRequest>,
    answers: Streaming<DeltaResponse>,
}

fn ask(kind: i32, name: &str) -> DeltaRequest {
    let client = ClientInfo { version: "tomorrow's".into(), features: vec!["of-tomorrow".into()] };
    DeltaRequest {
        r#type: kind,
        subscribe: vec![name.into()],
        client: Some(client),
        ..DeltaRequest::default()
    }
}

impl Sidecar {
    /// What is said next of a type; all that is said is taken.
    async fn told(&mut self, kind: i32) -> Result<DeltaResponse> {
        loop {
            let answer = timeout(PATIENCE, self.answers.message()).await.context("it says nothing")??;
            let answer = answer.context("the stream has ended")?;
            let taken = DeltaRequest {
                r#type: answer.r#type,
                response_nonce: answer.nonce,
                ..DeltaRequest::default()
            };
            self.asks.send(DeltaRequest { as_of: answer.as_of, ..taken }).await?;
            if answer.r#type == kind && !(answer.resources.is_empty() && answer.removed.is_empty()) {
                return Ok(answer);
            }
        }
    }

    /// It is told what it is, that nothing is known of what only its own version knows, and of changes after that.
    async fn is_served(&mut self, stage: &Stage, policy: &str) -> Result<()> {
        let workload = i32::from(ResourceType::Workload);
        ensure!(self.told(workload).await?.resources.len() == 1, "no workload");
        self.asks.send(ask(TOMORROWS, "a/b")).await?;
        ensure!(self.told(TOMORROWS).await?.removed == ["a/b"], "an answer that was not given");
        let policy = json!({"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
            "metadata": {"name": policy}, "spec": {"rules": [{}]}});
        stage.kubectl.apply(&policy.to_string())?;
        ensure!(self.told(workload).await?.resources.len() == 1, "not told of a policy");
        Ok(())
    }
}

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
    sidecar.told(ResourceType::Workload.into()).await.expect("its stream goes on");
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
