//! Traps of the fields' meaning, by the letters and numbers of the reference.

use super::{Verdict, errors, one, policy, virtual_service};

fn rule(text: &str) -> Vec<String> {
    errors(&virtual_service(&format!("hosts: [a]\nhttp:\n{text}")))
}

fn routed(text: &str) -> Vec<String> {
    rule(&format!("- route: [{{destination: {{host: a}}}}]\n{text}"))
}

fn warnings(verdict: &Verdict) -> Vec<String> {
    verdict.findings.warnings.iter().map(ToString::to_string).collect()
}

#[test]
fn a6_hosts_that_overlap() {
    let hosts = |hosts: &str| {
        errors(&virtual_service(&format!("hosts: {hosts}\nhttp: [{{directResponse: {{status: 200}}}}]")))
    };
    assert!(hosts("['*.a.com', b.a.com]")[0].contains("overlap"));
    assert!(hosts("['*.a.com', '*.b.a.com']")[0].contains("overlap"));
    assert!(hosts("[a, A]")[0].contains("written twice"));
    assert!(hosts("['*']")[0].contains("every service"));
    assert_eq!(hosts("['*.a.com', a.com, b]"), [""; 0], "`*.a.com` does not mean `a.com`");
}

#[test]
fn a10_what_follows_a_rule_for_everything_is_never_reached() {
    let reached = |first: &str| {
        let text = format!(
            "hosts: [a]\nhttp:\n- match: {first}\n  directResponse: {{status: 200}}\n- directResponse: {{status: 201}}"
        );
        !warnings(&virtual_service(&text)).iter().any(|w| w.starts_with("spec.http[1]: is never reached"))
    };
    assert!(!reached("[{uri: {prefix: /}}]"));
    assert!(!reached("[{uri: {exact: /a}}, {}]"));
    assert!(!reached("[{uri: {regex: '.*'}}]"));
    assert!(reached("[{uri: {prefix: /}, method: {exact: GET}}]"));
    assert!(reached("[{uri: {prefix: /}, sourceLabels: {a: b}}]"));
    assert!(reached("[{gateways: [g]}]"));
}

#[test]
fn b7_an_empty_prefix_is_a_slip_but_on_the_path() {
    assert_eq!(routed("  match: [{uri: {prefix: ''}}]"), [""; 0]);
    for field in [
        "method: {prefix: ''}",
        "headers: {a: {prefix: ''}}",
        "withoutHeaders: {a: {prefix: ''}}",
        "queryParams: {a: {prefix: ''}}",
    ] {
        let name = field.split(':').next().unwrap();
        assert!(
            routed(&format!("  match: [{{{field}}}]"))[0]
                .starts_with(&format!("spec.http[0].match[0].{name}")),
            "{field}"
        );
    }
}

#[test]
fn c4_the_host_is_rewritten_in_one_place() {
    let twice = routed("  rewrite: {authority: b}\n  headers: {request: {set: {Host: c}}}");
    assert!(twice[0].starts_with("spec.http[0].rewrite.authority: says two things"), "{twice:?}");
    let inside = rule(
        "- route: [{destination: {host: a}, headers: {request: {add: {':authority': c}}}}]\n  rewrite: {authority: b}",
    );
    assert_eq!(inside.len(), 1, "{inside:?}");
    assert!(
        routed("  rewrite: {uri: /a, uriRegexRewrite: {match: a, rewrite: b}}")[0]
            .contains("two things of the path")
    );
    assert!(routed("  rewrite: {uri: '/a b'}")[0].starts_with("spec.http[0].rewrite.uri: ' ' cannot stand"));
}

#[test]
fn c5_redirects_that_lead_somewhere() {
    let redirect = |matches: &str, text: &str| rule(&format!("- match: {matches}\n  redirect: {text}"));
    assert!(redirect("[{uri: {exact: /a}}]", "{prefixRewrite: /b}")[0].contains("needs uri.prefix"));
    assert!(rule("- redirect: {prefixRewrite: /b}")[0].contains("needs uri.prefix"));
    assert_eq!(redirect("[{uri: {prefix: /a}}]", "{prefixRewrite: /b}"), [""; 0]);
    assert!(redirect("[{}]", "{redirectCode: 302}")[0].contains("leads back to itself"));
    assert!(redirect("[{}]", "{uri: /a, redirectCode: 304}")[0].contains("304 is none of"));
    assert!(
        redirect("[{}]", "{uri: /a, port: 1, derivePort: FROM_REQUEST_PORT}")[0]
            .contains("two things of the port")
    );
    assert!(redirect("[{}]", "{uri: \"/a\\r\\nx: y\"}")[0].contains("cannot stand in a location"));
}

