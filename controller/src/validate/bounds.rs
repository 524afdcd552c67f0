//! The bounds that the API server keeps: those of the definitions' schemas, said of objects that never met one, and with
//! the same path. What is wrong already by another check is not said twice. Rules in CEL have counterparts in the checks of
//! each kind.

use std::sync::OnceLock;

use serde_json::{Map, Value};
use weft_crds::kind::{Kind, Origin};
use weft_crds::schema;

use super::findings::Findings;
use super::shape::{camel, field};

/// Notes what is too small, too large, too long, too many, missing or written twice, by the schema of the object's group.
pub fn check(findings: &mut Findings, kind: Kind, origin: Origin, spec: &Value) {
    let mut found = Vec::new();
    walk(&mut found, spec_schema(kind, origin), spec, &mut "spec".to_owned());
    for (path, reason) in found {
        if !findings.errors.iter().any(|known| known.path.starts_with(&path)) {
            findings.error(path, reason);
        }
    }
}

type Found = Vec<(String, String)>;

/// The schema of a kind's `spec` in one group, made once.
fn spec_schema(kind: Kind, origin: Origin) -> &'static Value {
    static ALL: OnceLock<Vec<((Kind, Origin), Value)>> = OnceLock::new();
    let kinds = || Kind::ALL.into_iter().flat_map(|kind| Origin::ALL.map(|origin| (kind, origin)));
    let made = || kinds().map(|of| (of, schema::refined(of.0, of.1))).collect();
    let found = ALL.get_or_init(made).iter().find(|(of, _)| *of == (kind, origin));
    found.map_or(&Value::Null, |(_, schema)| schema)
}

fn walk(found: &mut Found, schema: &Value, value: &Value, path: &mut String) {
    let length = path.len();
    match value {
        Value::Number(number) => note(found, path, range(schema, number.as_f64().unwrap_or_default())),
        Value::String(text) => note(found, path, size(schema, "Length", text.chars().count(), "characters")),
        Value::Array(list) => {
            note(found, path, size(schema, "Items", list.len(), "entries"));
            twice(found, schema, list, path);
            for (i, item) in list.iter().enumerate() {
                path.push_str(&format!("[{i}]"));
                walk(found, &schema["items"], item, path);
                path.truncate(length);
            }
        }
        Value::Object(map) => {
            let written = map.values().filter(|member| !member.is_null()).count();
            note(found, path, size(schema, "Properties", written, "fields"));
            missing(found, schema, map, path);
            for (name, member) in map {
                path.push('.');
                path.push_str(name);
                walk(found, field(schema, name), member, path);
                path.truncate(length);
            }
        }
        Value::Null | Value::Bool(_) => {}
    }
}

fn note(found: &mut Found, path: &str, reason: Option<String>) {
    found.extend(reason.map(|reason| (path.to_owned(), reason)));
}

fn range(schema: &Value, number: f64) -> Option<String> {
    let bound = |keyword: &str| schema[keyword].as_f64();
    match (bound("minimum"), bound("maximum")) {
        (Some(least), _) if number < least => Some(format!("is {number}; the least is {least}")),
        (_, Some(most)) if number > most => Some(format!("is {number}; the most is {most}")),
        _ => None,
    }
}

/// By the keywords `minLength` and `maxLength`, `minItems` and `maxItems`, `minProperties` and `maxProperties`.
fn size(schema: &Value, keyword: &str, size: usize, what: &str) -> Option<String> {
    let bound = |which: &str| {
        schema[format!("{which}{keyword}")].as_u64().map(|n| usize::try_from(n).unwrap_or(usize::MAX))
    };
    match (bound("min"), bound("max")) {
        (Some(_), _) if size == 0 => Some("is empty; leave it out, or write something".to_owned()),
        (Some(least), _) if size < least => Some(format!("has {size} {what}; the least is {least}")),
        (_, Some(most)) if size > most => Some(format!("has {size} {what}; the most is {most}")),
        _ => None,
    }
}

