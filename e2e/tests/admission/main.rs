//! Admission on a real API server: what its own schemas refuse, and what the webhooks answer it.

/// Definitions of kinds.
mod crds;
/// The authority of the webhooks.
mod authority;
/// The webhooks.
mod webhooks;

use std::sync::OnceLock;

use serde_json::Value;
use weft_crds::crd;
use weft_crds::kind::Origin;
use weft_e2e::cluster::ApiServer;
use weft_e2e::kubectl::Kubectl;

/// An API server with all definitions, which the tests share; each has a namespace of its own.
fn server() -> Option<Kubectl> {
    static SERVER: OnceLock<Option<ApiServer>> = OnceLock::new();
    let server = SERVER.get_or_init(|| {
        let server = ApiServer::start()?;
        define(&server.kubectl());
        Some(server)
    });
    Some(server.as_ref()?.kubectl())
}

fn define(kubectl: &Kubectl) {
    for origin in Origin::ALL {
        let text = crd::yaml(&crd::crds(origin)).expect("YAML");
        kubectl
            .pipe(&["apply", "--server-side", "--filename", "-"], &text)
            .expect("the API server takes the definitions");
    }
    kubectl
        .run(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"])
        .expect("all are established");
    let takes_objects = |kubectl: &Kubectl| kubectl.run(&["get", "weft,istio-io", "--all-namespaces"]);
    kubectl.until("discovered", std::time::Duration::from_secs(30), takes_objects).expect("discovery");
}

/// A namespace of a test's own.
fn namespace(name: &str) -> Option<Kubectl> {
    let kubectl = server()?;
    kubectl.run(&["create", "namespace", name]).expect("a namespace");
    Some(kubectl.within(name))
}

/// An object of a kind, as text for `kubectl`.
fn manifest(api_version: &str, kind: &str, name: &str, spec: &Value) -> String {
    serde_json::json!({ "apiVersion": api_version, "kind": kind, "metadata": { "name": name }, "spec": spec })
        .to_string()
}

/// What `kubectl apply` said of an object that was refused.
fn refusal(kubectl: &Kubectl, manifest: &str) -> String {
    match kubectl.apply(manifest) {
        Ok(said) => panic!("applied: {said}: {manifest}"),
        Err(error) => format!("{error:#}"),
    }
}
