//! Whole objects through `super::validate`.

use std::path::Path;

/// Telemetries.
mod telemetry;
/// Traps of the fields' meaning.
mod traps;

use super::*;
use crate::source::directory::{Directory, Files};
use crate::source::object::Event;

fn verdicts(text: &str) -> Vec<(String, Verdict)> {
    let files: Files = [(Path::new("t.yaml").into(), Ok(text.into()))].into_iter().collect();
    let changes = Directory::default().update(files);
    assert!(changes.problems.is_empty(), "{:?}", changes.problems);
    let of = |event: Event| match event {
        Event::Apply(object) => (object.id.to_string(), validate(&object)),
        other => panic!("{other:?}"),
    };
    changes.events.into_iter().map(of).collect()
}

fn one(kind: &str, api: &str, spec: &str) -> Verdict {
    let indented: String = spec.lines().map(|line| format!("  {line}\n")).collect();
    let text = format!("apiVersion: {api}\nkind: {kind}\nmetadata:\n  name: x\nspec:\n{indented}");
    verdicts(&text).remove(0).1
}

fn virtual_service(spec: &str) -> Verdict {
    one("VirtualService", "networking.weft.dev/v1", spec)
}

fn policy(spec: &str) -> Verdict {
    one("AuthorizationPolicy", "security.istio.io/v1", spec)
}

fn errors(verdict: &Verdict) -> Vec<String> {
    verdict.findings.errors.iter().map(ToString::to_string).collect()
}

#[test]
fn the_sample_is_accepted_as_it_is() {
    let all = verdicts(include_str!("../../../samples/content-service.yaml"));
    assert_eq!(all.len(), 3);
    for (name, verdict) in &all {
        assert!(verdict.findings.accepted(), "{name}: {:?}", verdict.findings);
        assert!(verdict.fragment.is_some(), "{name}");
    }
    let warnings: Vec<_> =
        all.iter().flat_map(|(_, v)| &v.findings.warnings).map(|w| w.path.as_str()).collect();
    assert!(warnings.contains(&"spec.trafficPolicy.outlierDetection.consecutiveErrors"), "{warnings:?}");
    assert!(warnings.contains(&"spec.trafficPolicy.loadBalancer.simple"), "{warnings:?}");
    assert!(warnings.contains(&"spec.hosts"), "{warnings:?}");
    assert!(warnings.contains(&"spec.rules[1]"), "the rule that lets everyone in: {warnings:?}");
}

#[test]
fn f3_weights_that_make_no_sense() {
    let two = |a: &str, b: &str| {
        virtual_service(&format!(
            "hosts: [a]\nhttp:\n- route:\n  - destination: {{host: a}}\n    weight: {a}\n  - destination: {{host: b}}\n    weight: {b}"
        ))
    };
    assert_eq!(
        errors(&two("0", "0")),
        ["spec.http[0].route: all weights are zero: no destination would take anything"]
    );
    assert!(
        errors(&two("4294967295", "1"))[0]
            .starts_with("spec.http[0].route: the weights add up to 4294967296")
    );
    assert!(errors(&two("-1", "1"))[0].starts_with("spec.http[0].route[0].weight: -1 is outside"));
    let Some(Fragment::VirtualService(object)) = two("0", "5").fragment else { panic!("accepted") };
    let crate::fragment::virtual_service::HttpAction::Forward(forward) = &object.http[0].action else {
        panic!()
    };
    assert_eq!(forward.destinations.len(), 1, "a weight of zero is never picked");
}

#[test]
fn f5_everything_that_is_wrong_is_said_at_once() {
    let verdict = virtual_service(
        "hosts: [a]\nhttp:\n- timeout: 5\n  retires: {}\n  match:\n  - uri: {exact: /a, prefix: /b}\n    port: 70000\n  route:\n  - destination: {host: \"\"}",
    );
    let errors = errors(&verdict);
    for path in [
        "spec.http[0].retires",
        "spec.http[0].timeout",
        "spec.http[0].match[0].uri",
        "spec.http[0].match[0].port",
        "spec.http[0].route[0].destination.host",
    ] {
        assert!(errors.iter().any(|e| e.starts_with(&format!("{path}: "))), "{path} in {errors:#?}");
    }
    assert!(verdict.fragment.is_none());
}

#[test]
fn f5_a_bad_weight_hides_no_other_error() {
    let spec = "hosts: [a]\nhttp:\n- timeout: 5\n  headers: {request: {set: {'a b': x}}}\n  match: [{uri: {regex: '(?=x)'}}]\n  \
        route: [{destination: {host: b}, weight: -5}, {destination: {host: ''}, weight: -6}]";
    let all = errors(&virtual_service(spec)).join("\n");
    for path in [
        "timeout",
        "headers.request.set",
        "match[0].uri.regex",
        "route[0].weight",
        "route[1].weight",
        "route[1].destination",
    ] {
        assert!(all.contains(&format!("spec.http[0].{path}")), "{path}: {all}");
    }
    assert!(all.contains("uri.regex: look-around"), "one line each: {all}");
}

