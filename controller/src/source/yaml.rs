//! YAML text to JSON values that remember their lines.
//!
//! Every later complaint names a field path; `Document::line_of` turns it into the line of the file where the
//! user must look.

use std::fmt;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::{Location, Spanned};

/// The largest file that is read, in bytes.
pub const FILE_LIMIT: usize = 16 << 20;

/// The most values (scalars, lists, maps) of one file.
pub const NODE_LIMIT: usize = 2_000_000;
/// The most documents of one file.
pub const DOCUMENT_LIMIT: usize = 100_000;

/// What the parser may need: 64 levels of nesting.
const STACK: usize = 16 << 20;

/// One YAML document.
#[derive(Clone, Debug, Default)]
pub struct Document {
    /// Its content.
    pub value: Arc<Value>,
    lines: Lines,
}

/// The line of a value (of its key, where it has one), and of the values in it, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Lines {
    line: u32,
    below: Box<[Lines]>,
}

/// Text that is no YAML, or YAML that is too much.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct YamlError {
    /// The line, from 1; 0 where none can be named.
    pub line: u32,
    /// What is wrong.
    pub reason: String,
}

/// Reads all documents of a text; empty documents are left out.
pub fn parse(text: &str) -> Result<Vec<Document>, YamlError> {
    if text.len() > FILE_LIMIT {
        return Err(YamlError {
            line: 0,
            reason: format!("the file is larger than {} MiB", FILE_LIMIT >> 20),
        });
    }
    // A level of nesting takes tens of KiB of stack in a build without optimisation: the caller's may be small.
    std::thread::scope(|scope| {
        let reader = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, || documents(text));
        let joined = reader.map(std::thread::ScopedJoinHandle::join);
        let failed = |reason: &str| Err(YamlError { line: 0, reason: reason.to_owned() });
        match joined {
            Ok(Ok(parsed)) => parsed,
            Ok(Err(_)) => failed("the parser failed on it"),
            Err(error) => failed(&format!("there is no thread to read it: {error}")),
        }
    })
}

/// A text in pieces that can be read by themselves: a new one begins at each `---`. One piece where that is not so,
/// because of directives or ends of documents.
pub fn pieces(text: &str) -> Vec<&str> {
    let special = |line: &str| line.starts_with('%') || line.trim_end() == "...";
    if text.lines().any(special) {
        return vec![text];
    }
    let (mut all, mut start, mut end) = (Vec::new(), 0, 0);
    for line in text.split_inclusive('\n') {
        let marks = line
            .strip_prefix("---")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace));
        if marks && end > start {
            all.push(&text[start..end]);
            start = end;
        }
        end += line.len();
    }
    all.push(&text[start..]);
    all
}

fn documents(text: &str) -> Result<Vec<Document>, YamlError> {
    // Depth stays at the parser's own limit, 64, far above what any kind nests.
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_events: 3 * NODE_LIMIT,
            max_nodes: NODE_LIMIT,
            max_documents: DOCUMENT_LIMIT,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 100_000 },
    };
    let nodes: Vec<Node> =
        serde_saphyr::from_multiple_with_options(text, options).map_err(|e| YamlError::of(&e))?;
    Ok(nodes.into_iter().map(Document::of).filter(|d| !d.value.is_null()).collect())
}

impl Document {
    /// The line on which the field at `path` (`spec.http[0].timeout`) stands; where the path leads beyond the
    /// document, the line of the nearest field above it.
    pub fn line_of(&self, path: &str) -> u32 {
        self.lines_of(path).line
    }

    /// The same, so many lines further down.
    pub fn moved(&mut self, lines: i32) {
        self.lines.moved(lines);
    }

    /// Whether every field stands on the same line in both.
    pub fn same_lines(&self, other: &Self) -> bool {
        self.lines == other.lines
    }

