//! How a string, a header, a name in a policy is matched: parsed once, then only asked.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// The largest compiled size of one regular expression, in bytes.
pub const REGEX_SIZE_LIMIT: usize = 1 << 20;
/// The longest regular expression, in bytes of its text.
pub const REGEX_TEXT_LIMIT: usize = 1024;

/// A regular expression (RE2's syntax and linear time) that must match the whole of a text.
#[derive(Clone)]
pub struct Pattern {
    text: Arc<str>,
    regex: regex::Regex,
}

/// Why a regular expression is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Its text is too long.
    #[error("the expression is longer than {REGEX_TEXT_LIMIT} bytes")]
    TooLong,
    /// It does not parse, or its compiled form is too large.
    #[error("{0}")]
    Invalid(String),
    /// The replacement has a `\` that no digit and no `\` follows, or names a group that the expression lacks.
    #[error(
        "the replacement `{0}` names a group that the expression lacks, or has a `\\` that stands for nothing"
    )]
    Replacement(String),
}

/// A regular expression that matches anywhere in a text, and what every match is replaced with (RE2's `GlobalReplace`).
#[derive(Clone)]
pub struct Substitution {
    pattern: Arc<str>,
    replacement: Arc<str>,
    regex: regex::Regex,
}

/// Istio's `StringMatch`, and presence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StringMatch {
    /// The value is there, whatever it is.
    Present,
    /// The value is this text.
    Exact(Arc<str>),
    /// The value begins with this text.
    Prefix(Arc<str>),
    /// The whole value matches this expression.
    Regex(Pattern),
}

/// As its field and its text in a manifest: `prefix /api`.
impl fmt::Display for StringMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Present => f.write_str("present"),
            Self::Exact(text) => write!(f, "exact {text}"),
            Self::Prefix(text) => write!(f, "prefix {text}"),
            Self::Regex(pattern) => write!(f, "regex {}", pattern.text),
        }
    }
}

/// A pattern of an authorization policy: a text with at most one `*`, at one end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wildcard {
    /// `*`: any value that is not empty.
    Present,
    /// `abc`.
    Exact(Arc<str>),
    /// `abc*`.
    Prefix(Arc<str>),
    /// `*abc`.
    Suffix(Arc<str>),
}

impl Pattern {
    /// Compiles an expression under the limits above.
    pub fn new(text: &str) -> Result<Self, PatternError> {
        if text.len() > REGEX_TEXT_LIMIT {
            return Err(PatternError::TooLong);
        }
        // Alone first: `a)|(b` is no expression, but would become one inside the anchors.
        compile(text)?;
        Ok(Self { text: text.into(), regex: compile(&format!(r"\A(?:{text})\z"))? })
    }

    /// The expression as the user wrote it.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the whole of `value` matches.
    pub fn matches(&self, value: &str) -> bool {
        self.regex.is_match(value)
    }
}

fn compile(text: &str) -> Result<regex::Regex, PatternError> {
    let built = regex::RegexBuilder::new(text).size_limit(REGEX_SIZE_LIMIT).build();
    built.map_err(|e| PatternError::Invalid(in_a_line(&e)))
}

/// The last line says what is wrong; those above show the expression, as whoever wrote it sees it anyway.
fn in_a_line(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    last.strip_prefix("error: ").unwrap_or(last).to_owned()
}

impl Substitution {
    /// Compiles an expression under the limits above and checks the replacement: `\0` to `\9` stand for groups,
    /// `\\` for a backslash.
    pub fn new(pattern: &str, replacement: &str) -> Result<Self, PatternError> {
        if pattern.len() > REGEX_TEXT_LIMIT {
            return Err(PatternError::TooLong);
        }
        let regex = compile(pattern)?;
        if !is_template(replacement, regex.captures_len()) {
            return Err(PatternError::Replacement(replacement.to_owned()));
        }
        Ok(Self { pattern: pattern.into(), replacement: replacement.into(), regex })
    }

    /// The expression as the user wrote it.
    pub fn pattern(&self) -> &str {
        &self.pattern
    }

    /// The replacement as the user wrote it.
    pub fn replacement(&self) -> &str {
        &self.replacement
    }

    /// The text with every match replaced; borrowed where nothing matches.
    pub fn apply<'t>(&self, text: &'t str) -> Cow<'t, str> {
        self.regex.replace_all(text, |groups: &regex::Captures<'_>| self.expand(groups))
    }

    fn expand(&self, groups: &regex::Captures<'_>) -> String {
        let mut out = String::with_capacity(self.replacement.len());
        let mut chars = self.replacement.chars();
        while let Some(c) = chars.next() {
            match (c, if c == '\\' { chars.next() } else { None }) {
                ('\\', Some(d)) if d.is_ascii_digit() => {
                    let group = d.to_digit(10).and_then(|d| groups.get(d as usize));
                    out.push_str(group.map_or("", |g| g.as_str()));
                }
                ('\\', Some(other)) => out.push(other),
                _ => out.push(c),
            }
        }
        out
    }
}

