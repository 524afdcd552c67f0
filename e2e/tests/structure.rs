//! The shape of the source: modules use only modules declared above them, files and functions stay short.
//!
//! The order of `mod` lines in each `lib.rs` and `mod.rs` is the table of contents and the only legal order of
//! dependency, so that cycles cannot be written.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const CRATES: [&str; 8] =
    ["crds", "proxy/core", "proxy/api", "proxy", "proxy/testkit", "controller", "cli", "e2e"];
/// The longest production file, in lines.
const FILE_LINES: usize = 600;
/// The longest function of production, in lines; 95 of 100 stay under half of it.
const FUNCTION_LINES: usize = 80;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

/// One file of production code: its module path and its text without tests.
struct Source {
    file: PathBuf,
    module: Vec<String>,
    text: String,
}

fn sources(of_crate: &str) -> Vec<Source> {
    let src = root().join(of_crate).join("src");
    let mut found = Vec::new();
    let mut open = vec![src.clone()];
    while let Some(directory) = open.pop() {
        let Ok(entries) = fs::read_dir(&directory) else { continue };
        for path in entries.map(|entry| entry.expect("an entry").path()) {
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.extend(source(&src, path));
            }
        }
    }
    found.sort_by(|a, b| a.file.cmp(&b.file));
    found
}

fn source(src: &Path, file: PathBuf) -> Option<Source> {
    let relative = file.strip_prefix(src).expect("below src").with_extension("");
    let mut module: Vec<String> = relative.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    match module.last().map(String::as_str) {
        Some("tests" | "main") => return None,
        Some("mod" | "lib") => drop(module.pop()),
        _ => {}
    }
    let text = fs::read_to_string(&file).expect("a source file");
    let text = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default().to_owned();
    Some(Source { file, module, text })
}

/// The modules that each module declares, in order.
fn declared(sources: &[Source]) -> BTreeMap<Vec<String>, Vec<String>> {
    let of_source = |source: &Source| {
        let lines = source.text.lines().map(str::trim_start);
        let names = lines.filter_map(|line| {
            let rest = line.strip_prefix("pub mod ").or_else(|| line.strip_prefix("pub(crate) mod "));
            let rest = rest.or_else(|| line.strip_prefix("mod "))?;
            rest.strip_suffix(';').map(str::to_owned)
        });
        (source.module.clone(), names.collect())
    };
    sources.iter().map(of_source).collect()
}

/// The module paths that a source uses: `crate::a::b`, `super::b`.
fn used(source: &Source, is_folder: bool) -> Vec<Vec<String>> {
    let mut all = Vec::new();
    for line in source.text.lines().filter(|line| !line.trim_start().starts_with("//")) {
        for (start, _) in line.match_indices("crate::") {
            let fresh = !line[..start].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$');
            all.extend(fresh.then(|| segments(&line[start + "crate::".len()..])));
        }
        for (start, _) in line.match_indices("super::") {
            if line[..start].ends_with("::") {
                continue;
            }
            let ups = line[start..].split("::").take_while(|part| *part == "super").count();
            let below = usize::from(is_folder);
            let keep = (source.module.len() + below).saturating_sub(ups + below);
            let mut path = source.module[..keep.min(source.module.len())].to_vec();
            path.extend(segments(&line[start + ups * "super::".len()..]));
            all.push(path);
        }
    }
    all
}

fn segments(text: &str) -> Vec<String> {
    let path =
        text.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).next().unwrap_or_default();
    path.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

/// The edge against the order, if this use is one.
fn against_order(
    declared: &BTreeMap<Vec<String>, Vec<String>>,
    own: &[String],
    other: &[String],
) -> Option<(String, String)> {
    let common = own.iter().zip(other).take_while(|(a, b)| a == b).count();
    let (mine, theirs) = (own.get(common)?, other.get(common)?);
    let order = declared.get(&own[..common])?;
    let at = |name: &String| order.iter().position(|known| known == name);
    match (at(mine), at(theirs)) {
        (Some(mine_at), Some(theirs_at)) if theirs_at > mine_at => Some((mine.clone(), theirs.clone())),
        _ => None,
    }
}

#[test]
fn modules_use_only_those_above_them() {
    let mut wrong = Vec::new();
    for of_crate in CRATES {
        let sources = sources(of_crate);
        let declared = declared(&sources);
        for source in &sources {
            let is_folder = source.file.ends_with("mod.rs");
            for other in used(source, is_folder) {
                if let Some((mine, theirs)) = against_order(&declared, &source.module, &other) {
                    wrong.push(format!(
                        "{}: `{mine}` uses `{theirs}`, declared below it",
                        source.file.display()
                    ));
                }
            }
        }
    }
    wrong.dedup();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_stay_short() {
    let all = CRATES.iter().flat_map(|of_crate| sources(of_crate));
    let long = all.filter(|source| source.text.lines().count() > FILE_LINES);
    let long: Vec<_> = long.map(|s| format!("{}: {}", s.file.display(), s.text.lines().count())).collect();
    assert!(long.is_empty(), "over {FILE_LINES} lines:\n{}", long.join("\n"));
}

#[test]
fn functions_stay_short() {
    let mut lengths = Vec::new();
    for source in CRATES.iter().flat_map(|of_crate| sources(of_crate)) {
        lengths.extend(functions(&source.text).into_iter().map(|(name, n)| (n, source.file.clone(), name)));
    }
    lengths.sort();
    let long: Vec<_> = lengths.iter().filter(|(n, ..)| *n > FUNCTION_LINES).collect();
    assert!(long.is_empty(), "over {FUNCTION_LINES} lines: {long:#?}");
    let p95 = lengths.get(lengths.len() * 95 / 100).map_or(0, |(n, ..)| *n);
    assert!(p95 <= FUNCTION_LINES / 2, "the 95th percentile is {p95} lines");
}

/// Names and lengths of functions, told by the indentation that rustfmt gives them.
fn functions(text: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (i, line) in lines.iter().enumerate() {
        let trimmed = line.trim_start();
        let head = trimmed.split(['(', '<']).next().unwrap_or_default();
        let Some(name) = head.split_whitespace().skip_while(|word| *word != "fn").nth(1) else { continue };
        if trimmed.starts_with("//") || trimmed.ends_with(';') {
            continue;
        }
        let end = format!("{}}}", &line[..line.len() - trimmed.len()]);
        let length = lines[i..].iter().position(|line| *line == end).map_or(1, |n| n + 1);
        found.push((name.to_owned(), length));
    }
    found
}
