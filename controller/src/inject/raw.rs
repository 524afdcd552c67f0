//! Reading and changing a pod as raw JSON: fields that are newer than any type of ours stay as they are.

use serde_json::{Map, Value};

/// A part of a pod that has another form than Kubernetes gives it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub(super) struct Malformed {
    /// The field.
    pub(super) field: String,
    /// What is wrong with it.
    pub(super) reason: String,
}

/// What later steps rely on: metadata and its maps are maps, containers are lists of maps with names.
///
/// # Errors
/// The first field that is something else.
pub(super) fn check(pod: &Value) -> Result<(), Malformed> {
    if !pod["spec"].is_object() {
        return Err(malformed("spec", "is no map: this is no pod"));
    }
    for path in ["metadata", "metadata.labels", "metadata.annotations"] {
        let value = path.split('.').fold(pod, |value, key| &value[key]);
        if !(value.is_null() || value.is_object()) {
            return Err(malformed(path, "is no map"));
        }
    }
    if items(&pod["spec"], "containers").is_empty() {
        return Err(malformed("spec.containers", "has nothing: this is no pod"));
    }
    ["containers", "initContainers", "volumes", "imagePullSecrets"]
        .iter()
        .try_for_each(|key| named_list(pod, key))
}

fn named_list(pod: &Value, key: &str) -> Result<(), Malformed> {
    let list = &pod["spec"][key];
    if !(list.is_null() || list.is_array()) {
        return Err(malformed(format!("spec.{key}"), "is no list"));
    }
    match items(&pod["spec"], key).iter().position(|item| !item["name"].is_string()) {
        Some(i) => Err(malformed(format!("spec.{key}[{i}].name"), "is no text")),
        None => Ok(()),
    }
}

pub(super) fn malformed(field: impl Into<String>, reason: impl Into<String>) -> Malformed {
    Malformed { field: field.into(), reason: reason.into() }
}

/// The elements of a list; none where it is missing.
pub(super) fn items<'a>(of: &'a Value, key: &str) -> &'a [Value] {
    of[key].as_array().map_or(&[], Vec::as_slice)
}

/// The list at `key`, made where it is missing. `of` is a map.
pub(super) fn list<'a>(of: &'a mut Value, key: &str) -> &'a mut Vec<Value> {
    let list = &mut of[key];
    if !list.is_array() {
        *list = Value::Array(Vec::new());
    }
    list.as_array_mut().expect("it was made a list")
}

/// The map at `key`, made where it is missing. `of` is a map.
pub(super) fn map<'a>(of: &'a mut Value, key: &str) -> &'a mut Map<String, Value> {
    let map = &mut of[key];
    if !map.is_object() {
        *map = Value::Object(Map::new());
    }
    map.as_object_mut().expect("it was made a map")
}

/// The name of a container or volume.
pub(super) fn name(of: &Value) -> &str {
    of["name"].as_str().unwrap_or_default()
}

/// An annotation of a pod.
pub(super) fn annotation<'a>(pod: &'a Value, key: &str) -> Option<&'a str> {
    pod["metadata"]["annotations"].get(key)?.as_str()
}

/// A label of a pod.
pub(super) fn label<'a>(pod: &'a Value, key: &str) -> Option<&'a str> {
    pod["metadata"]["labels"].get(key)?.as_str()
}

/// Whether an init container runs on beside the application.
pub(super) fn is_native_sidecar(container: &Value) -> bool {
    container["restartPolicy"] == "Always"
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn f15_what_is_no_pod_is_told_by_its_field() {
        let refusal = |pod: Value| check(&pod).unwrap_err().to_string();
        assert!(refusal(json!(null)).starts_with("spec: "));
        assert!(refusal(json!({"spec": {}})).starts_with("spec.containers: "));
        assert!(refusal(json!({"spec": {"containers": {}}})).starts_with("spec.containers: "));
        assert!(refusal(json!({"spec": {"containers": ["a"]}})).starts_with("spec.containers[0].name: "));
        let pod = |key: &str, value: Value| {
            let mut pod = json!({"metadata": {}, "spec": {"containers": [{"name": "a"}]}});
            *pod.pointer_mut(&key[..key.rfind('/').unwrap()]).unwrap() =
                json!({"containers": [{"name": "a"}]});
            pod[&key[1..key.rfind('/').unwrap()]][&key[key.rfind('/').unwrap() + 1..]] = value;
            pod
        };
        assert!(refusal(pod("/spec/volumes", json!("x"))).starts_with("spec.volumes: "));
        assert!(refusal(pod("/metadata/labels", json!([]))).starts_with("metadata.labels: "));
        assert_eq!(
            check(&json!({"metadata": null, "spec": {"containers": [{"name": "a"}], "volumes": null}})),
            Ok(())
        );
    }
}
