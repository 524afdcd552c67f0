//! Structural schemas made from the Rust types.
//!
//! The API server takes only structural schemas: each node with one `type`, no references, no `null` among the
//! types, alternatives only where every branch is plain. `spec` brings what schemars derives into that form, and
//! `refined` adds what the types cannot say. Doc comments become descriptions, which `kubectl explain` shows.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::authorization_policy::AuthorizationPolicy;
use crate::destination_rule::DestinationRule;
use crate::kind::{Kind, Origin};
use crate::peer_authentication::PeerAuthentication;
use crate::refine::refine;
use crate::sidecar::Sidecar;
use crate::slips;
use crate::telemetry::Telemetry;
use crate::virtual_service::VirtualService;

/// The structural schema of a kind's `spec` with all bounds and rules, as the API server gets it.
pub fn refined(kind: Kind, origin: Origin) -> Value {
    let mut schema = spec(kind);
    refine(kind, origin, &mut schema);
    schema
}

/// The structural schema of a kind's `spec`, as the types alone say it.
pub fn spec(kind: Kind) -> Value {
    let mut schema = match kind {
        Kind::VirtualService => derived::<VirtualService>(),
        Kind::DestinationRule => derived::<DestinationRule>(),
        Kind::AuthorizationPolicy => derived::<AuthorizationPolicy>(),
        Kind::PeerAuthentication => derived::<PeerAuthentication>(),
        Kind::Sidecar => derived::<Sidecar>(),
        Kind::Telemetry => derived::<Telemetry>(),
    };
    structural(&mut schema);
    schema
}

/// The field of a kind that was meant by one that there is not: `spec.http[0].timeout` by `spec.http[0].tiemout`.
pub fn meant(kind: Kind, path: &str) -> Option<String> {
    let path = path.strip_prefix("spec.")?;
    let (parents, last) = path.rsplit_once('.').unwrap_or(("", path));
    let spec = spec(kind);
    let mut node = &spec;
    for segment in parents.split('.').filter(|segment| !segment.is_empty()) {
        let mut parts = segment.split('[');
        let name = parts.next()?;
        node = node["properties"].get(name).or_else(|| node.get("additionalProperties"))?;
        for _ in parts {
            node = node.get("items")?;
        }
    }
    let known = node["properties"].as_object()?.keys().map(String::as_str);
    slips::near(last, known).map(str::to_owned)
}

fn derived<T: JsonSchema>() -> Value {
    let mut settings = SchemaSettings::draft2020_12();
    settings.inline_subschemas = true;
    settings.meta_schema = None;
    settings.into_generator().into_root_schema_for::<T>().into()
}

/// Brings a schema and all below it into structural form.
fn structural(node: &mut Value) {
    let Value::Object(schema) = node else {
        *node = json!({ "x-kubernetes-preserve-unknown-fields": true });
        return;
    };
    for key in ["$schema", "title", "default", "nullable"] {
        schema.remove(key);
    }
    unwrap_optional(schema);
    collapse_enum(schema);
    unfold_description(schema);
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        properties.values_mut().for_each(structural);
    }
    for key in ["items", "additionalProperties"] {
        if let Some(child) = schema.get_mut(key) {
            structural(child);
        }
    }
}

/// `null` as an alternative only says that a field is optional, as all are: `[T, null]` becomes `T`.
fn unwrap_optional(schema: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            schema.insert("type".into(), only);
        }
    }
    if let Some(Value::Array(names)) = schema.get_mut("enum") {
        names.retain(|name| !name.is_null());
    }
    let Some(Value::Array(mut branches)) = schema.remove("anyOf") else { return };
    branches.retain(|branch| branch["type"] != "null");
    if let Some(Value::Object(inner)) = branches.pop() {
        for (key, value) in inner {
            // The field's own description is nearer to the reader than that of its type.
            schema.entry(key).or_insert(value);
        }
    }
}

/// Documented variants come as `oneOf` constants; they become one `enum`, their docs part of the description.
fn collapse_enum(schema: &mut Map<String, Value>) {
    let Some(Value::Array(variants)) = schema.remove("oneOf") else { return };
    let mut text = schema.get("description").and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut names = Vec::with_capacity(variants.len());
    for variant in &variants {
        if let (Some(name), Some(doc)) = (variant["const"].as_str(), variant["description"].as_str()) {
            text.push_str(&format!("\n\n{name}: {doc}"));
            names.push(json!(name));
        }
    }
    schema.insert("type".into(), json!("string"));
    schema.insert("enum".into(), Value::Array(names));
    schema.insert("description".into(), Value::String(text));
}

/// Joins the lines of a paragraph: where a source line ends means nothing to a reader of `kubectl explain`.
fn unfold_description(schema: &mut Map<String, Value>) {
    if let Some(Value::String(text)) = schema.get_mut("description") {
        let paragraphs: Vec<String> = text.split("\n\n").map(|p| p.replace('\n', " ")).collect();
        *text = paragraphs.join("\n\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_that_slipped_is_told_by_its_place() {
        let meant = |path: &str| meant(Kind::VirtualService, path);
        assert_eq!(meant("spec.http[0].tiemout").as_deref(), Some("timeout"));
        assert_eq!(meant("spec.http[0].match[1].uri.prefx").as_deref(), Some("prefix"));
        assert_eq!(meant("spec.http[0].match[1].headers.end-user.exat").as_deref(), Some("exact"));
        assert_eq!(meant("spec.hots").as_deref(), Some("hosts"));
        for path in [
            "spec.http[0].nonsense",
            "spec.hosts[0].x",
            "spec.no.such",
            "status.x",
            "spec",
            "spec.",
            "spec.[[",
        ] {
            assert_eq!(meant(path), None, "{path}");
        }
    }

    #[test]
    fn every_field_of_a_spec_is_described() {
        fn walk(at: String, node: &Value) {
            for (name, child) in node["properties"].as_object().into_iter().flatten() {
                let at = format!("{at}.{name}");
                assert!(child["description"].as_str().is_some_and(|text| !text.is_empty()), "{at}");
                walk(at, child);
            }
            if node["items"].is_object() {
                walk(format!("{at}[]"), &node["items"]);
            }
        }
        Kind::ALL.into_iter().for_each(|kind| walk(format!("{kind} spec"), &spec(kind)));
    }

    #[test]
    fn enums_are_plain_and_keep_their_docs() {
        let spec = spec(Kind::PeerAuthentication);
        let mode = &spec["properties"]["mtls"]["properties"]["mode"];
        assert_eq!(mode["enum"], json!(["UNSET", "DISABLE", "PERMISSIVE", "STRICT"]));
        assert!(
            mode["description"].as_str().is_some_and(|text| text.contains("\n\nSTRICT: Mutual TLS only."))
        );
    }
}