    /// The items of a `List`, each as a document of its own with the lines that it has; else the document itself.
    pub fn items(mut self) -> Vec<Self> {
        let is_list = self.value["kind"].as_str().is_some_and(|kind| kind.ends_with("List"));
        let at = self.value.as_object().and_then(|map| map.keys().position(|key| key == "items"));
        let (true, Some(at), true) = (is_list, at, self.value["items"].is_array()) else { return vec![self] };
        let Value::Array(items) = Arc::make_mut(&mut self.value)["items"].take() else { return Vec::new() };
        let lines =
            self.lines.below.get_mut(at).map(|lines| std::mem::take(&mut lines.below)).unwrap_or_default();
        let each = items.into_iter().zip(lines);
        each.map(|(value, lines)| Self { value: Arc::new(value), lines }).collect()
    }

    fn lines_of(&self, path: &str) -> &Lines {
        let (mut value, mut lines, mut rest) = (&*self.value, &self.lines, path);
        while let Some((at, inner, after)) = step(value, rest) {
            let Some(below) = lines.below.get(at) else { break };
            (value, lines, rest) = (inner, below, after);
        }
        lines
    }

    fn of(node: Node) -> Self {
        let line = node.line;
        let (value, below) = take(node.raw);
        Self { value: Arc::new(value), lines: Lines { line, below } }
    }
}

impl Lines {
    fn moved(&mut self, lines: i32) {
        self.line = self.line.saturating_add_signed(lines);
        self.below.iter_mut().for_each(|below| below.moved(lines));
    }
}

/// The first step of a path into a value: where it leads among the values of a list or map, and what is left of the
/// path. A key may have dots in it: of those that fit, the longest is meant.
fn step<'v, 'p>(value: &'v Value, path: &'p str) -> Option<(usize, &'v Value, &'p str)> {
    match value {
        Value::Array(list) => {
            let (index, rest) = path.strip_prefix('[')?.split_once(']')?;
            let index = index.parse().ok()?;
            Some((index, list.get(index)?, rest))
        }
        Value::Object(map) => {
            let path = path.strip_prefix('.').unwrap_or(path);
            let fits = |(at, (key, inner)): (usize, (&String, &'v Value))| {
                let rest = path.strip_prefix(key.as_str())?;
                (rest.is_empty() || rest.starts_with(['.', '['])).then_some((at, inner, rest))
            };
            map.iter().enumerate().filter_map(fits).min_by_key(|(_, _, rest)| rest.len())
        }
        _ => None,
    }
}

fn take(raw: Raw) -> (Value, Box<[Lines]>) {
    match raw {
        Raw::Scalar(value) => (value, Box::default()),
        Raw::List(items) => {
            let taken = items.into_iter().map(|item| (item.line, take(item.raw)));
            let (list, lines): (Vec<_>, Vec<_>) =
                taken.map(|(line, (value, below))| (value, Lines { line, below })).unzip();
            (Value::Array(list), lines.into())
        }
        Raw::Map(entries) => {
            let mut map = Map::with_capacity(entries.len());
            let mut lines = Vec::with_capacity(entries.len());
            for (key, line, item) in entries {
                let (value, below) = take(item.raw);
                // A key that is written twice is refused before.
                map.insert(key, value);
                lines.push(Lines { line, below });
            }
            (Value::Object(map), lines.into())
        }
    }
}

impl YamlError {
    fn of(error: &serde_saphyr::Error) -> Self {
        let line = error.location().map_or(0, |l| u32::try_from(l.line()).unwrap_or(0));
        let text = error.to_string();
        let reason = text.lines().next().unwrap_or("no YAML").trim_start_matches("error: ").to_owned();
        Self { line, reason }
    }
}

/// A value and the line where it begins.
struct Node {
    line: u32,
    raw: Raw,
}

enum Raw {
    Scalar(Value),
    List(Vec<Node>),
    Map(Vec<(String, u32, Node)>),
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Raw>::deserialize(deserializer)?;
        Ok(Self { line: line(&spanned.referenced), raw: spanned.value })
    }
}

