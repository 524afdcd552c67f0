//! `weft test`: unit tests of routes and policies. Nothing runs; a test takes milliseconds.

/// Files of tests.
pub mod file;
/// What is expected beside what is explained.
pub mod judge;
/// Results as JUnit XML.
pub mod junit;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;

use self::file::{Placed, Suite, Test};
use self::judge::Difference;
use crate::explain::question::question;
use crate::offline::{Offline, Query};
use crate::output::{self, Format};

/// The exit code of tests of which one fails.
const FAILED: u8 = 1;
/// The exit code of tests that cannot be read.
const UNREADABLE: u8 = 2;

/// `weft test`
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  weft test mesh/                               every test below a directory
  weft test shop.test.yaml --junit report.xml   for what shows the tests of a build

A test is a document beside the manifests, or in a file of its own:
  apiVersion: test.weft.dev/v1
  kind: MeshTest
  metadata: {name: content-service}
  manifests: [.]                                beside this file; its own directory when not given
  tests:
  - name: premium users get v2
    from: deploy/api-gateway
    request: {method: GET, url: http://content-service/api/x, headers: {end-user: premium}}
    expect: {allowed: true, route: 'default/content-service http[0]', subset: v2}

What may be expected: allowed, verdict, status, reason, service, route, subset, weights, policy, path, location, \
fault. \
`weft explain -f DIR` tells why something is not as expected.

Exit code: 0 all pass; 1 one fails; 2 something cannot be read.")]
pub struct Args {
    /// Files of tests, or directories that hold them
    #[arg(required = true, value_name = "DIR_OR_FILE")]
    paths: Vec<PathBuf>,
    /// How
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    output: Format,
    /// Write the results to this file as JUnit XML, too
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
}

/// The results of a document of tests.
#[derive(Debug, Serialize)]
pub struct Tested {
    /// Its name.
    pub name: String,
    /// Its file.
    pub file: String,
    /// What became of each test.
    pub outcomes: Vec<Outcome>,
}

/// What became of a test.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// What it says.
    pub name: String,
    /// The line where it begins.
    pub line: u32,
    /// How long it took.
    #[serde(rename = "seconds", serialize_with = "in_seconds")]
    pub time: Duration,
    /// The expectations that do not hold.
    pub differences: Vec<Difference>,
    /// Why nothing could be told.
    pub error: Option<String>,
    /// `FILE:LINE` of the first expectation that does not hold; of the test where all do.
    pub place: String,
}

/// Runs tests; the exit code tells whether all pass.
pub fn run(args: &Args) -> ExitCode {
    match tested(&args.paths).and_then(|suites| tell(args, &suites).map(|()| suites)) {
        Ok(suites) if passed(&suites) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(FAILED),
        Err(error) => {
            output::problem(format!("{error:#}"));
            ExitCode::from(UNREADABLE)
        }
    }
}

/// Runs every test in files and directories.
///
/// # Errors
/// Tests or manifests cannot be read.
pub fn tested(paths: &[PathBuf]) -> Result<Vec<Tested>> {
    let mut meshes: BTreeMap<Vec<PathBuf>, Offline> = BTreeMap::new();
    let mut all = Vec::new();
    for suite in file::read(paths)? {
        if !meshes.contains_key(&suite.manifests) {
            let mesh = Offline::read(&suite.manifests)?;
            mesh.errors().for_each(output::warning);
            meshes.insert(suite.manifests.clone(), mesh);
        }
        let Some(mesh) = meshes.get(&suite.manifests) else { continue };
        all.push(of_suite(mesh, &suite));
    }
    Ok(all)
}

/// Whether every test passed.
pub fn passed(suites: &[Tested]) -> bool {
    suites.iter().flat_map(|suite| &suite.outcomes).all(Outcome::passed)
}

fn of_suite(mesh: &Offline, suite: &Suite) -> Tested {
    let file = suite.file.display().to_string();
    let outcomes = suite.tests.iter().map(|placed| of_test(mesh, &file, placed)).collect();
    Tested { name: suite.name.clone(), file, outcomes }
}

fn of_test(mesh: &Offline, file: &str, placed: &Placed) -> Outcome {
    let began = Instant::now();
    let (differences, error) = match ask(mesh, &placed.test) {
        Ok(differences) => (differences, None),
        Err(error) => (Vec::new(), Some(format!("{error:#}"))),
    };
    let line = differences.first().and_then(|first| placed.lines.get(&first.field)).unwrap_or(&placed.line);
    Outcome {
        name: placed.test.name.clone(),
        line: placed.line,
        time: began.elapsed(),
        place: format!("{file}:{line}"),
        differences,
        error,
    }
}

fn ask(mesh: &Offline, test: &Test) -> Result<Vec<Difference>> {
    let headers: Vec<_> = test.request.headers.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
    let (host, request) = question(&test.request.method, &test.request.url, &headers)?;
    let (namespace, client) = (test.namespace.clone(), test.from.clone());
    let all = mesh.explain(&Query { namespace, client, host, request })?;
    Ok(judge::differences(&test.expect, &all))
}

fn tell(args: &Args, suites: &[Tested]) -> Result<()> {
    match args.output {
        Format::Json => output::pretty(&suites),
        Format::Text => output::raw(&shown(suites)),
    }
    args.junit.as_ref().map_or(Ok(()), |file| junit::write(file, suites))
}

fn shown(suites: &[Tested]) -> String {
    let mut text = String::new();
    for suite in suites {
        text.push_str(&format!("{} ({})\n", suite.name, suite.file));
        for outcome in &suite.outcomes {
            text.push_str(&format!(
                "  {}  {}\n",
                if outcome.passed() { "ok  " } else { "FAIL" },
                outcome.name
            ));
            outcome.failures().iter().for_each(|why| text.push_str(&format!("        {why}\n")));
        }
    }
    let all: Vec<&Outcome> = suites.iter().flat_map(|suite| &suite.outcomes).collect();
    let failed = all.iter().filter(|outcome| !outcome.passed()).count();
    let time: Duration = all.iter().map(|outcome| outcome.time).sum();
    let (count, passed) = (all.len(), all.len() - failed);
    let tests = if count == 1 { "test" } else { "tests" };
    text.push_str(&format!(
        "{count} {tests}: {passed} passed, {failed} failed, in {} ms\n",
        time.as_millis()
    ));
    text
}

impl Outcome {
    /// Whether all is as expected.
    pub fn passed(&self) -> bool {
        self.differences.is_empty() && self.error.is_none()
    }

    /// What is not as expected, with file and line.
    pub fn failures(&self) -> Vec<String> {
        let different = |d: &Difference| {
            format!("{}: expect.{}: `{}` is expected, and it is {}", self.place, d.field, d.expected, d.found)
        };
        let error = self.error.as_ref().map(|error| format!("{}: {error}", self.place));
        error.into_iter().chain(self.differences.iter().map(different)).collect()
    }
}

fn in_seconds<S: serde::Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}
