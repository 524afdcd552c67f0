//! The sample and full objects of each kind, through YAML, types and back.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use weft_crds::authorization_policy::AuthorizationPolicy;
use weft_crds::decode::{Decoded, decode_object};
use weft_crds::destination_rule::DestinationRule;
use weft_crds::destination_rule::load_balancer::SimpleLb;
use weft_crds::honoured::unhonoured;
use weft_crds::kind::{Kind, Origin};
use weft_crds::meta::Object;
use weft_crds::peer_authentication::PeerAuthentication;
use weft_crds::scalar::{Duration, Int};
use weft_crds::schema;
use weft_crds::sidecar::Sidecar;
use weft_crds::virtual_service::VirtualService;

const SAMPLE: &str = include_str!("../../samples/content-service.yaml");

fn documents() -> Vec<Value> {
    serde_saphyr::from_multiple(SAMPLE).expect("the sample is YAML")
}

fn decode<S: Default + DeserializeOwned>(value: &Value) -> Decoded<Object<S>> {
    decode_object(value).unwrap_or_else(|error| panic!("{error}: {value}"))
}

#[test]
fn the_sample_is_known_and_honoured_whole() {
    let kinds: Vec<_> = documents()
        .iter()
        .map(|document| {
            let text = |key: &str| document[key].as_str().expect("a text");
            let (kind, origin) = Kind::lookup(text("apiVersion"), text("kind")).expect("known");
            assert_eq!(origin, Origin::Istio);
            assert_eq!(unhonoured(kind, &document["spec"]), Vec::<String>::new());
            kind
        })
        .collect();
    assert_eq!(kinds, [Kind::VirtualService, Kind::DestinationRule, Kind::AuthorizationPolicy]);
}

#[test]
fn the_sample_decodes() {
    let documents = documents();
    let routes: Decoded<Object<VirtualService>> = decode(&documents[0]);
    assert!(routes.unknown.is_empty() && routes.nulls.is_empty());
    let http = &routes.value.spec.http;
    assert_eq!(http[0].matches[0].headers["end-user"].exact.as_deref(), Some("premium"));
    assert_eq!(http[1].route.iter().map(|r| r.weight).collect::<Vec<_>>(), [Some(Int(80)), Some(Int(20))]);

    let rule: Decoded<Object<DestinationRule>> = decode(&documents[1]);
    assert!(rule.unknown.is_empty());
    let policy = rule.value.spec.traffic_policy.expect("a policy");
    assert_eq!(policy.load_balancer.and_then(|lb| lb.simple), Some(SimpleLb::LeastConn));
    let outlier = policy.outlier_detection.expect("outlier detection");
    assert_eq!((outlier.consecutive_errors, outlier.consecutive_5xx_errors), (Some(Int(3)), None));
    assert_eq!(outlier.interval, Some(Duration::from("30s")));

    let authz: Decoded<Object<AuthorizationPolicy>> = decode(&documents[2]);
    assert!(authz.unknown.is_empty());
    let rules = authz.value.spec.rules.expect("rules");
    assert_eq!(rules.len(), 3);
    assert!(rules[0].to.is_none());
    assert_eq!(rules[2].when.as_ref().expect("when")[0].values, ["Bearer *"]);
}

#[test]
fn the_sample_goes_round() {
    for (index, document) in documents().iter().enumerate() {
        let back = match index {
            0 => again::<VirtualService>(document),
            1 => again::<DestinationRule>(document),
            _ => again::<AuthorizationPolicy>(document),
        };
        assert_eq!(&back, document);
    }
}

fn again<S: Default + Serialize + DeserializeOwned>(document: &Value) -> Value {
    serde_json::to_value(decode::<S>(document).value).expect("json")
}

/// A value that writes every field of a schema. `snake`: names as in the proto files.
fn full(schema: &Value, snake: bool) -> Value {
    match schema["type"].as_str() {
        Some("object") => match schema["properties"].as_object() {
            Some(fields) => {
                fields.iter().map(|(name, field)| (spelled(name, snake), full(field, snake))).collect()
            }
            None => json!({ "any-key": full(&schema["additionalProperties"], snake) }),
        },
        Some("array") => json!([full(&schema["items"], snake)]),
        Some("integer") => json!(7),
        Some("number") => json!(1.5),
        Some("boolean") => json!(true),
        _ => schema["enum"].get(0).cloned().unwrap_or_else(|| json!("1s")),
    }
}

