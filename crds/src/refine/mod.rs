//! What the types cannot say: bounds, formats, and rules between fields, which the API server itself enforces.
//!
//! Each kind has two tables. `SHARED` holds under both groups: what is plainly malformed, and what Istio's own
//! definitions refuse as well. `OURS` holds under our own group only: bounds, and rules in CEL whose text is what
//! validation says of the same mistake. CEL has a budget that counts the longest lists and texts that a schema
//! lets in, hence the bounds; under Istio's groups nothing is bounded, so that whatever applies there applies here.
//!
//! Fields that no type knows are kept by the API server, under both groups: one that was cut away in silence could
//! turn `rules: [{form: ...}]` into a rule that allows everyone. Admission and status name them.

/// VirtualServices.
mod virtual_service;

/// DestinationRules.
mod destination_rule;

/// AuthorizationPolicies and PeerAuthentications.
mod security;

/// Sidecars.
mod sidecar;

/// Telemetries.
mod telemetry;

use serde_json::{Map, Value, json};

use crate::kind::{Kind, Origin};

/// The longest text where nothing else is said, in bytes: what is matched or written.
const TEXT: u64 = 8192;
/// The longest list where nothing else is said.
const LIST: u64 = 4096;
/// The largest map where nothing else is said.
const MAP: u64 = 256;

/// Something that is added to the schema of one field.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Add {
    /// These fields have to be written.
    Required(&'static [&'static str]),
    /// The number is in this range.
    Range(i64, i64),
    /// The number is one of these.
    OneOf(&'static [i64]),
    /// The text is one of these.
    Words(&'static [&'static str]),
    /// At most one of these fields is written, where CEL would be too dear.
    AtMostOne(&'static [&'static str]),
    /// The text has this many bytes at most.
    Length(u64),
    /// The text is not empty, and has this many bytes at most.
    Text(u64),
    /// The list has this many entries at most.
    Items(u64),
    /// The list has this many entries.
    Between(u64, u64),
    /// The map has this many entries at most.
    Entries(u64),
    /// Something is written below.
    NotEmpty,
    /// The duration is a millisecond at least, and ten years at most.
    Positive,
    /// The duration is ten years at most.
    Duration,
    /// No two entries have the same text in this field.
    Key(&'static str),
    /// Without what another table said by this keyword.
    Without(&'static str),
    /// A rule in CEL, and what is said where it does not hold.
    Rule(&'static str, &'static str),
}

/// Fields and what is added to them. A path has `[]` after a list and `.*` for the values of a map; empty, it is the
/// `spec` itself.
pub(crate) type Table = &'static [(&'static str, &'static [Add])];

/// A table, and the path below which it stands.
type Placed = (&'static str, Table);

/// Adds everything to the schema of a kind's `spec`.
pub fn refine(kind: Kind, origin: Origin, spec: &mut Value) {
    for (below, table) in tables(kind, origin) {
        for (path, additions) in table {
            let path =
                [below, path].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(".");
            if let Some(node) = find(spec, &path) {
                additions.iter().for_each(|addition| add(node, *addition));
            }
        }
    }
    everywhere(spec, origin == Origin::Weft);
}

/// The tables of a kind.
fn tables(kind: Kind, origin: Origin) -> Vec<Placed> {
    let (shared, ours) = match kind {
        Kind::VirtualService => (vec![("", virtual_service::SHARED)], vec![("", virtual_service::OURS)]),
        Kind::DestinationRule => (destination_rule::shared(), destination_rule::ours()),
        Kind::AuthorizationPolicy => (vec![("", security::POLICY_SHARED)], vec![("", security::POLICY_OURS)]),
        Kind::PeerAuthentication => (vec![("", security::PEERS_SHARED)], vec![("", security::PEERS_OURS)]),
        Kind::Sidecar => (sidecar::shared(), sidecar::ours()),
        Kind::Telemetry => (vec![("", telemetry::SHARED)], vec![("", telemetry::OURS)]),
    };
    match origin {
        Origin::Weft => [shared, ours].concat(),
        Origin::Istio => shared,
    }
}

/// The schema of the field at a path.
fn find<'a>(spec: &'a mut Value, path: &str) -> Option<&'a mut Value> {
    path.split('.').filter(|step| !step.is_empty()).try_fold(spec, |node, step| {
        let (name, lists) = (step.trim_end_matches("[]"), step.matches("[]").count());
        let field = match name {
            "*" => node.get_mut("additionalProperties"),
            name => node.get_mut("properties")?.get_mut(name),
        };
        (0..lists).try_fold(field?, |node, _| node.get_mut("items"))
    })
}

