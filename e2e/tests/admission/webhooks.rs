//! The webhooks, called by a real API server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use k8s_openapi::api::core::v1::Secret;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use weft_controller::pipeline::Published;
use weft_controller::webhook::certificate::{Material, Names};
use weft_controller::webhook::injecting::Injection;
use weft_controller::webhook::judge::Judge;
use weft_controller::webhook::keeper::{Keeper, Served};
use weft_controller::webhook::serve;
use weft_controller::webhook::serve::Server;
use weft_e2e::kubectl::Kubectl;

use crate::{manifest, namespace, refusal};

const PATIENCE: Duration = Duration::from_secs(20);

/// Webhooks of a revision of their own, and the API server told to call them about one namespace.
struct Webhooks {
    kubectl: Kubectl,
    address: SocketAddr,
    revision: String,
    client: Client,
    shutdown: CancellationToken,
    worlds: watch::Sender<Published>,
}

impl Webhooks {
    async fn start(name: &str, ttl: Duration) -> Option<Self> {
        let kubectl = namespace(name)?;
        let text = std::fs::read_to_string(kubectl.kubeconfig()).expect("a kubeconfig");
        let config = Kubeconfig::from_yaml(&text).expect("a kubeconfig");
        let config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await;
        let client = Client::try_from(config.expect("a configuration")).expect("a client");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let names = Names { names: vec!["localhost".into()], addresses: vec![address.ip()] };
        let keeper = Keeper::new(client.clone(), name, name, names).with_ttl(ttl);
        let (worlds, receiver) = watch::channel(Published::default());
        let shutdown = CancellationToken::new();
        let injection = Arc::new(Injection::new(client.clone(), name, name));
        let judge = Judge { worlds: receiver, injection };
        tokio::spawn(serve(keeper.clone(), judge, Arc::default(), listener, shutdown.clone()));
        tokio::spawn(async move { keeper.keep().await });
        let made = Self { kubectl, address, revision: name.into(), client, shutdown, worlds };
        made.configure();
        made.until("asked", |webhooks| {
            let probe = manifest("networking.weft.dev/v1", "VirtualService", "probe", &bad());
            let said = webhooks.kubectl.pipe(&["apply", "--dry-run=server", "-f", "-"], &probe);
            let error = format!("{:#}", said.err()?);
            error.contains("denied the request").then_some(())
        })
        .await;
        Some(made)
    }

    fn configure(&self) {
        let webhook = |name: &str, groups: &str, policy: &str| {
            json!({
                "name": format!("{name}.validation.weft.dev"), "admissionReviewVersions": ["v1"], "sideEffects": "None",
                "failurePolicy": policy, "timeoutSeconds": 5,
                "clientConfig": {"url": format!("https://{}/validate", self.address)},
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": self.kubectl.namespace()}},
                "rules": [{"apiGroups": [format!("networking.{groups}"), format!("security.{groups}")],
                    "apiVersions": ["*"], "operations": ["CREATE", "UPDATE"], "resources": ["*"], "scope": "Namespaced"}],
            })
        };
        let configuration = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": format!("weft-validator-{}", self.revision)},
            "webhooks": [webhook("weft", "weft.dev", "Fail"), webhook("istio", "istio.io", "Fail")],
        });
        self.kubectl.apply(&configuration.to_string()).expect("a configuration");
    }

    async fn until<T>(&self, what: &str, ask: impl Fn(&Self) -> Option<T>) -> T {
        let began = Instant::now();
        loop {
            if let Some(answer) = ask(self) {
                return answer;
            }
            assert!(began.elapsed() < PATIENCE, "never {what}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn secret(&self) -> Option<Value> {
        let name = format!("weft-webhook-{}", self.revision);
        Some(self.kubectl.get(&["secret", &name]).ok()?["data"].clone())
    }

    async fn material(&self) -> Material {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), self.kubectl.namespace());
        let secret = secrets.get(&format!("weft-webhook-{}", self.revision)).await.expect("a Secret");
        Material::of_secret(secret.data.into_iter().flatten().map(|(key, value)| (key, value.0)))
    }

    fn believed(&self) -> Vec<String> {
        let name = format!("weft-validator-{}", self.revision);
        let found = self.kubectl.get(&["validatingwebhookconfiguration", &name]).expect("a configuration");
        let webhooks = found["webhooks"].as_array().expect("webhooks").clone();
        webhooks
            .iter()
            .map(|w| w["clientConfig"]["caBundle"].as_str().unwrap_or_default().to_owned())
            .collect()
    }

    /// Whether the API server gets an answer.
    fn answers(&self) -> Result<(), String> {
        let good = manifest("networking.weft.dev/v1", "VirtualService", "good", &good());
        let said = self.kubectl.pipe(&["apply", "--dry-run=server", "-f", "-"], &good);
        said.map(drop).map_err(|error| format!("{error:#}"))
    }
}

