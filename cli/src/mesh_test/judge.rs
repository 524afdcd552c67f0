//! What is expected beside what is explained.

use weft_core::explain::Explanation;
use weft_core::explain::told::Verdict;

use super::file::Expect;

/// An expectation that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Difference {
    /// The field of `expect`.
    pub field: String,
    /// What is written there.
    pub expected: String,
    /// What is so.
    pub found: String,
}

/// The expectations that do not hold.
pub fn differences(expect: &Expect, all: &Explanation) -> Vec<Difference> {
    let mut different = Differences(Vec::new());
    let verdict = match all.verdict {
        Verdict::Forwarded => "forwarded",
        Verdict::Refused => "refused",
        Verdict::Answered => "answered",
    };
    let allowed = all.verdict != Verdict::Refused && !all.mixed;
    different.text("allowed", expect.allowed.map(|b| b.to_string()), &why(all, &allowed.to_string()), |e| {
        *e == allowed.to_string()
    });
    different.text("verdict", expect.verdict.clone(), &why(all, verdict), |e| e == verdict);
    different.exact("status", expect.status.map(|s| s.to_string()), all.status.map(|s| s.to_string()));
    different.exact("reason", expect.reason.clone(), all.reason.clone());
    different.exact("path", expect.path.clone(), all.path.clone());
    different.exact("location", expect.location.clone(), all.location.clone());
    different.exact("fault", expect.fault.clone(), all.fault.clone());
    different.exact("subset", expect.subset.clone(), all.subset.clone());
    let service = all.service.clone().unwrap_or_else(|| "none".to_owned());
    let host = service.split_once('/').map_or(service.as_str(), |(_, host)| host);
    let short = host.split('.').next().unwrap_or(host);
    different.text("service", expect.service.clone(), &service, |e| [&service, host, short].contains(&e));
    different.named("route", expect.route.as_deref(), &route(all));
    different.named("policy", expect.policy.as_deref(), &policy(all));
    different.weights(expect, all);
    different.0
}

fn why(all: &Explanation, said: &str) -> String {
    match (&all.reason, &all.mend[..]) {
        (Some(reason), []) => format!("{said} ({reason})"),
        (Some(reason), [mend, ..]) => format!("{said} ({reason}: {mend})"),
        (None, _) => said.to_owned(),
    }
}

/// The object, its rule, and the rule's other name.
fn route(all: &Explanation) -> [String; 3] {
    let Some(route) = &all.route else { return none() };
    let Some(object) = &route.object else { return none() };
    [object.clone(), route.rule.clone(), route.name.clone()]
}

fn policy(all: &Explanation) -> [String; 3] {
    let Some(policy) = &all.policy else { return none() };
    [policy.clone(), all.policy_rule.clone().unwrap_or_default(), String::new()]
}

fn none() -> [String; 3] {
    ["none".to_owned(), String::new(), String::new()]
}

struct Differences(Vec<Difference>);

impl Differences {
    fn text(&mut self, field: &str, expected: Option<String>, found: &str, holds: impl Fn(&str) -> bool) {
        if let Some(expected) = expected.filter(|expected| !holds(expected)) {
            self.0.push(Difference { field: field.to_owned(), expected, found: found.to_owned() });
        }
    }

    fn exact(&mut self, field: &str, expected: Option<String>, found: Option<String>) {
        let found = found.unwrap_or_else(|| "none".to_owned());
        self.text(field, expected, &found, |expected| expected == found);
    }

    /// An object, and its rule if one is written.
    fn named(&mut self, field: &str, expected: Option<&str>, [object, rule, name]: &[String; 3]) {
        let holds = |expected: &str| {
            let (wanted, of) = expected.split_once(' ').unwrap_or((expected, ""));
            wanted == object && (of.is_empty() || of == rule || of == name)
        };
        let found = if rule.is_empty() { object.clone() } else { format!("{object} {rule}") };
        self.text(field, expected.map(str::to_owned), &found, holds);
    }

    fn weights(&mut self, expect: &Expect, all: &Explanation) {
        let Some(wanted) = &expect.weights else { return };
        let found: std::collections::BTreeMap<String, f64> = all
            .destinations
            .iter()
            .filter(|d| d.share > 0.0)
            .map(|d| (d.subset.clone().unwrap_or_else(|| "none".to_owned()), d.share))
            .collect();
        let wanted = wanted.iter().filter(|(_, share)| **share > 0.0);
        let wanted: std::collections::BTreeMap<String, f64> = wanted.map(|(k, v)| (k.clone(), *v)).collect();
        let same = wanted.len() == found.len()
            && wanted
                .iter()
                .all(|(subset, share)| found.get(subset).is_some_and(|f| (f - share).abs() < 0.5));
        let shown = |all: &std::collections::BTreeMap<String, f64>| {
            all.iter().map(|(subset, share)| format!("{subset} {share:.0}%")).collect::<Vec<_>>().join(", ")
        };
        if !same {
            let (expected, found) = (shown(&wanted), shown(&found));
            self.0.push(Difference { field: "weights".to_owned(), expected, found });
        }
    }
}
