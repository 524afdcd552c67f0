//! Conditions: what they say, and how they stand beside those of others. Pure.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::tally::Tally;
use crate::report::{Report, Severity};

/// The longest message, in bytes: a status is to be read, and kept by the API server.
const MAX_MESSAGE_BYTES: usize = 4 << 10;
/// The types of the conditions that are ours.
const OURS: [&str; 2] = ["Accepted", "Programmed"];

/// What one of our conditions says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// One word for programs.
    pub reason: String,
    /// A sentence for people.
    pub message: String,
}

/// What the status of an object says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// `observedGeneration`: what is spoken of.
    pub generation: i64,
    /// `Accepted`.
    pub accepted: Condition,
    /// `Programmed`.
    pub programmed: Condition,
}

impl Standing {
    /// What is to be said of an object, given what is wrong with it and how many sidecars have it.
    pub fn of(generation: i64, reports: &[&Report], tally: &Tally) -> Self {
        let accepted = accepted(reports);
        let programmed = match accepted.status.as_str() {
            "True" => programmed(tally),
            _ => condition(
                "False",
                "NotAccepted",
                "its last good version stays in force, if there was one".into(),
            ),
        };
        Self { generation, accepted, programmed }
    }

    /// What an object's status says now; `None` where it does not speak of all of it.
    pub fn read(status: &Value) -> Option<Self> {
        let of = |kind: &str| {
            let all = status["conditions"].as_array()?;
            let one = all.iter().find(|it| it["type"] == kind)?;
            let text = |field: &str| one[field].as_str().unwrap_or_default().to_owned();
            Some(Condition { status: text("status"), reason: text("reason"), message: text("message") })
        };
        let generation = status["observedGeneration"].as_i64().or_else(|| {
            // Written by Istio as text.
            status["observedGeneration"].as_str()?.parse().ok()
        })?;
        Some(Self { generation, accepted: of(OURS[0])?, programmed: of(OURS[1])? })
    }

    /// Whether only counts differ, which nobody waits for.
    pub fn differs_in_counts_only(&self, other: &Self) -> bool {
        self.generation == other.generation
            && self.accepted == other.accepted
            && self.programmed.status == other.programmed.status
    }

    /// The status with this in it, and all that others have written there; `None` if it says so already.
    pub fn merged(&self, status: &Value, now: Timestamp) -> Option<Value> {
        if Self::read(status).as_ref() == Some(self) {
            return None;
        }
        let mut conditions = status["conditions"].as_array().cloned().unwrap_or_default();
        for (kind, condition) in OURS.into_iter().zip([&self.accepted, &self.programmed]) {
            let place = conditions.iter().position(|it| it["type"] == kind);
            let next = condition.written(kind, self.generation, place.map(|at| &conditions[at]), now);
            match place {
                Some(at) => conditions[at] = next,
                None => conditions.push(next),
            }
        }
        let mut merged = status.as_object().cloned().unwrap_or_else(Map::new);
        merged.insert("conditions".to_owned(), conditions.into());
        merged.insert("observedGeneration".to_owned(), self.generation.into());
        Some(Value::Object(merged))
    }
}

