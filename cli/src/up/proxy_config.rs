//! What a pod's `proxy.istio.io/config` annotation says of its sidecar. Pure.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::up::manifest::Meta;

/// Istio's name of the annotation; its value is YAML of the kind `ProxyConfig`.
const ANNOTATION: &str = "proxy.istio.io/config";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Config {
    #[serde(default)]
    proxy_metadata: BTreeMap<String, String>,
}

/// Variables of the sidecar's environment (`proxyMetadata`), as in `proxyMetadata: {WEFT_ACCESS_LOG: json}`.
///
/// # Errors
/// What of the annotation cannot be read; every other field of it is refused.
pub fn variables(pod: &Meta) -> Result<Vec<(String, String)>, String> {
    let Some(text) = pod.annotations.get(ANNOTATION) else { return Ok(Vec::new()) };
    let config: Config = serde_saphyr::from_str(text)
        .map_err(|e| format!("metadata.annotations[{ANNOTATION}]: only proxyMetadata is known here: {e}"))?;
    Ok(config.proxy_metadata.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(config: &str) -> Result<Vec<(String, String)>, String> {
        let annotations = [(ANNOTATION.to_owned(), config.to_owned())].into();
        variables(&Meta { annotations, ..Meta::default() })
    }

    #[test]
    fn variables_are_read_and_other_fields_refused() {
        let expected = vec![("WEFT_ACCESS_LOG".to_owned(), "json".to_owned())];
        assert_eq!(read("proxyMetadata: {WEFT_ACCESS_LOG: json}"), Ok(expected));
        assert_eq!(variables(&Meta::default()), Ok(vec![]));
        assert!(
            read("concurrency: 2").unwrap_err().starts_with("metadata.annotations[proxy.istio.io/config]: ")
        );
    }
}
