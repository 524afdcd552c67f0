//! What a pod's annotations say of its sidecar, in Istio's names. What is not honoured is warned about.

use std::collections::BTreeMap;

use serde_json::Value;

use super::problem::{SettingsError, at, error};
use super::proxy_config;
use super::quantity::is_quantity;
use super::raw::annotation;
use super::scrape;
use super::settings::{InjectionSettings, Resources};
use super::traffic::Plan;

/// What one pod's sidecar is made with.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Options {
    /// What is redirected; nothing with `interceptionMode: NONE`.
    pub(super) redirect: Option<Plan>,
    pub(super) resources: Resources,
    pub(super) log_level: String,
    /// Further variables; the later of two goes before.
    pub(super) env: BTreeMap<String, String>,
    pub(super) drain_timeout: String,
    pub(super) rewrite_probes: bool,
    pub(super) readiness: Readiness,
}

/// The readiness probe's times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Readiness {
    pub(super) initial_delay: u32,
    pub(super) period: u32,
    pub(super) failures: u32,
}

/// What is put into a pod, of what Istio's injector is configured with.
const TEMPLATES: &str = "inject.istio.io/templates";

/// Annotations that are read here or elsewhere, or that ask for nothing that Weft does not do.
const KNOWN: [&str; 28] = [
    TEMPLATES,
    "istio.io/rev",
    "prometheus.istio.io/merge-metrics",
    "proxy.istio.io/config",
    "readiness.status.sidecar.istio.io/failureThreshold",
    "readiness.status.sidecar.istio.io/initialDelaySeconds",
    "readiness.status.sidecar.istio.io/periodSeconds",
    "sidecar.istio.io/agentLogLevel",
    "sidecar.istio.io/controlPlaneAuthPolicy",
    "sidecar.istio.io/discoveryAddress",
    "sidecar.istio.io/enableCoreDump",
    "sidecar.istio.io/inject",
    "sidecar.istio.io/interceptionMode",
    "sidecar.istio.io/logLevel",
    "sidecar.istio.io/proxyCPU",
    "sidecar.istio.io/proxyCPULimit",
    "sidecar.istio.io/proxyMemory",
    "sidecar.istio.io/proxyMemoryLimit",
    "sidecar.istio.io/rewriteAppHTTPProbers",
    "sidecar.istio.io/status",
    "traffic.sidecar.istio.io/excludeInboundPorts",
    "traffic.sidecar.istio.io/excludeInterfaces",
    "traffic.sidecar.istio.io/excludeOutboundIPRanges",
    "traffic.sidecar.istio.io/excludeOutboundPorts",
    "traffic.sidecar.istio.io/includeInboundPorts",
    "traffic.sidecar.istio.io/includeOutboundIPRanges",
    "traffic.sidecar.istio.io/includeOutboundPorts",
    "istio.io/dataplane-mode",
];

/// Amounts: resource, annotation of the request, annotation of the limit.
const AMOUNTS: [(&str, &str, &str); 2] = [
    ("cpu", "sidecar.istio.io/proxyCPU", "sidecar.istio.io/proxyCPULimit"),
    ("memory", "sidecar.istio.io/proxyMemory", "sidecar.istio.io/proxyMemoryLimit"),
];

impl Options {
    /// What holds for a pod.
    ///
    /// # Errors
    /// The annotation that cannot be read.
    pub(super) fn read(
        settings: &InjectionSettings,
        pod: &Value,
        warnings: &mut Vec<String>,
    ) -> Result<Self, SettingsError> {
        warn_of_unknown(pod, warnings);
        let config = proxy_config::read(pod, warnings)?;
        let mut env = settings.env.clone();
        let app_metrics = scrape::app_metrics(|key| annotation(pod, key), settings.ports.metrics);
        // Where it was injected before, the annotations mean the sidecar, which knows.
        let app_metrics = app_metrics.or_else(|| scrape::known_to_sidecar(pod));
        env.extend(app_metrics.filter(|_| settings.prometheus).map(|at| (scrape::SETTING.to_owned(), at)));
        env.extend(config.env);
        Ok(Self {
            redirect: redirect(settings, pod, warnings)?,
            resources: resources(&settings.resources, pod)?,
            log_level: log_level(settings, pod)?,
            drain_timeout: config.drain_timeout.unwrap_or_else(|| settings.drain_timeout.clone()),
            rewrite_probes: switch(pod, "sidecar.istio.io/rewriteAppHTTPProbers", settings.rewrite_probes)?,
            readiness: Readiness::read(pod)?,
            env,
        })
    }
}

