//! Why a resource is refused, and at which field.

use std::fmt;

/// The longest reason, in bytes; it is cut beyond.
const MAX_REASON_BYTES: usize = 512;

/// Why a resource was refused. The text goes back to the controller and to the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeError {
    path: String,
    reason: String,
    kind: ErrorKind,
}

/// What a refusal means for the policy that it keeps out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The resource says something that is wrong. What was held stays in force.
    Invalid,
    /// The resource says something that this version does not know, which may be a condition that keeps
    /// somebody out: what was held may be too wide, so that a workload with such a resource denies.
    NotUnderstood,
}

impl DecodeError {
    /// A value that is wrong; control characters in the reason are escaped.
    pub fn invalid(reason: impl fmt::Display) -> Self {
        Self::new(ErrorKind::Invalid, reason)
    }

    /// A value that this version does not know.
    pub fn not_understood(reason: impl fmt::Display) -> Self {
        Self::new(ErrorKind::NotUnderstood, reason)
    }

    /// The same error, seen from the message that holds the value in `field`.
    #[must_use]
    pub fn in_field(mut self, field: &str) -> Self {
        let dot = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        self.path = format!("{field}{dot}{}", self.path);
        self
    }

    /// The same error, seen from the list that holds the value at `index`.
    #[must_use]
    pub fn in_item(self, index: usize) -> Self {
        self.in_field(&format!("[{index}]"))
    }

    /// The field, such as `ports[0].http[3].matches[0].uri.regex`; empty for the whole resource.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What is wrong with it.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// What it means for policy.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    fn new(kind: ErrorKind, reason: impl fmt::Display) -> Self {
        Self { path: String::new(), reason: printable(&reason.to_string()), kind }
    }
}

/// Without control characters, and cut to a bearable length.
fn printable(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if out.len() >= MAX_REASON_BYTES {
            return out + "...";
        }
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            f.write_str(&self.reason)
        } else {
            write!(f, "{}: {}", self.path, self.reason)
        }
    }
}

impl std::error::Error for DecodeError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_grows_from_the_leaf_to_the_root() {
        let error = DecodeError::invalid("no").in_field("regex").in_field("uri").in_item(0);
        let error = error.in_field("matches").in_item(3).in_field("rules");
        assert_eq!(error.to_string(), "rules[3].matches[0].uri.regex: no");
    }

    #[test]
    fn g24_a_reason_is_one_short_line() {
        let error = DecodeError::invalid("a\r\nb\u{1b}[31m");
        assert_eq!(error.reason(), "a\\r\\nb\\u{1b}[31m");
        assert!(DecodeError::invalid("x".repeat(10_000)).reason().len() < 600);
    }
}
