//! A container with the sidecar's name and the image `auto`: what its author wants of the sidecar, as Istio has it.

use serde_json::Value;

use super::options::Options;
use super::parts::SIDECAR;
use super::raw::{items, name};

/// Names under which the sidecar is meant.
const NAMES: [&str; 2] = [SIDECAR, "istio-proxy"];
/// Fields that are taken over or say nothing.
const HONOURED: [&str; 4] = ["name", "image", "resources", "env"];

/// Takes such containers out of a pod, and their resources and variables into the options.
pub(super) fn take(pod: &mut Value, options: &mut Options, warnings: &mut Vec<String>) {
    for list in ["containers", "initContainers"] {
        for (i, container) in items(&pod["spec"], list).iter().enumerate() {
            if is_custom(container) {
                read(container, &format!("spec.{list}[{i}]"), options, warnings);
            }
        }
        if let Some(all) = pod["spec"].get_mut(list).and_then(Value::as_array_mut) {
            all.retain(|container| !is_custom(container));
        }
    }
}

fn is_custom(container: &Value) -> bool {
    NAMES.contains(&name(container)) && container["image"] == "auto"
}

fn read(container: &Value, at: &str, options: &mut Options, warnings: &mut Vec<String>) {
    for (key, value) in container.as_object().into_iter().flatten() {
        match key.as_str() {
            "resources" => match serde_json::from_value(value.clone()) {
                Ok(resources) => options.resources = resources,
                Err(error) => warnings.push(format!("{at}.resources: {error}; the usual ones are used")),
            },
            "env" => read_env(value, at, options, warnings),
            key if HONOURED.contains(&key) => {}
            key => warnings.push(format!("{at}.{key} is not honoured, and has no effect")),
        }
    }
}

fn read_env(env: &Value, at: &str, options: &mut Options, warnings: &mut Vec<String>) {
    for (i, variable) in env.as_array().into_iter().flatten().enumerate() {
        match (name(variable), variable["value"].as_str()) {
            (name, Some(value)) if name.starts_with("WEFT_") => {
                options.env.insert(name.to_owned(), value.to_owned());
            }
            _ => warnings.push(format!("{at}.env[{i}] is not honoured, and has no effect")),
        }
    }
}