#[test]
fn f5_a_field_that_is_not_honoured_refuses_the_whole_object() {
    let verdict =
        virtual_service("hosts: [a]\nhttp:\n- delegate: {name: b}\n- route:\n  - destination: {host: a}");
    assert!(verdict.findings.errors.is_empty());
    assert_eq!(verdict.findings.unhonoured[0].path, "spec.http[0].delegate");
    assert!(verdict.fragment.is_none());
}

#[test]
fn e5_a_policy_that_is_not_understood_denies_what_it_selects() {
    for spec in [
        "selector: {matchLabels: {app: a}}\nrules:\n- from:\n  - source: {ipBlocks: [10.0.0.0/99]}",
        "selector: {matchLabels: {app: a}}\naction: MAYBE",
        "selector: {matchLabels: {app: a}}\nrules:\n- when:\n  - {key: moon.phase, values: [full]}",
        "selector: {matchLabels: {app: a}}\nrules:\n- from:\n  - source: {requestPrincipals: [\"*\"]}",
        "selector: {matchLabels: {app: a}}\naction: CUSTOM\nprovider: {name: x}\nrules: [{}]",
        "selector: {matchLabels: {app: a}}\naction: DENY",
        "selector: {matchLabels: {app: a}}\nrules:\n- form: []",
    ] {
        let verdict = policy(spec);
        assert!(!verdict.findings.accepted(), "{spec}");
        let Some(Fragment::AuthorizationPolicy(policy)) = verdict.fragment else { panic!("{spec}") };
        assert_eq!(policy.action, weft_core::model::policy::Action::FailClosed, "{spec}");
        assert_eq!(policy.selector.0, [("app".into(), "a".into())], "{spec}");
        let warnings = &verdict.findings.warnings;
        assert!(warnings.is_empty(), "what denies opens no door: {spec}: {warnings:?}");
    }
}

#[test]
fn e5_a_policy_for_a_gateway_says_nothing_to_sidecars() {
    let verdict = policy(
        "action: DENY\ntargetRefs:\n- {kind: Gateway, group: gateway.networking.k8s.io, name: g}\nrules: [{}]",
    );
    let Some(Fragment::AuthorizationPolicy(policy)) = verdict.fragment else { panic!("accepted") };
    assert!(policy.elsewhere);
    assert_eq!(verdict.findings.warnings[0].path, "spec.targetRefs");
}

#[test]
fn modes_must_be_written() {
    let rule =
        one("DestinationRule", "networking.istio.io/v1beta1", "host: a\ntrafficPolicy:\n  tls: {sni: x}");
    assert!(errors(&rule)[0].starts_with("spec.trafficPolicy.tls.mode: missing"));
    let sidecar = one("Sidecar", "networking.istio.io/v1", "outboundTrafficPolicy: {}");
    assert!(errors(&sidecar)[0].starts_with("spec.outboundTrafficPolicy.mode: missing"));
}

#[test]
fn kinds_and_versions_are_told_apart() {
    let later = one("ServiceEntry", "networking.istio.io/v1", "hosts: [a]");
    assert_eq!(later.findings.unhonoured[0].path, "kind");
    let version = one("VirtualService", "networking.weft.dev/v1alpha3", "hosts: [a]");
    assert!(errors(&version)[0].starts_with("apiVersion: VirtualService is not served"));
    let foreign = one("Ingress", "networking.k8s.io/v1", "rules: []");
    assert!(foreign.findings.accepted() && foreign.fragment.is_none());
}

#[test]
fn f2_expressions_are_checked() {
    let regex = |text: &str| {
        virtual_service(&format!(
            "hosts: [a]\nhttp:\n- match:\n  - uri: {{regex: '{text}'}}\n  route:\n  - destination: {{host: a}}"
        ))
    };
    assert!(errors(&regex("("))[0].starts_with("spec.http[0].match[0].uri.regex: "));
    assert!(!regex(&"a".repeat(2000)).findings.accepted());
    assert!(regex("(a+)+").findings.accepted());
}

#[test]
fn f2_more_expressions_than_a_sidecar_takes_are_refused() {
    let rules = |count: usize| {
        let route = "route: [{destination: {host: a}}]";
        let rewrite = "uriRegexRewrite: {match: a, rewrite: b}";
        let rule = format!("- match: [{{uri: {{regex: a}}}}]\n  rewrite: {{{rewrite}}}\n  {route}\n");
        virtual_service(&format!("hosts: [a]\nhttp:\n{}", rule.repeat(count / 2)))
    };
    assert!(rules(1000).findings.accepted());
    assert_eq!(errors(&rules(1002)), ["spec.http: has 1002 regular expressions; the most is 1000"]);
}

#[test]
fn a_rule_for_gateways_only_is_not_one_for_everybody() {
    let verdict = virtual_service(
        "hosts: [a]\ngateways: [mesh, g]\nhttp:\n- match: [{gateways: [g]}]\n  route:\n  - destination: {host: b}\n- route:\n  - destination: {host: a}",
    );
    let Some(Fragment::VirtualService(object)) = verdict.fragment else { panic!("{:?}", verdict.findings) };
    assert_eq!(object.http.len(), 1);
    assert_eq!(&*object.http[0].source.path, "http[1]");
}
