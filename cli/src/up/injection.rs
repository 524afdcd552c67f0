//! Which pods get a sidecar, and what their annotations say of it: what the injector says in a cluster. Pure.

use serde_json::{Value, json};
use weft_controller::inject::{Annotated, InjectionSettings, Injector, Namespace, Skipped};

use crate::up::manifest::{Container, Meta, Template};

/// Whether a template's pods get a sidecar: what the injector says in a cluster.
///
/// # Errors
/// Why not.
pub fn injected(namespace: Namespace<'_>, template: &Template) -> Result<(), Skipped> {
    let named = |c: &Container| json!({ "name": c.name, "image": c.image });
    let mut pod = raw(&template.metadata);
    pod["spec"] = json!({ "containers": template.spec.containers.iter().map(named).collect::<Vec<_>>() });
    Injector::new(InjectionSettings::default()).select(namespace, &pod)
}

/// What a pod's annotations say of its sidecar: what the injector reads in a cluster.
///
/// # Errors
/// The annotation that cannot be read.
pub fn annotated(meta: &Meta) -> Result<Annotated, String> {
    Injector::new(InjectionSettings::default()).annotated(&raw(meta)).map_err(|e| e.to_string())
}

/// As much of a pod as its author's word on the sidecar needs.
fn raw(meta: &Meta) -> Value {
    json!({ "metadata": { "labels": meta.labels, "annotations": meta.annotations } })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::up::manifest::Map;

    fn template(yaml: &str) -> Template {
        serde_saphyr::from_str(yaml).unwrap()
    }

    #[test]
    fn the_pod_decides_on_injection_before_its_namespace() {
        let on = Map::from([("istio-injection".to_owned(), "enabled".to_owned())]);
        let off = Map::new();
        let pod = |inject: &str| {
            template(&format!("{{metadata: {{annotations: {{sidecar.istio.io/inject: '{inject}'}}}}}}"))
        };
        let injected = |labels: &Map, pod: &Template| {
            super::injected(Namespace { name: "default", labels }, pod).is_ok()
        };
        assert!(injected(&on, &Template::default()) && !injected(&on, &pod("false")));
        assert!(injected(&off, &pod("true")) && !injected(&off, &Template::default()));
    }

    #[test]
    fn annotations_are_read_as_in_a_cluster() {
        let read = |key: &str, value: &str| {
            let annotations = [(key.to_owned(), value.to_owned())].into();
            annotated(&Meta { annotations, ..Meta::default() })
        };
        let ports = read("traffic.sidecar.istio.io/includeOutboundPorts", "5432").unwrap();
        assert_eq!(ports.redirect.unwrap(), ["--include-outbound-ports=5432"]);
        assert_eq!(read("sidecar.istio.io/interceptionMode", "NONE").unwrap().redirect, None);
        let config = read("proxy.istio.io/config", "proxyMetadata: {WEFT_ACCESS_LOG: json}").unwrap();
        assert_eq!(config.env["WEFT_ACCESS_LOG"], "json");
        let scraped = read("prometheus.io/port", "9090").unwrap();
        assert_eq!(scraped.env["WEFT_APP_METRICS"], "9090/metrics");
        assert_eq!(read("sidecar.istio.io/nonsense", "x").unwrap().warnings.len(), 1);
        assert!(
            read("proxy.istio.io/config", "concurrency: many")
                .unwrap_err()
                .starts_with("metadata.annotations[proxy.istio.io/config]")
        );
    }
}