#[test]
fn c6_answers_stand_alone() {
    let both = rule("- redirect: {uri: /a}\n  directResponse: {status: 200}");
    assert!(both[0].contains("does several things"), "{both:?}");
    let beside = rule("- directResponse: {status: 200}\n  rewrite: {uri: /a}");
    assert!(beside[0].starts_with("spec.http[0].rewrite: has no meaning"), "{beside:?}");
    assert!(rule("- directResponse: {status: 199}")[0].contains("outside"));
    assert!(rule("- name: x")[0].contains("does nothing"));
}

#[test]
fn d3_headers_that_are_not_the_users_to_change() {
    let request = |ops: &str| routed(&format!("  headers: {{request: {ops}}}"));
    assert_eq!(request("{set: {':authority': a, Host: b}}"), [""; 0]);
    assert!(request("{set: {':path': /}}")[0].contains("no header name"));
    assert!(request("{remove: [host]}")[0].contains("cannot be removed"));
    for name in ["Transfer-Encoding", "content-length", "Connection", "upgrade"] {
        assert!(request(&format!("{{set: {{{name}: x}}}}"))[0].contains("frames the message"), "{name}");
        assert!(request(&format!("{{remove: [{name}]}}"))[0].contains("frames the message"), "{name}");
    }
    assert!(routed("  headers: {response: {set: {host: a}}}")[0].contains("a response has none"));
    assert!(request("{set: {a: \"b\\nc: d\"}}")[0].contains("no header value"));
}

#[test]
fn e5_e6_retries() {
    let of = |text: &str| {
        virtual_service(&format!(
            "hosts: [a]\nhttp:\n- route: [{{destination: {{host: a}}}}]\n  timeout: 1s\n  retries: {text}"
        ))
    };
    assert!(warnings(&of("{retryOn: 5xx}"))[0].contains("turns retries off"));
    assert!(warnings(&of("{attempts: 0, retryOn: 5xx}"))[0].contains("no effect"));
    assert!(warnings(&of("{attempts: 1, perTryTimeout: 1s}"))[0].contains("not shorter"));
    assert!(of("{attempts: 1, retryOn: '503, 5xx,retriable-status-codes'}").findings.accepted());
    assert_eq!(of("{attempts: 1, retryOn: retriable-headers}").findings.unhonoured.len(), 1);
    assert!(errors(&of("{attempts: 1, retryOn: 5xxx}"))[0].contains("`5xxx` is no condition"));
}

#[test]
fn h8_h15_blocks_that_say_nothing_or_too_much() {
    let rule = |policy: &str| {
        errors(&one(
            "DestinationRule",
            "networking.istio.io/v1",
            &format!("host: a\ntrafficPolicy: {policy}"),
        ))
    };
    assert!(rule("{connectionPool: {}}")[0].contains("says nothing"));
    assert!(rule("{connectionPool: {http: {}}}")[0].contains("says nothing"));
    assert!(
        rule("{outlierDetection: {consecutiveLocalOriginFailures: 3}}")[0]
            .contains("splitExternalLocalOriginErrors")
    );
    assert!(
        rule("{outlierDetection: {consecutiveErrors: 3, consecutive5xxErrors: 4}}")[0].contains("old name")
    );
    assert!(
        rule("{portLevelSettings: [{port: {number: 1}}, {port: {number: 1}}]}")[0].contains("written twice")
    );
}

