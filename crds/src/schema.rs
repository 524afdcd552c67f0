//! CustomResourceDefinitions (apiextensions v1) made from the Rust types.
//!
//! The API server takes only structural schemas: each node with one `type`, no references, no `null` among the
//! types, alternatives only where every branch is plain. `spec` brings what schemars derives into that form;
//! `crd` puts the frame around it. Doc comments become descriptions, which `kubectl explain` shows.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::authorization_policy::AuthorizationPolicy;
use crate::destination_rule::DestinationRule;
use crate::kind::{Column, Kind, Origin};
use crate::peer_authentication::PeerAuthentication;
use crate::sidecar::Sidecar;
use crate::virtual_service::VirtualService;

/// The manifests of all kinds under one origin's groups, in the order of [`Kind::ALL`].
pub fn crds(origin: Origin) -> Vec<Value> {
    Kind::ALL.into_iter().map(|kind| crd(kind, origin)).collect()
}

/// The manifest of one kind.
pub fn crd(kind: Kind, origin: Origin) -> Value {
    let group = kind.group(origin);
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": { "name": format!("{}.{group}", kind.plural()) },
        "spec": {
            "group": group,
            "names": names(kind, origin),
            "scope": "Namespaced",
            "versions": versions(kind, origin),
        },
    })
}

/// The structural schema of a kind's `spec`.
pub fn spec(kind: Kind) -> Value {
    let mut schema = match kind {
        Kind::VirtualService => derived::<VirtualService>(),
        Kind::DestinationRule => derived::<DestinationRule>(),
        Kind::AuthorizationPolicy => derived::<AuthorizationPolicy>(),
        Kind::PeerAuthentication => derived::<PeerAuthentication>(),
        Kind::Sidecar => derived::<Sidecar>(),
    };
    structural(&mut schema);
    refine(kind, &mut schema);
    schema
}

/// Adds what the types cannot say. The place for bounds and `x-kubernetes-validations` (CEL).
fn refine(_kind: Kind, _spec: &mut Value) {}

fn derived<T: JsonSchema>() -> Value {
    let mut settings = SchemaSettings::draft2020_12();
    settings.inline_subschemas = true;
    settings.meta_schema = None;
    settings.into_generator().into_root_schema_for::<T>().into()
}

fn names(kind: Kind, origin: Origin) -> Value {
    let mut names = json!({
        "kind": kind.name(),
        "listKind": format!("{kind}List"),
        "plural": kind.plural(),
        "singular": kind.singular(),
        "categories": kind.categories(origin),
    });
    if !kind.short_names().is_empty() {
        names["shortNames"] = json!(kind.short_names());
    }
    names
}

fn versions(kind: Kind, origin: Origin) -> Vec<Value> {
    let schema = object_schema(kind);
    let columns: Vec<Value> = kind.columns().iter().map(column).collect();
    let version = |(index, name): (usize, &&str)| {
        json!({
            "name": name,
            "served": true,
            "storage": index == 0,
            "subresources": { "status": {} },
            "additionalPrinterColumns": columns,
            "schema": { "openAPIV3Schema": schema },
        })
    };
    kind.versions(origin).iter().enumerate().map(version).collect()
}

fn column(column: &Column) -> Value {
    json!({
        "name": column.name,
        "type": column.type_,
        "jsonPath": column.json_path,
        "description": column.description,
    })
}

fn object_schema(kind: Kind) -> Value {
    let spec = spec(kind);
    json!({
        "type": "object",
        "description": spec["description"],
        "properties": {
            "apiVersion": { "type": "string" },
            "kind": { "type": "string" },
            "metadata": { "type": "object" },
            "spec": spec,
            "status": {
                "type": "object",
                "description": "What the controller reports.",
                "x-kubernetes-preserve-unknown-fields": true,
            },
        },
    })
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

    /// Keywords of a structural schema that the API server understands.
    const KEYWORDS: &[&str] = &[
        "additionalProperties",
        "description",
        "enum",
        "format",
        "items",
        "properties",
        "type",
        "x-kubernetes-preserve-unknown-fields",
    ];

    fn check(at: &str, node: &Value) {
        let schema = node.as_object().unwrap_or_else(|| panic!("{at}: not a schema: {node}"));
        let unexpected: Vec<_> = schema.keys().filter(|key| !KEYWORDS.contains(&key.as_str())).collect();
        assert!(unexpected.is_empty(), "{at}: {unexpected:?}");
        let type_ =
            schema.get("type").and_then(Value::as_str).unwrap_or_else(|| panic!("{at}: no type: {node}"));
        assert!(
            ["object", "array", "string", "integer", "number", "boolean"].contains(&type_),
            "{at}: {type_}"
        );
        assert_eq!(schema.contains_key("items"), type_ == "array", "{at}");
        for (name, child) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            check(&format!("{at}.{name}"), child);
        }
        for key in ["items", "additionalProperties"] {
            schema.get(key).into_iter().for_each(|child| check(&format!("{at}[]"), child));
        }
    }

    #[test]
    fn schemas_are_structural() {
        for origin in Origin::ALL {
            for crd in crds(origin) {
                for version in crd["spec"]["versions"].as_array().expect("versions") {
                    check(
                        crd["metadata"]["name"].as_str().expect("name"),
                        &version["schema"]["openAPIV3Schema"],
                    );
                }
            }
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
    fn one_version_is_stored_and_all_are_served() {
        let crd = crd(Kind::VirtualService, Origin::Istio);
        let stored: Vec<_> = crd["spec"]["versions"]
            .as_array()
            .expect("versions")
            .iter()
            .map(|version| (version["name"].as_str(), version["storage"] == true, version["served"] == true))
            .collect();
        assert_eq!(
            stored,
            [(Some("v1"), true, true), (Some("v1beta1"), false, true), (Some("v1alpha3"), false, true)]
        );
        assert_eq!(crd["metadata"]["name"], "virtualservices.networking.istio.io");
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
