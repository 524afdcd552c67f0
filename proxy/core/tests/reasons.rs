//! `proxy/REASONS.md` is made from the table in `src/reason.rs`, and a test that goes over the wire sees every reason.
//!
//! `UPDATE_REASONS=1 cargo test -p weft-core --test reasons` writes the file.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use weft_core::reason::Reason;

const HEAD: &str = "\
# Reasons

Made from `core/src/reason.rs` by `core/tests/reasons.rs`; not to be edited by hand.

Every answer that a sidecar itself makes has one of these reasons: in the header `x-weft-reason` (for peers of the
mesh), in the access log (`reason`, `%REASON%`, and the flag beside it as `response_flags`), in spans, and as the label
`reason` of `weft_rejected_total`. Istio's metrics have the flag alone. Where the status is 0, the connection is closed
without an answer, or the answer is the route's own.

| Reason | Status | Envoy's flag | When |
|---|--:|---|---|
";

/// Reasons that nothing in this version gives, and why they are in the list.
const NOT_YET: [(&str, &str); 0] = [];

/// The doc comment of each variant, by the variant's name.
fn meanings() -> Vec<(String, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/reason.rs");
    let text = std::fs::read_to_string(path).expect("the table's source");
    let list = text.split("pub enum Reason {").nth(1).and_then(|rest| rest.split("\n}").next());
    let (mut found, mut doc) = (Vec::new(), String::new());
    for line in list.expect("the list").lines().map(str::trim) {
        match line.strip_prefix("/// ") {
            Some(said) => doc = format!("{doc} {said}").trim().to_owned(),
            None if line.ends_with(',') => {
                found.push((line.trim_end_matches(',').to_owned(), std::mem::take(&mut doc)));
            }
            None => {}
        }
    }
    found
}

fn table() -> String {
    let meanings = meanings();
    let mut text = HEAD.to_owned();
    for reason in Reason::ALL {
        let variant = format!("{reason:?}");
        let (_, meaning) = meanings.iter().find(|(name, _)| *name == variant).expect("a doc comment");
        let flag = if reason.flag() == "-" { "-".to_owned() } else { format!("`{}`", reason.flag()) };
        let later = NOT_YET.iter().find(|(name, _)| *name == reason.name());
        let later = later.map(|(_, why)| format!(" Not in this version: {why}.")).unwrap_or_default();
        let row = format!("| `{reason}` | {} | {flag} | {meaning}{later} |", reason.status());
        writeln!(text, "{row}").expect("a string takes all");
    }
    text
}

#[test]
fn the_table_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../REASONS.md");
    if std::env::var_os("UPDATE_REASONS").is_some() {
        std::fs::write(&path, table()).expect("the file can be written");
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == table(), "proxy/REASONS.md is behind the code: see the head of core/tests/reasons.rs");
}

/// Reasons that no test sees on the wire, and why.
const NOT_SEEN: [(&str, &str); 1] =
    [("internal", "only a defect gives it: the tests of `http::serve` let a request panic")];

/// Every file of a folder and those below it.
fn files(folder: PathBuf, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        match entry.is_dir() {
            true => files(entry, found),
            false => found.push(entry),
        }
    }
}

/// The bodies of the tests that send something through a sidecar: each ends where a line begins with a bracket.
fn tests_on_the_wire() -> Vec<String> {
    let mut found = Vec::new();
    for folder in ["../tests", "../../e2e/tests"] {
        files(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut found);
    }
    let mut bodies = Vec::new();
    for path in found.iter().filter(|path| path.extension().is_some_and(|ext| ext == "rs")) {
        let text = std::fs::read_to_string(path).expect("a source file");
        let tests = text.split("#[test]\n").skip(1).chain(text.split("#[tokio::test").skip(1));
        bodies.extend(tests.filter_map(|rest| rest.split("\n}\n").next().map(str::to_owned)));
    }
    bodies
}

/// Whether a test looks for a reason: in an answer, a metric, a line of the log or a span, and asserts something.
fn looks_for(body: &str, reason: Reason) -> bool {
    let name = reason.name();
    let spelt = [
        format!("Reason::{reason:?}"),
        format!("\"{name}\""),
        format!("reason=\\\"{name}\\\""),
        format!("x-weft-reason: {name}"),
    ];
    // `is` asserts status and reason of an answer.
    let asserts = body.contains("assert") || body.contains(" is(&");
    asserts && spelt.iter().any(|text| body.contains(text))
}

#[test]
fn a_test_sees_every_reason_on_the_wire() {
    let tests = tests_on_the_wire();
    let excused = |reason: &Reason| NOT_YET.iter().chain(&NOT_SEEN).any(|(name, _)| *name == reason.name());
    let seen = |reason: Reason| tests.iter().any(|body| looks_for(body, reason));
    let missing: Vec<_> =
        Reason::ALL.into_iter().filter(|reason| !excused(reason) && !seen(*reason)).collect();
    assert!(missing.is_empty(), "no test that goes over the wire sees {missing:?}");
    let seen_after_all: Vec<_> =
        Reason::ALL.into_iter().filter(|reason| excused(reason) && seen(*reason)).collect();
    assert!(seen_after_all.is_empty(), "{seen_after_all:?} need no excuse any more");
}
