//! The README's tables, made from the schemas and the rules of what is not honoured yet.
//!
//! `UPDATE_README=1 cargo test -p weft-crds --test readme` writes them.

use std::fmt::Write;
use std::path::Path;

use serde_json::Value;
use weft_crds::honoured::{Rule, When, rules};
use weft_crds::kind::{Kind, Origin};
use weft_crds::schema;

const BEGIN: &str = "<!-- made by tests/readme.rs: begin -->\n";
const END: &str = "<!-- made by tests/readme.rs: end -->\n";

/// Objects whose fields are those of another place.
const AS_ELSEWHERE: &[(&str, &str)] = &[
    ("spec.subsets[].trafficPolicy", "as `spec.trafficPolicy`"),
    ("spec.trafficPolicy.portLevelSettings[].loadBalancer", "as `spec.trafficPolicy.loadBalancer`"),
    ("spec.trafficPolicy.portLevelSettings[].connectionPool", "as `spec.trafficPolicy.connectionPool`"),
    ("spec.trafficPolicy.portLevelSettings[].outlierDetection", "as `spec.trafficPolicy.outlierDetection`"),
    ("spec.trafficPolicy.portLevelSettings[].tls", "as `spec.trafficPolicy.tls`"),
];

#[test]
fn the_tables_are_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = std::fs::read_to_string(&path).expect("README.md");
    let (before, rest) = readme.split_once(BEGIN).expect("the mark where the tables begin");
    let (_, after) = rest.split_once(END).expect("the mark where the tables end");
    let current = format!("{before}{BEGIN}{}{END}{after}", tables());
    if std::env::var_os("UPDATE_README").is_some() {
        std::fs::write(&path, &current).expect("README.md can be written");
    } else {
        assert!(readme == current, "README.md is behind the types: see the head of tests/readme.rs");
    }
}

fn tables() -> String {
    let mut text = String::new();
    for kind in Kind::ALL {
        let served: Vec<_> = Origin::ALL
            .iter()
            .flat_map(|origin| kind.api_versions(*origin))
            .map(|name| format!("`{name}`"))
            .collect();
        writeln!(text, "\n### {kind}\n\n{}\n", served.join(", ")).expect("a string takes all");
        text.push_str("| Field | Type | Honoured |\n|---|---|---|\n");
        rows(&mut text, "spec".to_owned(), &schema::spec(kind), &rules(kind));
    }
    text.push('\n');
    text
}

/// One row for each field below `at`; below a field that is not honoured at all there is nothing more to say.
fn rows(text: &mut String, at: String, node: &Value, rules: &[Rule]) {
    for (name, field) in node["properties"].as_object().into_iter().flatten() {
        let path = format!("{at}.{name}");
        let whole = rules.iter().any(|rule| rule.path == path && rule.when == When::Written);
        let elsewhere = AS_ELSEWHERE.iter().find(|(place, _)| *place == path);
        let honoured = match elsewhere {
            Some((_, note)) => (*note).to_owned(),
            None => honoured(&path, rules),
        };
        writeln!(text, "| `{path}` | {} | {honoured} |", type_of(field)).expect("a string takes all");
        if whole || elsewhere.is_some() {
            continue;
        }
        match field["type"].as_str() {
            Some("array") => rows(text, format!("{path}[]"), &field["items"], rules),
            Some("object") if field["additionalProperties"].is_object() => {
                rows(text, format!("{path}.*"), &field["additionalProperties"], rules);
            }
            _ => rows(text, path, field, rules),
        }
    }
}

fn honoured(path: &str, rules: &[Rule]) -> String {
    let list = format!("{path}[]");
    match rules.iter().find(|rule| rule.path == path || rule.path == list).map(|rule| rule.when) {
        None => "yes".to_owned(),
        Some(When::Written) => "**not yet**".to_owned(),
        Some(When::Is(names)) => format!("yes, **not yet** {}", code(names)),
        Some(When::IsNot(names)) => format!("only {}", code(names)),
        Some(When::StartsWith(names)) => format!("yes, **not yet** what starts with {}", code(names)),
    }
}

fn code(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn type_of(field: &Value) -> String {
    if field["enum"].is_array() {
        return "enum".to_owned();
    }
    match field["type"].as_str() {
        Some("array") => format!("list of {}", type_of(&field["items"])),
        Some("object") if field["additionalProperties"].is_object() => {
            format!("map to {}", type_of(&field["additionalProperties"]))
        }
        other => other.unwrap_or("any").to_owned(),
    }
}