impl Drop for Webhooks {
    fn drop(&mut self) {
        self.shutdown.cancel();
        let name = format!("weft-validator-{}", self.revision);
        let _ = self.kubectl.run(&["delete", "validatingwebhookconfiguration", &name]);
    }
}

/// Good by its schema, bad by what it says.
fn bad() -> Value {
    json!({"hosts": ["a"], "http": [{"retries": {"attempts": 1, "retryOn": "sometimes"},
        "route": [{"destination": {"host": "a"}}]}]})
}

fn good() -> Value {
    json!({"hosts": ["a"], "http": [{"route": [{"destination": {"host": "a"}}]}]})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_object_is_refused_with_the_field_path_or_warned_about() {
    let Some(webhooks) = Webhooks::start("judged", Duration::from_secs(3600)).await else { return };
    let kubectl = &webhooks.kubectl;
    let ours = "networking.weft.dev/v1";
    let said = refusal(kubectl, &manifest(ours, "VirtualService", "x", &bad()));
    assert!(said.contains("spec.http[0].retries.retryOn: `sometimes` is no condition"), "{said}");

    let istios = manifest("networking.istio.io/v1beta1", "VirtualService", "x", &bad());
    let said = kubectl.apply(&istios).expect("never denied");
    assert!(said.contains("Warning: not in force: spec.http[0].retries.retryOn: `sometimes`"), "{said}");
    let later = manifest("networking.istio.io/v1", "ServiceEntry", "x", &json!({"hosts": ["a.example"]}));
    let said = kubectl.apply(&later).expect("never denied");
    assert!(said.contains("Warning: not in force: kind: ServiceEntry"), "{said}");

    let everyone = json!({"rules": [{"to": [{"operation": {"methods": ["GET"]}}]}]});
    let said = kubectl.apply(&manifest("security.weft.dev/v1", "AuthorizationPolicy", "x", &everyone));
    let said = said.expect("allowed");
    assert!(said.contains("Warning: spec.rules[0]: ") && said.contains("to everyone"), "{said}");
    let slip = json!({"rules": [{"form": [{"source": {"namespaces": ["a"]}}]}]});
    let said = refusal(kubectl, &manifest("security.weft.dev/v1", "AuthorizationPolicy", "y", &slip));
    assert!(said.contains("spec.rules[0].form: is not known"), "{said}");
    let old = json!({"host": "a", "trafficPolicy": {"loadBalancer": {"simple": "LEAST_CONN"}}});
    let said = kubectl.apply(&manifest(ours, "DestinationRule", "x", &old)).expect("allowed");
    assert!(
        said.contains("Warning: spec.trafficPolicy.loadBalancer.simple: LEAST_CONN is the old name"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_kept_from_mending_or_deleting_what_slipped_in() {
    let Some(kubectl) = namespace("slipped") else { return };
    let object = manifest("networking.weft.dev/v1", "VirtualService", "x", &bad());
    drop(kubectl);
    let Some(webhooks) = Webhooks::start("mended", Duration::from_secs(3600)).await else { return };
    let kubectl = &webhooks.kubectl;
    let name = format!("weft-validator-{}", webhooks.revision);
    kubectl.run(&["delete", "validatingwebhookconfiguration", &name]).expect("gone");
    webhooks.until("slipped in", |_| kubectl.apply(&object).ok()).await;
    webhooks.configure();
    webhooks.until("asked again", |w| w.kubectl.apply(&object.replace("sometimes", "seldom")).err()).await;
    let resource = "virtualservices.networking.weft.dev/x";
    kubectl.run(&["label", resource, "a=b"]).expect("a label");
    let status = r#"{"status":{"conditions":[]}}"#;
    let patch = ["patch", resource, "--subresource=status", "--type=merge", "-p", status];
    kubectl.run(&patch).expect("a status");
    kubectl.run(&["delete", resource]).expect("deleted");
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_renewed_while_the_api_server_asks() {
    let ttl = Duration::from_secs(10);
    let Some(webhooks) = Webhooks::start("renewed", ttl).await else { return };
    let certificate = || webhooks.secret().expect("a Secret")["tls.crt"].clone();
    let (first, authority) = (certificate(), webhooks.secret().expect("a Secret")["ca.crt"].clone());
    // It begins a quarter of its life before now: half of it is over in less than four seconds.
    let mut seen = vec![first];
    let began = Instant::now();
    while seen.len() < 4 && began.elapsed() < 3 * PATIENCE {
        webhooks.answers().expect("an answer at any time");
        let now = certificate();
        if seen.last() != Some(&now) {
            seen.push(now);
        }
    }
    assert!(seen.len() >= 4, "{} certificates", seen.len());
    assert_eq!(webhooks.secret().expect("a Secret")["ca.crt"], authority);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_edits_is_mended() {
    let Some(webhooks) = Webhooks::start("edited", Duration::from_secs(3600)).await else { return };
    let kubectl = &webhooks.kubectl;
    let right = webhooks.believed();
    assert!(right.len() == 2 && !right[0].is_empty());

    let name = format!("weft-validator-{}", webhooks.revision);
    let edit = r#"[{"op":"remove","path":"/webhooks/1/clientConfig/caBundle"}]"#;
    kubectl
        .run(&["patch", "validatingwebhookconfiguration", &name, "--type=json", "-p", edit])
        .expect("edited");
    webhooks.until("mended", |w| (w.believed() == right).then_some(())).await;

    let secret = format!("weft-webhook-{}", webhooks.revision);
    let nonsense = base64::engine::general_purpose::STANDARD.encode("nonsense");
    let edit = json!({"data": {"ca.crt": nonsense, "tls.crt": nonsense, "ca.key": null}}).to_string();
    kubectl.run(&["patch", "secret", &secret, "--type=merge", "-p", &edit]).expect("edited");
    webhooks.until("another authority", |w| (w.believed() != right).then_some(())).await;
    webhooks.until("an answer", |w| w.answers().ok()).await;

    kubectl.run(&["delete", "secret", &secret]).expect("deleted");
    webhooks.until("a Secret", |w| w.secret()).await;
    webhooks.until("an answer", |w| w.answers().ok()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_hears_late_of_a_new_authority_is_believed() {
    let Some(mut webhooks) = Webhooks::start("late", Duration::from_secs(3600)).await else { return };
    let kubectl = webhooks.kubectl.clone();
    // A replica that serves with the certificate it has, and looks at no Secret.
    let late = Arc::new(Served::default());
    late.take(&webhooks.material().await);
    let tls = TlsAcceptor::from(late.server_config().expect("TLS"));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let judge = Judge {
        worlds: webhooks.worlds.subscribe(),
        injection: Arc::new(Injection::new(webhooks.client.clone(), "late", "late")),
    };
    webhooks.address = listener.local_addr().expect("an address");
    tokio::spawn(Server::new(judge).serve(listener, tls, webhooks.shutdown.clone()));
    webhooks.configure();
    webhooks.until("asked of the late one", |w| w.answers().ok()).await;

    let (before, authority) = (webhooks.believed(), webhooks.secret().expect("a Secret")["ca.crt"].clone());
    kubectl.run(&["delete", "secret", "weft-webhook-late"]).expect("deleted");
    let another = |w: &Webhooks| {
        w.answers().expect("an answer at any time");
        w.secret().filter(|secret| secret["ca.crt"] != authority)
    };
    webhooks.until("another authority", another).await;
    assert!(webhooks.believed()[0].len() > before[0].len(), "the new one beside the old one");
    webhooks.answers().expect("an answer of who has the old one");
    late.take(&webhooks.material().await);
    webhooks.answers().expect("an answer of who has the new one");
}

/// A client that believes whom the API server believes.
async fn client(webhooks: &Webhooks) -> (tokio_rustls::TlsConnector, SocketAddr) {
    use rustls_pki_types::pem::PemObject;
    let secrets: Api<Secret> = Api::namespaced(webhooks.client.clone(), webhooks.kubectl.namespace());
    let secret = secrets.get(&format!("weft-webhook-{}", webhooks.revision)).await.expect("a Secret");
    let mut roots = rustls::RootCertStore::empty();
    let pem = &secret.data.expect("data")["ca.crt"].0;
    roots.add(rustls_pki_types::CertificateDer::from_pem_slice(pem).expect("PEM")).expect("a root");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider);
    let builder = builder.with_protocol_versions(&[&rustls::version::TLS13]).expect("TLS 1.3");
    let config = builder.with_root_certificates(roots).with_no_client_auth();
    (tokio_rustls::TlsConnector::from(Arc::new(config)), webhooks.address)
}

/// Sends bytes, and what came back until the end.
async fn send(to: &(tokio_rustls::TlsConnector, SocketAddr), bytes: &[u8]) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let name = rustls_pki_types::ServerName::from(to.1.ip());
    let stream = tokio::net::TcpStream::connect(to.1).await.expect("a connection");
    let mut stream = to.0.connect(name, stream).await.expect("a handshake");
    let (mut read, mut write) = tokio::io::split(&mut stream);
    // Who is refused early stops being read.
    let sending = async {
        let _ = write.write_all(bytes).await;
        let _ = write.flush().await;
    };
    let mut answer = Vec::new();
    let receiving = async {
        let mut part = [0; 4096];
        while let Ok(n @ 1..) = read.read(&mut part).await {
            answer.extend_from_slice(&part[..n]);
            if answer.windows(4).any(|w| w == b"\r\n\r\n") {
                break;
            }
        }
    };
    tokio::join!(sending, receiving);
    String::from_utf8_lossy(&answer).into_owned()
}

fn post(body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST /validate HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn f15_garbage_is_answered_and_serving_goes_on() {
    let Some(webhooks) = Webhooks::start("garbage", Duration::from_secs(3600)).await else { return };
    let to = client(&webhooks).await;
    let deep = [b"[".repeat(10_000), b"]".repeat(10_000)].concat();
    let large = vec![b' '; 3 << 20];
    let twice = br#"{"kind":"AdmissionReview","kind":"AdmissionReview"}"#.as_slice();
    for (body, status) in [
        (b"".as_slice(), "400"),
        (b"\xff\xff", "400"),
        (b"{}", "400"),
        (&deep, "400"),
        (twice, "400"),
        (&large, "413"),
    ] {
        let answer = send(&to, &post(body)).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{status}: {answer}");
    }
    assert!(send(&to, b"GET /validate HTTP/1.1\r\nhost: x\r\n\r\n").await.starts_with("HTTP/1.1 405"));
    assert!(send(&to, &[0x16; 300]).await.starts_with("HTTP/1.1 400"));
    let half = post(&large[..3 << 19]);
    let many = futures_util::future::join_all((0..200).map(|_| send(&to, &half))).await;
    let answered = |a: &String| a.starts_with("HTTP/1.1 400") || a.starts_with("HTTP/1.1 503");
    assert!(many.iter().all(answered), "{:?}", many.iter().find(|answer| !answered(answer)));
    webhooks.answers().expect("an answer after all that");

    // A body that never ends holds nobody else up, and is given up.
    let slow = b"POST /validate HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{".as_slice();
    let began = Instant::now();
    let (answer, ()) =
        tokio::join!(send(&to, slow), async { webhooks.answers().expect("an answer meanwhile") });
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(began.elapsed() < Duration::from_secs(10));
}
