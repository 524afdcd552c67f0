//! `proxy/REASONS.md` is made from the table in `src/reason.rs`, and every reason is reached by a test.
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
const NOT_YET: [(&str, &str); 2] = [
    ("fault_injected", "fault injection is not honoured yet"),
    ("dns", "names outside of the mesh are looked up by the application"),
];

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

/// Every file of a folder and those below it.
fn files(folder: PathBuf, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        match entry.is_dir() {
            true => files(entry, found),
            false => found.push(entry),
        }
    }
}

/// What tests say: files of tests, and what follows the mark of a module of tests.
fn tests_of(folders: &[&str]) -> String {
    let mut found = Vec::new();
    for folder in folders {
        files(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut found);
    }
    let mut text = String::new();
    for path in found.iter().filter(|path| path.extension().is_some_and(|ext| ext == "rs")) {
        let whole = std::fs::read_to_string(path).expect("a source file");
        // The demo checks what it shows, and runs before every change lands.
        let of_tests = |name: &str| path.components().any(|part| part.as_os_str() == name);
        let is_test = path.ends_with("tests.rs") || of_tests("tests") || of_tests("demo");
        match is_test {
            true => text.push_str(&whole),
            false => text.extend(whole.split("#[cfg(test)]").skip(1)),
        }
    }
    text
}

/// But for `internal`, which only a defect gives.
#[test]
fn every_reason_is_reached_by_a_test() {
    let tests = tests_of(&["src", "../src", "../tests", "../../e2e/tests", "../../cli/src/demo"]);
    let given = |reason: &&Reason| {
        !NOT_YET.iter().any(|(name, _)| *name == reason.name()) && **reason != Reason::Internal
    };
    let reached = |reason: &Reason| {
        let name = reason.name();
        let spelt = [
            format!("Reason::{reason:?}"),
            format!("\"{name}\""),
            format!("reason=\\\"{name}\\\""),
            format!("x-weft-reason: {name}"),
        ];
        spelt.iter().any(|text| tests.contains(text))
    };
    let missing: Vec<_> = Reason::ALL.iter().filter(given).filter(|reason| !reached(reason)).collect();
    assert!(missing.is_empty(), "no test reaches {missing:?}");
}