fn line(location: &Location) -> u32 {
    u32::try_from(location.line()).unwrap_or(0)
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_bool<E>(self, v: bool) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Bool(v)))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Raw, E> {
        Ok(Raw::Scalar(v.into()))
    }

    fn visit_u64<E>(self, v: u64) -> Result<Raw, E> {
        Ok(Raw::Scalar(v.into()))
    }

    fn visit_f64<E>(self, v: f64) -> Result<Raw, E> {
        Ok(Raw::Scalar(Number::from_f64(v).map_or_else(|| Value::String(v.to_string()), Value::Number)))
    }

    fn visit_str<E>(self, v: &str) -> Result<Raw, E> {
        Ok(Raw::Scalar(v.into()))
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        Raw::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Raw, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Raw::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Raw, A::Error> {
        let mut map = Vec::new();
        while let Some(key) = entries.next_key::<Spanned<String>>()? {
            let value = entries.next_value()?;
            map.push((key.value, line(&key.referenced), value));
        }
        Ok(Raw::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_remember_their_lines() {
        let docs =
            parse("kind: A\nspec:\n  http:\n  - timeout: 1s\n  - name: \"2\"\n---\nkind: B\n").unwrap();
        assert_eq!(docs.len(), 2);
        assert_eq!(docs[0].line_of("spec.http[0].timeout"), 4);
        assert_eq!(docs[0].line_of("spec.http[1].name"), 5);
        assert_eq!(docs[0].line_of("spec.http[1].name.more[3]"), 5);
        assert_eq!(docs[1].line_of("kind"), 7);
        assert_eq!(docs[0].line_of("spec.htt[0]"), 2);
        assert_eq!(docs[0].line_of(""), 1);
        assert_eq!(docs[0].value["spec"]["http"][1]["name"], "2");
    }

    #[test]
    fn keys_may_have_dots() {
        let docs =
            parse("labels:\n  a: 1\n  a.b: 2\n  a.b/c: {x: 3}\nitems:\n- labels:\n    a: 1\n").unwrap();
        assert_eq!(docs[0].line_of("labels.a.b"), 3);
        assert_eq!(docs[0].line_of("labels.a.b/c.x"), 4);
        assert_eq!(docs[0].line_of("labels.a.d"), 2);
        assert_eq!(docs[0].line_of("items[0].labels.a"), 7);
        assert_eq!(docs[0].line_of("items[1].labels.a"), 5);
    }

    #[test]
    fn f6_hostile_texts_are_errors_with_a_line() {
        assert_eq!(parse("a: 1\nb: 2\na: 3\n").unwrap_err().line, 3);
        assert!(parse(&"[".repeat(10_000)).is_err());
        assert!(parse("a: [1, 2\n").is_err());
        assert!(parse("a: \"half").is_err());
        let bomb = "a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e,*e]\ng: [*f,*f,*f,*f,*f,*f,*f,*f,*f,*f]\n";
        assert!(parse(bomb).is_err());
    }

    #[test]
    fn scalars_keep_their_types() {
        let docs = parse("a: 1\nb: \"1\"\nc: true\nd: null\ne: 1.5\nf: -3\ng: yes\n").unwrap();
        let want = serde_json::json!({"a": 1, "b": "1", "c": true, "d": null, "e": 1.5, "f": -3});
        for (key, value) in want.as_object().unwrap() {
            assert_eq!(&docs[0].value[key], value, "{key}");
        }
    }

    #[test]
    fn pieces_are_the_text_again() {
        let text = "a: 1\n---\nb: 2\n--- # c\nc: |\n  ---\n---x: 1\n---";
        assert_eq!(pieces(text), ["a: 1\n", "---\nb: 2\n", "--- # c\nc: |\n  ---\n---x: 1\n", "---"]);
        assert_eq!(pieces(""), [""]);
        assert_eq!(pieces("%YAML 1.2\n---\na: 1\n---\nb: 2\n").len(), 1);
    }

    #[test]
    fn empty_documents_are_left_out() {
        assert!(parse("").unwrap().is_empty());
        assert!(parse("# nothing\n---\n---\n").unwrap().is_empty());
    }
}