#[test]
fn j2_ports_of_peer_authentications() {
    let peer = |ports: &str| {
        errors(&one(
            "PeerAuthentication",
            "security.istio.io/v1",
            &format!("selector: {{matchLabels: {{a: b}}}}\nportLevelMtls: {ports}"),
        ))
    };
    assert!(peer("{'80': {mode: STRICT}, '080': {mode: DISABLE}}")[0].contains("written twice"));
    assert!(peer("{'0': {mode: STRICT}}")[0].contains("no port"));
    let alone = one("PeerAuthentication", "security.istio.io/v1", "portLevelMtls: {80: {mode: STRICT}}");
    assert!(errors(&alone)[0].contains("needs a selector"));
}

#[test]
fn k_values_that_never_match_or_let_everyone_in() {
    let of = |rule: &str| warnings(&policy(&format!("rules:\n- {rule}")));
    assert!(
        of("from: [{source: {principals: ['spiffe://a/ns/b/sa/c']}}]")[0].contains("without `spiffe://`")
    );
    assert!(of("from: [{source: {notPrincipals: ['*']}}]")[0].contains("without mTLS has no identity"));
    assert!(of("from: [{source: {notNamespaces: [a], ipBlocks: [10.0.0.0/8]}}]").is_empty());
    assert!(
        of("{from: [{source: {namespaces: [a]}}], to: [{operation: {methods: [get]}}]}")[0]
            .contains("case of a method counts")
    );
    assert!(
        of("{from: [{source: {namespaces: [a]}}], to: [{operation: {paths: [admin]}}]}")[0]
            .contains("begins with `/`")
    );
    let both = policy(
        "selector: {matchLabels: {a: b}}\ntargetRefs: [{kind: Gateway, group: g, name: g1}]\nrules: [{}]",
    );
    assert!(errors(&both)[0].contains("stands without selector"), "{:?}", errors(&both));
}

#[test]
fn p_listeners_of_sidecars() {
    let sidecar = |spec: &str| errors(&one("Sidecar", "networking.istio.io/v1", spec));
    let listener =
        "{port: {number: 80, protocol: HTTP, name: h}, hosts: ['*/*'], bind: 127.0.0.1, captureMode: NONE}";
    assert!(sidecar(&format!("egress: [{listener}, {listener}]"))[0].contains("written twice"));
    assert!(
        sidecar(&format!("egress: [{{hosts: ['*/*']}}, {listener}]"))[0]
            .contains("stands alone of its kind, and last")
    );
    assert_eq!(sidecar(&format!("egress: [{listener}, {{hosts: ['*/*']}}]")), [""; 0]);
    assert!(sidecar("egress: [{hosts: [a]}]")[0].contains("has no namespace"));
}

fn harmed(fault: &str) -> Vec<String> {
    routed(&format!("  fault: {fault}"))
}

#[test]
fn f2_faults_that_make_no_sense() {
    let path = "spec.http[0].fault";
    for (fault, field, reason) in [
        ("{}", "", "says nothing; write delay or abort"),
        ("{delay: {percent: 10}}", ".delay.fixedDelay", "missing"),
        ("{delay: {fixedDelay: 1us, percent: 10}}", ".delay.fixedDelay", "the least is 1ms"),
        ("{delay: {fixedDelay: 1s, percent: 101}}", ".delay.percent", "101"),
        ("{delay: {exponentialDelay: 1s, percent: 1}}", ".delay.exponentialDelay", "write fixedDelay"),
        ("{abort: {percentage: {value: 1}}}", ".abort", "does nothing; write httpStatus or grpcStatus"),
        ("{abort: {httpStatus: 500, grpcStatus: OK}}", ".abort", "says two things"),
        ("{abort: {httpStatus: 600}}", ".abort.httpStatus", "600"),
        ("{abort: {grpcStatus: '14'}}", ".abort.grpcStatus", "UNAVAILABLE"),
        ("{abort: {http2Error: REFUSED_STREAM}}", ".abort.http2Error", "write httpStatus or grpcStatus"),
        (
            "{abort: {httpStatus: 500, percentage: {value: 100.5}}}",
            ".abort.percentage.value",
            "from 0 to 100",
        ),
        ("{abort: {httpStatus: 500, percentage: {value: 0.00005}}}", ".abort.percentage.value", "0.0001"),
    ] {
        let said = harmed(fault);
        assert!(
            said.iter().any(|s| s.starts_with(&format!("{path}{field}: ")) && s.contains(reason)),
            "{fault}: {said:?}"
        );
    }
    assert_eq!(harmed("{delay: {fixedDelay: 1s, percent: 10}, abort: {grpcStatus: UNAVAILABLE}}"), [""; 0]);
    assert!(
        rule("- redirect: {uri: /x}\n  fault: {delay: {fixedDelay: 1s}}")[0]
            .contains("has no meaning beside redirect")
    );
}

