//! AuthorizationPolicies. What cannot be honoured whole denies: a condition that was lost would let in.

use weft_core::matching::Wildcard;
use weft_core::model::policy::{Action, Operation, PathPattern, Rule, Source, ValueMatch};
use weft_crds::authorization_policy as written;

use super::common;
use super::condition::condition;
use super::findings::Findings;
use super::policy_values::{accounts_of, networks_of, path_pattern, ports, texts, values};
use crate::fragment::meta::{Meta, Selector};
use crate::fragment::security::AuthorizationPolicy;

/// The most rules of one policy.
const RULE_LIMIT: usize = 512;
/// The annotation that takes a policy's effect away, and its values.
const DRY_RUN: &str = "istio.io/dry-run";

/// What an AuthorizationPolicy means. Where something in it is wrong or not honoured, the findings say so and the
/// policy is one that denies whatever it selects.
pub fn authorization_policy(
    findings: &mut Findings,
    meta: Meta,
    spec: &written::AuthorizationPolicy,
) -> AuthorizationPolicy {
    let labels = spec.selector.as_ref().map(|s| &s.match_labels);
    let selector =
        labels.map(|l| common::selector(findings, "spec.selector.matchLabels", l)).unwrap_or_default();
    let elsewhere = elsewhere(findings, spec);
    if spec.selector.is_some() && !(spec.target_refs.is_empty() && spec.target_ref.is_none()) {
        findings.error("spec.targetRefs", "stands without selector, which says the same in another way");
    }
    let action = action(findings, spec);
    let written = spec.rules.as_deref().unwrap_or_default();
    if written.len() > RULE_LIMIT {
        findings.error("spec.rules", format!("has {} entries; the most is {RULE_LIMIT}", written.len()));
    }
    if action == Action::Deny && written.is_empty() {
        findings.error(
            "spec.rules",
            "missing; a DENY without rules denies nothing. `rules: [{}]` denies everything",
        );
    }
    let mut read = Reader { findings, namespace: &meta.name.namespace };
    let rules: Vec<Rule> =
        written.iter().enumerate().map(|(i, rule)| read.rule(&format!("spec.rules[{i}]"), rule)).collect();
    if findings.accepted() {
        warn_of_open_doors(findings, action, &rules);
    }
    let dry_run = dry_run(findings, &meta);
    let (action, rules) =
        if findings.accepted() { (action, rules) } else { (Action::FailClosed, Vec::new()) };
    AuthorizationPolicy { meta, selector, action, dry_run: dry_run && findings.accepted(), rules, elsewhere }
}

/// A policy of which not even the shape is understood: it denies the whole namespace.
pub fn closed(meta: Meta, selector: Selector) -> AuthorizationPolicy {
    let (action, rules) = (Action::FailClosed, Vec::new());
    AuthorizationPolicy { meta, selector, action, dry_run: false, rules, elsewhere: false }
}

fn elsewhere(findings: &mut Findings, spec: &written::AuthorizationPolicy) -> bool {
    let targets: Vec<_> = spec.target_refs.iter().chain(&spec.target_ref).collect();
    let gateway = |kind: &str| matches!(kind, "Gateway" | "GatewayClass");
    if targets.is_empty() {
        return false;
    }
    if targets.iter().all(|target| gateway(&target.kind)) {
        findings.warn("spec.targetRefs", "is for gateways and waypoints: it says nothing to sidecars");
        return true;
    }
    findings.unhonoured(
        "spec.targetRefs",
        "a policy for a Service is not honoured yet, and denies until it is; write a selector",
    );
    false
}

fn action(findings: &mut Findings, spec: &written::AuthorizationPolicy) -> Action {
    match spec.action {
        None | Some(written::Action::Allow) => Action::Allow,
        Some(written::Action::Deny) => Action::Deny,
        Some(written::Action::Audit) => {
            findings.unhonoured("spec.action", "AUDIT is not honoured yet, and denies until it is");
            Action::FailClosed
        }
        Some(written::Action::Custom) => {
            findings.unhonoured("spec.action", "CUSTOM is not honoured yet, and denies until it is");
            Action::FailClosed
        }
    }
}

fn dry_run(findings: &mut Findings, meta: &Meta) -> bool {
    match meta.annotation(DRY_RUN) {
        None | Some("false") => false,
        Some("true") => true,
        Some(text) => {
            findings.warn(
                "metadata.annotations",
                format!("`{DRY_RUN}: {text}` is neither true nor false: the policy is in force"),
            );
            false
        }
    }
}

fn warn_of_open_doors(findings: &mut Findings, action: Action, rules: &[Rule]) {
    for (i, rule) in rules.iter().enumerate().filter(|_| action == Action::Allow) {
        if rule.when.is_empty() && rule.from.iter().any(says_only_who_not) {
            findings.warn(
                format!("spec.rules[{i}].from"),
                "says only who is not meant: a caller without mTLS has no identity, and is let in",
            );
        }
        if rule.from.is_empty() && rule.when.is_empty() {
            let what = if rule.to.is_empty() { "everything" } else { "these operations" };
            findings.warn(
                format!("spec.rules[{i}]"),
                format!("has no from and no when: it allows {what} to everyone"),
            );
        }
    }
}

/// Whether a source is told by nothing but identities that it does not have.
fn says_only_who_not(source: &Source) -> bool {
    let no = |values: &ValueMatch<Wildcard>| values.values.is_empty();
    let anyone = no(&source.principals) && no(&source.namespaces) && no(&source.trust_domains);
    let addresses = source.ip_blocks.is_empty() && source.remote_ip_blocks.is_empty();
    anyone && addresses && source.service_accounts.values.is_empty()
}

