//! A pod in, the same with a sidecar out: each file of `tests/inject` against its snapshot.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde_json::json;

use super::manifest::{Manifests, Note, What};
use super::*;
use crate::source::yaml;

fn injector() -> Injector {
    Injector::new(InjectionSettings::default())
}

fn enabled() -> BTreeMap<String, String> {
    [("weft.dev/injection".to_owned(), "enabled".to_owned())].into()
}

fn inject(injector: &Injector, pod: &Value) -> Outcome {
    injector.inject(Namespace { name: "shop", labels: &enabled() }, pod)
}

fn injected(pod: &Value) -> Value {
    match inject(&injector(), pod) {
        Outcome::Injected { pod, .. } => *pod,
        other => panic!("{other:?}"),
    }
}

fn pod() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web"},
        "spec": {"containers": [{"name": "app", "image": "app"}]}
    })
}

/// The documents of a file: a ConfigMap with the settings, Namespaces, and what is to be injected.
fn golden(text: &str) -> String {
    let documents: Vec<Value> =
        yaml::parse(text).unwrap().into_iter().map(|d| Arc::unwrap_or_clone(d.value)).collect();
    let mut injector = injector();
    if let Some(map) = documents.iter().find(|d| d["kind"] == "ConfigMap") {
        injector.settings = InjectionSettings::parse(map["data"][settings::KEY].as_str().unwrap()).unwrap();
    }
    let mut manifests = Manifests {
        injector: &injector,
        namespaces: BTreeMap::new(),
        unknown: enabled(),
        default_namespace: "shop".to_owned(),
    };
    documents.iter().for_each(|document| manifests.learn(document));
    let mut out = String::new();
    for mut document in documents.into_iter().filter(|d| d["kind"] != "ConfigMap" && d["kind"] != "Namespace")
    {
        let notes = manifests.inject(&mut document);
        let mut again = document.clone();
        manifests.inject(&mut again);
        assert_eq!(again, document, "injecting twice is injecting once");
        out.push_str("---\n");
        notes.iter().for_each(|note| out.push_str(&format!("# {}\n", shown(note))));
        out.push_str(&serde_saphyr::to_string(&document).unwrap());
    }
    out
}

fn shown(note: &Note) -> String {
    match &note.what {
        What::Injected => format!("{}: injected", note.object),
        What::Warning(text) => format!("{}: warning: {text}", note.object),
        What::Skipped(why) => format!("{}: skipped: {why}", note.object),
        What::Refused(why) => format!("{}: refused: {why}", note.object),
    }
}

#[test]
fn pods_come_out_as_they_should() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/inject");
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "yaml"));
    files.sort();
    assert!(files.len() > 10, "the cases are in {}", folder.display());
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(folder.join("snapshots"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    for file in files {
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        let text = golden(&std::fs::read_to_string(&file).unwrap());
        settings.bind(|| insta::assert_snapshot!(name, text));
    }
}

#[test]
fn f15_the_patch_makes_the_pod() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/inject");
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        for document in yaml::parse(&text).unwrap_or_default() {
            let (labels, pod) = (enabled(), Arc::unwrap_or_clone(document.value));
            let namespace = Namespace { name: "shop", labels: &labels };
            let review = injector().review(namespace, &pod);
            let mut patched = pod.clone();
            if let Some(patch) = &review.patch {
                json_patch::patch(&mut patched, patch).unwrap();
            }
            if let Outcome::Injected { pod: expected, .. } = injector().inject(namespace, &pod) {
                assert_eq!(patched, *expected, "{}", path.display());
            }
        }
    }
}

#[test]
fn f15_what_is_no_pod_is_refused_and_never_patched() {
    let broken = [
        json!(null),
        json!([]),
        json!("pod"),
        json!({"kind": "Service", "spec": {"ports": []}}),
        json!({"spec": {"containers": []}}),
        json!({"spec": {"containers": [null]}}),
        json!({"metadata": {"annotations": [1]}, "spec": {"containers": [{"name": "a"}]}}),
    ];
    for pod in broken {
        let review = injector().review(Namespace { name: "shop", labels: &enabled() }, &pod);
        assert!(review.patch.is_none() && review.denied.is_some(), "{pod}");
    }
}

#[test]
fn f15_a_large_pod_is_no_problem() {
    let mut large = pod();
    large["metadata"]["annotations"] = json!({"note": "x".repeat(3 << 20)});
    let review = injector().review(Namespace { name: "shop", labels: &enabled() }, &large);
    let patch = serde_json::to_string(&review.patch).unwrap();
    assert!(review.denied.is_none() && patch.len() < 32 << 10, "{} bytes", patch.len());
}

