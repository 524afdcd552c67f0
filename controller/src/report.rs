//! What is wrong with what users wrote, with file, line, object and field: one form for logs, the admin
//! endpoint, `weft validate` and the status.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use serde::Serialize;

use crate::source::object::{Object, ObjectId, Place, Problem};
use crate::validate::findings::{Finding, Findings};

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
            reason: problem.text(),
        }
    }

    /// What is wrong with an object.
    pub fn of_object(object: &Object, findings: &Findings) -> Vec<Self> {
        let of = |severity, list: &[Finding]| -> Vec<Self> {
            list.iter()
                .map(|finding| Self::of_finding(&object.id, &object.place, severity, finding))
                .collect()
        };
        let mut all = of(Severity::Error, &findings.errors);
        all.extend(of(Severity::Unhonoured, &findings.unhonoured));
        all.extend(of(Severity::Warning, &findings.warnings));
        all
    }

    fn of_finding(id: &ObjectId, place: &Place, severity: Severity, finding: &Finding) -> Self {
        let (file, line) = place.locate(&finding.path).unwrap_or((Path::new("").into(), 0));
        Self {
            file: file.display().to_string(),
            line,
            severity,
            object: id.to_string(),
            field: finding.path.clone(),
            reason: finding.reason.clone(),
        }
    }

    fn moved_to(&mut self, place: &Place) {
        if let Some((file, line)) = place.locate(&self.field) {
            (self.file, self.line) = (file.display().to_string(), line);
        }
    }
}

/// All that is wrong with what a set of sources says now.
#[derive(Clone, Debug, Default)]
pub struct Reports {
    files: Vec<Report>,
    objects: BTreeMap<ObjectId, Vec<Report>>,
    /// What is odd about objects in the company of others.
    crossing: BTreeMap<ObjectId, Vec<Report>>,
    /// Of objects of files; all others are in the cluster.
    places: BTreeMap<ObjectId, Place>,
}

impl Reports {
    /// The state of the files, all of them.
    pub fn set_files(&mut self, problems: &[Problem]) {
        self.files = problems.iter().map(Report::of_problem).collect();
    }

    /// The state of one object.
    pub fn set_object(&mut self, object: &Object, findings: &Findings) {
        if !matches!(object.place, Place::Cluster) {
            self.places.insert(object.id.clone(), object.place.clone());
        }
        let reports = Report::of_object(object, findings);
        match reports.is_empty() {
            true => drop(self.objects.remove(&object.id)),
            false => drop(self.objects.insert(object.id.clone(), reports)),
        }
    }

    /// An object that is the same at another place.
    pub fn move_object(&mut self, object: &Object) {
        self.places.insert(object.id.clone(), object.place.clone());
        let reports = [self.objects.get_mut(&object.id), self.crossing.get_mut(&object.id)];
        for report in reports.into_iter().flatten().flatten() {
            report.moved_to(&object.place);
        }
    }

    /// Every object with something wrong.
    pub fn ids(&self) -> impl Iterator<Item = &ObjectId> {
        self.objects.keys()
    }

    /// An object that is gone.
    pub fn forget(&mut self, id: &ObjectId) {
        self.objects.remove(id);
        self.crossing.remove(id);
        self.places.remove(id);
    }

    /// Every object but these is gone.
    pub fn retain(&mut self, known: &BTreeSet<&ObjectId>) {
        self.objects.retain(|id, _| known.contains(id));
        self.crossing.retain(|id, _| known.contains(id));
        self.places.retain(|id, _| known.contains(id));
    }

    /// What is odd about objects in the company of others: all of it.
    pub fn set_crossing(&mut self, found: BTreeMap<ObjectId, Vec<Finding>>) {
        let reports = |(id, findings): (ObjectId, Vec<Finding>)| {
            let place = self.places.get(&id).unwrap_or(&Place::Cluster);
            let of = |finding: &Finding| Report::of_finding(&id, place, Severity::Warning, finding);
            let reports = findings.iter().map(of).collect();
            (id, reports)
        };
        self.crossing = found.into_iter().map(reports).collect();
    }

    /// Everything, by file and line.
    pub fn all(&self) -> Vec<Report> {
        let objects = self.objects.values().chain(self.crossing.values()).flatten();
        let mut all: Vec<_> = self.files.iter().chain(objects).cloned().collect();
        all.sort();
        all
    }
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
