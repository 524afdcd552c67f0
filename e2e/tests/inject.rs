//! What comes out of injection, before a real API server: the snapshots of the controller's golden tests.

use std::path::{Path, PathBuf};
use std::time::Duration;

use weft_e2e::cluster::ApiServer;
use weft_e2e::kubectl::Kubectl;

/// Namespaces that the snapshots name.
const NAMESPACES: [&str; 3] = ["shop", "plain", "strict"];
/// Those that are not for an API server.
const NOT_APPLIED: [&str; 1] = ["refused"];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../controller/tests/inject/snapshots")
}

/// The manifests of a snapshot: what follows its head.
fn manifests(name: &str) -> String {
    let text = std::fs::read_to_string(folder().join(name).with_extension("snap")).expect("a snapshot");
    text.splitn(3, "---\n").nth(2).expect("its manifests").to_owned()
}

fn names() -> Vec<String> {
    let entries = std::fs::read_dir(folder()).expect("the snapshots");
    let names = entries
        .map(|e| e.expect("an entry").path().file_stem().expect("a name").to_string_lossy().into_owned());
    names.filter(|name| !NOT_APPLIED.contains(&name.as_str())).collect()
}

/// Until it has an account, a namespace takes no pods.
fn with_account(kubectl: &Kubectl, namespace: &str) {
    let has_account = |k: &Kubectl| k.within(namespace).run(&["get", "serviceaccount", "default"]);
    kubectl.until("an account", Duration::from_secs(60), has_account).expect("an account");
}

#[test]
fn an_api_server_takes_what_injection_makes() {
    let Some(server) = ApiServer::start() else { return };
    let kubectl = server.kubectl();
    for namespace in NAMESPACES {
        kubectl.run(&["create", "namespace", namespace]).expect("a namespace");
    }
    ["default", "kube-system"]
        .iter()
        .chain(&NAMESPACES)
        .for_each(|namespace| with_account(&kubectl, namespace));
    let names = names();
    assert!(names.len() > 8, "{names:?}");
    for name in names {
        let said = kubectl.pipe(&["create", "--dry-run=server", "--filename", "-"], &manifests(&name));
        let said = said.unwrap_or_else(|e| panic!("{name}: {e:#}"));
        assert!(said.contains("created (server dry run)"), "{name}: {said}");
    }
    pod_security_refuses_what_the_injector_warns_of(&kubectl);
}

fn pod_security_refuses_what_the_injector_warns_of(kubectl: &Kubectl) {
    let label = "pod-security.kubernetes.io/enforce=baseline";
    kubectl.run(&["label", "namespace", "shop", label]).expect("a label");
    let create = ["create", "--dry-run=server", "--filename", "-"];
    let refused =
        kubectl.pipe(&create, &manifests("plain-pod")).expect_err("NET_ADMIN is refused").to_string();
    assert!(refused.contains("PodSecurity") && refused.contains("NET_ADMIN"), "{refused}");
}
