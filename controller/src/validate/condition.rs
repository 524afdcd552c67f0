//! `rules[].when[]`.

use weft_core::model::policy::{Condition, ValueMatch};
use weft_crds::authorization_policy::Condition as Written;

use super::common;
use super::findings::Findings;
use super::policy_values::{accounts_of, networks_of, ports, wildcards};

/// Keys that need a JWT, which is not honoured yet.
const JWT_KEYS: [&str; 4] =
    ["request.auth.principal", "request.auth.audiences", "request.auth.presenter", "request.auth.claims"];

/// One condition.
pub fn condition(findings: &mut Findings, path: &str, when: &Written, namespace: &str) -> Option<Condition> {
    if when.values.is_empty() && when.not_values.is_empty() {
        findings.error(path, "has neither values nor notValues");
        return None;
    }
    let key = format!("{path}.key");
    if let Some(name) = bracketed(&when.key, "request.headers") {
        let name = common::header_name(findings, &key, name)?;
        return Some(Condition::Header(name, both(findings, path, when, wildcards)));
    }
    let accounts = |f: &mut Findings, at: &str, list: &[String]| accounts_of(f, at, list, namespace);
    Some(match when.key.as_str() {
        "source.ip" => Condition::SourceIp(both(findings, path, when, networks_of)),
        "remote.ip" => Condition::RemoteIp(both(findings, path, when, networks_of)),
        "source.namespace" => Condition::SourceNamespace(both(findings, path, when, wildcards)),
        "source.principal" => Condition::SourcePrincipal(both(findings, path, when, wildcards)),
        "source.serviceAccount" => Condition::SourceServiceAccount(both(findings, path, when, accounts)),
        "source.trustDomain" => Condition::SourceTrustDomain(both(findings, path, when, wildcards)),
        "destination.ip" => Condition::DestinationIp(both(findings, path, when, networks_of)),
        "destination.port" => Condition::DestinationPort(both(findings, path, when, ports)),
        "connection.sni" => Condition::Sni(both(findings, path, when, wildcards)),
        other => {
            refuse(findings, &key, other);
            return None;
        }
    })
}

fn refuse(findings: &mut Findings, path: &str, key: &str) {
    let jwt = JWT_KEYS.iter().any(|known| key == *known || bracketed(key, known).is_some());
    if jwt || key.starts_with("experimental.envoy.filters.") {
        findings.unhonoured(path, format!("`{key}` is not honoured yet, and the policy denies until it is"));
    } else if key.is_empty() {
        findings.error(path, format!("missing; {KEYS}"));
    } else {
        findings.error(path, format!("`{key}` is not known; {KEYS}"));
    }
}

const KEYS: &str = "the keys are request.headers[NAME], source.ip, remote.ip, source.namespace, source.principal, \
    source.serviceAccount, source.trustDomain, destination.ip, destination.port, connection.sni";

/// The name in `prefix[name]`.
fn bracketed<'a>(key: &'a str, prefix: &str) -> Option<&'a str> {
    key.strip_prefix(prefix)?.strip_prefix('[')?.strip_suffix(']')
}

fn both<T>(
    findings: &mut Findings,
    path: &str,
    when: &Written,
    mut read: impl FnMut(&mut Findings, &str, &[String]) -> Vec<T>,
) -> ValueMatch<T> {
    ValueMatch {
        values: read(findings, &format!("{path}.values"), &when.values),
        not_values: read(findings, &format!("{path}.notValues"), &when.not_values),
    }
}
