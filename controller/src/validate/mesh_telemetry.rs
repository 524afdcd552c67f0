//! What the mesh's settings say of telemetry: `extensionProviders`, `defaultProviders`, `accessLogFile` and its
//! like, `enableTracing`, `defaultConfig.tracing`.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use serde_json::{Map, Value};
use weft_core::access_log::template::Template;
use weft_core::model::telemetry::{AccessLog, Collector, CollectorProtocol, LogFormat, LogTarget};

use super::findings::Findings;
use crate::fragment::telemetry::TelemetrySettings;

/// The names of the settings that are read here.
pub const NAMES: [&str; 7] = [
    "accessLogEncoding",
    "accessLogFile",
    "accessLogFormat",
    "defaultConfig",
    "defaultProviders",
    "enableTracing",
    "extensionProviders",
];
/// The provider that Istio's own line goes by.
const ENVOY: &str = "envoy";
/// The longest that an export may take where nothing is said: Istio's.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);

/// All of it.
pub fn settings(findings: &mut Findings, all: &Map<String, Value>) -> TelemetrySettings {
    let mut told = TelemetrySettings::default();
    let envoy = own_log(findings, all);
    if all.get("accessLogFile").and_then(Value::as_str).is_some_and(|file| !file.is_empty()) {
        told.default_logs.extend(envoy.is_some().then(|| ENVOY.into()));
    }
    if let Some(log) = envoy {
        told.logs = vec![(ENVOY.into(), log)];
    }
    let providers = all.get("extensionProviders").and_then(Value::as_array).into_iter().flatten();
    for (i, entry) in providers.enumerate() {
        provider(findings, &mut told, &format!("data.mesh.extensionProviders[{i}]"), entry);
    }
    told.enable_tracing = all.get("enableTracing").and_then(Value::as_bool);
    if let Some(config) = all.get("defaultConfig") {
        told.sampling = proxy_sampling(findings, config);
    }
    if let Some(defaults) = all.get("defaultProviders") {
        default_providers(findings, &mut told, defaults);
    }
    told
}

// === the log of accessLogFile ===

fn own_log(findings: &mut Findings, all: &Map<String, Value>) -> Option<AccessLog> {
    let text = |name: &str| all.get(name).and_then(Value::as_str).unwrap_or_default();
    let to = match text("accessLogFile") {
        "" => LogTarget::Stdout,
        path => target(findings, "data.mesh.accessLogFile", path)?,
    };
    let path = "data.mesh.accessLogFormat";
    let format = match (text("accessLogEncoding"), text("accessLogFormat")) {
        ("" | "TEXT", "") => LogFormat::DefaultText,
        ("JSON", "") => LogFormat::DefaultJson,
        ("" | "TEXT", format) => LogFormat::Text(template(findings, path, format)?),
        ("JSON", format) => json_text(findings, path, format)?,
        (other, _) => {
            findings.error("data.mesh.accessLogEncoding", format!("`{other}` is neither TEXT nor JSON"));
            return None;
        }
    };
    Some(AccessLog { to, format, filter: None })
}

fn target(findings: &mut Findings, path: &str, file: &str) -> Option<LogTarget> {
    match file {
        "/dev/stdout" => Some(LogTarget::Stdout),
        "/dev/stderr" => Some(LogTarget::Stderr),
        other => {
            findings.warn(path, format!("`{other}` is not honoured; /dev/stdout and /dev/stderr are"));
            None
        }
    }
}

fn template(findings: &mut Findings, path: &str, text: &str) -> Option<Template> {
    findings.take(path, Template::parse(text.strip_suffix('\n').unwrap_or(text)))
}

fn json_text(findings: &mut Findings, path: &str, text: &str) -> Option<LogFormat> {
    let fields = serde_json::from_str::<Map<String, Value>>(text);
    let fields = findings.take(path, fields.map_err(|e| format!("is no JSON object of texts: {e}")))?;
    Some(LogFormat::Json(self::fields(findings, path, &fields)))
}

