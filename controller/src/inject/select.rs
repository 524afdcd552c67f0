//! Which pods get a sidecar, and why the others do not.
//!
//! The pod's own word goes before its namespace's, and ours before Istio's. Where an Istio is installed, what carries
//! only Istio's labels is Istio's.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use super::raw::{annotation, items, label, name};

/// Namespaces without which a cluster cannot recover: nothing is injected there.
const SYSTEM: [&str; 3] = ["kube-system", "kube-public", "kube-node-lease"];

/// The revision of those that name none.
pub const DEFAULT_REVISION: &str = "default";

/// A namespace, as far as injection goes.
#[derive(Clone, Copy, Debug)]
pub struct Namespace<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its labels.
    pub labels: &'a BTreeMap<String, String>,
}

/// Whose injector it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim<'a> {
    /// Its revision.
    pub(super) revision: &'a str,
    /// Whether an Istio injects in this cluster too.
    pub(super) istio: bool,
    /// The namespace of the controller.
    pub(super) root: &'a str,
}

/// Why a pod gets no sidecar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Skipped {
    /// Neither its labels nor its namespace's ask for one.
    NotSelected,
    /// It, or its namespace, says no.
    Disabled,
    /// Another revision's labels are on it.
    OtherRevision(String),
    /// Only Istio's labels are there, and Istio is installed.
    Istios,
    /// It has Istio's sidecar.
    IstioSidecar,
    /// It is a gateway that Istio's injector has to make.
    IstioGateway,
    /// It is in the node's own network.
    HostNetwork,
    /// It runs on Windows.
    Windows,
    /// It is a shadow of what a node runs by itself, and cannot be changed.
    Mirror,
    /// Its namespace never gets sidecars.
    SystemNamespace,
}

impl Skipped {
    /// Whether its author is to be told.
    pub fn is_surprising(&self) -> bool {
        matches!(self, Self::IstioSidecar | Self::IstioGateway | Self::HostNetwork | Self::Windows)
    }
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotSelected => "neither the pod nor its namespace asks for a sidecar",
            Self::Disabled => "the pod or its namespace wants no sidecar",
            Self::OtherRevision(revision) => {
                return write!(f, "the pod is for revision `{revision}`");
            }
            Self::Istios => "only Istio's labels ask for a sidecar, and Istio is installed",
            Self::IstioSidecar => "no sidecar is added: the pod has one of Istio's",
            Self::IstioGateway => {
                "no sidecar is added: the pod is a gateway of Istio's (inject.istio.io/templates)"
            }
            Self::HostNetwork => "no sidecar is added: the pod is in its node's network (spec.hostNetwork)",
            Self::Windows => "no sidecar is added: the pod runs on Windows",
            Self::Mirror => "the pod is run by its node alone and cannot be changed",
            Self::SystemNamespace => "nothing is injected in this namespace",
        })
    }
}

/// Whether a pod gets a sidecar.
///
/// # Errors
/// Why not.
pub(super) fn select(claim: Claim<'_>, namespace: Namespace<'_>, pod: &Value) -> Result<(), Skipped> {
    if SYSTEM.contains(&namespace.name) || namespace.name == claim.root {
        return Err(Skipped::SystemNamespace);
    }
    wanted(claim.istio, namespace, pod)?;
    of_revision(claim.revision, namespace, pod)?;
    possible(pod)
}

fn wanted(istio: bool, namespace: Namespace<'_>, pod: &Value) -> Result<(), Skipped> {
    let theirs = switch(pod, "sidecar.istio.io/inject");
    let chosen = match (switch(pod, "weft.dev/inject"), of_namespace(namespace)) {
        (Some(own), _) => own,
        (None, Some(enabled)) => enabled && theirs != Some(false),
        (None, None) if istio => return Err(Skipped::Istios),
        (None, None) => match (theirs, namespace.labels.get("istio-injection").map(String::as_str)) {
            (Some(theirs), _) => theirs,
            (None, Some("enabled")) => true,
            (None, Some("disabled")) => false,
            (None, _) => return Err(Skipped::NotSelected),
        },
    };
    if chosen { Ok(()) } else { Err(Skipped::Disabled) }
}