fn is_template(text: &str, groups: usize) -> bool {
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let ok = c != '\\'
            || match chars.next() {
                Some('\\') => true,
                Some(d) => d.to_digit(10).is_some_and(|d| (d as usize) < groups),
                None => false,
            };
        if !ok {
            return false;
        }
    }
    true
}

impl StringMatch {
    /// Whether `value` matches.
    pub fn matches(&self, value: &str) -> bool {
        match self {
            Self::Present => true,
            Self::Exact(text) => value == &**text,
            Self::Prefix(text) => value.starts_with(&**text),
            Self::Regex(pattern) => pattern.matches(value),
        }
    }

    /// Whether `value` matches when the case of ASCII letters does not count (regular expressions: as written).
    pub fn matches_ignoring_case(&self, value: &str) -> bool {
        match self {
            Self::Exact(text) => value.eq_ignore_ascii_case(text),
            Self::Prefix(text) => {
                value.as_bytes().get(..text.len()).is_some_and(|v| v.eq_ignore_ascii_case(text.as_bytes()))
            }
            _ => self.matches(value),
        }
    }
}

impl Wildcard {
    /// Reads a policy's pattern; `*abc*` is the suffix `abc*`, as in Istio.
    pub fn parse(text: &str) -> Self {
        match (text.strip_prefix('*'), text.strip_suffix('*')) {
            (Some(""), _) => Self::Present,
            (Some(rest), _) => Self::Suffix(rest.into()),
            (None, Some(rest)) => Self::Prefix(rest.into()),
            (None, None) => Self::Exact(text.into()),
        }
    }

    /// Whether `value` matches.
    pub fn matches(&self, value: &str) -> bool {
        match self {
            Self::Present => !value.is_empty(),
            Self::Exact(text) => value == &**text,
            Self::Prefix(text) => value.starts_with(&**text),
            Self::Suffix(text) => value.ends_with(&**text),
        }
    }

    /// Whether `value` matches when the case of ASCII letters does not count.
    pub fn matches_ignoring_case(&self, value: &str) -> bool {
        let value = value.as_bytes();
        match self {
            Self::Present => !value.is_empty(),
            Self::Exact(text) => value.eq_ignore_ascii_case(text.as_bytes()),
            Self::Prefix(text) => {
                value.get(..text.len()).is_some_and(|v| v.eq_ignore_ascii_case(text.as_bytes()))
            }
            Self::Suffix(text) => {
                let start = value.len().checked_sub(text.len());
                start.is_some_and(|s| value[s..].eq_ignore_ascii_case(text.as_bytes()))
            }
        }
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

impl PartialEq for Substitution {
    fn eq(&self, other: &Self) -> bool {
        self.pattern == other.pattern && self.replacement == other.replacement
    }
}

impl Eq for Substitution {}

impl fmt::Debug for Substitution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Substitution({:?} -> {:?})", self.pattern, self.replacement)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({:?})", self.text)
    }
}

/// The pattern as a user writes it.
impl fmt::Display for Wildcard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Present => f.write_str("*"),
            Self::Exact(text) => f.write_str(text),
            Self::Prefix(text) => write!(f, "{text}*"),
            Self::Suffix(text) => write!(f, "*{text}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_the_whole_text() {
        let p = Pattern::new("/api|/v1").unwrap();
        assert!(p.matches("/api") && p.matches("/v1") && !p.matches("/api/x") && !p.matches("x/v1"));
    }

    #[test]
    fn f2_hostile_expressions_are_refused_or_linear() {
        assert_eq!(Pattern::new(&"a".repeat(1 << 20)), Err(PatternError::TooLong));
        assert!(matches!(Pattern::new("(a{1000}){1000}"), Err(PatternError::Invalid(_))));
        assert!(matches!(Pattern::new("("), Err(PatternError::Invalid(_))));
        assert!(matches!(Pattern::new("a)|(b"), Err(PatternError::Invalid(_))));
        assert!(!Pattern::new("(a+)+$").unwrap().matches(&format!("{}b", "a".repeat(50_000))));
    }

    #[test]
    fn a_substitution_replaces_every_match_and_names_groups() {
        let s = Substitution::new("/v([0-9]+)", r"/version\1\\").unwrap();
        assert_eq!(s.apply("/v1/x/v22"), r"/version1\/x/version22\");
        assert!(matches!(s.apply("/x"), Cow::Borrowed("/x")));
        assert!(matches!(Substitution::new("a", r"\1"), Err(PatternError::Replacement(_))));
        assert!(matches!(Substitution::new("a", r"\"), Err(PatternError::Replacement(_))));
        assert!(matches!(Substitution::new("(", ""), Err(PatternError::Invalid(_))));
    }

    #[test]
    fn wildcards_stand_at_one_end() {
        assert!(Wildcard::parse("*").matches("x") && !Wildcard::parse("*").matches(""));
        assert!(Wildcard::parse("ab*").matches("abc") && !Wildcard::parse("ab*").matches("xab"));
        assert!(Wildcard::parse("*bc").matches("abc"));
        assert_eq!(Wildcard::parse("*abc*"), Wildcard::Suffix("abc*".into()));
        assert!(Wildcard::parse("*.Example.com").matches_ignoring_case("API.example.COM"));
    }
}
