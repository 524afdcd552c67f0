//! Controllers as processes on an API server of their own, and sidecars that follow them.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Streaming};
use weft_api::pb::config::config_service_client::ConfigServiceClient;
use weft_api::pb::config::{ClientInfo, DeltaRequest, DeltaResponse, ResourceType};
use weft_crds::crd;
use weft_crds::kind::Origin;
use weft_e2e::cluster::ApiServer;
use weft_e2e::kubectl::{Kubectl, text};
use weft_e2e::local::binary;

use crate::wire::Trust;
use crate::{BOUND, PATIENCE, POD, token};

/// The namespace of the control plane.
const ROOT: &str = "weft-system";
/// How long something must stay as it is.
pub(crate) const CALM: Duration = Duration::from_secs(4);
/// What sidecars are told first.
pub(crate) const WORKLOAD: i32 = ResourceType::Workload as i32;
/// A type of resources of a later version.
const TOMORROWS: i32 = 4711;

/// A route, as text and by its name.
pub(crate) const ROUTE: &str = r#"{"apiVersion":"networking.istio.io/v1","kind":"VirtualService","metadata":{"name":"web"},
    "spec":{"hosts":["web"],"http":[{"route":[{"destination":{"host":"web"}}]}]}}"#;
pub(crate) const VIRTUAL_SERVICE: &str = "virtualservices.networking.istio.io/web";

/// An API server with all kinds, and a pod.
pub(crate) struct Stage {
    pub(crate) kubectl: Kubectl,
    port: u16,
    _server: ApiServer,
}

impl Stage {
    pub(crate) fn set(port: u16) -> Option<Self> {
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

    pub(crate) fn root(&self) -> Kubectl {
        self.kubectl.within(ROOT)
    }

    /// Starts one, and waits until it serves sidecars.
    pub(crate) fn controller(&self, pod: &'static str, revision: &str) -> Controller {
        let made = self.begun(pod, revision, self.kubectl.kubeconfig());
        self.serves(&made);
        made
    }

    /// Starts one that finds its API server in a file.
    pub(crate) fn begun(&self, pod: &'static str, revision: &str, kubeconfig: &Path) -> Controller {
        let port = self.port + 10 * u16::from(pod.as_bytes()[0] - b'a');
        let at = |offset: u16| format!("127.0.0.1:{}", port + offset);
        let child = Command::new(binary())
            .args([
                "controller-run",
                "--kubernetes",
                "--address",
                "127.0.0.1",
                "--log",
                "weft_controller=error",
            ])
            .args(["--pod-name", pod, "--revision", revision])
            .args(["--listen", &at(0), "--admin", &at(1), "--webhooks", &at(2)])
            .env("KUBECONFIG", kubeconfig)
            .stdout(Stdio::null())
            .spawn()
            .expect("a controller");
        Controller { child, pod, port }
    }

    /// Waits until it serves sidecars.
    pub(crate) fn serves(&self, controller: &Controller) {
        let listens = |_: &Kubectl| Ok(std::net::TcpStream::connect(controller.address())?);
        self.kubectl.until("it listens", 2 * PATIENCE, listens).expect("it listens");
    }

    /// Who holds a Lease: a pod's name.
    pub(crate) fn holder(&self, lease: &str) -> Result<String> {
        let lease = self.root().get(&["lease", lease])?;
        let holder = text(&lease, "/spec/holderIdentity")?;
        Ok(holder.split('_').next().unwrap_or_default().to_owned())
    }

    /// The status of the route, once it speaks of what was written last.
    pub(crate) fn accepted(&self) -> Value {
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
    pub(crate) async fn stays(&self, kubectl: &Kubectl, object: &[&str]) {
        let version = || kubectl.get(object).expect("an object")["metadata"]["resourceVersion"].clone();
        let before = version();
        tokio::time::sleep(CALM).await;
        assert_eq!(version(), before, "{object:?} is written again and again");
    }

    /// A sidecar's stream at a controller: what it says, and how it is asked.
    pub(crate) async fn sidecar(&self, controller: &Controller) -> Result<Sidecar> {
        let secret = self.root().get(&["secret", "weft-ca"])?;
        let root = base64::engine::general_purpose::STANDARD.decode(text(&secret, "/data/root-cert.pem")?)?;
        let trust = Trust { address: controller.address(), root: root.into() };
        let channel = trust.connect(Arc::default()).await?;
        let (asks, receiver) = mpsc::channel(8);
        let mut request = Request::new(ReceiverStream::new(receiver));
        let token = token(&self.kubectl, &[&BOUND[..], &["--audience", "weft.dev"]].concat());
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse()?);
        asks.send(ask(WORKLOAD, "self")).await?;
        let answers = ConfigServiceClient::new(channel).stream(request).await?.into_inner();
        Ok(Sidecar { asks, answers })
    }
}

/// A controller, killed when this is dropped.
pub(crate) struct Controller {
    child: Child,
    pub(crate) pod: &'static str,
    port: u16,
}

impl Controller {
    fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// The status line of what it answers people.
    pub(crate) async fn answers(&self, path: &str) -> Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port + 1)).await?;
        let question = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        stream.write_all(question.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer.lines().next().unwrap_or_default().to_owned())
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A sidecar of tomorrow's version.
pub(crate) struct Sidecar {
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
    pub(crate) async fn told(&mut self, kind: i32) -> Result<DeltaResponse> {
        loop {
            let answer = timeout(2 * PATIENCE, self.answers.message()).await.context("it says nothing")??;
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
    pub(crate) async fn is_served(&mut self, stage: &Stage, policy: &str) -> Result<()> {
        ensure!(self.told(WORKLOAD).await?.resources.len() == 1, "no workload");
        self.asks.send(ask(TOMORROWS, "a/b")).await?;
        ensure!(self.told(TOMORROWS).await?.removed == ["a/b"], "an answer that was not given");
        let policy = json!({"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
            "metadata": {"name": policy}, "spec": {"rules": [{}]}});
        stage.kubectl.apply(&policy.to_string())?;
        ensure!(self.told(WORKLOAD).await?.resources.len() == 1, "not told of a policy");
        Ok(())
    }
}
