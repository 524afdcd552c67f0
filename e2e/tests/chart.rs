//! The chart against a real API server, without a node: what it refuses, what it makes, and what is left when it goes.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use serde_json::Value;
use weft_e2e::cluster::{self, ApiServer};
use weft_e2e::kubectl::{Kubectl, succeeded};
use weft_e2e::local::{Manifests, binary};

const ROOT: &str = "weft-system";
const WEBHOOKS: [&str; 4] =
    ["get", "mutatingwebhookconfigurations,validatingwebhookconfigurations", "-o", "name"];

fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/weft")
}

/// A control plane and `helm`; `None` where there can be none, which was said.
fn control_plane() -> Option<(ApiServer, Kubectl)> {
    let server = ApiServer::start()?;
    cluster::build(&["helm"]).expect("helm");
    let kubectl = server.kubectl();
    Some((server, kubectl))
}

fn helm(kubectl: &Kubectl, arguments: &[&str]) -> Result<String> {
    let mut command = kubectl.program("helm");
    command.args(arguments).args(["--namespace", ROOT]);
    let output = command.output()?;
    succeeded(&command, &output)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn with_chart(kubectl: &Kubectl, arguments: &[&str]) -> Result<String> {
    let chart = chart();
    let path = chart.to_string_lossy();
    let mut all = arguments.to_vec();
    all.push(&path);
    helm(kubectl, &all)
}

#[test]
fn the_examples_of_tracing_are_what_the_controller_honours() {
    let Some(helm) = cluster::program("helm") else { return };
    let examples = chart().join("examples");
    let mut template = Command::new(helm);
    template.args([
        "template",
        "weft",
        "-n",
        ROOT,
        "--kube-version",
        "1.33.0",
        "-s",
        "templates/mesh.yaml",
        "-f",
    ]);
    let made = template.arg(examples.join("tracing.yaml")).arg(chart()).output().expect("helm");
    succeeded(&template, &made).expect("settings");
    let files = Manifests::new();
    files.save("mesh.yaml", &String::from_utf8_lossy(&made.stdout));
    files.save("jaeger.yaml", &std::fs::read_to_string(examples.join("jaeger.yaml")).expect("manifests"));
    let output = Command::new(binary()).arg("validate").arg("-f").arg(files.path()).output().expect("weft");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("4 objects: valid"), "{said}");
}

/// What holds up a cluster while nobody answers must leave alone what brings the answer back.
#[test]
fn f16_a_cluster_can_recover_while_the_controller_is_away() {
    let Some(helm) = cluster::program("helm") else { return };
    let mut template = Command::new(helm);
    template.args(["template", "weft", "-n", ROOT, "--kube-version", "1.33.0"]);
    let made = template.args(["-s", "templates/webhooks.yaml"]).arg(chart()).output().expect("helm");
    succeeded(&template, &made).expect("webhooks");
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(&String::from_utf8_lossy(&made.stdout)).expect("manifests");
    let webhooks = documents.iter().filter_map(|document| document["webhooks"].as_array()).flatten();
    let (failing, passing): (Vec<_>, Vec<_>) =
        webhooks.partition(|webhook| webhook["failurePolicy"] == "Fail");
    assert!(!failing.is_empty() && !passing.is_empty(), "both kinds are there");
    for webhook in failing {
        let expressions = webhook["namespaceSelector"]["matchExpressions"].as_array();
        let spares = |namespace: &str| {
            let not_in = |e: &&Value| e["operator"] == "NotIn" && e["key"] == "kubernetes.io/metadata.name";
            let named =
                |e: &Value| e["values"].as_array().is_some_and(|all| all.iter().any(|v| v == namespace));
            expressions.into_iter().flatten().filter(not_in).any(named)
        };
        assert!(spares("kube-system") && spares(ROOT), "{webhook}");
    }
    assert!(passing.iter().any(|webhook| webhook["rules"].to_string().contains("istio.io")));
}