fn fields(findings: &mut Findings, path: &str, fields: &Map<String, Value>) -> Vec<(Arc<str>, Template)> {
    let field = |(name, value): (&String, &Value)| {
        let path = format!("{path}.{name}");
        let Some(text) = value.as_str() else {
            findings.error(path, "is no text; a field is a text with command operators");
            return None;
        };
        Some((name.as_str().into(), findings.take(&path, Template::parse(text))?))
    };
    fields.iter().filter_map(field).collect()
}

// === extensionProviders ===

fn provider(findings: &mut Findings, told: &mut TelemetrySettings, path: &str, entry: &Value) {
    let Some(name) = entry["name"].as_str().filter(|name| !name.is_empty()) else {
        findings.error(format!("{path}.name"), "missing; Telemetries name a provider by it");
        return;
    };
    let name: Arc<str> = name.into();
    for (kind, value) in entry.as_object().into_iter().flatten().filter(|(key, _)| *key != "name") {
        let path = format!("{path}.{kind}");
        match kind.as_str() {
            "opentelemetry" => told.collectors.extend(collector(findings, &path, &name, value).map(Arc::new)),
            "envoyFileAccessLog" => {
                let log = file_log(findings, &path, value);
                told.logs.retain(|(known, _)| *known != name);
                told.logs.extend(log.map(|log| (name.clone(), log)));
            }
            "prometheus" => told.prometheus.push(name.clone()),
            _ => findings.warn(
                path,
                "is not honoured, and has no effect; opentelemetry, envoyFileAccessLog and prometheus are",
            ),
        }
    }
}

fn collector(findings: &mut Findings, path: &str, name: &Arc<str>, value: &Value) -> Option<Collector> {
    let service = value["service"].as_str().unwrap_or_default();
    let host = service.rsplit_once('/').map_or(service, |(_, host)| host);
    if host.is_empty() || host.contains(char::is_whitespace) {
        findings.error(
            format!("{path}.service"),
            "missing; write a host such as otel.monitoring.svc.cluster.local",
        );
    }
    let port = value["port"].as_u64().and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
    if port.is_none() {
        findings.error(format!("{path}.port"), "write a port, 1 to 65535; OTLP's are 4317 and 4318");
    }
    unread(findings, path, value, &["service", "port", "http", "grpc"]);
    let (protocol, transport, at) = match value.get("http") {
        Some(http) => (http_protocol(findings, path, http), http, format!("{path}.http")),
        None => (Some(CollectorProtocol::Grpc), &value["grpc"], format!("{path}.grpc")),
    };
    let list = if value.get("http").is_some() { "headers" } else { "initialMetadata" };
    unread(findings, &at, transport, &["path", "timeout", list]);
    let headers = headers(findings, &format!("{at}.{list}"), &transport[list]);
    let timeout = timeout(findings, &format!("{at}.timeout"), &transport["timeout"]);
    Some(Collector {
        name: name.clone(),
        host: host.to_ascii_lowercase().into(),
        port: port?,
        service: None,
        protocol: protocol?,
        headers,
        timeout,
    })
    .filter(|collector| !collector.host.is_empty())
}

fn http_protocol(findings: &mut Findings, path: &str, http: &Value) -> Option<CollectorProtocol> {
    let path_of = http["path"].as_str().unwrap_or("/v1/traces");
    if !path_of.starts_with('/') || path_of.contains(|c: char| c.is_whitespace() || c.is_control()) {
        findings.error(format!("{path}.http.path"), format!("`{path_of}` is no path; write /v1/traces"));
        return None;
    }
    Some(CollectorProtocol::Http { path: path_of.into() })
}

fn headers(findings: &mut Findings, path: &str, value: &Value) -> Vec<(HeaderName, HeaderValue)> {
    let entry = |(i, entry): (usize, &Value)| {
        let path = format!("{path}[{i}]");
        if entry.get("envName").is_some() {
            findings.warn(format!("{path}.envName"), "is not honoured, and has no effect; value is");
        }
        let name = HeaderName::try_from(entry["name"].as_str().unwrap_or_default());
        let name = findings.take(&format!("{path}.name"), name.map_err(|_| "is no header's name"))?;
        let value = HeaderValue::try_from(entry["value"].as_str()?);
        Some((name, findings.take(&format!("{path}.value"), value.map_err(|_| "is no header's value"))?))
    };
    value.as_array().into_iter().flatten().enumerate().filter_map(entry).collect()
}