/// A pod's own word: its label, else its annotation.
fn switch(pod: &Value, key: &str) -> Option<bool> {
    match label(pod, key).or_else(|| annotation(pod, key))? {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

fn of_namespace(namespace: Namespace<'_>) -> Option<bool> {
    match namespace.labels.get("weft.dev/injection").map(String::as_str) {
        Some("enabled") => Some(true),
        Some("disabled") => Some(false),
        _ => namespace.labels.contains_key("weft.dev/rev").then_some(true),
    }
}

fn of_revision(own: &str, namespace: Namespace<'_>, pod: &Value) -> Result<(), Skipped> {
    const LABEL: &str = "weft.dev/rev";
    let asked = label(pod, LABEL).or_else(|| namespace.labels.get(LABEL).map(String::as_str));
    match asked.unwrap_or(DEFAULT_REVISION) {
        asked if asked == own => Ok(()),
        other => Err(Skipped::OtherRevision(other.to_owned())),
    }
}

/// Whether the pod can have one.
fn possible(pod: &Value) -> Result<(), Skipped> {
    let spec = &pod["spec"];
    if annotation(pod, "kubernetes.io/config.mirror").is_some() {
        return Err(Skipped::Mirror);
    }
    if spec["hostNetwork"] == true {
        return Err(Skipped::HostNetwork);
    }
    if spec["os"]["name"] == "windows" || spec["nodeSelector"]["kubernetes.io/os"] == "windows" {
        return Err(Skipped::Windows);
    }
    if annotation(pod, "inject.istio.io/templates").is_some_and(|t| t.contains("gateway")) {
        return Err(Skipped::IstioGateway);
    }
    let mut all = items(spec, "containers").iter().chain(items(spec, "initContainers"));
    // With the image `auto` it is no sidecar yet, but what the author wants of one.
    match all.any(|container| name(container) == "istio-proxy" && container["image"] != "auto") {
        true => Err(Skipped::IstioSidecar),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const OURS: Claim<'_> = Claim { revision: "default", istio: false, root: "weft-system" };

    fn labels(text: &str) -> BTreeMap<String, String> {
        let pairs = text.split(' ').filter_map(|pair| pair.split_once('='));
        pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
    }

    fn choose(claim: Claim<'_>, namespace: &str, pod: &str) -> Result<(), Skipped> {
        let pod = json!({
            "metadata": {"labels": labels(pod)},
            "spec": {"containers": [{"name": "app"}]}
        });
        select(claim, Namespace { name: "shop", labels: &labels(namespace) }, &pod)
    }

    #[test]
    fn labels_of_pod_and_namespace_decide() {
        use Skipped::{Disabled, NotSelected};
        let cases = [
            ("", "", Err(NotSelected)),
            ("weft.dev/injection=enabled", "", Ok(())),
            ("weft.dev/injection=disabled", "", Err(Disabled)),
            ("weft.dev/injection=disabled", "weft.dev/inject=true", Ok(())),
            ("weft.dev/injection=disabled istio-injection=enabled", "", Err(Disabled)),
            ("weft.dev/injection=enabled", "sidecar.istio.io/inject=false", Err(Disabled)),
            ("weft.dev/injection=enabled", "weft.dev/inject=false", Err(Disabled)),
            ("istio-injection=enabled", "", Ok(())),
            ("istio-injection=enabled", "sidecar.istio.io/inject=false", Err(Disabled)),
            ("istio-injection=enabled", "sidecar.istio.io/inject=false weft.dev/inject=true", Ok(())),
            ("istio-injection=disabled", "sidecar.istio.io/inject=true", Ok(())),
            ("istio-injection=disabled", "", Err(Disabled)),
            ("", "sidecar.istio.io/inject=true", Ok(())),
            ("", "sidecar.istio.io/inject=maybe", Err(NotSelected)),
        ];
        for (namespace, pod, expected) in cases {
            assert_eq!(choose(OURS, namespace, pod), expected, "{namespace:?} {pod:?}");
        }
    }

    #[test]
    fn what_only_istio_claims_is_istios() {
        let beside = Claim { istio: true, ..OURS };
        assert_eq!(choose(beside, "istio-injection=enabled", ""), Err(Skipped::Istios));
        assert_eq!(choose(beside, "", "sidecar.istio.io/inject=true"), Err(Skipped::Istios));
        assert_eq!(choose(beside, "istio-injection=enabled weft.dev/injection=enabled", ""), Ok(()));
        assert_eq!(choose(beside, "istio-injection=enabled", "weft.dev/inject=true"), Ok(()));
    }

    #[test]
    fn a_revision_injects_what_names_it() {
        let canary = Claim { revision: "canary", ..OURS };
        let other = |r: &str| Err(Skipped::OtherRevision(r.to_owned()));
        assert_eq!(choose(canary, "weft.dev/rev=canary", ""), Ok(()));
        assert_eq!(choose(OURS, "weft.dev/rev=canary", ""), other("canary"));
        assert_eq!(choose(canary, "weft.dev/injection=enabled", ""), other("default"));
        assert_eq!(choose(canary, "weft.dev/injection=enabled", "weft.dev/rev=canary"), Ok(()));
        assert_eq!(choose(OURS, "weft.dev/rev=canary", "weft.dev/rev=default"), Ok(()));
    }

    #[test]
    fn some_pods_can_have_none() {
        let on = labels("weft.dev/injection=enabled");
        let of = |namespace, spec: Value, annotations: Value| {
            let mut spec = spec;
            spec["containers"] = json!([{"name": "app"}]);
            let pod = json!({"metadata": {"annotations": annotations}, "spec": spec});
            select(OURS, Namespace { name: namespace, labels: &on }, &pod).unwrap_err()
        };
        assert_eq!(of("shop", json!({"hostNetwork": true}), json!({})), Skipped::HostNetwork);
        assert_eq!(of("shop", json!({"os": {"name": "windows"}}), json!({})), Skipped::Windows);
        let selector = json!({"nodeSelector": {"kubernetes.io/os": "windows"}});
        assert_eq!(of("shop", selector, json!({})), Skipped::Windows);
        assert_eq!(of("shop", json!({}), json!({"kubernetes.io/config.mirror": "x"})), Skipped::Mirror);
        assert_eq!(
            of("shop", json!({}), json!({"inject.istio.io/templates": "gateway"})),
            Skipped::IstioGateway
        );
        let proxy = json!({"initContainers": [{"name": "istio-proxy", "image": "docker.io/istio/proxyv2"}]});
        assert_eq!(of("shop", proxy, json!({})), Skipped::IstioSidecar);
        for namespace in ["kube-system", "weft-system"] {
            assert_eq!(of(namespace, json!({}), json!({})), Skipped::SystemNamespace);
        }
    }
}
