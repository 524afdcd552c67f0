//! Files of tests: found, read, and refused with file and line where they are wrong.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::Value;
use weft_controller::source::yaml::{self, Document};

/// The kind of a document that holds tests.
const KIND: &str = "MeshTest";
/// Its API's group and version.
const API_VERSION: &str = "test.weft.dev/v1";

/// A document of tests.
#[derive(Debug)]
pub struct Suite {
    /// Its file.
    pub file: PathBuf,
    /// Its name.
    pub name: String,
    /// The manifests that are tested.
    pub manifests: Vec<PathBuf>,
    /// The tests.
    pub tests: Vec<Placed>,
}

/// A test, and the lines of its expectations.
#[derive(Debug)]
pub struct Placed {
    /// The test.
    pub test: Test,
    /// The line where it begins.
    pub line: u32,
    /// The lines of its expectations, by field.
    pub lines: BTreeMap<String, u32>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Written {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    metadata: Metadata,
    #[serde(default)]
    manifests: Vec<PathBuf>,
    tests: Vec<Test>,
}

#[derive(Debug, Deserialize)]
struct Metadata {
    name: String,
}

/// One request, and what is to become of it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Test {
    /// What it says.
    pub name: String,
    /// The client: a pod, or `deploy/NAME`.
    pub from: String,
    /// The client's namespace.
    #[serde(default = "default_namespace")]
    pub namespace: String,
    /// The request.
    pub request: Request,
    /// What is to become of it.
    pub expect: Expect,
}

/// A request.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Request {
    /// `GET` when not given.
    #[serde(default = "get")]
    pub method: String,
    /// `http://SERVICE:PORT/PATH`.
    pub url: String,
    /// Headers.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
}

/// What is to become of a request; what is not written may be anything.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Expect {
    /// Whether it reaches the application, or is answered by its route.
    pub allowed: Option<bool>,
    /// `forwarded`, `refused`, `answered`.
    pub verdict: Option<String>,
    /// The status of the mesh's own answer.
    pub status: Option<u16>,
    /// The reason of the mesh's own answer.
    pub reason: Option<String>,
    /// The service: its host, or `namespace/host`.
    pub service: Option<String>,
    /// The VirtualService, `namespace/name`, and after a space its rule (`http[1]`) or the rule's name; `none`.
    pub route: Option<String>,
    /// The subset.
    pub subset: Option<String>,
    /// The shares of subsets in percent.
    pub weights: Option<BTreeMap<String, f64>>,
    /// The policy that decides, `namespace/name`, and after a space its rule (`spec.rules[0]`); `none`.
    pub policy: Option<String>,
    /// Path and query as the application gets them.
    pub path: Option<String>,
    /// Where a redirect leads.
    pub location: Option<String>,
    /// What is done to it on purpose, as `weft explain` says it: `delay 7s for 100%, abort 500 for 10%`; `none`.
    pub fault: Option<String>,
}

fn default_namespace() -> String {
    "default".to_owned()
}

fn get() -> String {
    "GET".to_owned()
}

/// Reads all tests in files and directories.
///
/// # Errors
/// A file that cannot be read or holds something wrong, with its line; no test at all.
pub fn read(paths: &[PathBuf]) -> Result<Vec<Suite>> {
    let mut suites = Vec::new();
    for path in paths {
        let is_dir = std::fs::metadata(path).with_context(|| path.display().to_string())?.is_dir();
        let files = if is_dir { below(path)? } else { vec![path.clone()] };
        let before = suites.len();
        for file in files {
            suites.extend(read_file(&file)?);
        }
        if suites.len() == before {
            bail!(
                "{}: no test: a test is a document with apiVersion: {API_VERSION} and kind: {KIND}",
                path.display()
            );
        }
    }
    Ok(suites)
}

fn below(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(dir).with_context(|| dir.display().to_string())?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.sort();
    let mut files = Vec::new();
    for path in paths {
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if path.is_dir() && !hidden {
            files.extend(below(&path)?);
        } else if path.extension().is_some_and(|end| end == "yaml" || end == "yml") {
            files.push(path);
        }
    }
    Ok(files)
}

fn read_file(file: &Path) -> Result<Vec<Suite>> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    if !text.contains(KIND) {
        return Ok(Vec::new());
    }
    suites(file, &text)
}