fn timeout(findings: &mut Findings, path: &str, value: &Value) -> Duration {
    let Some(text) = value.as_str() else { return EXPORT_TIMEOUT };
    let parsed = serde_json::from_value::<weft_crds::scalar::Duration>(text.into()).ok();
    let parsed = parsed.and_then(|written| super::common::duration(findings, path, &written));
    parsed.filter(|timeout| !timeout.is_zero()).unwrap_or(EXPORT_TIMEOUT)
}

fn file_log(findings: &mut Findings, path: &str, value: &Value) -> Option<AccessLog> {
    let file = value["path"].as_str().unwrap_or("/dev/stdout");
    let to = target(findings, &format!("{path}.path"), file)?;
    unread(findings, path, value, &["path", "logFormat"]);
    let format = &value["logFormat"];
    let path = format!("{path}.logFormat");
    let format = match (format["text"].as_str(), format["labels"].as_object()) {
        (Some(text), None) => LogFormat::Text(template(findings, &format!("{path}.text"), text)?),
        (None, Some(labels)) if labels.is_empty() => LogFormat::DefaultJson,
        (None, Some(labels)) => LogFormat::Json(fields(findings, &format!("{path}.labels"), labels)),
        (None, None) => LogFormat::DefaultText,
        (Some(_), Some(_)) => {
            findings.error(path, "says two things; write one of text, labels");
            return None;
        }
    };
    Some(AccessLog { to, format, filter: None })
}

fn unread(findings: &mut Findings, path: &str, value: &Value, read: &[&str]) {
    for name in value.as_object().into_iter().flatten().map(|(name, _)| name) {
        if !read.contains(&name.as_str()) {
            findings.warn(format!("{path}.{name}"), "is not honoured, and has no effect");
        }
    }
}

// === defaults ===

fn default_providers(findings: &mut Findings, told: &mut TelemetrySettings, value: &Value) {
    let path = "data.mesh.defaultProviders";
    unread(findings, path, value, &["tracing", "accessLogging", "metrics"]);
    let names = |list: &str| -> Vec<(usize, Arc<str>)> {
        let texts = value[list].as_array().into_iter().flatten().enumerate();
        texts.filter_map(|(i, name)| Some((i, name.as_str()?.into()))).collect()
    };
    for (i, name) in names("tracing") {
        match told.collector(&name) {
            Some(_) if told.default_tracing.is_none() => told.default_tracing = Some(name),
            Some(_) => findings.warn(format!("{path}.tracing[{i}]"), "has no effect: spans go to the first"),
            None => unknown(findings, format!("{path}.tracing[{i}]"), &name),
        }
    }
    let logs = names("accessLogging");
    if !logs.is_empty() {
        told.default_logs.clear();
    }
    for (i, name) in logs {
        match told.log(&name) {
            Some(_) => told.default_logs.push(name),
            None => unknown(findings, format!("{path}.accessLogging[{i}]"), &name),
        }
    }
    for (i, name) in names("metrics").into_iter().filter(|(_, name)| !told.prometheus.contains(name)) {
        unknown(findings, format!("{path}.metrics[{i}]"), &name);
    }
}

fn unknown(findings: &mut Findings, path: String, name: &str) {
    findings.warn(
        path,
        format!("`{name}` is none of extensionProviders that is honoured for this: it has no effect"),
    );
}

/// `defaultConfig.tracing.sampling`.
fn proxy_sampling(findings: &mut Findings, config: &Value) -> Option<f64> {
    let path = "data.mesh.defaultConfig";
    unread(findings, path, config, &["tracing"]);
    unread(findings, &format!("{path}.tracing"), &config["tracing"], &["sampling"]);
    let percent = config["tracing"].get("sampling")?.as_f64();
    let valid = percent.filter(|percent| (0.0..=100.0).contains(percent));
    if valid.is_none() {
        findings.error(format!("{path}.tracing.sampling"), "is no percentage, 0 to 100");
    }
    valid
}
