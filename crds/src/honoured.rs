//! Which valid fields are not honoured yet: one table for each kind, as data.
//!
//! An object that writes such a field is refused whole, with the field's path: to leave it out silently would
//! mean something else than what was written. The README's tables are made from these rules.
//!
//! A field counts as written unless it is absent, `null`, `false`, an empty text or an empty list, which all
//! say the same as leaving it out. An empty object (`delegate: {}`) counts as written.

use serde_json::Value;

use crate::kind::Kind;

/// A field that is valid but not honoured yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The field's path from `spec`, in camelCase, with `[]` after a list.
    pub path: String,
    /// Which values are not honoured.
    pub when: When,
}

/// The values of a field that are not honoured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Any.
    Written,
    /// One of these texts.
    Is(&'static [&'static str]),
    /// Any text but these.
    IsNot(&'static [&'static str]),
    /// A text that begins with one of these.
    StartsWith(&'static [&'static str]),
}

use When::{Is, IsNot, StartsWith, Written};

const VIRTUAL_SERVICE: &[(&str, When)] = &[
    ("spec.http[].match[].statPrefix", Written),
    ("spec.http[].delegate", Written),
    ("spec.http[].fault.delay.exponentialDelay", Written),
    ("spec.http[].fault.abort.http2Error", Written),
    ("spec.http[].mirror", Written),
    ("spec.http[].mirrors", Written),
    ("spec.http[].mirrorPercent", Written),
    ("spec.http[].mirrorPercentage", Written),
    ("spec.tls", Written),
    ("spec.tcp[].match[].sourceSubnet", Written),
];

/// Where a DestinationRule says how its traffic is treated.
const POLICIES: &[&str] = &[
    "spec.trafficPolicy",
    "spec.trafficPolicy.portLevelSettings[]",
    "spec.subsets[].trafficPolicy",
    "spec.subsets[].trafficPolicy.portLevelSettings[]",
];

/// Rules below each of [`POLICIES`].
const TRAFFIC_POLICY: &[(&str, When)] = &[
    ("loadBalancer.consistentHash", Written),
    ("loadBalancer.localityLbSetting", Written),
    ("loadBalancer.zoneAwareLbSetting", Written),
    ("loadBalancer.warmupDurationSecs", Written),
    ("loadBalancer.warmup", Written),
    ("connectionPool.tcp.maxConnectionDuration", Written),
    ("connectionPool.http.h2UpgradePolicy", Is(&["UPGRADE"])),
    ("connectionPool.http.useClientProtocol", Written),
    ("connectionPool.http.http2KeepAlive", Written),
    ("tls.mode", Is(&["SIMPLE", "MUTUAL"])),
    ("tls.clientCertificate", Written),
    ("tls.privateKey", Written),
    ("tls.caCertificates", Written),
    ("tls.credentialName", Written),
    ("tls.insecureSkipVerify", Written),
    ("tls.caCrl", Written),
    ("tunnel", Written),
    ("proxyProtocol", Written),
    ("retryBudget", Written),
];

const AUTHORIZATION_POLICY: &[(&str, When)] = &[
    ("spec.targetRef.kind", IsNot(&["Gateway", "GatewayClass"])),
    ("spec.targetRefs[].kind", IsNot(&["Gateway", "GatewayClass"])),
    ("spec.rules[].from[].source.requestPrincipals", Written),
    ("spec.rules[].from[].source.notRequestPrincipals", Written),
    ("spec.rules[].when[].key", StartsWith(&["request.auth.", "experimental."])),
    ("spec.action", Is(&["AUDIT", "CUSTOM"])),
    ("spec.provider", Written),
];

const SIDECAR: &[(&str, When)] = &[
    ("spec.ingress[].tls", Written),
    ("spec.ingress[].connectionPool", Written),
    ("spec.inboundConnectionPool", Written),
    ("spec.outboundTrafficPolicy.mode", Is(&["ALLOW_ANY_DYNAMIC_DNS"])),
    ("spec.outboundTrafficPolicy.egressProxy", Written),
];

const TELEMETRY: &[(&str, When)] = &[
    ("spec.targetRef.kind", IsNot(&["Gateway", "GatewayClass"])),
    ("spec.targetRefs[].kind", IsNot(&["Gateway", "GatewayClass"])),
    ("spec.tracing[].useRequestIdForTraceSampling", Written),
    ("spec.metrics[].overrides[].match.customMetric", Written),
    ("spec.metrics[].reportingInterval", IsNot(&["5s"])),
];

/// Paths of the fields of `spec` that are not honoured yet, such as `spec.http[2].fault`, spelled as written.
/// Empty when the whole object is honoured.
pub fn unhonoured(kind: Kind, spec: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for rule in rules(kind) {
        // Every path starts with `spec`, which is the value in hand.
        let rest: Vec<&str> = rule.path.split('.').skip(1).collect();
        search(spec, &rest, rule.when, "spec".to_owned(), &mut found);
    }
    found
}

/// The rules of a kind.
pub fn rules(kind: Kind) -> Vec<Rule> {
    let flat = |rules: &[(&str, When)]| -> Vec<Rule> {
        rules.iter().map(|(path, when)| Rule { path: (*path).to_owned(), when: *when }).collect()
    };
    match kind {
        Kind::VirtualService => flat(VIRTUAL_SERVICE),
        Kind::DestinationRule => POLICIES.iter().flat_map(|at| under(at)).collect(),
        Kind::AuthorizationPolicy => flat(AUTHORIZATION_POLICY),
        Kind::PeerAuthentication => Vec::new(),
        Kind::Sidecar => flat(SIDECAR),
        Kind::Telemetry => flat(TELEMETRY),
    }
}

