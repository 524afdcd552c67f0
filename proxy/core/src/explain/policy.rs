//! Policies in words: of whom they speak, to whom they are open, and what a request lacks that they do not let in.
//!
//! What a request lacks is found by asking `authz` itself about each part of a rule alone.

use std::sync::Arc;

use crate::authz::{Decision, RequestFacts, authorize};
use crate::model::policy::{Action, AuthorizationPolicy, Rule};
use crate::model::workload::{Inbound, MtlsMode, Workload};

use super::told::{Access, PolicyTold, RuleTold};
use super::words;

/// What a workload lets in, and whom.
pub fn access(workload: &Workload) -> Access {
    let (inbound, metadata) = (&workload.inbound, &workload.metadata);
    let ports = inbound.ports.iter().map(|port| (port.number, mode(port.mtls).to_owned()));
    Access {
        pod: format!("{}/{}", metadata.namespace, metadata.pod),
        identity: workload.identity.to_string(),
        mtls: mode(inbound.default_mtls).to_owned(),
        ports: ports.collect(),
        policies: policies(inbound),
        open_to: open_to(inbound),
        notes: open_doors(inbound),
    }
}

/// PeerAuthentication's word for a mode.
fn mode(mode: MtlsMode) -> &'static str {
    match mode {
        MtlsMode::Disable => "DISABLE",
        MtlsMode::Permissive => "PERMISSIVE",
        MtlsMode::Strict => "STRICT",
    }
}

/// Every policy of a workload.
pub fn policies(inbound: &Inbound) -> Vec<PolicyTold> {
    inbound.policies.iter().map(|policy| told(policy)).collect()
}

/// To whom a workload is open, as far as policies go.
pub fn open_to(inbound: &Inbound) -> String {
    let in_force = || inbound.policies.iter().filter(|policy| !policy.dry_run);
    if let Some(policy) = in_force().find(|policy| policy.action == Action::FailClosed) {
        return format!("nobody: {} could not be understood whole, which denies everything", policy.name);
    }
    let mut allows = in_force().filter(|policy| policy.action == Action::Allow).peekable();
    if allows.peek().is_none() {
        return "everyone who is not denied: there is no ALLOW policy".to_owned();
    }
    let rules: Vec<&Rule> = allows.flat_map(|policy| &policy.rules).collect();
    if rules.is_empty() {
        return "nobody: the ALLOW policies have no rule".to_owned();
    }
    let one = |rule: &&Rule| {
        let who = words::who(rule).unwrap_or_else(|| "everyone".to_owned());
        let what = words::what(rule).unwrap_or_else(|| "everything".to_owned());
        let when = words::when(rule).map(|when| format!(", if {when}")).unwrap_or_default();
        format!("{who} for {what}{when}")
    };
    rules.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// Rules that let in whoever calls.
pub fn open_doors(inbound: &Inbound) -> Vec<String> {
    let allows = inbound.policies.iter().filter(|p| p.action == Action::Allow && !p.dry_run);
    let doors =
        allows.flat_map(|policy| policy.rules.iter().enumerate().map(move |(n, rule)| (policy, n, rule)));
    doors
        .filter(|(_, _, rule)| words::who(rule).is_none())
        .map(|(policy, n, rule)| {
            let what = words::what(rule).unwrap_or_else(|| "everything".to_owned());
            let when = words::when(rule).map(|when| format!(", if {when}")).unwrap_or_default();
            format!(
                "AuthorizationPolicy {}, {}, lets everyone in for {what}{when}: it names no source, so callers without \
                 a certificate come in too",
                policy.name,
                place(n)
            )
        })
        .collect()
}

/// `spec.rules[1]`.
pub fn place(rule: usize) -> String {
    format!("spec.rules[{rule}]")
}

/// The rule of a policy, in words.
pub fn rule_in_words(policies: &[Arc<AuthorizationPolicy>], name: &str, rule: Option<usize>) -> String {
    let policy = policies.iter().find(|policy| policy.name.to_string() == name);
    let Some(rule) = policy.zip(rule).and_then(|(policy, n)| policy.rules.get(n)) else {
        return String::new();
    };
    let told = rule_told(0, rule);
    let when = if told.when.is_empty() { String::new() } else { format!(", if {}", told.when) };
    format!("{} for {}{when}", told.who, told.what)
}

/// What a request lacks, rule by rule of the ALLOW policies.
pub fn lacking(policies: &[Arc<AuthorizationPolicy>], facts: &RequestFacts<'_>) -> Vec<String> {
    let allows = policies.iter().filter(|policy| policy.action == Action::Allow && !policy.dry_run);
    let mut all = Vec::new();
    for policy in allows {
        if policy.rules.is_empty() {
            all.push(format!("AuthorizationPolicy {} has no rule: it lets nobody in", policy.name));
        }
        for (n, rule) in policy.rules.iter().enumerate() {
            let failed: Vec<String> = parts(rule)
                .into_iter()
                .filter(|(_, part)| !holds(part, facts))
                .map(|(text, _)| text)
                .collect();
            let http = facts.http.is_none().then_some(" (a rule about HTTP lets no opaque connection in)");
            all.push(format!(
                "AuthorizationPolicy {}, {}, asks for {}{}",
                policy.name,
                place(n),
                failed.join(", and "),
                http.unwrap_or_default()
            ));
        }
    }
    all
}

/// Each part of a rule, in words and as a rule of its own.
fn parts(rule: &Rule) -> Vec<(String, Rule)> {
    let mut all = Vec::new();
    if !rule.from.is_empty() {
        let text = rule.from.iter().map(words::source_of).collect::<Vec<_>>().join(" or ");
        all.push((text, Rule { from: rule.from.clone(), ..Rule::default() }));
    }
    if !rule.to.is_empty() {
        let text = rule.to.iter().map(words::operation_of).collect::<Vec<_>>().join(" or ");
        all.push((text, Rule { to: rule.to.clone(), ..Rule::default() }));
    }
    for condition in &rule.when {
        let one = Rule { when: vec![condition.clone()], ..Rule::default() };
        all.push((words::condition(condition), one));
    }
    all
}

fn holds(part: &Rule, facts: &RequestFacts<'_>) -> bool {
    let name = crate::model::name::ObjectName { namespace: "".into(), name: "".into() };
    let rules = vec![part.clone()];
    let alone = AuthorizationPolicy { name, action: Action::Allow, dry_run: false, rules };
    matches!(authorize(&[Arc::new(alone)], facts).decision, Decision::Allow { .. })
}

fn told(policy: &AuthorizationPolicy) -> PolicyTold {
    let action = match policy.action {
        Action::Allow => "ALLOW",
        Action::Deny => "DENY",
        Action::FailClosed => "DENY (fails closed: it could not be understood whole)",
    };
    PolicyTold {
        policy: policy.name.to_string(),
        action: action.to_owned(),
        dry_run: policy.dry_run,
        rules: policy.rules.iter().enumerate().map(|(n, rule)| rule_told(n, rule)).collect(),
    }
}

fn rule_told(n: usize, rule: &Rule) -> RuleTold {
    let who = words::who(rule);
    RuleTold {
        rule: place(n),
        everyone: who.is_none(),
        who: who.unwrap_or_else(|| "everyone".to_owned()),
        what: words::what(rule).unwrap_or_else(|| "everything".to_owned()),
        when: words::when(rule).unwrap_or_default(),
    }
}
