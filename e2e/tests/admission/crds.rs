//! The API server takes the definitions, enforces what they say, and tells people of them; what it refuses is refused offline
//! too.

use std::path::Path;

use serde_json::{Value, json};
use weft_controller::check::check_changes;
use weft_controller::report::Severity;
use weft_controller::source::directory::{Directory, Files};
use weft_crds::kind::{Kind, Origin};

use crate::{manifest, namespace, refusal, server};

/// Manifests that people may write as they are.
const GOOD: [&str; 3] = [
    include_str!("../../../samples/content-service.yaml"),
    include_str!("../../../cli/src/demo/manifests/mesh.yaml"),
    include_str!("../../../controller/tests/everything.yaml"),
];

fn mesh_objects() -> Vec<(Kind, Value)> {
    let documents = GOOD.iter().flat_map(|text| {
        serde_saphyr::from_multiple::<Value>(text).unwrap_or_else(|error| panic!("{error}: {text}"))
    });
    let known = documents.filter_map(|document| {
        let text = |key: &str| document[key].as_str().unwrap_or_default();
        let (kind, _) = Kind::lookup(text("apiVersion"), text("kind")).ok()?;
        Some((kind, document.clone()))
    });
    known.collect()
}

#[test]
fn every_good_manifest_applies_under_every_served_version() {
    let Some(kubectl) = namespace("good") else { return };
    let objects = mesh_objects();
    assert!(objects.len() >= 8, "{}", objects.len());
    for (kind, object) in objects {
        for origin in Origin::ALL {
            for api_version in kind.api_versions(origin) {
                let name = object["metadata"]["name"].as_str().expect("a name");
                let text = manifest(&api_version, kind.name(), name, &object["spec"]);
                kubectl.apply(&text).unwrap_or_else(|error| panic!("{api_version}: {error:#}"));
            }
        }
    }
}

#[test]
fn kinds_that_are_not_honoured_yet_apply_whole() {
    let Some(kubectl) = namespace("later") else { return };
    for later in weft_crds::kind::LATER {
        for version in later.versions {
            let api_version = format!("{}/{version}", later.group());
            let spec = json!({"whatever": [{"it": "says"}], "hosts": ["a.example"]});
            kubectl.apply(&manifest(&api_version, later.name, "x", &spec)).expect(later.name);
            let kind = format!("{}.{version}.{}", later.plural, later.group());
            assert_eq!(kubectl.get(&[&kind, "x"]).expect("it is there")["spec"], spec, "{kind}");
        }
    }
}

fn route(change: impl FnOnce(&mut Value)) -> Value {
    let mut rule = json!({"route": [{"destination": {"host": "a"}}]});
    change(&mut rule);
    json!({"hosts": ["a"], "http": [rule]})
}

fn policy(block: Value) -> Value {
    json!({"host": "a", "subsets": [{"name": "v1", "trafficPolicy": block}]})
}

/// A kind, a `spec` that makes no sense, the field that is at fault, and a part of what is said.
type Senseless = (Kind, Value, &'static str, &'static str);

#[test]
fn f5_what_makes_no_sense_is_refused_with_the_field() {
    let Some(kubectl) = namespace("bad") else { return };
    let cases = [
        senseless_virtual_services(),
        senseless_virtual_services_more(),
        senseless_destination_rules(),
        senseless_authorization_policies(),
        senseless_peer_authentications(),
        senseless_sidecars(),
    ];
    for (kind, spec, field, reason) in cases.into_iter().flatten() {
        let api_version = kind.api_versions(Origin::Weft).next().expect("a version");
        let text = manifest(&api_version, kind.name(), "bad", &spec);
        let said = refusal(&kubectl, &text);
        assert!(said.contains(field) && said.contains(reason), "{field}: {reason}: {said}");
        let offline = errors(&text);
        assert!(offline.iter().any(|path| path.contains(field)), "{field}: {reason}: offline {offline:?}");
    }
}

/// The paths of what `weft validate` says is wrong, which asks no API server.
fn errors(text: &str) -> Vec<String> {
    let files = Files::from([(Path::new("bad.json").into(), Ok(text.into()))]);
    let reports = check_changes(Directory::default().update(files)).reports;
    reports
        .into_iter()
        .filter(|report| report.severity == Severity::Error)
        .map(|report| report.field)
        .collect()
}