struct Reader<'a> {
    findings: &'a mut Findings,
    namespace: &'a str,
}

impl Reader<'_> {
    fn rule(&mut self, path: &str, rule: &written::Rule) -> Rule {
        let from = self.not_empty(path, "from", rule.from.as_deref());
        let to = self.not_empty(path, "to", rule.to.as_deref());
        let mut made = Rule::default();
        for (i, from) in from.iter().enumerate() {
            made.from.extend(self.source(&format!("{path}.from[{i}].source"), from.source.as_ref()));
        }
        for (i, to) in to.iter().enumerate() {
            made.to.extend(self.operation(&format!("{path}.to[{i}].operation"), to.operation.as_ref()));
        }
        common::part(self.findings, &format!("{path}.when"), rule.when.as_ref().map_or(0, Vec::len));
        for (i, when) in rule.when.as_deref().unwrap_or_default().iter().enumerate() {
            made.when.extend(condition(self.findings, &format!("{path}.when[{i}]"), when, self.namespace));
        }
        made
    }

    fn not_empty<'a, T>(&mut self, path: &str, name: &str, list: Option<&'a [T]>) -> &'a [T] {
        if list.is_some_and(<[T]>::is_empty) {
            self.findings.error(
                format!("{path}.{name}"),
                "is empty; leave it out to mean anyone, or write what is meant",
            );
        }
        common::part(self.findings, &format!("{path}.{name}"), list.map_or(0, <[T]>::len));
        list.unwrap_or_default()
    }

    fn source(&mut self, path: &str, source: Option<&written::Source>) -> Option<Source> {
        let Some(source) = source.filter(|source| **source != written::Source::default()) else {
            self.findings.error(path, "is empty; write whom it means");
            return None;
        };
        for (name, list) in [
            ("requestPrincipals", &source.request_principals),
            ("notRequestPrincipals", &source.not_request_principals),
        ] {
            if !list.is_empty() {
                self.findings.unhonoured(
                    format!("{path}.{name}"),
                    "request principals are not honoured yet, and the policy denies until they are",
                );
            }
        }
        let accounts = !source.service_accounts.is_empty() || !source.not_service_accounts.is_empty();
        if accounts && !(source.principals.is_empty() && source.namespaces.is_empty()) {
            self.findings.error(
                format!("{path}.serviceAccounts"),
                "stands without principals and namespaces, which say the same",
            );
        }
        let (read, namespace) = (&mut *self.findings, self.namespace);
        let accounts = |f: &mut Findings, at: &str, list: &[String]| accounts_of(f, at, list, namespace);
        for (i, _) in source.principals.iter().enumerate().filter(|(_, p)| p.starts_with("spiffe://")) {
            let reason = "never matches: a principal is written without `spiffe://`";
            read.warn(format!("{path}.principals[{i}]"), reason);
        }
        let mut both = |name, yes: &[String], no: &[String]| texts(read, path, (name, yes), no);
        let principals = both("principals", &source.principals, &source.not_principals);
        let namespaces = both("namespaces", &source.namespaces, &source.not_namespaces);
        let trust_domains = both("trustDomains", &source.trust_domains, &source.not_trust_domains);
        let mut nets = |name, yes: &[String], no: &[String]| values(read, path, (name, yes), no, networks_of);
        let ip_blocks = nets("ipBlocks", &source.ip_blocks, &source.not_ip_blocks);
        let remote_ip_blocks = nets("remoteIpBlocks", &source.remote_ip_blocks, &source.not_remote_ip_blocks);
        let field = ("serviceAccounts", source.service_accounts.as_slice());
        let service_accounts = values(read, path, field, &source.not_service_accounts, accounts);
        Some(Source { principals, namespaces, service_accounts, trust_domains, ip_blocks, remote_ip_blocks })
    }

    fn operation(&mut self, path: &str, operation: Option<&written::Operation>) -> Option<Operation> {
        let Some(operation) = operation.filter(|o| **o != written::Operation::default()) else {
            self.findings.error(path, "is empty; write what it means");
            return None;
        };
        let read = &mut *self.findings;
        for (i, method) in operation.methods.iter().enumerate() {
            if method.bytes().any(|b| b.is_ascii_lowercase()) {
                let reason = format!("`{method}` never matches GET and its kin: the case of a method counts");
                read.warn(format!("{path}.methods[{i}]"), reason);
            }
        }
        for (i, text) in operation.paths.iter().enumerate().filter(|(_, p)| !p.starts_with(['/', '*', '{'])) {
            let reason = format!("`{text}` never matches: a path begins with `/`");
            read.warn(format!("{path}.paths[{i}]"), reason);
        }
        let path_patterns = |f: &mut Findings, at: &str, list: &[String]| -> Vec<PathPattern> {
            common::bounded(f, at, list);
            let all = list.iter().enumerate();
            all.filter_map(|(i, text)| path_pattern(f, &format!("{at}[{i}]"), text)).collect()
        };
        let o = operation;
        Some(Operation {
            hosts: texts(read, path, ("hosts", &o.hosts), &o.not_hosts),
            ports: values(read, path, ("ports", &o.ports), &o.not_ports, ports),
            methods: texts(read, path, ("methods", &o.methods), &o.not_methods),
            paths: values(read, path, ("paths", &o.paths), &o.not_paths, path_patterns),
        })
    }
}