fn spelled(name: &str, snake: bool) -> String {
    let mut out = String::new();
    for c in name.chars() {
        if snake && c.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(if snake { c.to_ascii_lowercase() } else { c });
    }
    // A digit is no capital: this one name hides where its word starts.
    out.replace("consecutive5xx", if snake { "consecutive_5xx" } else { "consecutive5xx" })
}

fn every_field_goes_round<S: Default + Serialize + DeserializeOwned>(kind: Kind) {
    let schema = schema::spec(kind);
    let camel = json!({ "spec": full(&schema, false) });
    let snake = json!({ "spec": full(&schema, true) });
    let decoded = decode::<S>(&camel);
    assert_eq!(decoded.unknown, Vec::<String>::new(), "{kind}");
    assert_eq!(serde_json::to_value(&decoded.value.spec).expect("json"), camel["spec"], "{kind}");
    let decoded = decode::<S>(&snake);
    assert_eq!(decoded.unknown, Vec::<String>::new(), "{kind}");
    assert_eq!(serde_json::to_value(&decoded.value.spec).expect("json"), camel["spec"], "{kind}");
}

#[test]
fn every_field_goes_round_in_both_spellings() {
    every_field_goes_round::<VirtualService>(Kind::VirtualService);
    every_field_goes_round::<DestinationRule>(Kind::DestinationRule);
    every_field_goes_round::<AuthorizationPolicy>(Kind::AuthorizationPolicy);
    every_field_goes_round::<PeerAuthentication>(Kind::PeerAuthentication);
    every_field_goes_round::<Sidecar>(Kind::Sidecar);
}

#[test]
fn f5_an_unknown_enum_value_is_an_error_that_lists_the_known_ones() {
    let rule = json!({"spec": {"trafficPolicy": {"loadBalancer": {"simple": "LEAST_REQUESTS"}}}});
    let error = decode_object::<DestinationRule>(&rule).expect_err("unknown value").to_string();
    assert!(error.starts_with("spec.trafficPolicy.loadBalancer.simple: "), "{error}");
    for name in ["LEAST_REQUESTS", "UNSPECIFIED", "LEAST_CONN", "RANDOM", "PASSTHROUGH", "ROUND_ROBIN"] {
        assert!(error.contains(name), "{error}");
    }
}

#[test]
fn f6_a_field_written_in_both_spellings_is_an_error() {
    let service = json!({"spec": {"exportTo": ["."], "export_to": ["*"]}});
    let error = decode_object::<VirtualService>(&service).expect_err("twice").to_string();
    assert!(error.contains("duplicate field `exportTo`"), "{error}");
}

#[test]
fn values_that_make_no_sense_wait_for_validation() {
    let service = json!({"spec": {"http": [{
        "timeout": "5",
        "retries": {"attempts": -3},
        "route": [{"weight": "20", "destination": {"host": "a", "port": {"number": 70_000}}}],
    }]}});
    let http = &decode::<VirtualService>(&service).value.spec.http[0];
    assert!(http.timeout.as_ref().expect("written").parse().is_err());
    assert_eq!(http.retries.as_ref().and_then(|r| r.attempts), Some(Int(-3)));
    assert_eq!(http.route[0].weight, Some(Int(20)));
    let port = http.route[0].destination.as_ref().and_then(|d| d.port.as_ref()).and_then(|p| p.number);
    assert!(port.expect("written").port().is_err());
}

#[test]
fn a_policy_tells_left_out_from_empty() {
    let policy = |spec: Value| decode::<AuthorizationPolicy>(&json!({ "spec": spec })).value.spec;
    assert_eq!(policy(json!({})).rules, None);
    assert_eq!(policy(json!({"rules": [{}]})).rules.map(|r| r.len()), Some(1));
    let empty = policy(json!({"rules": [{"from": []}]})).rules.expect("rules");
    assert_eq!(empty[0].from.as_ref().map(Vec::len), Some(0));
}
