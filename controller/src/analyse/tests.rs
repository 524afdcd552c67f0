//! Manifests in, what is odd about them together out.

use std::path::Path;

use crate::check::{Checked, check_changes};
use crate::source::directory::{Directory, Files};

const SERVICES: &str = r"
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: db}
spec: {selector: {app: db}, ports: [{name: tcp-sql, port: 5432}]}
---
apiVersion: v1
kind: Service
metadata: {name: many}
spec: {selector: {app: many}, ports: [{name: http, port: 8080}, {name: http-more, port: 9090}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec: {template: {metadata: {labels: {app: web, version: v1}}}}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec: {template: {metadata: {labels: {app: db}}}}
";

fn checked(texts: &[&str]) -> Checked {
    let names = texts.iter().enumerate().map(|(i, text)| (format!("{i}.yaml"), *text));
    let files: Files = names.map(|(name, text)| (Path::new(&name).into(), Ok(text.into()))).collect();
    check_changes(Directory::default().update(files))
}

/// What is found in an object beside the services above: `KIND NAMESPACE/NAME: FIELD: REASON`.
fn found(texts: &[&str]) -> Vec<String> {
    let texts: Vec<_> = std::iter::once(SERVICES).chain(texts.iter().copied()).collect();
    let shown = |r: &crate::report::Report| format!("{}: {}: {}", r.object, r.field, r.reason);
    checked(&texts).reports.iter().map(shown).collect()
}

fn object(kind: &str, name: &str, spec: &str) -> String {
    let group =
        if kind == "AuthorizationPolicy" || kind == "PeerAuthentication" { "security" } else { "networking" };
    let (namespace, name) = name.split_once('/').unwrap_or(("default", name));
    let spec: String = spec.lines().map(|line| format!("  {line}\n")).collect();
    format!(
        "apiVersion: {group}.istio.io/v1\nkind: {kind}\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec:\n{spec}"
    )
}

fn route(name: &str, host: &str, to: &str) -> String {
    object(
        "VirtualService",
        name,
        &format!(
            "hosts: [{host}]\nhttp:\n- match: [{{uri: {{prefix: /{name}}}}}]\n  route:\n  - destination: {to}\n"
        ),
    )
}

#[track_caller]
fn says(found: &[String], start: &str) {
    assert!(found.iter().any(|line| line.starts_with(start)), "{start} in {found:#?}");
}

#[test]
fn what_fits_together_is_silent() {
    let rule = object("DestinationRule", "web", "host: web\nsubsets:\n- {name: v1, labels: {version: v1}}");
    let policy = object(
        "AuthorizationPolicy",
        "web",
        "selector: {matchLabels: {app: web}}\naction: DENY\nrules:\n- to: [{operation: {methods: [PUT]}}]",
    );
    assert_eq!(
        found(&[&route("v", "web", "{host: web, subset: v1, port: {number: 80}}"), &rule, &policy]),
        [""; 0]
    );
}

#[test]
fn f4_references_to_nothing_are_named() {
    let all = found(&[&route("v", "gone", "{host: nobody}")]);
    says(&all, "VirtualService default/v: spec.hosts[0]: there is no Service `gone.default.svc");
    says(
        &all,
        "VirtualService default/v: spec.http[0].route[0].destination.host: there is no Service `nobody.",
    );
    let all = found(&[&route("v", "web", "{host: web, subset: v9, port: {number: 81}}")]);
    says(
        &all,
        "VirtualService default/v: spec.http[0].route[0].destination.subset: no DestinationRule of `web.",
    );
    says(
        &all,
        "VirtualService default/v: spec.http[0].route[0].destination.port.number: 81 is no port of the Service, which has 80",
    );
    let all = found(&[&route("v", "web", "{host: many}")]);
    says(
        &all,
        "VirtualService default/v: spec.http[0].route[0].destination.port: missing; clients that address port 80",
    );
    let rule = object("DestinationRule", "r", "host: nobody");
    says(&found(&[&rule]), "DestinationRule default/r: spec.host: there is no Service `nobody.");
}

#[test]
fn f4_without_any_service_nothing_is_missing() {
    let alone = checked(&[&route("v", "web", "{host: web}")]);
    assert_eq!((alone.objects, alone.reports.len()), (1, 0));
}

#[test]
fn f4_references_in_a_circle_end() {
    let all = found(&[
        &route("a", "web", "{host: many, port: {number: 8080}}"),
        &route("b", "many", "{host: web}"),
    ]);
    assert_eq!(all, [""; 0]);
}

#[test]
fn the_index_of_a_destination_is_that_of_the_list() {
    let spec = "hosts: [web]\nhttp:\n- route:\n  - {destination: {host: web}, weight: 0}\n  - {destination: {host: nobody}, weight: 1}";
    says(
        &found(&[&object("VirtualService", "v", spec)]),
        "VirtualService default/v: spec.http[0].route[1].destination.host: ",
    );
}

#[test]
fn objects_on_one_host_are_merged_and_the_loser_is_named() {
    let object = |name: &str, day: u8| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}, creationTimestamp: '2024-01-0{day}T00:00:00Z'}}\nspec:\n  hosts: [web]\n  http:\n  - match: [{{uri: {{prefix: /{name}}}}}]\n    directResponse: {{status: 200}}\n  - directResponse: {{status: 201}}\n"
        )
    };
    let all = found(&[&object("young", 2), &object("old", 1)]);
    assert_eq!(all.len(), 1, "{all:#?}");
    says(
        &all,
        "VirtualService default/young: spec.hosts[0]: VirtualService default/old is older and on `web.default.svc.cluster.local` too: its conditions are looked at first, and its last rule stands for spec.http[1]",
    );
}

