//! Who scrapes a pod finds the application's metrics among the sidecar's: the annotations `prometheus.io/*` come to
//! mean the sidecar, which is told where the application has its own.

use serde_json::Value;

use super::raw::{items, name};

/// The sidecar's container.
const SIDECAR: &str = "weft-proxy";
/// The sidecar's variable for it.
pub const SETTING: &str = "WEFT_APP_METRICS";
/// Lets Prometheus scrape application and sidecar each for itself, where it is `false`.
const MERGE: &str = "prometheus.istio.io/merge-metrics";

/// The sidecar's setting for the application's own metrics: `PORT/PATH`, from a pod's annotations. `None` where they
/// name nothing, or do not want to be scraped or merged, or mean the sidecar already.
pub fn app_metrics<'a>(annotation: impl Fn(&str) -> Option<&'a str>, sidecar: u16) -> Option<String> {
    let of = |key: &str| annotation(&format!("prometheus.io/{key}"));
    let (port, path) = (of("port"), of("path"));
    if !is_merged(&annotation) || port.or(path).is_none() {
        return None;
    }
    let port: u16 = port.unwrap_or("80").trim().parse().ok().filter(|port| *port > 0)?;
    let path = path.unwrap_or("/metrics").trim();
    (port != sidecar).then(|| format!("{port}/{}", path.trim_start_matches('/')))
}

/// The setting of the sidecar that is in a pod already.
pub(super) fn known_to_sidecar(pod: &Value) -> Option<String> {
    let sidecar =
        items(&pod["spec"], "initContainers").iter().find(|container| name(container) == SIDECAR)?;
    let known = items(sidecar, "env").iter().find(|variable| name(variable) == SETTING)?;
    known["value"].as_str().map(str::to_owned)
}

/// Whether a pod's annotations leave it to the sidecar to be scraped.
pub(super) fn is_merged<'a>(annotation: &impl Fn(&str) -> Option<&'a str>) -> bool {
    annotation("prometheus.io/scrape") != Some("false") && annotation(MERGE) != Some("false")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(annotations: &[(&str, &'static str)]) -> Option<String> {
        app_metrics(|key| annotations.iter().find(|(known, _)| *known == key).map(|(_, value)| *value), 15020)
    }

    #[test]
    fn annotations_become_the_sidecars_setting() {
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[("prometheus.io/scrape", "true")]), None);
        assert_eq!(of(&[("prometheus.io/port", "9090")]).as_deref(), Some("9090/metrics"));
        let all = [
            ("prometheus.io/scrape", "true"),
            ("prometheus.io/port", "8080"),
            ("prometheus.io/path", "/a/b"),
        ];
        assert_eq!(of(&all).as_deref(), Some("8080/a/b"));
        assert_eq!(of(&[("prometheus.io/path", "/x")]).as_deref(), Some("80/x"));
    }

    #[test]
    fn what_is_not_to_be_merged_is_left_alone() {
        assert_eq!(of(&[("prometheus.io/port", "9090"), ("prometheus.io/scrape", "false")]), None);
        assert_eq!(of(&[("prometheus.io/port", "9090"), (MERGE, "false")]), None);
        assert_eq!(of(&[("prometheus.io/port", "15020")]), None, "it is the sidecar's already");
        assert_eq!(of(&[("prometheus.io/port", "http")]), None);
    }
}
