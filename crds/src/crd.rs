//! CustomResourceDefinitions (apiextensions v1): the frame around the schemas.

use serde_json::{Value, json};

use crate::kind::{ACCEPTED, AGE, Column, Kind, LATER, Later, Origin};
use crate::schema::refined;

/// The manifests of all kinds under one origin's groups, in the order of [`Kind::ALL`]; under Istio's those of
/// [`LATER`] too, whose objects apply and are told that they are not honoured yet.
pub fn crds(origin: Origin) -> Vec<Value> {
    let known = Kind::ALL.into_iter().map(|kind| crd(kind, origin));
    match origin {
        Origin::Weft => known.collect(),
        Origin::Istio => known.chain(LATER.iter().map(later)).collect(),
    }
}

/// Manifests as one YAML text, a document each.
///
/// # Errors
/// A value that YAML has no form for, of which a manifest has none.
pub fn yaml(manifests: &[Value]) -> Result<String, serde_saphyr::ser_error::Error> {
    let documents: Result<Vec<_>, _> = manifests.iter().map(serde_saphyr::to_string).collect();
    Ok(documents?.iter().map(|text| format!("---\n{}\n", text.trim_end())).collect())
}

/// The manifest of one kind.
pub fn crd(kind: Kind, origin: Origin) -> Value {
    frame(kind.group(origin), names(kind, origin), versions(kind, origin))
}

/// The manifest of a kind that is not honoured yet: everything is taken.
fn later(kind: &Later) -> Value {
    let schema = json!({
        "type": "object",
        "description": format!("{} of Istio's API, which Weft does not honour yet.", kind.name),
        "properties": {
            "spec": {
                "type": "object",
                "description": "As Istio's API has it; not looked at.",
                "x-kubernetes-preserve-unknown-fields": true,
            },
            "status": status(Origin::Istio),
        },
    });
    let mut names = json!({
        "kind": kind.name,
        "listKind": format!("{}List", kind.name),
        "plural": kind.plural,
        "singular": kind.name.to_lowercase(),
        "categories": ["istio-io"],
    });
    if !kind.short_names.is_empty() {
        names["shortNames"] = json!(kind.short_names);
    }
    let columns = vec![column(&ACCEPTED), column(&AGE)];
    let versions = kind.versions.iter().enumerate();
    let versions = versions.map(|(index, name)| version(index, name, &schema, &columns)).collect();
    frame(kind.group(), names, versions)
}

fn frame(group: &str, names: Value, versions: Vec<Value>) -> Value {
    let plural = names["plural"].as_str().unwrap_or_default();
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": { "name": format!("{plural}.{group}") },
        "spec": { "group": group, "names": names, "scope": "Namespaced", "versions": versions },
    })
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
    let schema = object_schema(kind, origin);
    // `kubectl explain` reads the preferred version; the others do without the text.
    let mut plain = schema.clone();
    without_text(&mut plain);
    let columns: Vec<Value> = kind.columns().iter().map(column).collect();
    let schema_of = |index| if index == 0 { &schema } else { &plain };
    let versions = kind.versions(origin).iter().enumerate();
    versions.map(|(index, name)| version(index, name, schema_of(index), &columns)).collect()
}

/// One served version; the first is stored.
fn version(index: usize, name: &str, schema: &Value, columns: &[Value]) -> Value {
    json!({
        "name": name,
        "served": true,
        "storage": index == 0,
        "subresources": { "status": {} },
        "additionalPrinterColumns": columns,
        "schema": { "openAPIV3Schema": schema },
    })
}

fn column(column: &Column) -> Value {
    json!({
        "name": column.name,
        "type": column.type_,
        "jsonPath": column.json_path,
        "description": column.description,
        "priority": column.priority,
    })
}

fn without_text(schema: &mut Value) {
    let Value::Object(schema) = schema else { return };
    if schema.get("description").is_some_and(Value::is_string) {
        schema.remove("description");
    }
    schema.values_mut().for_each(without_text);
}

fn object_schema(kind: Kind, origin: Origin) -> Value {
    let spec = refined(kind, origin);
    json!({
        "type": "object",
        "description": spec["description"],
        "properties": {
            "apiVersion": { "type": "string", "description": "The group and version of the object's kind." },
            "kind": { "type": "string", "description": "The object's kind." },
            "metadata": { "type": "object" },
            "spec": spec,
            "status": status(origin),
        },
    })
}

/// What the controller reports: `Accepted` and `Programmed`, in the form that `kubectl wait` understands.
fn status(origin: Origin) -> Value {
    let text = |most: u32, description: &str| json!({ "type": "string", "maxLength": most, "description": description });
    let condition = json!({
        "type": "object",
        "description": "One statement about the object.",
        "required": ["type", "status", "lastTransitionTime", "reason", "message"],
        "properties": {
            "type": text(316, "What it is about: `Accepted` (the object is in force) or `Programmed` (the sidecars have it)."),
            "status": {
                "type": "string",
                "enum": ["True", "False", "Unknown"],
                "description": "Whether it holds.",
            },
            "reason": text(1024, "Why, in one word: `Accepted`, `Invalid`, `NotHonoured`."),
            "message": text(32_768, "Why, with the path of the field, or on how many sidecars."),
            "lastTransitionTime": {
                "type": "string",
                "format": "date-time",
                "description": "When `status` changed.",
            },
            "observedGeneration": {
                "type": "integer",
                "format": "int64",
                "minimum": 0,
                "description": "The generation of the object that it is about.",
            },
        },
        "x-kubernetes-preserve-unknown-fields": true,
    });
    let mut status = json!({
        "type": "object",
        "description": "What the controller reports.",
        "properties": {
            "conditions": {
                "type": "array",
                "description": "How the object stands, one entry for each `type`.",
                "maxItems": 32,
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["type"],
                "items": condition,
            },
        },
        "x-kubernetes-preserve-unknown-fields": true,
    });
    if origin == Origin::Weft {
        status["properties"]["observedGeneration"] = json!({
            "type": "integer",
            "format": "int64",
            "description": "The generation of the object that the controller has seen.",
        });
    }
    status
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
        "maxItems",
        "maxLength",
        "maxProperties",
        "maximum",
        "minItems",
        "minLength",
        "minProperties",
        "minimum",
        "oneOf",
        "properties",
        "required",
        "type",
        "x-kubernetes-list-map-keys",
        "x-kubernetes-list-type",
        "x-kubernetes-preserve-unknown-fields",
        "x-kubernetes-validations",
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
}
