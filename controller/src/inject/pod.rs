//! Putting a sidecar into a pod, and taking it out again. The same pod comes out of both, however often.

use serde_json::{Value, json};
use xxhash_rust::xxh64::xxh64;

use super::options::Options;
use super::parts::{self, REDIRECT, SIDECAR, VOLUMES};
use super::probes::{self, Told};
use super::raw::{annotation, is_native_sidecar, items, list, map, name};
use super::scrape;
use super::settings::InjectionSettings;

/// Annotation that says what was put into a pod.
pub const STATUS: &str = "weft.dev/status";
/// Label with the revision that put it there.
pub const REVISION: &str = "weft.dev/revision";

/// Containers that were in the pod already, by the same settings, as other webhooks have left them.
#[derive(Default)]
pub(super) struct Kept {
    redirect: Option<Value>,
    sidecar: Option<Value>,
    volumes: Vec<Value>,
}

/// Takes out all that was put in, and gives what may be put back as it was.
pub(super) fn take_out(pod: &mut Value, status: &str) -> Kept {
    let same = annotation(pod, STATUS) == Some(status);
    let spec = &mut pod["spec"];
    let init = take(spec, "initContainers", |c| name(c) == REDIRECT || is_ours(c));
    let volumes = take(spec, "volumes", |volume| VOLUMES.contains(&name(volume)));
    let find = |wanted: &str| init.iter().find(|container| name(container) == wanted).cloned();
    let kept = Kept { redirect: find(REDIRECT), sidecar: find(SIDECAR), volumes };
    if let Some(sidecar) = &kept.sidecar {
        probes::restore(spec, &parts::told(sidecar));
    }
    forget(pod);
    if same { kept } else { Kept::default() }
}

/// Removes what only the injector may say of a pod.
pub(super) fn forget(pod: &mut Value) {
    for (of, key) in [("annotations", STATUS), ("labels", REVISION)] {
        if let Some(map) = pod["metadata"].get_mut(of).and_then(Value::as_object_mut) {
            map.shift_remove(key);
        }
    }
}

fn is_ours(container: &Value) -> bool {
    name(container) == SIDECAR && is_native_sidecar(container)
}

fn take(spec: &mut Value, key: &str, is_taken: impl Fn(&Value) -> bool) -> Vec<Value> {
    let Some(all) = spec.get_mut(key).and_then(Value::as_array_mut) else { return Vec::new() };
    let (taken, left) = std::mem::take(all).into_iter().partition(is_taken);
    *all = left;
    taken
}

/// Puts the sidecar in: first of all the sidecar, then what waits for it and redirects, then everything else.
///
/// Kubernetes notices the end of a container once a second, its start at once: the sidecar starts while the other waits,
/// and it is the end of that one alone which is waited for.
pub(super) fn put_in(
    pod: &mut Value,
    settings: &InjectionSettings,
    options: &Options,
    kept: Kept,
    warnings: &mut Vec<String>,
) {
    let spec = &mut pod["spec"];
    let takes_inbound = options.redirect.as_ref().is_some_and(|plan| plan.takes_inbound);
    let told = match options.rewrite_probes && takes_inbound {
        true => probes::rewrite(spec, settings.ports, warnings),
        false => Told::new(),
    };
    let mut ours = vec![match kept.sidecar {
        Some(mut sidecar) => {
            parts::tell(&mut sidecar, &told);
            sidecar
        }
        None => parts::sidecar(settings, options, &told),
    }];
    if let Some(plan) = &options.redirect {
        ours.push(kept.redirect.unwrap_or_else(|| parts::redirect(settings, plan)));
    }
    list(spec, "initContainers").splice(0..0, ours);
    let fresh = parts::volumes(settings);
    let volumes = if kept.volumes.len() == fresh.len() { kept.volumes } else { fresh };
    list(spec, "volumes").extend(volumes);
    pull_secrets(spec, settings);
}

fn pull_secrets(spec: &mut Value, settings: &InjectionSettings) {
    for secret in &settings.image_pull_secrets {
        if !items(spec, "imagePullSecrets").iter().any(|known| name(known) == secret) {
            list(spec, "imagePullSecrets").push(json!({"name": secret}));
        }
    }
}

/// Marks the pod as injected.
pub(super) fn mark(pod: &mut Value, settings: &InjectionSettings, revision: &str, status: &str) {
    let metadata = map(pod, "metadata");
    let mut metadata = Value::Object(std::mem::take(metadata));
    let annotations = map(&mut metadata, "annotations");
    annotations.insert(STATUS.to_owned(), json!(status));
    let merged = scrape::is_merged(&|key: &str| annotations.get(key)?.as_str());
    if settings.prometheus && merged {
        let port = settings.ports.metrics.to_string();
        let scrape = [("scrape", "true"), ("port", port.as_str()), ("path", "/stats/prometheus")];
        annotations.extend(scrape.map(|(key, value)| (format!("prometheus.io/{key}"), json!(value))));
    }
    map(&mut metadata, "labels").insert(REVISION.to_owned(), json!(revision));
    pod["metadata"] = metadata;
}

/// What the status annotation says: what is put in, by which version, revision and settings.
pub(super) fn status(settings: &InjectionSettings, revision: &str, options: &Options) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let text = format!("{}{options:?}", serde_json::to_string(settings).unwrap_or_default());
    let mut containers = vec![SIDECAR];
    if options.redirect.is_some() {
        containers.push(REDIRECT);
    }
    let status = json!({
        "version": version,
        "revision": revision,
        "initContainers": containers,
        "volumes": VOLUMES,
        "settings": format!("{:016x}", xxh64(text.as_bytes(), 0))
    });
    status.to_string()
}