fn warn_of_unknown(pod: &Value, warnings: &mut Vec<String>) {
    let Some(annotations) = pod["metadata"]["annotations"].as_object() else { return };
    let is_istios = |key: &&String| {
        let domain = key.split('/').next().unwrap_or_default();
        domain == "istio.io" || domain.ends_with(".istio.io")
    };
    let unknown = annotations.keys().filter(is_istios).filter(|key| !KNOWN.contains(&key.as_str()));
    warnings
        .extend(unknown.map(|key| format!("metadata.annotations[{key}] is not honoured, and has no effect")));
    let templates = annotation(pod, TEMPLATES).into_iter().flat_map(|list| list.split(',').map(str::trim));
    warnings.extend(templates.filter(|name| !matches!(*name, "" | "sidecar")).map(|name| {
        format!("metadata.annotations[{TEMPLATES}]: `{name}` has no effect: `sidecar` is the only template")
    }));
}

fn redirect(
    settings: &InjectionSettings,
    pod: &Value,
    warnings: &mut Vec<String>,
) -> Result<Option<Plan>, SettingsError> {
    const MODE: &str = "sidecar.istio.io/interceptionMode";
    let plan = Plan::of_pod(&settings.traffic, pod)?;
    match annotation(pod, MODE) {
        None | Some("REDIRECT") => Ok(Some(plan)),
        Some("NONE") => Ok(None),
        Some("TPROXY") => {
            warnings.push(format!("metadata.annotations[{MODE}]: TPROXY is not honoured; REDIRECT is used"));
            Ok(Some(plan))
        }
        Some(other) => Err(error(at(MODE), format!("`{other}` is none of REDIRECT, NONE"))),
    }
}

/// A request without its limit does without the usual limit too, and the other way round: the two could contradict
/// each other.
fn resources(usual: &Resources, pod: &Value) -> Result<Resources, SettingsError> {
    let mut resources = usual.clone();
    for (name, request, limit) in AMOUNTS {
        let (request, limit) = (amount(pod, request)?, amount(pod, limit)?);
        if request.is_some() || limit.is_some() {
            put(&mut resources.requests, name, request);
            put(&mut resources.limits, name, limit);
        }
    }
    Ok(resources)
}

fn put(amounts: &mut BTreeMap<String, String>, name: &str, amount: Option<&str>) {
    match amount {
        Some(amount) => amounts.insert(name.to_owned(), amount.to_owned()),
        None => amounts.remove(name),
    };
}

fn amount<'a>(pod: &'a Value, key: &str) -> Result<Option<&'a str>, SettingsError> {
    match annotation(pod, key) {
        Some(text) if !is_quantity(text) => {
            Err(error(at(key), format!("`{text}` is no quantity; write one such as 100m or 128Mi")))
        }
        amount => Ok(amount),
    }
}

fn log_level(settings: &InjectionSettings, pod: &Value) -> Result<String, SettingsError> {
    const LEVEL: &str = "sidecar.istio.io/logLevel";
    let level = match annotation(pod, LEVEL) {
        None => return Ok(settings.log.level.clone()),
        Some("warning") => "warn",
        Some("critical") => "error",
        Some(level @ ("trace" | "debug" | "info" | "warn" | "error" | "off")) => level,
        Some(other) => {
            let known = "trace, debug, info, warning, error, off";
            return Err(error(at(LEVEL), format!("`{other}` is none of {known}")));
        }
    };
    Ok(level.to_owned())
}

fn switch(pod: &Value, key: &str, usual: bool) -> Result<bool, SettingsError> {
    match annotation(pod, key) {
        None => Ok(usual),
        Some("true") => Ok(true),
        Some("false") => Ok(false),
        Some(other) => Err(error(at(key), format!("`{other}` is neither \"true\" nor \"false\""))),
    }
}