#[test]
fn f15_after_other_webhooks_ours_come_first_again() {
    let mut changed = injected(&pod());
    let init = changed["spec"]["initContainers"].as_array_mut().unwrap();
    init[0]["image"] = json!("mirror.example.com/weft-proxy:dev");
    init.insert(0, json!({"name": "vault", "image": "vault"}));
    let probe = json!({"httpGet": {"path": "/ready", "port": 9000}});
    changed["spec"]["containers"]
        .as_array_mut()
        .unwrap()
        .push(json!({"name": "late", "readinessProbe": probe}));
    let again = injected(&changed);
    let names: Vec<_> = again["spec"]["initContainers"].as_array().unwrap().iter().map(raw::name).collect();
    assert_eq!(names, ["weft-proxy", "weft-redirect", "vault"]);
    let sidecar = &again["spec"]["initContainers"][0];
    assert_eq!(sidecar["image"], "mirror.example.com/weft-proxy:dev", "what others changed stays");
    assert!(parts::told(sidecar).contains_key("/app-health/late/readyz"));
    assert_eq!(again["spec"]["containers"][1]["readinessProbe"]["httpGet"]["port"], 15021);
    assert_eq!(injected(&again), again);
}

#[test]
fn something_waits_until_the_sidecar_is_ready() {
    let args = |pod: &Value, name: &str| {
        let init = pod["spec"]["initContainers"].as_array().unwrap().iter();
        init.map(|c| (raw::name(c), c)).find(|(n, _)| *n == name).map(|(_, c)| c.clone())
    };
    let usual = injected(&pod());
    let redirect = args(&usual, "weft-redirect").unwrap();
    assert_eq!(redirect["args"], json!(["redirect", "--once-ready=15021"]));
    assert!(args(&usual, "weft-proxy").unwrap()["startupProbe"].is_null());
    let mut none = pod();
    none["metadata"]["annotations"] = json!({"sidecar.istio.io/interceptionMode": "NONE"});
    let none = injected(&none);
    assert_eq!(args(&none, "weft-redirect"), None);
    assert!(args(&none, "weft-proxy").unwrap()["startupProbe"].is_object());
}

#[test]
fn other_settings_replace_what_is_there() {
    let before = injected(&pod());
    let settings =
        InjectionSettings { image: "registry/weft-proxy:2".to_owned(), ..InjectionSettings::default() };
    let Outcome::Injected { pod: after, .. } = inject(&Injector::new(settings), &before) else { panic!() };
    let init = after["spec"]["initContainers"].as_array().unwrap();
    assert_eq!(init.len(), 2);
    assert!(init.iter().all(|container| container["image"] == "registry/weft-proxy:2"));
    assert_eq!(after["spec"]["volumes"].as_array().unwrap().len(), 3);
}

#[test]
fn claims_of_ours_cannot_be_made_by_hand() {
    let mut claims = pod();
    claims["metadata"]["annotations"] = json!({"weft.dev/status": "{}", "a": "b"});
    claims["metadata"]["labels"] = json!({"weft.dev/inject": "false", "weft.dev/revision": "x"});
    let review = injector().review(Namespace { name: "shop", labels: &enabled() }, &claims);
    let mut patched = claims.clone();
    json_patch::patch(&mut patched, &review.patch.unwrap()).unwrap();
    let metadata = json!({"name": "web", "annotations": {"a": "b"}, "labels": {"weft.dev/inject": "false"}});
    assert_eq!(patched["metadata"], metadata);
    claims["metadata"]["labels"] = json!({});
    let status = injected(&claims)["metadata"]["annotations"]["weft.dev/status"].clone();
    assert!(status.as_str().unwrap().contains("\"revision\":\"default\""), "{status}");
}

#[test]
fn the_sidecars_user_is_refused_in_words() {
    let mut same = pod();
    same["spec"]["containers"][0]["securityContext"] = json!({"runAsUser": 1337});
    let Outcome::Refused(why) = inject(&injector(), &same) else { panic!() };
    let start = "no sidecar can be added: spec.containers[0].securityContext.runAsUser: 1337 is the sidecar's own user";
    assert!(why.starts_with(start), "{why}");
    let mut of_pod = pod();
    of_pod["spec"]["securityContext"] = json!({"runAsUser": 1337});
    assert!(matches!(inject(&injector(), &of_pod), Outcome::Refused(_)));
    of_pod["spec"]["containers"][0]["securityContext"] = json!({"runAsUser": 1000});
    assert!(matches!(inject(&injector(), &of_pod), Outcome::Injected { .. }));
}

#[test]
fn pod_security_is_warned_of() {
    let mut labels = enabled();
    labels.insert("pod-security.kubernetes.io/enforce".to_owned(), "baseline".to_owned());
    let review = injector().review(Namespace { name: "shop", labels: &labels }, &pod());
    assert!(review.warnings[0].contains("baseline refuses NET_ADMIN"), "{:?}", review.warnings);
    assert!(review.denied.is_none());
}

#[test]
fn ephemeral_containers_and_newer_fields_stay() {
    let mut newer = pod();
    newer["spec"]["ephemeralContainers"] = json!([{"name": "debug"}]);
    newer["spec"]["inventedLater"] = json!({"deep": [1, {"x": null}]});
    let after = injected(&newer);
    assert_eq!(after["spec"]["inventedLater"], newer["spec"]["inventedLater"]);
    assert_eq!(after["spec"]["ephemeralContainers"], newer["spec"]["ephemeralContainers"]);
}