fn add(node: &mut Value, addition: Add) {
    match addition {
        Add::Required(names) => node["required"] = json!(names),
        Add::Range(min, max) => {
            node["minimum"] = json!(min);
            node["maximum"] = json!(max);
        }
        Add::OneOf(numbers) => node["enum"] = json!(numbers),
        Add::Words(words) => node["enum"] = json!(words),
        Add::AtMostOne(names) => node["oneOf"] = at_most_one(names),
        Add::Length(most) => node["maxLength"] = json!(most),
        Add::Text(most) => {
            node["minLength"] = json!(1);
            node["maxLength"] = json!(most);
        }
        Add::Items(most) => node["maxItems"] = json!(most),
        Add::Between(least, most) => {
            node["minItems"] = json!(least);
            node["maxItems"] = json!(most);
        }
        Add::Entries(most) => node["maxProperties"] = json!(most),
        Add::NotEmpty => node["minProperties"] = json!(1),
        Add::Positive => {
            rule(node, "self >= duration('1ms')", "is too short; the least is 1ms");
            add(node, Add::Duration);
        }
        Add::Duration => {
            rule(
                node,
                "self <= duration('87600h')",
                "is longer than ten years; leave it out to mean for ever",
            );
        }
        Add::Key(name) => {
            node["x-kubernetes-list-type"] = json!("map");
            node["x-kubernetes-list-map-keys"] = json!([name]);
            node["items"]["required"] = json!([name]);
        }
        Add::Without(keyword) => {
            node.as_object_mut().map(|schema| schema.remove(keyword));
        }
        Add::Rule(expression, message) => rule(node, expression, message),
    }
}

fn at_most_one(names: &[&str]) -> Value {
    let written: Vec<Value> = names.iter().map(|name| json!({ "required": [name] })).collect();
    let none = json!({ "not": { "anyOf": written } });
    std::iter::once(none).chain(written).collect()
}

fn rule(node: &mut Value, expression: &str, message: &str) {
    let rule = json!({ "rule": expression, "message": message });
    match node.get_mut("x-kubernetes-validations").and_then(Value::as_array_mut) {
        Some(rules) => rules.push(rule),
        None => node["x-kubernetes-validations"] = json!([rule]),
    }
}

/// Keeps what no type knows, and bounds what no table bounds.
fn everywhere(node: &mut Value, bounded: bool) {
    let Value::Object(schema) = node else { return };
    if bounded {
        bound(schema);
    }
    if let Some(Value::Object(fields)) = schema.get_mut("properties") {
        fields.values_mut().for_each(|field| everywhere(field, bounded));
        schema.insert("x-kubernetes-preserve-unknown-fields".into(), json!(true));
    }
    for key in ["items", "additionalProperties"] {
        schema.get_mut(key).into_iter().for_each(|child| everywhere(child, bounded));
    }
}

fn bound(schema: &mut Map<String, Value>) {
    let (keyword, most) = match schema.get("type").and_then(Value::as_str) {
        Some("string") if !schema.contains_key("enum") && !schema.contains_key("format") => {
            ("maxLength", TEXT)
        }
        Some("array") => ("maxItems", LIST),
        Some("object") if schema.contains_key("additionalProperties") => ("maxProperties", MAP),
        _ => return,
    };
    schema.entry(keyword).or_insert(json!(most));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema;

    #[test]
    fn every_table_names_fields_that_exist() {
        for kind in Kind::ALL {
            let mut spec = schema::spec(kind);
            for (below, table) in tables(kind, Origin::Weft) {
                for (path, _) in table {
                    let path = format!("{below}.{path}");
                    assert!(find(&mut spec, &path).is_some(), "{kind}: {path}");
                }
            }
        }
    }

    #[test]
    fn under_our_group_everything_is_bounded_and_under_istios_what_istio_bounds() {
        fn unbounded(node: &Value) -> usize {
            let open = match node["type"].as_str() {
                Some("string") => {
                    node["maxLength"].is_null() && node["enum"].is_null() && node["format"].is_null()
                }
                Some("array") => node["maxItems"].is_null(),
                _ => node["additionalProperties"].is_object() && node["maxProperties"].is_null(),
            };
            let fields = node["properties"].as_object().into_iter().flatten().map(|(_, field)| field);
            let below = fields.chain(node.get("items")).chain(node.get("additionalProperties"));
            usize::from(open) + below.map(unbounded).sum::<usize>()
        }
        for kind in Kind::ALL {
            assert_eq!(unbounded(&schema::refined(kind, Origin::Weft)), 0, "{kind}");
        }
        assert!(unbounded(&schema::refined(Kind::VirtualService, Origin::Istio)) > 100);
    }

    #[test]
    fn unknown_fields_are_kept_for_admission_to_name() {
        for origin in Origin::ALL {
            let spec = schema::refined(Kind::AuthorizationPolicy, origin);
            let rule = &spec["properties"]["rules"]["items"];
            assert_eq!(rule["x-kubernetes-preserve-unknown-fields"], true);
        }
    }

    #[test]
    fn a_rule_in_cel_says_what_to_write() {
        for kind in Kind::ALL {
            for (_, table) in tables(kind, Origin::Weft) {
                for (path, additions) in table {
                    for addition in *additions {
                        let Add::Rule(expression, message) = addition else { continue };
                        assert!(expression.contains("self"), "{kind} {path}: {expression}");
                        assert!(message.len() > 15 && !message.contains('\n'), "{kind} {path}: {message}");
                    }
                }
            }
        }
    }
}