/// Entries that have the same text in the field that tells them apart.
fn twice(found: &mut Found, schema: &Value, list: &[Value], path: &str) {
    let Some(key) = schema["x-kubernetes-list-map-keys"][0].as_str() else { return };
    for (i, item) in list.iter().enumerate() {
        let Some(text) = item[key].as_str() else { continue };
        if list[..i].iter().any(|earlier| earlier[key] == *text) {
            found.push((format!("{path}[{i}]"), format!("{key} `{text}` is written twice")));
        }
    }
}

fn missing(found: &mut Found, schema: &Value, map: &Map<String, Value>, path: &str) {
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !map.iter().any(|(written, value)| camel(written) == name && !value.is_null()) {
            found.push((format!("{path}.{name}"), "is missing".to_owned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn found(kind: Kind, origin: Origin, spec: &Value) -> Vec<(String, String)> {
        let mut findings = Findings::default();
        check(&mut findings, kind, origin, spec);
        findings.errors.into_iter().map(|finding| (finding.path, finding.reason)).collect()
    }

    fn route(spec: Value) -> Value {
        json!({"hosts": ["a"], "http": [spec]})
    }

    #[test]
    fn f5_every_bound_of_the_schema_is_kept() {
        let one = |kind, spec: Value| found(kind, Origin::Weft, &spec);
        let said = |path: &str, reason: &str| vec![(path.to_owned(), reason.to_owned())];
        let attempts = route(json!({"route": [], "retries": {"attempts": 101}}));
        assert_eq!(
            one(Kind::VirtualService, attempts),
            said("spec.http[0].retries.attempts", "is 101; the most is 100")
        );
        let weight = route(json!({"route": [{"destination": {"host": "a"}, "weight": -1}]}));
        assert_eq!(
            one(Kind::VirtualService, weight),
            said("spec.http[0].route[0].weight", "is -1; the least is 0")
        );
        let hosts = json!({"hosts": vec!["a"; 257]});
        assert_eq!(one(Kind::VirtualService, hosts), said("spec.hosts", "has 257 entries; the most is 256"));
        let regex = route(json!({"match": [{"uri": {"regex": "x".repeat(1025)}}]}));
        let long = "has 1025 characters; the most is 1024";
        assert_eq!(one(Kind::VirtualService, regex), said("spec.http[0].match[0].uri.regex", long));
        let empty = "is empty; leave it out, or write something";
        let from = json!({"rules": [{"from": []}]});
        assert_eq!(one(Kind::AuthorizationPolicy, from), said("spec.rules[0].from", empty));
        let source = json!({"rules": [{"from": [{"source": {"namespaces": null}}]}]});
        assert_eq!(one(Kind::AuthorizationPolicy, source), said("spec.rules[0].from[0].source", empty));
        assert_eq!(one(Kind::DestinationRule, json!({})), said("spec.host", "is missing"));
        let subsets = json!({"host": "a", "subsets": [{"name": "v1"}, {"name": "v2"}, {"name": "v1"}]});
        assert_eq!(
            one(Kind::DestinationRule, subsets),
            said("spec.subsets[2]", "name `v1` is written twice")
        );
    }

    #[test]
    fn istios_groups_have_istios_bounds() {
        let hosts = json!({"hosts": vec!["a"; 257]});
        assert!(found(Kind::VirtualService, Origin::Istio, &hosts).is_empty());
        assert_eq!(found(Kind::DestinationRule, Origin::Istio, &json!({}))[0].0, "spec.host");
    }

    #[test]
    fn what_is_said_already_is_not_said_twice_and_both_spellings_count() {
        let mut findings = Findings::default();
        findings.error("spec.hosts[256]", "known");
        check(&mut findings, Kind::VirtualService, Origin::Weft, &json!({"hosts": vec!["a"; 257]}));
        assert_eq!(findings.errors.len(), 1, "{findings:?}");
        let snake =
            json!({"host": "a", "traffic_policy": {"outlier_detection": {"max_ejection_percent": 101}}});
        let path = "spec.traffic_policy.outlier_detection.max_ejection_percent";
        assert_eq!(found(Kind::DestinationRule, Origin::Weft, &snake)[0].0, path);
    }
}
