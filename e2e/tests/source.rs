//! The API server as the controller's source: what it makes of a real one.

use std::sync::Arc;
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tokio::sync::{mpsc, watch};
use weft_controller::pipeline::{Pipeline, Published};
use weft_controller::source::kubernetes::cluster::Cluster;
use weft_controller::source::kubernetes::progress::Progress;
use weft_core::model::name::ObjectName;
use weft_crds::crd;
use weft_crds::kind::Origin;
use weft_e2e::cluster::ApiServer;
use weft_e2e::kubectl::Kubectl;

/// How long a change may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A source and the pipeline behind it.
struct Source {
    worlds: watch::Receiver<Published>,
    progress: Progress,
}

impl Source {
    async fn start(kubectl: &Kubectl) -> Self {
        let text = std::fs::read_to_string(kubectl.kubeconfig()).expect("a kubeconfig");
        let config = Kubeconfig::from_yaml(&text).expect("a kubeconfig");
        let config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await;
        let client = Client::try_from(config.expect("a configuration")).expect("a client");
        let progress = Progress::default();
        let (send, changes) = mpsc::channel(256);
        let (publish, worlds) = watch::channel(Published::default());
        tokio::spawn(Cluster::new(client, send, progress.clone()).run());
        tokio::spawn(Pipeline::default().run(changes, publish));
        Self { worlds, progress }
    }

    /// Waits until the published state is as wanted.
    async fn until(&mut self, what: &str, wanted: impl Fn(&Published) -> bool) -> Published {
        let found = tokio::time::timeout(PATIENCE, self.worlds.wait_for(wanted)).await;
        found.unwrap_or_else(|_| panic!("{what}: {:?}", self.progress.lines())).expect("it goes on").clone()
    }
}

fn name(namespace: &str, name: &str) -> ObjectName {
    ObjectName { namespace: namespace.into(), name: name.into() }
}

/// Everything on one API server, one after the other: definitions are shared by all namespaces.
#[tokio::test(flavor = "multi_thread")]
async fn a_real_api_server_is_followed() {
    let Some(server) = ApiServer::start() else { return };
    let kubectl = server.kubectl();
    let mut source = Source::start(&kubectl).await;
    let first = source.until("the first world", |published| published.synced).await;
    assert!(first.revision > 0, "the API server's versions are taken over");
    assert!(first.world.namespaces.contains_key("default"), "the first world is whole");
    assert!(source.progress.lines().is_empty(), "{:?}", source.progress.lines());

    kinds_come_and_go_with_their_definitions(&kubectl, &mut source).await;
    a_megabyte_of_annotations_costs_nothing(&kubectl, &mut source).await;
}

async fn kinds_come_and_go_with_their_definitions(kubectl: &Kubectl, source: &mut Source) {
    for origin in Origin::ALL {
        let text = crd::yaml(&crd::crds(origin)).expect("YAML");
        kubectl.pipe(&["apply", "--server-side", "--filename", "-"], &text).expect("definitions");
    }
    kubectl
        .run(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"])
        .expect("established");
    for group in ["networking.weft.dev/v1", "networking.istio.io/v1beta1"] {
        let manifest = serde_json::json!({
            "apiVersion": group, "kind": "VirtualService", "metadata": {"name": group.replace('/', "-")},
            "spec": {"hosts": ["web"], "http": [{"route": [{"destination": {"host": "web"}}]}]},
        });
        let apply = |kubectl: &Kubectl| kubectl.apply(&manifest.to_string());
        kubectl.until("a route", PATIENCE, apply).expect("the API server takes it");
    }
    let routes = |published: &Published| published.world.virtual_services.in_force().count();
    source.until("routes of both groups", |published| routes(published) == 2).await;
    kubectl.run(&["delete", "crd", "virtualservices.networking.istio.io"]).expect("a definition is deleted");
    source.until("routes of our group", |published| routes(published) == 1).await;
    assert!(
        source.progress.lines().iter().all(|line| !line.contains("istio")),
        "{:?}",
        source.progress.lines()
    );
}

async fn a_megabyte_of_annotations_costs_nothing(kubectl: &Kubectl, source: &mut Source) {
    // 256 KiB is the most that the API server takes in annotations of one object.
    let large = "x".repeat(250 << 10);
    let pod = |index: usize| {
        serde_json::json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": format!("large-{index}"), "labels": {"app": "large"}, "annotations": {"note": large}},
            "spec": {"containers": [{"name": "a", "image": "a"}]},
        })
    };
    for index in 0..4 {
        let apply = |kubectl: &Kubectl| {
            kubectl.pipe(&["apply", "--server-side", "--filename", "-"], &pod(index).to_string())
        };
        kubectl.until("a pod", PATIENCE, apply).expect("the API server takes it");
    }
    let all = |published: &Published| {
        (0..4).all(|index| published.world.pods.contains_key(&name("default", &format!("large-{index}"))))
    };
    let published = source.until("pods", all).await;
    let pods: Vec<_> =
        (0..4).map(|i| published.world.pods[&name("default", &format!("large-{i}"))].clone()).collect();
    assert!(pods.iter().all(|pod| pod.meta.annotations.is_empty()), "what nobody reads is not kept");
    assert!(
        pods.windows(2).all(|two| Arc::ptr_eq(&two[0].meta.labels, &two[1].meta.labels)),
        "labels are shared"
    );
}