#[test]
fn f2_a_fault_without_percentage_does_nothing_and_is_warned_about() {
    let verdict = virtual_service(
        "hosts: [a]\nhttp:\n- fault: {abort: {httpStatus: 500}}\n  route: [{destination: {host: a}}]",
    );
    assert_eq!(errors(&verdict), [""; 0]);
    assert!(warnings(&verdict)[0].starts_with("spec.http[0].fault.abort.percentage: missing, which is 0%"));
}

fn cors(policy: &str) -> Vec<String> {
    routed(&format!("  corsPolicy: {policy}"))
}

#[test]
fn f3_cors_policies_that_make_no_sense() {
    for (policy, field, reason) in [
        ("{allowOrigins: [{}]}", "allowOrigins[0]", "says nothing"),
        ("{allowOrigins: [{exact: a, prefix: b}]}", "allowOrigins[0]", "write one of exact"),
        ("{allowOrigins: [{exact: a}, {prefix: ''}]}", "allowOrigins[1]", "is empty"),
        ("{allowOrigins: [{regex: '('}]}", "allowOrigins[0].regex", "unclosed group"),
        ("{allowOrigin: ['']}", "allowOrigin[0]", "is empty"),
        ("{allowMethods: ['GET,PUT']}", "allowMethods[0]", "`GET,PUT` is no method"),
        ("{allowMethods: [GET, put]}", "allowMethods[1]", "in capitals"),
        ("{allowHeaders: [a, 'b c']}", "allowHeaders[1]", "`b c` is no header name"),
        ("{exposeHeaders: ['']}", "exposeHeaders[0]", "no header name"),
        ("{maxAge: 500ms}", "maxAge", "`500ms` is too short; the least is 1s"),
        ("{maxAge: 0s}", "maxAge", "the least is 1s"),
        ("{maxAge: 1.5s}", "maxAge", "`1.5s` is not whole seconds"),
        ("{maxAge: -1s}", "maxAge", "negative"),
        ("{maxAge: '60'}", "maxAge", "60"),
    ] {
        let said = cors(policy);
        let at = format!("spec.http[0].corsPolicy.{field}: ");
        assert!(said.iter().any(|s| s.starts_with(&at) && s.contains(reason)), "{policy}: {said:?}");
    }
    let long = format!("{{allowHeaders: [{}]}}", vec!["x".repeat(99); 82].join(","));
    assert!(cors(&long)[0].contains("has 8199 bytes with the commas; the most is 8192"), "{:?}", cors(&long));
    let good = "{allowOrigins: [{exact: '*'}], allowMethods: ['*'], allowHeaders: ['*'], maxAge: 24h}";
    assert_eq!(cors(good), [""; 0]);
}

#[test]
fn f3_cors_policies_without_effect_are_warned_about() {
    for (rest, field, reason) in [
        (
            "allowOrigin: ['*'], allowOrigins: [{exact: b}]",
            ".allowOrigin",
            "has no effect beside allowOrigins",
        ),
        ("allowOrigins: [], allowMethods: []", ".allowOrigins", "missing: no origin"),
        ("allowOrigin: ['*']}, redirect: {uri: /x", "", "has no effect beside redirect"),
        ("allowOrigin: ['*']}, directResponse: {status: 200", "", "has no effect beside directResponse"),
    ] {
        let route = if field.is_empty() { "" } else { "route: [{destination: {host: a}}], " };
        let verdict = virtual_service(&format!("hosts: [a]\nhttp:\n- {{{route}corsPolicy: {{{rest}}}}}"));
        assert_eq!(errors(&verdict), [""; 0], "{rest}");
        let warned = format!("spec.http[0].corsPolicy{field}: {reason}");
        assert!(warnings(&verdict).iter().any(|w| w.starts_with(&warned)), "{:?}", warnings(&verdict));
    }
}
