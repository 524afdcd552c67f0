//! What is wrong with what users wrote, with file, line, object and field: one form for logs, the admin
//! endpoint, `weft validate` and the status.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use weft_crds::kind::Origin;

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

/// One object of the mesh's own kinds, and all that is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// `apiVersion`, as the source knows it.
    pub api_version: Arc<str>,
    /// `metadata.generation`; 0 where there is none.
    pub generation: i64,
    /// What is wrong.
    pub reports: Vec<Report>,
}

/// Every object of the mesh's own kinds.
pub type Accounts = BTreeMap<ObjectId, Account>;

/// All that is wrong with what a set of sources says now.
#[derive(Clone, Debug, Default)]
pub struct Reports {
    /// Every object of the mesh's own kinds: `apiVersion` and generation.
    stamps: BTreeMap<ObjectId, (Arc<str>, i64)>,
    /// What was told last; `None` once something differs.
    accounts: Option<Arc<Accounts>>,
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
        let (stamped, good) = (self.stamp(object), reports.is_empty());
        let same = self.objects.get(&object.id).map_or(good, |known| *known == reports);
        if !same {
            match good {
                true => drop(self.objects.remove(&object.id)),
                false => drop(self.objects.insert(object.id.clone(), reports)),
            }
        }
        if stamped || !same {
            self.accounts = None;
        }
    }

    /// Notes how an object of the mesh's own kinds is written; whether that is news.
    fn stamp(&mut self, object: &Object) -> bool {
        if !Origin::ALL.iter().any(|origin| origin.has_group(&object.id.group)) {
            return false;
        }
        let generation = object.value["metadata"]["generation"].as_i64().unwrap_or_default();
        let known = self.stamps.get(&object.id);
        if known.is_some_and(|(version, known)| **version == *object.api_version() && *known == generation) {
            return false;
        }
        self.stamps.insert(object.id.clone(), (object.api_version().into(), generation));
        true
    }

    /// Every object of the mesh's own kinds, with all that is wrong with it.
    pub fn accounts(&mut self) -> Arc<Accounts> {
        if let Some(told) = &self.accounts {
            return told.clone();
        }
        let of = |(id, (api_version, generation)): (&ObjectId, &(Arc<str>, i64))| {
            let reports = [self.objects.get(id), self.crossing.get(id)];
            let reports = reports.into_iter().flatten().flatten().cloned().collect();
            (id.clone(), Account { api_version: api_version.clone(), generation: *generation, reports })
        };
        let accounts: Arc<Accounts> = Arc::new(self.stamps.iter().map(of).collect());
        self.accounts = Some(accounts.clone());
        accounts
    }

    /// An object that is the same at another place.
    pub fn move_object(&mut self, object: &Object) {
        self.places.insert(object.id.clone(), object.place.clone());
        let reports = [self.objects.get_mut(&object.id), self.crossing.get_mut(&object.id)];
        for report in reports.into_iter().flatten().flatten() {
            report.moved_to(&object.place);
        }
    }

    /// Every object of the mesh's own kinds, and every other one with something wrong; some twice.
    pub fn ids(&self) -> impl Iterator<Item = &ObjectId> {
        self.objects.keys().chain(self.stamps.keys())
    }

    /// An object that is gone.
    pub fn forget(&mut self, id: &ObjectId) {
        if self.stamps.remove(id).is_some() {
            self.accounts = None;
        }
        self.objects.remove(id);
        self.crossing.remove(id);
        self.places.remove(id);
    }

    /// Every object but these is gone.
    pub fn retain(&mut self, known: &BTreeSet<&ObjectId>) {
        self.stamps.retain(|id, _| known.contains(id));
        self.accounts = None;
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
        let crossing = found.into_iter().map(reports).collect();
        if self.crossing != crossing {
            (self.crossing, self.accounts) = (crossing, None);
        }
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