impl Readiness {
    fn read(pod: &Value) -> Result<Self, SettingsError> {
        let of = |name: &str, usual: u32| {
            let key = format!("readiness.status.sidecar.istio.io/{name}");
            let Some(text) = annotation(pod, &key) else { return Ok(usual) };
            let number = text.parse::<u32>().ok().filter(|n| *n <= 86_400);
            number.ok_or_else(|| error(at(&key), format!("`{text}` is no number of at most 86400")))
        };
        Ok(Self {
            initial_delay: of("initialDelaySeconds", 0)?,
            period: of("periodSeconds", 2)?.max(1),
            failures: of("failureThreshold", 20)?.max(1),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(annotations: &[(&str, &str)]) -> (Result<Options, String>, Vec<String>) {
        let annotations: BTreeMap<_, _> = annotations.iter().copied().collect();
        let pod = json!({"metadata": {"annotations": annotations}});
        let mut warnings = Vec::new();
        let options = Options::read(&InjectionSettings::default(), &pod, &mut warnings);
        (options.map_err(|e| e.to_string()), warnings)
    }

    fn options(key: &str, text: &str) -> Options {
        read(&[(key, text)]).0.unwrap()
    }

    #[test]
    fn a_request_or_limit_that_is_written_stands_alone() {
        let usual = InjectionSettings::default().resources;
        let cpu = options("sidecar.istio.io/proxyCPU", "4").resources;
        assert_eq!((cpu.requests["cpu"].as_str(), cpu.limits.get("cpu")), ("4", None));
        assert_eq!(cpu.limits["memory"], usual.limits["memory"]);
        let memory = options("sidecar.istio.io/proxyMemoryLimit", "16Mi").resources;
        assert_eq!((memory.requests.get("memory"), memory.limits["memory"].as_str()), (None, "16Mi"));
        let refused = read(&[("sidecar.istio.io/proxyCPU", "2 cores")]).0.unwrap_err();
        assert!(
            refused.starts_with("metadata.annotations[sidecar.istio.io/proxyCPU]: `2 cores`"),
            "{refused}"
        );
    }

    #[test]
    fn there_is_one_template() {
        assert!(read(&[(TEMPLATES, "sidecar")]).1.is_empty());
        let (options, warnings) = read(&[(TEMPLATES, "sidecar, custom")]);
        assert!(options.is_ok());
        assert!(matches!(&warnings[..], [one] if one.contains("`custom` has no effect")), "{warnings:?}");
    }

    #[test]
    fn levels_have_istios_names() {
        let level = |text| options("sidecar.istio.io/logLevel", text).log_level;
        assert_eq!([level("warning"), level("debug"), level("critical")], ["warn", "debug", "error"]);
        assert!(read(&[("sidecar.istio.io/logLevel", "loud")]).0.is_err());
    }

    #[test]
    fn interception_can_be_switched_off() {
        const MODE: &str = "sidecar.istio.io/interceptionMode";
        assert!(options(MODE, "REDIRECT").redirect.is_some() && options(MODE, "NONE").redirect.is_none());
        let (tproxy, warnings) = read(&[(MODE, "TPROXY")]);
        assert!(tproxy.unwrap().redirect.is_some() && warnings[0].contains("TPROXY"));
        assert!(read(&[(MODE, "x")]).0.is_err());
    }

    #[test]
    fn what_has_no_effect_is_told() {
        let told = |key| read(&[(key, "x")]).1;
        assert_eq!(
            told("sidecar.istio.io/userVolume"),
            ["metadata.annotations[sidecar.istio.io/userVolume] is not honoured, and has no effect"]
        );
        assert!(told("example.com/x").is_empty() && told("sidecar.istio.io/inject").is_empty());
    }

    #[test]
    fn readiness_and_probes_follow_annotations() {
        let period = options("readiness.status.sidecar.istio.io/periodSeconds", "3").readiness.period;
        assert_eq!(period, 3);
        assert!(read(&[("readiness.status.sidecar.istio.io/periodSeconds", "-3")]).0.is_err());
        assert!(!options("sidecar.istio.io/rewriteAppHTTPProbers", "false").rewrite_probes);
    }
}
