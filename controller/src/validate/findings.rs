//! What validation finds: errors, fields that are not honoured yet, warnings, each with its field path.

use std::fmt;

/// Something about one field.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The field: `spec.http[0].timeout`.
    pub path: String,
    /// What is wrong with it, and what to write instead.
    pub reason: String,
}

/// All that was found in one object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// The object cannot be understood: it is refused, and its last good version stays.
    pub errors: Vec<Finding>,
    /// The object is valid, but has fields that are not honoured yet: it is refused whole all the same.
    pub unhonoured: Vec<Finding>,
    /// The object is in force, but may not do what its author thinks.
    pub warnings: Vec<Finding>,
}

impl Findings {
    /// Notes an error.
    pub fn error(&mut self, path: impl Into<String>, reason: impl Into<String>) {
        self.errors.push(Finding { path: path.into(), reason: reason.into() });
    }

    /// Notes a field that is not honoured yet.
    pub fn unhonoured(&mut self, path: impl Into<String>, reason: impl Into<String>) {
        self.unhonoured.push(Finding { path: path.into(), reason: reason.into() });
    }

    /// Notes a warning.
    pub fn warn(&mut self, path: impl Into<String>, reason: impl Into<String>) {
        self.warnings.push(Finding { path: path.into(), reason: reason.into() });
    }

    /// A value, or its error at `path`.
    pub fn take<T, E: fmt::Display>(&mut self, path: &str, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.error(path, error.to_string())).ok()
    }

    /// Whether the object is in force.
    pub fn accepted(&self) -> bool {
        self.errors.is_empty() && self.unhonoured.is_empty()
    }
}

/// `spec.http[0].timeout: what is wrong`.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.is_empty() {
            true => f.write_str(&self.reason),
            false => write!(f, "{}: {}", self.path, self.reason),
        }
    }
}