fn two(a: Value, b: Value) -> Value {
    route(|r| {
        r["route"] =
            json!([{"destination": {"host": "a"}, "weight": a}, {"destination": {"host": "b"}, "weight": b}])
    })
}

fn rule(rule: Value) -> Value {
    json!({"rules": [rule]})
}

fn senseless_virtual_services() -> Vec<Senseless> {
    vec![
        (
            Kind::VirtualService,
            json!({"hosts": ["a"]}),
            "spec",
            "has no rule; write at least one of http, tcp, tls",
        ),
        (Kind::VirtualService, two(json!(0), json!(0)), "spec.http[0].route", "all weights are zero"),
        (
            Kind::VirtualService,
            two(json!(4_294_967_295u32), json!(1)),
            "spec.http[0].route",
            "add up to more",
        ),
        (
            Kind::VirtualService,
            two(json!(-1), json!(1)),
            "spec.http[0].route[0].weight",
            "greater than or equal to 0",
        ),
        (Kind::VirtualService, two(json!("x"), json!(1)), "spec.http[0].route[0].weight", "integer"),
        (
            Kind::VirtualService,
            route(|r| r["route"] = json!([])),
            "spec.http[0]",
            "does nothing; write one of route",
        ),
        (
            Kind::VirtualService,
            route(|r| r["redirect"] = json!({"uri": "/x"})),
            "spec.http[0]",
            "does several things",
        ),
        (Kind::VirtualService, route(|r| r["timeout"] = json!("5")), "spec.http[0].timeout", "duration"),
        (
            Kind::VirtualService,
            route(|r| r["timeout"] = json!("99999h")),
            "spec.http[0].timeout",
            "longer than ten years",
        ),
        (
            Kind::VirtualService,
            route(|r| r["retries"] = json!({"attempts": 101})),
            "spec.http[0].retries.attempts",
            "100",
        ),
        (
            Kind::VirtualService,
            route(|r| r["retries"] = json!({"attempts": 1, "perTryTimeout": "1us"})),
            "spec.http[0].retries.perTryTimeout",
            "the least is 1ms",
        ),
        (
            Kind::VirtualService,
            route(|r| r["match"] = json!([{"uri": {"exact": "/a", "prefix": "/b"}}])),
            "spec.http[0].match[0].uri",
            "write one of exact, prefix, regex",
        ),
    ]
}

fn senseless_virtual_services_more() -> Vec<Senseless> {
    vec![
        (
            Kind::VirtualService,
            route(|r| r["fault"] = json!({})),
            "spec.http[0].fault",
            "should have at least 1 properties",
        ),
        (
            Kind::VirtualService,
            route(|r| r["fault"] = json!({"abort": {"percentage": {"value": 5}}})),
            "spec.http[0].fault.abort",
            "does nothing; write httpStatus or grpcStatus",
        ),
        (
            Kind::VirtualService,
            route(|r| r["fault"] = json!({"delay": {"fixedDelay": "1s", "percentage": {"value": 0.00001}}})),
            "spec.http[0].fault.delay.percentage.value",
            "is too small; the least is 0.0001",
        ),
        (
            Kind::VirtualService,
            route(|r| r["corsPolicy"] = json!({"allowOrigin": ["*"], "maxAge": "0s"})),
            "spec.http[0].corsPolicy.maxAge",
            "is too short; the least is 1s",
        ),
        (
            Kind::VirtualService,
            route(|r| r["match"] = json!([{"uri": {}}])),
            "spec.http[0].match[0].uri",
            "says nothing",
        ),
        (
            Kind::VirtualService,
            route(|r| r["match"] = json!([{"headers": {"a": {"exact": "x", "regex": "y"}}}])),
            "spec.http[0].match[0].headers.a",
            "oneOf",
        ),
        (
            Kind::VirtualService,
            route(|r| r["match"] = json!([{"uri": {"regex": "x".repeat(1025)}}])),
            "spec.http[0].match[0].uri.regex",
            "1024",
        ),
        (
            Kind::VirtualService,
            route(|r| r["match"] = json!([{"port": 70_000}])),
            "spec.http[0].match[0].port",
            "65535",
        ),
        (
            Kind::VirtualService,
            route(|r| r["route"][0]["destination"] = json!({})),
            "spec.http[0].route[0].destination.host",
            "Required",
        ),
        (
            Kind::VirtualService,
            json!({"hosts": ["a", "a"], "http": route(|_| ())["http"]}),
            "spec.hosts",
            "written twice",
        ),
        (
            Kind::VirtualService,
            json!({"hosts": vec!["a"; 257], "http": route(|_| ())["http"]}),
            "spec.hosts",
            "at most 256",
        ),
    ]
}