impl Condition {
    /// As it is written; the time of its last transition stays while its status does.
    fn written(&self, kind: &str, generation: i64, before: Option<&Value>, now: Timestamp) -> Value {
        let same = before.filter(|before| before["status"] == *self.status);
        let since = same.and_then(|before| before["lastTransitionTime"].as_str()).map(str::to_owned);
        json!({
            "type": kind,
            "status": self.status,
            "reason": self.reason,
            "message": self.message,
            "observedGeneration": generation,
            "lastTransitionTime": since.unwrap_or_else(|| now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
        })
    }
}

/// The sentences of a severity, as `weft validate` prints them.
fn accepted(reports: &[&Report]) -> Condition {
    let of = |severity| {
        let all = reports.iter().filter(|report| report.severity == severity).map(|report| sentence(report));
        cut(all.collect::<Vec<_>>().join("; "))
    };
    let has = |severity| reports.iter().any(|report| report.severity == severity);
    if has(Severity::Error) {
        condition("False", "Invalid", of(Severity::Error))
    } else if has(Severity::Unhonoured) {
        condition("False", "NotHonoured", of(Severity::Unhonoured))
    } else if has(Severity::Warning) {
        condition("True", "Warning", of(Severity::Warning))
    } else {
        condition("True", "Accepted", String::new())
    }
}

fn sentence(report: &Report) -> String {
    match report.field.is_empty() {
        true => report.reason.clone(),
        false => format!("{}: {}", report.field, report.reason),
    }
}

fn programmed(tally: &Tally) -> Condition {
    let Tally { programmed, total, refusal } = tally;
    let on = format!("on {programmed} of {total} sidecars");
    match refusal {
        _ if *total == 0 => {
            condition("Unknown", "NoSidecars", "no connected sidecar has asked for it yet".into())
        }
        Some(refusal) => condition("False", "Refused", cut(format!("{on}; {refusal}"))),
        None if programmed < total => condition("False", "Pending", on),
        None => condition("True", "Programmed", on),
    }
}

fn condition(status: &str, reason: &str, message: String) -> Condition {
    Condition { status: status.to_owned(), reason: reason.to_owned(), message }
}

fn cut(mut text: String) -> String {
    if text.len() > MAX_MESSAGE_BYTES {
        text.truncate(text.floor_char_boundary(MAX_MESSAGE_BYTES));
        text.push_str("...");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(severity: Severity, field: &str, reason: &str) -> Report {
        Report {
            file: String::new(),
            line: 0,
            severity,
            object: "VirtualService default/web".to_owned(),
            field: field.to_owned(),
            reason: reason.to_owned(),
        }
    }

    fn tally(programmed: u32, total: u32) -> Tally {
        Tally { programmed, total, refusal: None }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn accepted_says_what_validate_says() {
        let warning = report(Severity::Warning, "spec.http[1]", "is never reached");
        let unhonoured = report(Severity::Unhonoured, "spec.gateways", "is not honoured yet");
        let error = report(Severity::Error, "spec.http[0].timeout", "`soon` is no duration");
        let of = |reports: &[&Report]| accepted(reports);
        assert_eq!(of(&[]), condition("True", "Accepted", String::new()));
        assert_eq!(of(&[&warning]), condition("True", "Warning", "spec.http[1]: is never reached".into()));
        assert_eq!(of(&[&warning, &unhonoured]).reason, "NotHonoured");
        let all = of(&[&warning, &unhonoured, &error]);
        assert_eq!((&*all.status, &*all.reason), ("False", "Invalid"));
        assert_eq!(all.message, "spec.http[0].timeout: `soon` is no duration");
        let long = report(Severity::Error, "spec", &"\u{e4}".repeat(MAX_MESSAGE_BYTES));
        assert!(of(&[&long]).message.len() <= MAX_MESSAGE_BYTES + 3);
    }

    #[test]
    fn programmed_counts_and_quotes_who_refused() {
        let of = |tally: &Tally| Standing::of(1, &[], tally).programmed;
        assert_eq!(of(&tally(0, 0)).status, "Unknown");
        assert_eq!(of(&tally(41, 43)), condition("False", "Pending", "on 41 of 43 sidecars".into()));
        assert_eq!(of(&tally(43, 43)), condition("True", "Programmed", "on 43 of 43 sidecars".into()));
        let refusal = Some("default/web-0 refuses ports[0]: not today".to_owned());
        let refused = of(&Tally { refusal, ..tally(42, 43) });
        assert_eq!(refused.reason, "Refused");
        assert_eq!(refused.message, "on 42 of 43 sidecars; default/web-0 refuses ports[0]: not today");
        let error = report(Severity::Error, "", "no");
        assert_eq!(Standing::of(1, &[&error], &tally(3, 3)).programmed.reason, "NotAccepted");
    }

    #[test]
    fn what_others_wrote_stays_and_what_is_the_same_is_not_written() {
        let theirs =
            json!({"type": "Reconciled", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"});
        let there = json!({"conditions": [theirs], "validationMessages": [], "observedGeneration": "3"});
        let standing = Standing::of(4, &[], &tally(1, 2));
        let first = standing.merged(&there, at(1_800_000_000)).unwrap();
        assert_eq!(first["conditions"][0], theirs);
        assert_eq!(first["validationMessages"], json!([]));
        assert_eq!(first["observedGeneration"], 4);
        assert_eq!(first["conditions"].as_array().unwrap().len(), 3);
        assert_eq!(standing.merged(&first, at(1_900_000_000)), None);
        let next = Standing::of(4, &[], &tally(2, 2)).merged(&first, at(1_900_000_000)).unwrap();
        let since = |status: &Value, at: usize| status["conditions"][at]["lastTransitionTime"].clone();
        assert_eq!(since(&next, 1), "2027-01-15T08:00:00Z", "Accepted has not changed");
        assert_eq!(since(&next, 2), "2030-03-17T17:46:40Z", "Programmed has");
    }

    #[test]
    fn a_status_that_somebody_filled_with_nonsense_is_mended() {
        let standing = Standing::of(1, &[], &tally(0, 0));
        let nonsense =
            [json!(null), json!("x"), json!({"conditions": 5}), json!({"conditions": [5, {"type": 7}]})];
        for status in nonsense {
            assert_eq!(Standing::read(&status), None);
            let mended = standing.merged(&status, at(0)).unwrap();
            assert_eq!(Standing::read(&mended).as_ref(), Some(&standing), "{mended}");
        }
    }

    #[test]
    fn counts_alone_are_no_hurry() {
        let of = |generation, programmed, total| Standing::of(generation, &[], &tally(programmed, total));
        assert!(of(1, 2, 2).differs_in_counts_only(&of(1, 3, 3)));
        assert!(!of(1, 2, 2).differs_in_counts_only(&of(1, 2, 3)), "no longer on all of them");
        assert!(!of(1, 2, 2).differs_in_counts_only(&of(2, 2, 2)));
    }
}
