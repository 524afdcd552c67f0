//! What is wrong with what users wrote, with file, line, object and field: one form for logs, the admin
//! endpoint, `weft validate` and the status.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::source::object::{Event, Object, ObjectId, Problem};
use crate::source::watch::Directories;
use crate::validate::findings::{Finding, Findings};
use crate::validate::validate;

/// How much a report weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The object is refused; its last good version stays.
    Error,
    /// The object is valid, but refused for a field that is not honoured yet.
    Unhonoured,
    /// The object is in force.
    Warning,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Report {
    /// The file; empty for an object of a cluster.
    pub file: String,
    /// The line, from 1; 0 where none can be named.
    pub line: u32,
    /// How much it weighs.
    pub severity: Severity,
    /// The object: `VirtualService default/reviews`; empty where a file is no object.
    pub object: String,
    /// The field: `spec.http[0].timeout`; empty where it is the whole.
    pub field: String,
    /// What is wrong, and what to write instead.
    pub reason: String,
}

impl Report {
    /// What is wrong with a file.
    pub fn of_problem(problem: &Problem) -> Self {
        Self {
            file: problem.path.display().to_string(),
            line: problem.line,
            severity: Severity::Error,
            object: String::new(),
            field: String::new(),
            reason: problem.reason.clone(),
        }
    }

    /// What is wrong with an object.
    pub fn of_object(object: &Object, findings: &Findings) -> Vec<Self> {
        let one = |severity: Severity| {
            move |finding: &Finding| {
                let place = object.place.locate(&finding.path);
                let (file, line) = place.unwrap_or((Path::new("").into(), 0));
                Self {
                    file: file.display().to_string(),
                    line,
                    severity,
                    object: object.id.to_string(),
                    field: finding.path.clone(),
                    reason: finding.reason.clone(),
                }
            }
        };
        let errors = findings.errors.iter().map(one(Severity::Error));
        let unhonoured = findings.unhonoured.iter().map(one(Severity::Unhonoured));
        errors.chain(unhonoured).chain(findings.warnings.iter().map(one(Severity::Warning))).collect()
    }
}

/// All that is wrong with what a set of sources says now.
#[derive(Clone, Debug, Default)]
pub struct Reports {
    files: Vec<Report>,
    objects: BTreeMap<ObjectId, Vec<Report>>,
}

impl Reports {
    /// The state of the files, all of them.
    pub fn set_files(&mut self, problems: &[Problem]) {
        self.files = problems.iter().map(Report::of_problem).collect();
    }

    /// The state of one object.
    pub fn set_object(&mut self, object: &Object, findings: &Findings) {
        let reports = Report::of_object(object, findings);
        match reports.is_empty() {
            true => drop(self.objects.remove(&object.id)),
            false => drop(self.objects.insert(object.id.clone(), reports)),
        }
    }

    /// An object that is gone.
    pub fn forget(&mut self, id: &ObjectId) {
        self.objects.remove(id);
    }

    /// Everything, by file and line.
    pub fn all(&self) -> Vec<Report> {
        let mut all: Vec<_> = self.files.iter().chain(self.objects.values().flatten()).cloned().collect();
        all.sort();
        all
    }
}

/// Reads files and directories once and says all that is wrong with them: what `weft validate` prints.
pub fn check(paths: Vec<PathBuf>) -> (usize, Vec<Report>) {
    let changes = Directories::new(paths).read();
    let mut reports = Reports::default();
    reports.set_files(&changes.problems);
    let mut objects = 0;
    for event in &changes.events {
        if let Event::Apply(object) = event {
            objects += 1;
            reports.set_object(object, &validate(object).findings);
        }
    }
    (objects, reports.all())
}

/// `mesh.yaml:12: error: VirtualService default/reviews: spec.http[0].timeout: what is wrong`.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.file.is_empty() {
            write!(f, "{}:", self.file)?;
            if self.line > 0 {
                write!(f, "{}:", self.line)?;
            }
            f.write_str(" ")?;
        }
        write!(f, "{}: ", self.severity)?;
        for part in [&self.object, &self.field].into_iter().filter(|part| !part.is_empty()) {
            write!(f, "{part}: ")?;
        }
        f.write_str(&self.reason)
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Unhonoured => "not honoured yet",
            Self::Warning => "warning",
        })
    }
}