fn senseless_destination_rules() -> Vec<Senseless> {
    vec![
        (Kind::DestinationRule, json!({}), "spec.host", "Required"),
        (
            Kind::DestinationRule,
            json!({"host": "a", "subsets": [{"name": "v1"}, {"name": "v1"}]}),
            "spec.subsets[1]",
            "Duplicate",
        ),
        (
            Kind::DestinationRule,
            policy(json!({"tls": {}})),
            "spec.subsets[0].trafficPolicy.tls",
            "mode is missing; write DISABLE",
        ),
        (
            Kind::DestinationRule,
            policy(json!({"loadBalancer": {"simple": "FASTEST"}})),
            "spec.subsets[0].trafficPolicy.loadBalancer.simple",
            "LEAST_REQUEST",
        ),
        (
            Kind::DestinationRule,
            policy(json!({"outlierDetection": {"maxEjectionPercent": 101}})),
            "outlierDetection.maxEjectionPercent",
            "100",
        ),
        (
            Kind::DestinationRule,
            policy(json!({"outlierDetection": {"interval": "0s"}})),
            "outlierDetection.interval",
            "the least is 1ms",
        ),
        (
            Kind::DestinationRule,
            policy(json!({"connectionPool": {}})),
            "connectionPool",
            "says nothing; write tcp or http",
        ),
    ]
}

fn senseless_authorization_policies() -> Vec<Senseless> {
    vec![
        (Kind::AuthorizationPolicy, json!({"action": "DENY"}), "spec", "a DENY without rules denies nothing"),
        (Kind::AuthorizationPolicy, json!({"action": "MAYBE"}), "spec.action", "ALLOW"),
        (Kind::AuthorizationPolicy, rule(json!({"from": []})), "spec.rules[0].from", "at least 1"),
        (
            Kind::AuthorizationPolicy,
            rule(json!({"from": [{"source": {}}]})),
            "spec.rules[0].from[0].source",
            "at least 1",
        ),
        (
            Kind::AuthorizationPolicy,
            rule(json!({"when": [{"key": "source.ip"}]})),
            "spec.rules[0].when[0]",
            "neither values nor notValues",
        ),
        (
            Kind::AuthorizationPolicy,
            json!({"selector": {"matchLabels": {"app": "a*"}}, "rules": [{}]}),
            "spec.selector.matchLabels",
            "`*` stands for itself",
        ),
    ]
}

fn senseless_peer_authentications() -> Vec<Senseless> {
    vec![
        (
            Kind::PeerAuthentication,
            json!({"portLevelMtls": {"80": {"mode": "STRICT"}}}),
            "spec",
            "portLevelMtls needs a selector",
        ),
        (
            Kind::PeerAuthentication,
            json!({"selector": {"matchLabels": {"a": "b"}}, "portLevelMtls": {"http": {"mode": "STRICT"}}}),
            "spec.portLevelMtls",
            "ports, 1 to 65535",
        ),
        (Kind::PeerAuthentication, json!({"mtls": {"mode": "STRIKT"}}), "spec.mtls.mode", "STRICT"),
    ]
}

fn senseless_sidecars() -> Vec<Senseless> {
    vec![
        (Kind::Sidecar, json!({"egress": [{"hosts": ["a"]}]}), "spec.egress[0].hosts", "NAMESPACE/HOST"),
        (
            Kind::Sidecar,
            json!({"outboundTrafficPolicy": {}}),
            "spec.outboundTrafficPolicy",
            "mode is missing",
        ),
    ]
}

