//! An API server that is away: when a controller starts, and for a while later.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::stage::{Stage, WORKLOAD};

/// How long the API server is away.
const AWAY: Duration = Duration::from_secs(15);

/// A way to the API server that can be shut: then there is nobody, and whoever was connected is cut off.
struct Gate {
    at: SocketAddr,
    open: watch::Sender<bool>,
}

impl Gate {
    async fn shut(to: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let at = listener.local_addr().expect("an address");
        let (open, way) = watch::channel(false);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(pass(stream, to.clone(), way.clone()));
            }
        });
        Self { at, open }
    }
}

async fn pass(mut client: TcpStream, to: String, mut open: watch::Receiver<bool>) {
    if !*open.borrow() {
        return;
    }
    let Ok(mut server) = TcpStream::connect(to).await else { return };
    tokio::select! {
        _ = copy_bidirectional(&mut client, &mut server) => {}
        _ = open.wait_for(|open| !open) => {}
    }
    let _ = client.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f13_an_api_server_that_is_away_is_waited_for_and_sidecars_keep_what_they_have() {
    let Some(stage) = Stage::set(27500) else { return };
    let kubeconfig = std::fs::read_to_string(stage.kubectl.kubeconfig()).expect("a kubeconfig");
    let server = kubeconfig.split("https://").nth(1).and_then(|rest| rest.split(['"', '\n', ' ']).next());
    let server = server.expect("an address").to_owned();
    let gate = Gate::shut(server.clone()).await;
    let file = std::env::temp_dir().join(format!("weft-gate-{}", std::process::id()));
    std::fs::write(&file, kubeconfig.replace(&server, &gate.at.to_string())).expect("a kubeconfig");

    let controller = stage.begun("a", "default", &file);
    sleep(AWAY / 3).await;
    let ready = controller.answers("/readyz").await.expect("it runs");
    assert!(!ready.contains(" 200 "), "ready without a world: {ready}");
    gate.open.send_replace(true);
    stage.serves(&controller);
    let mut sidecar = stage.sidecar(&controller).await.expect("a stream");
    sidecar.is_served(&stage, "before").await.expect("the API server is there");

    gate.open.send_replace(false);
    let policy = json!({"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
        "metadata": {"name": "meanwhile"}, "spec": {"rules": [{}]}});
    stage.kubectl.apply(&policy.to_string()).expect("what the controller does not hear of");
    let told = timeout(AWAY, sidecar.told(WORKLOAD)).await;
    assert!(told.is_err(), "nothing is known, and nothing is said: {told:?}");
    assert!(controller.answers("/healthz").await.expect("it runs").contains(" 200 "));
    gate.open.send_replace(true);
    let workload = sidecar.told(WORKLOAD).await.expect("the same stream");
    assert_eq!((workload.resources.len(), workload.removed.len()), (1, 0), "{workload:?}");
    std::fs::remove_file(&file).expect("the file goes");
}