fn suites(file: &Path, text: &str) -> Result<Vec<Suite>> {
    let documents =
        yaml::parse(text).map_err(|e| anyhow::anyhow!("{}:{}: {}", file.display(), e.line, e.reason))?;
    let tests = documents.iter().filter(|document| document.value["kind"] == KIND);
    tests.map(|document| suite(file, document)).collect()
}

fn suite(file: &Path, document: &Document) -> Result<Suite> {
    let wrong = |path: &str, reason: &str| {
        anyhow::anyhow!("{}:{}: {path}: {reason}", file.display(), document.line_of(path))
    };
    if document.value["apiVersion"] != API_VERSION {
        return Err(wrong("apiVersion", &format!("write {API_VERSION}")));
    }
    let written: Written = serde_path_to_error::deserialize((*document.value).clone())
        .map_err(|error| wrong(&error.path().to_string(), &error.inner().to_string()))?;
    let beside = file.parent().unwrap_or(Path::new(""));
    let beside = if beside.as_os_str().is_empty() { Path::new(".") } else { beside };
    let manifests = match written.manifests.is_empty() {
        true => vec![beside.to_owned()],
        false => written.manifests.iter().map(|path| beside.join(path)).collect(),
    };
    let mut tests = Vec::new();
    for (n, test) in written.tests.into_iter().enumerate() {
        let at = format!("tests[{n}]");
        if test.expect == Expect::default() {
            return Err(wrong(
                &format!("{at}.expect"),
                "nothing is expected: write allowed, route, subset, policy, ...",
            ));
        }
        if test.expect.verdict.as_deref().is_some_and(|v| !["forwarded", "refused", "answered"].contains(&v))
        {
            return Err(wrong(&format!("{at}.expect.verdict"), "write forwarded, refused or answered"));
        }
        tests.push(placed(document, &at, test));
    }
    Ok(Suite { file: file.to_owned(), name: written.metadata.name, manifests, tests })
}

fn placed(document: &Document, at: &str, test: Test) -> Placed {
    let expect =
        document.value.pointer(&format!("/tests/{}/expect", at.trim_matches(|c: char| !c.is_ascii_digit())));
    let fields = expect.and_then(Value::as_object).into_iter().flatten().map(|(key, _)| key.clone());
    let lines = fields.map(|key| (key.clone(), document.line_of(&format!("{at}.expect.{key}")))).collect();
    Placed { test, line: document.line_of(at), lines }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "apiVersion: test.weft.dev/v1\nkind: MeshTest\nmetadata: {name: web}\nmanifests: [a, b.yaml]\n\
        tests:\n- name: one\n  from: deploy/client\n  request: {url: http://web/}\n  expect:\n    allowed: true\n    subset: v1\n";

    fn read_text(text: &str) -> Result<Vec<Suite>> {
        suites(Path::new("dir/web.yaml"), text)
    }

    #[test]
    fn a_test_knows_its_lines_and_its_manifests() {
        let all = read_text(GOOD).unwrap();
        assert_eq!((all.len(), all[0].name.as_str()), (1, "web"));
        assert_eq!(all[0].manifests, [Path::new("dir/a"), Path::new("dir/b.yaml")]);
        let test = &all[0].tests[0];
        assert_eq!((test.line, test.lines["subset"], test.test.request.method.as_str()), (6, 11, "GET"));
        let alone = read_text(&GOOD.replace("manifests: [a, b.yaml]\n", "")).unwrap();
        assert_eq!(alone[0].manifests, [Path::new("dir")]);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let told = |from: &str, to: &str| format!("{:#}", read_text(&GOOD.replace(from, to)).unwrap_err());
        let unknown = told("subset: v1", "subsett: v1");
        assert!(unknown.starts_with("dir/web.yaml:11: tests[0].expect.subsett: unknown field"), "{unknown}");
        assert!(
            told("allowed: true", "allowed: maybe").starts_with("dir/web.yaml:10: tests[0].expect.allowed: ")
        );
        assert!(told("dev/v1", "dev/v9").starts_with("dir/web.yaml:1: apiVersion: write test.weft.dev/v1"));
        let none = told("  expect:\n    allowed: true\n    subset: v1\n", "  expect: {}\n");
        assert!(none.starts_with("dir/web.yaml:9: tests[0].expect: nothing is expected"), "{none}");
        assert!(told("allowed: true", "verdict: maybe").contains("write forwarded, refused or answered"));
        assert!(told("metadata:", "metadata: [").starts_with("dir/web.yaml:"));
    }
}