#[test]
fn objects_that_no_client_sees_together_are_not_merged() {
    let elsewhere = |namespace: &str| {
        route(
            &format!("{namespace}/v"),
            "web.default.svc.cluster.local",
            "{host: web.default.svc.cluster.local}",
        )
    };
    assert_eq!(found(&[&elsewhere("a"), &elsewhere("b")]), [""; 0]);
    says(
        &found(&[&elsewhere("a"), &route("own", "web", "{host: web}")]),
        "VirtualService a/v: spec.hosts[0]: ",
    );
}

#[test]
fn ours_is_in_force() {
    let istios = object("DestinationRule", "web", "host: web");
    let ours = istios.replace("istio.io", "weft.dev");
    let all = found(&[&istios, &ours]);
    assert_eq!(
        all,
        [
            "DestinationRule default/web: metadata.name: is also written in the group networking.weft.dev, and that one is in force"
        ]
    );
}

#[test]
fn rules_that_are_hidden_are_named() {
    let owner =
        object("DestinationRule", "web", "host: web\ntrafficPolicy: {loadBalancer: {simple: RANDOM}}");
    let client = object(
        "DestinationRule",
        "team/all",
        "host: '*.local'\ntrafficPolicy: {loadBalancer: {simple: RANDOM}}",
    );
    let all = found(&[&owner, &client]);
    assert_eq!(
        all,
        [
            "DestinationRule team/all: spec.host: hides DestinationRule default/web from some clients of `web.default.svc.cluster.local`, who get nothing of it"
        ]
    );
    let root = object(
        "DestinationRule",
        "istio-system/all",
        "host: '*.local'\ntrafficPolicy: {tls: {mode: ISTIO_MUTUAL}}",
    );
    says(
        &found(&[&owner, &root]),
        "DestinationRule default/web: spec.host: hides DestinationRule istio-system/all",
    );
}

#[test]
fn rules_for_one_host_are_joined_and_the_loser_is_named() {
    let rule = |name: &str| {
        object(
            "DestinationRule",
            name,
            "host: web\ntrafficPolicy: {loadBalancer: {simple: RANDOM}}\nsubsets: [{name: v1, labels: {version: v1}}]",
        )
    };
    let all = found(&[&rule("a"), &rule("b")]);
    assert_eq!(all.len(), 2, "{all:#?}");
    says(&all, "DestinationRule default/b: spec.trafficPolicy: DestinationRule default/a is older");
    says(&all, "DestinationRule default/b: spec.subsets[0].name: `v1` is also in DestinationRule default/a");
}

#[test]
fn subsets_and_ports_without_anything_behind_them() {
    let rule = object(
        "DestinationRule",
        "web",
        "host: web\ntrafficPolicy:\n  portLevelSettings: [{port: {number: 81}, loadBalancer: {simple: RANDOM}}]\nsubsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]",
    );
    let all = found(&[&rule]);
    assert_eq!(all.len(), 2, "{all:#?}");
    says(
        &all,
        "DestinationRule default/web: spec.trafficPolicy.portLevelSettings[0].port.number: 81 is no port",
    );
    says(&all, "DestinationRule default/web: spec.subsets[1].labels: no pod of Service web has these labels");
}

#[test]
fn selectors_that_select_nothing() {
    let policy = object("AuthorizationPolicy", "p", "selector: {matchLabels: {app: wbe}}\nrules: []");
    let peer = object("PeerAuthentication", "p", "selector: {matchLabels: {app: wbe}}\nmtls: {mode: STRICT}");
    let all = found(&[&policy, &peer]);
    says(&all, "AuthorizationPolicy default/p: spec.selector: selects no pod");
    says(&all, "PeerAuthentication default/p: spec.selector: selects no pod");
    let elsewhere =
        object("AuthorizationPolicy", "empty/p", "selector: {matchLabels: {app: wbe}}\nrules: []");
    assert_eq!(found(&[&elsewhere]), [""; 0], "of a namespace without pods nothing is known");
}

#[test]
fn e1_http_conditions_where_only_tcp_arrives() {
    let policy = |action: &str| {
        object(
            "AuthorizationPolicy",
            "p",
            &format!(
                "selector: {{matchLabels: {{app: db}}}}\naction: {action}\nrules:\n- from: [{{source: {{namespaces: [a]}}}}]\n  to: [{{operation: {{methods: [GET]}}}}]"
            ),
        )
    };
    says(
        &found(&[&policy("ALLOW")]),
        "AuthorizationPolicy default/p: spec.rules[0]: reads HTTP, but every port that it reaches carries opaque TCP (5432): it never allows",
    );
    says(
        &found(&[&policy("DENY")]),
        "AuthorizationPolicy default/p: spec.rules[0]: reads HTTP, but every port that it reaches carries opaque TCP (5432): it denies",
    );
}

#[test]
fn rules_for_a_protocol_that_the_host_does_not_speak() {
    says(&found(&[&route("v", "db", "{host: db}")]), "VirtualService default/v: spec.http: has no effect");
    let tcp = object("VirtualService", "v", "hosts: [web]\ntcp: [{route: [{destination: {host: web}}]}]");
    says(&found(&[&tcp]), "VirtualService default/v: spec.tcp: has no effect");
}

#[test]
fn an_object_has_so_many_warnings_and_no_more() {
    let rules: String = (0..100)
        .map(|i| {
            format!("- match: [{{uri: {{prefix: /{i}}}}}]\n  route: [{{destination: {{host: n{i}}}}}]\n")
        })
        .collect();
    let all = found(&[&object("VirtualService", "v", &format!("hosts: [web]\nhttp:\n{rules}"))]);
    assert_eq!(all.len(), 20);
}
