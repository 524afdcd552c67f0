//! Prometheus' text format, as far as sidecars write it. Pure.

use std::borrow::Cow;

/// One line: a series and its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Series<'a> {
    /// The metric.
    pub name: &'a str,
    /// Its labels, in the order of the line.
    pub labels: Vec<(&'a str, Cow<'a, str>)>,
    /// Its value.
    pub value: f64,
}

impl Series<'_> {
    /// A label's value; empty where it is not there.
    pub fn label(&self, name: &str) -> &str {
        self.labels.iter().find(|(key, _)| *key == name).map_or("", |(_, value)| value)
    }
}

/// The series of the metrics that are wanted. Lines that cannot be read are passed over.
pub fn read<'a>(text: &'a str, wanted: impl Fn(&str) -> bool) -> impl Iterator<Item = Series<'a>> {
    text.lines().filter_map(move |line| {
        let name = line.split(['{', ' ']).next().unwrap_or_default();
        (!name.starts_with('#') && wanted(name)).then(|| series(name, line))?
    })
}

/// The sum of a metric's series that have all these labels.
pub fn sum(text: &str, name: &str, labels: &[(&str, &str)]) -> f64 {
    let all = read(text, |found| found == name);
    let wanted = all.filter(|series| labels.iter().all(|(key, value)| series.label(key) == *value));
    wanted.map(|series| series.value).sum()
}

fn series<'a>(name: &'a str, line: &'a str) -> Option<Series<'a>> {
    let mut rest = &line[name.len()..];
    let mut labels = Vec::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while !rest.starts_with('}') {
            let (key, after) = rest.split_once("=\"")?;
            let (value, after) = quoted(after)?;
            labels.push((key, value));
            rest = after.strip_prefix(',').unwrap_or(after);
        }
        rest = &rest[1..];
    }
    let value = rest.split_ascii_whitespace().next()?.parse().ok()?;
    Some(Series { name, labels, value })
}

/// What stands before the closing quote, and what behind it.
fn quoted(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let bytes = text.as_bytes();
    let mut at = 0;
    loop {
        match bytes.get(at)? {
            b'"' => break,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    let (value, rest) = (text.get(..at)?, text.get(at + 1..)?);
    match value.contains('\\') {
        false => Some((Cow::Borrowed(value), rest)),
        true => Some((Cow::Owned(unescaped(value)), rest)),
    }
}

fn unescaped(value: &str) -> String {
    let mut chars = value.chars();
    let mut text = String::new();
    while let Some(c) = chars.next() {
        match (c, c == '\\') {
            (_, true) => match chars.next() {
                Some('n') => text.push('\n'),
                Some(other) => text.push(other),
                None => {}
            },
            (c, false) => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_read_with_what_labels_may_hold() {
        let text = "# TYPE a counter\na{x=\"1\",y=\"q\\\"}{,=\\\\ \\n\"} 7\na 2.5\nb{x=\"é\"} 1e3 1700000000\nother 1\n";
        let all: Vec<_> = read(text, |name| name != "other").collect();
        assert_eq!(all.len(), 3);
        assert_eq!((all[0].label("x"), all[0].label("y"), all[0].value), ("1", "q\"}{,=\\ \n", 7.0));
        assert_eq!((all[1].labels.len(), all[1].value), (0, 2.5));
        assert_eq!((all[2].label("x"), all[2].label("z"), all[2].value), ("é", "", 1000.0));
    }

    #[test]
    fn lines_that_are_none_are_passed_over() {
        for line in ["a{", "a{x=\"1", "a{x=\"\\", "a{x=\"1\"}", "a{x=\"1\"} nonsense", "a{x} 1", "a", "", "}"]
        {
            assert_eq!(read(line, |_| true).count(), 0, "{line}");
        }
    }

    #[test]
    fn samples_are_chosen_by_whole_label_names() {
        let text = "# TYPE a counter\na{x=\"1\",y=\"2\"} 3\na{xx=\"1\",y=\"2\"} 5\nab{x=\"1\"} 7\na{y=\"3\",x=\"1\"} 2\n";
        assert_eq!(sum(text, "a", &[("x", "1")]), 5.0);
        assert_eq!(sum(text, "a", &[("x", "1"), ("y", "2")]), 3.0);
        assert_eq!(sum(text, "a", &[("x", "9")]), 0.0);
    }
}