#[test]
fn lint_is_clean_and_wrong_values_are_refused() {
    let Some((_server, kubectl)) = control_plane() else { return };
    let said = with_chart(&kubectl, &["lint", "--strict"]).expect("lint");
    assert!(said.contains("0 chart(s) failed"), "{said}");
    for (wrong, named) in [
        ("controler.replicas=3", "controler"),
        ("proxy.ports.inbond=1", "inbond"),
        ("controller.replicas=0", "replicas"),
        ("proxy.redirect.mode=iptables", "image"),
        ("revision=Upper", "revision"),
        ("proxy.accessLog=jason", "accessLog"),
        ("image.registry=localhost/", "registry"),
        ("controller.resources.requests.cpu=-1", "cpu"),
        ("mesh=null", "mesh"),
        ("proxy.ports=null", "ports"),
    ] {
        let refused =
            with_chart(&kubectl, &["template", "weft", "--set", wrong]).expect_err(wrong).to_string();
        assert!(refused.contains(named), "{wrong}: {refused}");
    }
    let old = with_chart(&kubectl, &["template", "weft", "--kube-version", "1.28.3"])
        .expect_err("1.28")
        .to_string();
    assert!(old.contains("1.29"), "{old}");
}

#[test]
fn what_is_installed_goes_again_but_for_kinds_and_istios_kinds_are_never_replaced() {
    let Some((_server, kubectl)) = control_plane() else { return };
    let theirs = "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: virtualservices.networking.istio.io, labels: {app: istio-pilot}}
spec:
  group: networking.istio.io
  names: {kind: VirtualService, listKind: VirtualServiceList, plural: virtualservices, singular: virtualservice}
  scope: Namespaced
  versions:
  - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}
";
    kubectl.apply(theirs).expect("a kind of Istio's");
    for again in ["first", "again"] {
        with_chart(&kubectl, &["upgrade", "--install", "weft", "--create-namespace"]).expect(again);
        let kind = kubectl.get(&["crd", "virtualservices.networking.istio.io"]).expect("it is there");
        assert_eq!(kind["metadata"]["labels"]["app"], "istio-pilot", "{again}: replaced");
    }
    let revision = ["upgrade", "--install", "weft-canary", "--set", "revision=canary"];
    with_chart(&kubectl, &revision).expect("a second revision beside the first");
    let webhooks = kubectl.run(&WEBHOOKS).expect("webhooks");
    assert!(
        webhooks.contains("weft-injector-default") && webhooks.contains("weft-validator-canary"),
        "{webhooks}"
    );

    helm(&kubectl, &["uninstall", "weft-canary"])
        .and_then(|_| helm(&kubectl, &["uninstall", "weft"]))
        .expect("uninstall");
    let left =
        ["get", "deployments,services,configmaps,pdb,roles,rolebindings", "--namespace", ROOT, "-o", "name"];
    let left = kubectl.run(&left).expect("what is left");
    assert_eq!(left.lines().filter(|line| line.contains("weft")).count(), 0, "{left}");
    assert_eq!(kubectl.run(&WEBHOOKS).expect("webhooks"), "");
    let kinds = kubectl.run(&["get", "crd", "-o", "name"]).expect("kinds");
    assert!(
        kinds.contains("virtualservices.networking.weft.dev")
            && kinds.contains("destinationrules.networking.istio.io"),
        "{kinds}"
    );
}

#[test]
fn without_keep_kinds_go_too() {
    let Some((_server, kubectl)) = control_plane() else { return };
    with_chart(&kubectl, &["install", "weft", "--create-namespace", "--set", "crds.keep=false"])
        .expect("installed");
    helm(&kubectl, &["uninstall", "weft", "--wait"]).expect("uninstall");
    let kinds = kubectl.run(&["get", "crd", "-o", "name"]).expect("kinds");
    assert!(!kinds.contains("weft.dev"), "{kinds}");
}

#[test]
fn a_template_is_applied_by_kubectl() {
    let Some((_server, kubectl)) = control_plane() else { return };
    kubectl.run(&["create", "namespace", ROOT]).expect("a namespace");
    let odd = [
        "template",
        "weft",
        "--skip-tests",
        "--kube-version",
        "1.36.0",
        "--set",
        "networkPolicy.enabled=true,controller.replicas=1,controller.spread=false",
        "--set",
        "image.pullSecrets={one,two},mesh.accessLogFile=/dev/stdout",
        "--set-string",
        "controller.env.A=1,proxy.env.B=2",
    ];
    let manifests = with_chart(&kubectl, &odd).expect("a template");
    kubectl.pipe(&["apply", "--server-side", "--filename", "-"], &manifests).expect("it is applied");
    let said = kubectl.pipe(&["apply", "--server-side", "--filename", "-"], &manifests).expect("again");
    assert!(said.contains("weft-controller"), "{said}");
}