fn under(at: &str) -> impl Iterator<Item = Rule> {
    TRAFFIC_POLICY.iter().map(move |(path, when)| Rule { path: format!("{at}.{path}"), when: *when })
}

/// Follows the rest of a rule's path through `value`, which stands at `at`.
fn search(value: &Value, rest: &[&str], when: When, at: String, found: &mut Vec<String>) {
    let Some((segment, rest)) = rest.split_first() else {
        if when.catches(value) {
            found.push(at);
        }
        return;
    };
    let (name, list) = segment.strip_suffix("[]").map_or((*segment, false), |name| (name, true));
    let Some((key, member)) = member(value, name) else { return };
    let at = format!("{at}.{key}");
    if !list {
        return search(member, rest, when, at, found);
    }
    for (index, item) in member.as_array().into_iter().flatten().enumerate() {
        search(item, rest, when, format!("{at}[{index}]"), found);
    }
}

/// The member of that name, in either of its spellings, with the spelling.
fn member<'a>(value: &'a Value, name: &str) -> Option<(&'a str, &'a Value)> {
    let found = value.as_object()?.iter().find(|(key, _)| same_name(key, name));
    found.map(|(key, value)| (key.as_str(), value))
}

/// Whether `key` is `name`, or its original spelling with underscores.
fn same_name(key: &str, name: &str) -> bool {
    let mut upper = false;
    let camel = key.chars().filter_map(|c| match c {
        '_' => {
            upper = true;
            None
        }
        c if std::mem::take(&mut upper) => Some(c.to_ascii_uppercase()),
        c => Some(c),
    });
    camel.eq(name.chars())
}

impl When {
    fn catches(self, value: &Value) -> bool {
        let text = value.as_str();
        match self {
            Written => written(value),
            Is(texts) => text.is_some_and(|text| texts.contains(&text)),
            IsNot(texts) => text.is_some_and(|text| !texts.contains(&text)),
            StartsWith(beginnings) => text.is_some_and(|text| beginnings.iter().any(|b| text.starts_with(b))),
        }
    }
}

fn written(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::schema;

    #[test]
    fn paths_are_concrete() {
        let spec = json!({
            "http": [{}, {"mirror_percent": 5}, {"delegate": {}, "corsPolicy": null, "mirrors": []}],
            "tls": [],
            "gateways": ["mesh", "ingress"],
        });
        assert_eq!(
            unhonoured(Kind::VirtualService, &spec),
            ["spec.http[2].delegate", "spec.http[1].mirror_percent"]
        );
    }

    #[test]
    fn traffic_policies_are_searched_wherever_they_stand() {
        let policy = json!({"loadBalancer": {"consistentHash": {"useSourceIp": true}}});
        let tls = json!({"tls": {"mode": "SIMPLE"}, "port": {"number": 80}});
        let spec = json!({
            "trafficPolicy": {"portLevelSettings": [tls]},
            "subsets": [{"name": "a"}, {"name": "b", "trafficPolicy": policy}],
        });
        assert_eq!(
            unhonoured(Kind::DestinationRule, &spec),
            [
                "spec.trafficPolicy.portLevelSettings[0].tls.mode",
                "spec.subsets[1].trafficPolicy.loadBalancer.consistentHash"
            ]
        );
    }

    #[test]
    fn values_decide_where_only_some_are_honoured() {
        let policy = |spec| unhonoured(Kind::AuthorizationPolicy, &spec);
        assert!(
            policy(json!({"action": "DENY", "targetRefs": [{"kind": "Gateway", "name": "g"}]})).is_empty()
        );
        assert_eq!(policy(json!({"action": "CUSTOM"})), ["spec.action"]);
        assert_eq!(policy(json!({"targetRefs": [{"kind": "Service"}]})), ["spec.targetRefs[0].kind"]);
        let when = |key: &str| json!({"rules": [{"when": [{"key": key, "values": ["x"]}]}]});
        assert!(policy(when("request.headers[authorization]")).is_empty());
        assert_eq!(policy(when("request.auth.claims[a]")), ["spec.rules[0].when[0].key"]);
        let sidecar = |spec| unhonoured(Kind::Sidecar, &spec);
        assert!(sidecar(json!({"egress": [{"hosts": ["*/*"]}]})).is_empty());
        assert!(sidecar(json!({"egress": [{"hosts": ["*/*"], "port": {"number": 80}}]})).is_empty());
    }

    #[test]
    fn every_rule_names_a_field_that_exists() {
        for kind in Kind::ALL {
            let schema = schema::spec(kind);
            for rule in rules(kind) {
                let field = rule.path.split('.').skip(1).try_fold(&schema, |node, segment| {
                    let child = node.get("properties")?.get(segment.trim_end_matches("[]"))?;
                    if segment.ends_with("[]") { child.get("items") } else { Some(child) }
                });
                let Some(field) = field else {
                    // Ports carry only the first four blocks of a policy.
                    assert!(rule.path.contains("portLevelSettings[]"), "{kind} {}", rule.path);
                    continue;
                };
                let names = match rule.when {
                    Is(texts) => texts,
                    _ => &[],
                };
                let known = &field["enum"];
                assert!(names.iter().all(|name| known.as_array().is_some_and(|k| k.contains(&json!(name)))));
            }
        }
    }
}