#[test]
fn what_is_plainly_malformed_is_refused_under_istios_groups_too() {
    let Some(kubectl) = namespace("malformed") else { return };
    for version in ["v1", "v1beta1", "v1alpha3"] {
        for (spec, field) in [
            (route(|r| r["timeout"] = json!(5)), "spec.http[0].timeout"),
            (route(|r| r["route"][0]["weight"] = json!(-1)), "spec.http[0].route[0].weight"),
            (
                route(|r| r["route"][0]["destination"] = json!({"subset": "a"})),
                "spec.http[0].route[0].destination.host",
            ),
            (
                route(|r| r["match"] = json!([{"uri": {"exact": "/a", "prefix": "/b"}}])),
                "spec.http[0].match[0].uri",
            ),
        ] {
            let api_version = format!("networking.istio.io/{version}");
            let said = refusal(&kubectl, &manifest(&api_version, "VirtualService", "bad", &spec));
            assert!(said.contains(field), "{field}: {said}");
        }
    }
}

#[test]
fn unknown_fields_are_kept_for_the_controller_to_name() {
    let Some(kubectl) = namespace("unknown") else { return };
    for origin in Origin::ALL {
        let api_version = Kind::AuthorizationPolicy.api_versions(origin).next().expect("a version");
        let spec = json!({"rules": [{"form": [{"source": {"namespaces": ["a"]}}]}]});
        kubectl.apply(&manifest(&api_version, "AuthorizationPolicy", "slip", &spec)).expect("applied");
        let plural = format!("authorizationpolicies.{}", Kind::AuthorizationPolicy.group(origin));
        assert_eq!(kubectl.get(&[&plural, "slip"]).expect("there")["spec"], spec);
    }
}

#[test]
fn kubectl_explains_every_field_down_to_the_weight() {
    let Some(kubectl) = server() else { return };
    for origin in Origin::ALL {
        let group = Kind::VirtualService.group(origin);
        let field = format!("--api-version={group}/v1");
        let said =
            kubectl.run(&["explain", "virtualservices.spec.http.route.weight", &field]).expect("explained");
        assert!(said.contains("The share of this destination among the sum of all weights."), "{said}");
        let said = kubectl.run(&["explain", "virtualservices.status.conditions", &field]).expect("explained");
        assert!(said.contains("How the object stands"), "{said}");
    }
    let said =
        kubectl.run(&["explain", "authorizationpolicies.spec.action", "--api-version=security.weft.dev/v1"]);
    assert!(said.as_ref().is_ok_and(|said| said.contains("ALLOW")), "{said:?}");
}

#[test]
fn one_word_lists_all_kinds_and_how_they_stand() {
    let Some(kubectl) = namespace("listed") else { return };
    kubectl
        .apply(&manifest("networking.weft.dev/v1", "VirtualService", "ours", &route(|_| ())))
        .expect("applied");
    kubectl
        .apply(&manifest("networking.istio.io/v1beta1", "VirtualService", "theirs", &route(|_| ())))
        .expect("applied");
    kubectl
        .apply(&manifest("security.weft.dev/v1", "PeerAuthentication", "peers", &json!({})))
        .expect("applied");
    let condition = |kind: &str, status: &str, message: &str| {
        json!({"type": kind, "status": status, "reason": "Reason", "message": message,
            "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1})
    };
    let status = json!({"status": {"observedGeneration": 1, "conditions": [
        condition("Accepted", "True", ""), condition("Programmed", "True", "on 41 of 43 sidecars")]}});
    for resource in ["virtualservices.networking.weft.dev/ours", "virtualservices.networking.istio.io/theirs"]
    {
        kubectl
            .run(&["patch", resource, "--subresource=status", "--type=merge", "-p", &status.to_string()])
            .expect("a status");
    }
    let said = kubectl.run(&["get", "weft"]).expect("listed");
    for word in ["ours", "theirs", "peers", "ACCEPTED", "PROGRAMMED", "HOSTS", "AGE", "MODE"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    let line = said.lines().find(|line| line.contains("/ours")).expect("a line");
    assert!(line.contains(r#"["a"]"#) && line.matches("True").count() == 2, "{line}");
    let wide = kubectl.run(&["get", "vs", "--output=wide"]).expect("short name");
    assert!(wide.contains("on 41 of 43 sidecars"), "{wide}");
    // What the controller never writes is refused: a condition without a type.
    let wrong = json!({"status": {"conditions": [{"status": "Maybe"}]}}).to_string();
    let patch = [
        "patch",
        "virtualservices.networking.weft.dev/ours",
        "--subresource=status",
        "--type=merge",
        "-p",
        &wrong,
    ];
    assert!(kubectl.run(&patch).is_err());
}
