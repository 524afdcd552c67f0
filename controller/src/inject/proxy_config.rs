//! The annotation `proxy.istio.io/config`: Istio's ProxyConfig as YAML.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use crate::source::yaml;

use super::problem::{SettingsError, at, error, seconds};
use super::raw::annotation;

const KEY: &str = "proxy.istio.io/config";

/// What of it is honoured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ProxyConfig {
    /// Variables of the sidecar's environment.
    pub(super) env: BTreeMap<String, String>,
    /// How long connections may take to end.
    pub(super) drain_timeout: Option<String>,
}

/// Reads a pod's.
///
/// # Errors
/// It is no YAML, or a setting in it has an impossible value.
pub(super) fn read(pod: &Value, warnings: &mut Vec<String>) -> Result<ProxyConfig, SettingsError> {
    let mut config = ProxyConfig::default();
    let Some(text) = annotation(pod, KEY) else { return Ok(config) };
    let broken = |e: yaml::YamlError| error(at(KEY), format!("line {} of it: {}", e.line, e.reason));
    let documents = yaml::parse(text).map_err(broken)?;
    let Some(document) = documents.into_iter().next() else { return Ok(config) };
    let Value::Object(settings) = Arc::unwrap_or_clone(document.value) else {
        return Err(error(at(KEY), "is no map of settings"));
    };
    for (name, value) in &settings {
        config.set(name, value, warnings)?;
    }
    Ok(config)
}

impl ProxyConfig {
    fn set(&mut self, name: &str, value: &Value, warnings: &mut Vec<String>) -> Result<(), SettingsError> {
        let path = format!("{}.{name}", at(KEY));
        match name {
            "concurrency" => match value.as_u64() {
                // Istio's 0 is all cores; ours are by the CPU request.
                Some(0) => {}
                Some(n @ 1..=64) => drop(self.env.insert("WEFT_WORKERS".to_owned(), n.to_string())),
                _ => return Err(error(path, "write a number of workers of at most 64")),
            },
            "terminationDrainDuration" => {
                let text = value.as_str().unwrap_or_default();
                let seconds = seconds(text).ok_or_else(|| error(path, "write a span of time such as 25s"))?;
                self.drain_timeout = Some(format!("{seconds}s"));
            }
            "proxyMetadata" => self.metadata(value, &path, warnings)?,
            // The controller reads it of the pod; of the rest of `tracing` nothing is honoured.
            "tracing" => {
                let rest = value.as_object().into_iter().flatten().filter(|(name, _)| *name != "sampling");
                warnings.extend(
                    rest.map(|(name, _)| format!("{path}.{name} is not honoured, and has no effect")),
                );
            }
            // The application always waits for its sidecar.
            "holdApplicationUntilProxyStarts" => {}
            _ => warnings.push(format!("{path} is not honoured, and has no effect")),
        }
        Ok(())
    }

    fn metadata(
        &mut self,
        value: &Value,
        path: &str,
        warnings: &mut Vec<String>,
    ) -> Result<(), SettingsError> {
        let variables = value.as_object().ok_or_else(|| error(path, "is no map"))?;
        for (name, value) in variables {
            let text = match value {
                Value::String(text) => text.clone(),
                Value::Bool(_) | Value::Number(_) => value.to_string(),
                _ => return Err(error(format!("{path}.{name}"), "is no text")),
            };
            match name.starts_with("WEFT_") {
                true => drop(self.env.insert(name.clone(), text)),
                false => warnings.push(format!("{path}.{name} is not honoured, and has no effect")),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn config(text: &str) -> (Result<ProxyConfig, String>, Vec<String>) {
        let mut warnings = Vec::new();
        let pod = json!({"metadata": {"annotations": {KEY: text}}});
        (read(&pod, &mut warnings).map_err(|e| e.to_string()), warnings)
    }

    #[test]
    fn some_of_it_is_honoured() {
        let text = "concurrency: 2\nterminationDrainDuration: 1m\nproxyMetadata: {WEFT_ACCESS_LOG: json, X: y}\ntracing: {sampling: 5, zipkin: {}}\n";
        let (config, warnings) = config(text);
        let config = config.unwrap();
        assert_eq!(config.drain_timeout.as_deref(), Some("60s"));
        assert_eq!(config.env["WEFT_WORKERS"], "2");
        assert_eq!(config.env["WEFT_ACCESS_LOG"], "json");
        let path = "metadata.annotations[proxy.istio.io/config]";
        let expected = [
            format!("{path}.proxyMetadata.X is not honoured, and has no effect"),
            format!("{path}.tracing.zipkin is not honoured, and has no effect"),
        ];
        assert_eq!(warnings, expected);
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        let refusal = |text| config(text).0.unwrap_err();
        assert!(refusal("a: [").contains("line 1"));
        assert!(refusal("- a").contains("is no map"));
        assert!(
            refusal("concurrency: many")
                .starts_with("metadata.annotations[proxy.istio.io/config].concurrency: ")
        );
        assert!(refusal("proxyMetadata: {WEFT_X: [1]}").contains("proxyMetadata.WEFT_X"));
    }
}
