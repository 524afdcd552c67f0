//! Lists where maps belong: the decoder would take the fields of a type by their order, which nobody means.

use std::sync::OnceLock;

use serde_json::Value;
use weft_crds::kind::Kind;
use weft_crds::schema;

use super::findings::Findings;

/// Notes every list that stands where the kind has a map of fields.
pub fn check(findings: &mut Findings, kind: Kind, spec: &Value) {
    walk(findings, spec_schema(kind), spec, &mut "spec".to_owned());
}

/// The schema of a kind's `spec`, made once.
fn spec_schema(kind: Kind) -> &'static Value {
    static ALL: OnceLock<Vec<(Kind, Value)>> = OnceLock::new();
    let all = ALL.get_or_init(|| Kind::ALL.into_iter().map(|kind| (kind, schema::spec(kind))).collect());
    all.iter().find(|(known, _)| *known == kind).map_or(&Value::Null, |(_, schema)| schema)
}

fn walk(findings: &mut Findings, schema: &Value, value: &Value, path: &mut String) {
    let length = path.len();
    match value {
        Value::Array(_) if schema["type"] == "object" => {
            findings.error(path.as_str(), "is a list; fields belong here");
        }
        Value::Array(list) => {
            for (i, item) in list.iter().enumerate() {
                path.push_str(&format!("[{i}]"));
                walk(findings, &schema["items"], item, path);
                path.truncate(length);
            }
        }
        Value::Object(map) => {
            for (name, member) in map {
                path.push('.');
                path.push_str(name);
                walk(findings, field(schema, name), member, path);
                path.truncate(length);
            }
        }
        _ => {}
    }
}

/// The schema of a field, by either spelling of its name, or of a map's values; null where there is none.
pub(super) fn field<'a>(schema: &'a Value, name: &str) -> &'a Value {
    let Some(fields) = schema["properties"].as_object() else { return &schema["additionalProperties"] };
    fields.get(name).or_else(|| fields.get(&camel(name))).unwrap_or(&Value::Null)
}

/// `trafficPolicy` for `traffic_policy`, and for itself.
pub(super) fn camel(snake: &str) -> String {
    let mut words = snake.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |mut name, word| {
        let mut letters = word.chars();
        name.extend(letters.next().map(|letter| letter.to_ascii_uppercase()));
        name.push_str(letters.as_str());
        name
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn f5_lists_are_no_maps() {
        let found = |kind: Kind, spec: Value| {
            let mut findings = Findings::default();
            check(&mut findings, kind, &spec);
            findings.errors.into_iter().map(|finding| finding.path).collect::<Vec<_>>()
        };
        let spec = json!({"hosts": ["a"], "http": [{"match": [[]], "retries": [3], "route": [{"destination": ["a"]}]}]});
        let lists = ["spec.http[0].match[0]", "spec.http[0].retries", "spec.http[0].route[0].destination"];
        assert_eq!(found(Kind::VirtualService, spec), lists);
        let spec = json!({"rules": [{"from": [{"source": [["a"]]}]}], "selector": []});
        assert_eq!(found(Kind::AuthorizationPolicy, spec), ["spec.rules[0].from[0].source", "spec.selector"]);
        assert_eq!(found(Kind::DestinationRule, json!({"traffic_policy": []})), ["spec.traffic_policy"]);
        assert_eq!(
            found(Kind::PeerAuthentication, json!({"portLevelMtls": {"80": []}})),
            ["spec.portLevelMtls.80"]
        );
        assert_eq!(found(Kind::Sidecar, json!([])), ["spec"]);
    }
}
