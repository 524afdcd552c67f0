//! Telemetries, and what the mesh's settings say of telemetry.

use super::{Verdict, errors, verdicts};

fn one(text: &str) -> Verdict {
    verdicts(text).remove(0).1
}

fn telemetry(spec: &str) -> Verdict {
    let spec: String = spec.lines().map(|line| format!("  {line}\n")).collect();
    one(&format!("apiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {{name: t}}\nspec:\n{spec}"))
}

fn unhonoured(verdict: &Verdict) -> Vec<String> {
    verdict.findings.unhonoured.iter().map(ToString::to_string).collect()
}

fn settings(text: &str) -> (Vec<String>, Vec<String>) {
    let indented: String = text.lines().map(|line| format!("    {line}\n")).collect();
    let verdict = one(&format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: weft, namespace: weft-system}}\ndata:\n  mesh: |\n{indented}"
    ));
    (errors(&verdict), verdict.findings.warnings.iter().map(ToString::to_string).collect())
}

#[test]
fn what_istios_documentation_shows_is_accepted() {
    for spec in [
        "accessLogging: [{providers: [{name: envoy}]}]",
        "accessLogging: [{disabled: true}]",
        "accessLogging: [{filter: {expression: 'response.code >= 400 || connection.mtls == false'}}]",
        "tracing: [{providers: [{name: otel}], randomSamplingPercentage: 100}]",
        "tracing: [{customTags: {a: {literal: {value: b}}, c: {environment: {name: X, defaultValue: z}}, d: {header: {name: X-D}}}}]",
        "metrics: [{providers: [{name: prometheus}], overrides: [{match: {metric: REQUEST_COUNT, mode: CLIENT}, disabled: true}]}]",
        "metrics: [{overrides: [{tagOverrides: {request_protocol: {operation: REMOVE}}}], reportingInterval: 5s}]",
    ] {
        let verdict = telemetry(spec);
        assert!(verdict.findings.accepted() && verdict.fragment.is_some(), "{spec}: {:?}", verdict.findings);
    }
    assert!(
        one("apiVersion: telemetry.weft.dev/v1\nkind: Telemetry\nmetadata: {name: t}\nspec: {}")
            .fragment
            .is_some()
    );
    assert!(
        one("apiVersion: telemetry.istio.io/v1alpha1\nkind: Telemetry\nmetadata: {name: t}")
            .fragment
            .is_some()
    );
}

#[test]
fn what_is_wrong_is_told_with_its_path() {
    for (spec, path) in [
        ("tracing: [{randomSamplingPercentage: 101}]", "spec.tracing[0].randomSamplingPercentage: "),
        ("tracing: [{providers: [{name: a}, {name: b}]}]", "spec.tracing[0].providers[1]: "),
        ("tracing: [{providers: [{}]}]", "spec.tracing[0].providers[0].name: "),
        ("tracing: [{customTags: {a: {}}}]", "spec.tracing[0].customTags.a: "),
        (
            "tracing: [{customTags: {a: {header: {name: 'a b'}}}}]",
            "spec.tracing[0].customTags.a.header.name: ",
        ),
        (
            "metrics: [{overrides: [{tagOverrides: {'a-b': {operation: REMOVE}}}]}]",
            "spec.metrics[0].overrides[0].tagOverrides.a-b: ",
        ),
        (
            "metrics: [{overrides: [{tagOverrides: {a: {}}}]}]",
            "spec.metrics[0].overrides[0].tagOverrides.a.value: ",
        ),
        ("accessLogging: [{filter: {}}]", "spec.accessLogging[0].filter.expression: "),
        ("acessLogging: []", "spec.acessLogging: "),
        ("selector: {matchLabels: {a: b}}\ntargetRefs: [{kind: Gateway, name: g}]", "spec.targetRefs: "),
    ] {
        let verdict = telemetry(spec);
        assert!(errors(&verdict)[0].starts_with(path), "{spec}: {:?}", verdict.findings);
    }
}

#[test]
fn what_is_not_honoured_is_refused_with_its_path() {
    for (spec, path) in [
        (
            "accessLogging: [{filter: {expression: 'response.code.matches(\"5.*\")'}}]",
            "spec.accessLogging[0].filter.expression: ",
        ),
        (
            "metrics: [{overrides: [{tagOverrides: {a: {value: request.host}}}]}]",
            "spec.metrics[0].overrides[0].tagOverrides.a.value: ",
        ),
        ("metrics: [{reportingInterval: 10s}]", "spec.metrics[0].reportingInterval: "),
        (
            "metrics: [{overrides: [{match: {customMetric: x}}]}]",
            "spec.metrics[0].overrides[0].match.customMetric: ",
        ),
        (
            "tracing: [{customTags: {a: {formatter: {value: '%X%'}}}}]",
            "spec.tracing[0].customTags.a.formatter: ",
        ),
        ("targetRefs: [{kind: Service, name: a}]", "spec.targetRefs[0].kind: "),
    ] {
        let verdict = telemetry(spec);
        assert!(
            verdict.fragment.is_none() && unhonoured(&verdict)[0].starts_with(path),
            "{spec}: {:?}",
            verdict.findings
        );
    }
}

#[test]
fn settings_that_are_wrong_or_not_honoured_are_told_with_their_path() {
    for (text, path) in [
        ("accessLogFormat: 'a %B'", "data.mesh.accessLogFormat: "),
        ("accessLogEncoding: XML", "data.mesh.accessLogEncoding: "),
        ("{accessLogEncoding: JSON, accessLogFormat: '[]'}", "data.mesh.accessLogFormat: "),
        ("extensionProviders: [{opentelemetry: {}}]", "data.mesh.extensionProviders[0].name: "),
        (
            "extensionProviders: [{name: a, opentelemetry: {service: b}}]",
            "data.mesh.extensionProviders[0].opentelemetry.port: ",
        ),
        (
            "extensionProviders: [{name: a, opentelemetry: {port: 1}}]",
            "data.mesh.extensionProviders[0].opentelemetry.service: ",
        ),
        ("defaultConfig: {tracing: {sampling: 200}}", "data.mesh.defaultConfig.tracing.sampling: "),
    ] {
        let (errors, _) = settings(text);
        assert!(errors.iter().any(|error| error.starts_with(path)), "{text}: {errors:?}");
    }
    for (text, path) in [
        ("accessLogFile: /var/log/x", "data.mesh.accessLogFile: "),
        (
            "extensionProviders: [{name: a, zipkin: {service: b, port: 1}}]",
            "data.mesh.extensionProviders[0].zipkin: ",
        ),
        (
            "extensionProviders: [{name: a, opentelemetry: {service: b, port: 1, resourceDetectors: {}}}]",
            "data.mesh.extensionProviders[0].opentelemetry.resourceDetectors: ",
        ),
        ("defaultProviders: {tracing: [a]}", "data.mesh.defaultProviders.tracing[0]: "),
        ("defaultConfig: {concurrency: 2}", "data.mesh.defaultConfig.concurrency: "),
    ] {
        let (errors, warnings) = settings(text);
        assert_eq!(errors, [""; 0], "{text}");
        assert!(warnings.iter().any(|warning| warning.starts_with(path)), "{text}: {warnings:?}");
    }
}
