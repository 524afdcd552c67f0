use std::path::Path;

use weft_core::explain::told::Verdict;

use super::*;
use crate::explain::question::question;
use crate::mesh_test::{passed, tested};

const MESH: &str = "
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: main}, {name: db, port: 5432}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  template:
    metadata: {labels: {app: web}}
    spec: {serviceAccountName: web, containers: [{name: web, image: x, ports: [{name: main, containerPort: 8080}]}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: client}
spec: {template: {metadata: {labels: {app: client}}, spec: {serviceAccountName: client, containers: [{name: c, image: x}]}}}
";
const STRICT: &str = "
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default}
spec: {mtls: {mode: STRICT}}
";
const SOME_INJECTED: &str = "
---
apiVersion: v1
kind: Namespace
metadata: {name: other, labels: {weft.dev/injection: enabled}}
";

/// A directory that goes with the value.
struct Dir(PathBuf);

impl Dir {
    fn of(name: &str, text: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("weft-offline-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("mesh.yaml"), text).unwrap();
        Self(dir)
    }

    fn mesh(&self) -> Offline {
        Offline::read(std::slice::from_ref(&self.0)).unwrap()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn explain(mesh: &Offline, client: &str, url: &str) -> Result<Explanation> {
    let (host, request) = question("GET", url, &[])?;
    mesh.explain(&Query { namespace: "default".into(), client: client.into(), host, request })
}

#[test]
fn the_samples_pass_their_own_tests() {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../samples");
    let suites = tested(&[samples]).unwrap();
    let failures: Vec<_> = suites.iter().flat_map(|s| &s.outcomes).flat_map(|o| o.failures()).collect();
    assert!(passed(&suites), "{failures:#?}");
    assert!(suites.iter().map(|suite| suite.outcomes.len()).sum::<usize>() >= 7);
}

#[test]
fn without_a_word_on_injection_every_pod_is_meshed_and_that_is_told() {
    let dir = Dir::of("all", MESH);
    let all = explain(&dir.mesh(), "deploy/client", "http://web/x").unwrap();
    assert_eq!((all.verdict, all.path.as_deref()), (Verdict::Forwarded, Some("/x")));
    assert!(all.endpoints.len() == 2 && all.endpoints.iter().all(|e| e.mtls && e.address.port() == 8080));
    assert!(all.notes.iter().any(|note| note.contains("every pod is taken to have one")), "{:?}", all.notes);
    let undeclared = explain(&dir.mesh(), "deploy/client", "http://web:5432/").unwrap();
    assert!(undeclared.notes.iter().any(|note| note.contains("named `db`")), "{:?}", undeclared.notes);
}

#[test]
fn a_pod_is_found_below_its_headless_service_and_takes_its_routes() {
    let headless =
        MESH.replace("kind: Deployment\nmetadata: {name: web}", "kind: StatefulSet\nmetadata: {name: web}");
    let headless =
        headless.replace("spec: {selector: {app: web}", "spec: {clusterIP: None, selector: {app: web}");
    let dir = Dir::of("below", &headless.replace("port: 80, targetPort: main", "port: 8080"));
    for host in ["web-1.web", "web-1.web.default.svc.cluster.local"] {
        let all = explain(&dir.mesh(), "deploy/client", &format!("http://{host}:8080/")).unwrap();
        assert_eq!(all.service.as_deref(), Some("default/web.default.svc.cluster.local"), "{all:#?}");
        assert!(all.endpoints.iter().all(|e| e.takes == (e.pod == "web-1")), "{all:#?}");
    }
}

#[test]
fn what_annotations_keep_from_a_sidecar_is_told() {
    let kept = MESH.replace(
        "metadata: {labels: {app: web}}",
        "metadata: {labels: {app: web}, annotations: {traffic.sidecar.istio.io/excludeInboundPorts: '8080'}}",
    );
    let dir = Dir::of("kept", &kept);
    let all = explain(&dir.mesh(), "deploy/client", "http://web/").unwrap();
    assert_eq!((all.status, all.reason.as_deref()), (Some(503), Some("tls_handshake")), "{all:#?}");
    assert!(all.mend[0].contains("portLevelMtls"), "{:?}", all.mend);
    let clear = kept.replace(
        "metadata: {labels: {app: client}}",
        "metadata: {labels: {app: client}, annotations: \
        {traffic.sidecar.istio.io/excludeOutboundPorts: '80'}}",
    );
    let all = explain(&Dir::of("both", &clear).mesh(), "deploy/client", "http://web/").unwrap();
    assert_eq!(all.verdict, Verdict::Forwarded, "{all:#?}");
}

#[test]
fn pods_of_a_namespace_that_asks_for_no_sidecars_have_none() {
    let dir = Dir::of("none", &format!("{MESH}{SOME_INJECTED}"));
    let all = explain(&dir.mesh(), "deploy/client", "http://web/").unwrap();
    assert_eq!((all.verdict, all.route), (Verdict::Forwarded, None));
    assert!(all.steps.iter().any(|step| step.says.contains("the client has no sidecar")), "{:?}", all.steps);
}

#[test]
fn a_client_outside_is_kept_out_by_strict() {
    let injected = MESH.replace(
        "labels: {app: web}}\n    spec",
        "labels: {app: web, sidecar.istio.io/inject: 'true'}}\n    spec",
    );
    let dir = Dir::of("strict", &format!("{injected}{STRICT}"));
    let all = explain(&dir.mesh(), "deploy/client", "http://web/").unwrap();
    assert_eq!((all.verdict, all.status), (Verdict::Refused, None));
    assert_eq!(all.reason.as_deref(), Some("plaintext_denied"));
}

#[test]
fn who_and_what_is_not_there_is_told() {
    let dir = Dir::of("who", MESH);
    let mesh = dir.mesh();
    let told = |client: &str, url: &str| format!("{:#}", explain(&mesh, client, url).unwrap_err());
    assert!(told("deploy/nobody", "http://web/").contains("there is client-0, web-0, web-1"));
    assert!(told("deploy/client", "http://wbe/").contains("`wbe` is no Service"));
    let port = explain(&mesh, "deploy/client", "http://web:81/").unwrap();
    assert_eq!(port.reason.as_deref(), Some("no_cluster"));
    assert!(port.mend[0].contains("has no port 81, but 80, 5432"), "{:?}", port.mend);
    assert!(principal("web", "cluster.local").is_err() && principal("ns/a/sb/c", "x").is_err());
    let id = principal("ns/a/sa/b", "prod").unwrap().unwrap();
    assert_eq!(id.as_str(), "spiffe://prod/ns/a/sa/b");
    assert_eq!(mesh.behind("default", "web").unwrap().len(), 2);
    assert_eq!(mesh.behind("default", "deploy/web").unwrap().len(), 1);
}

#[test]
fn outside_addresses_go_by_the_outbound_mode() {
    let settings = "\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: weft, namespace: weft-system}\n\
        data: {mesh: 'outboundTrafficPolicy: {mode: REGISTRY_ONLY}'}\n";
    let open = explain(&Dir::of("open", MESH).mesh(), "deploy/client", "http://example.com/").unwrap();
    assert_eq!(open.verdict, Verdict::Forwarded);
    let dir = Dir::of("closed", &format!("{MESH}{settings}"));
    let closed = explain(&dir.mesh(), "deploy/client", "http://example.com/").unwrap();
    assert_eq!((closed.reason.as_deref(), closed.status), (Some("black_hole"), Some(502)));
}

#[test]
fn a_file_that_is_no_yaml_is_told_with_its_line() {
    let dir = Dir::of("broken", "a: [1\n");
    let told = Offline::read(std::slice::from_ref(&dir.0)).err().unwrap().to_string();
    assert!(told.contains("mesh.yaml:"), "{told}");
}

const LISTENER: &str = "
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: client}
spec:
  workloadSelector: {labels: {app: client}}
  egress:
  - port: {number: 80, protocol: HTTP, name: http}
    bind: 127.0.0.1
    captureMode: NONE
    hosts: [./web.default.svc.cluster.local]
";

#[test]
fn an_explicit_listener_is_asked_by_its_own_address() {
    let dir = Dir::of("listener", &format!("{MESH}{LISTENER}"));
    for url in ["http://127.0.0.1/x", "http://localhost/x"] {
        let all = explain(&dir.mesh(), "deploy/client", url).unwrap();
        assert_eq!((all.verdict, all.endpoints.len()), (Verdict::Forwarded, 2), "{all:#?}");
        assert_eq!(all.service.as_deref(), Some("default/web.default.svc.cluster.local"));
    }
    let other =
        Dir::of("listener-other", &format!("{MESH}{}", LISTENER.replace("number: 80", "number: 9080")));
    let none = explain(&other.mesh(), "deploy/client", "http://localhost:9080/").unwrap();
    assert!(none.mend[0].contains("has port 9080"), "a listener is for Services of its own port: {none:#?}");
    // Where nothing is redirected, the listener is the way by the sidecar, and all else passes it by.
    let none = MESH.replace(
        "metadata: {labels: {app: client}}",
        "metadata: {labels: {app: client}, annotations: {sidecar.istio.io/interceptionMode: NONE}}",
    );
    let dir = Dir::of("listener-none", &format!("{none}{LISTENER}"));
    let mtls = |url: &str| explain(&dir.mesh(), "deploy/client", url).unwrap().endpoints[0].mtls;
    assert!(mtls("http://localhost/") && !mtls("http://web/"));
}

#[test]
fn what_stands_behind_a_name_is_told_with_its_port_or_that_there_is_none() {
    let dir = Dir::of("behind", MESH);
    let mesh = dir.mesh();
    let ports = |target: &str| -> Vec<Option<u16>> {
        mesh.behind("default", target).unwrap().iter().map(|(_, port)| *port).collect()
    };
    assert_eq!((ports("web"), ports("web:5432")), (vec![Some(8080); 2], vec![Some(5432); 2]));
    assert_eq!((ports("deploy/web"), ports("web-1:8080")), (vec![None], vec![Some(8080)]));
    let error = |namespace: &str, target: &str| mesh.behind(namespace, target).unwrap_err().to_string();
    assert!(error("default", "web:99").contains("no such port, but 80, 5432"));
    assert!(error("default", "web:http").contains("`http` is no port"));
    assert!(error("shop", "web").contains("pods are in default (choose with -n)"));
    let lost = explain(&mesh, "deploy/client", "http://wbe/").unwrap_err().to_string();
    assert!(lost.contains("(did you mean web?)") && lost.ends_with("it has web"), "{lost}");
}
