//! Results as JUnit XML, for what shows the tests of a build.

use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesText, Event};

use super::{Outcome, Tested};

/// Writes a file of all results.
///
/// # Errors
/// The file cannot be written.
pub fn write(file: &Path, suites: &[Tested]) -> Result<()> {
    let place = || file.display().to_string();
    let mut out = Vec::new();
    document(&mut out, suites).with_context(place)?;
    out.push(b'\n');
    std::fs::write(file, out).with_context(place)
}

fn document(out: impl Write, suites: &[Tested]) -> io::Result<()> {
    let mut xml = Writer::new_with_indent(out, b' ', 2);
    xml.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    let all = || suites.iter().flat_map(|suite| &suite.outcomes);
    let root = xml.create_element("testsuites");
    let root = root.with_attribute(("tests", count(all()).as_str()));
    root.with_attribute(("failures", failures(all()).as_str()))
        .write_inner_content(|xml| suites.iter().try_for_each(|suite| of_suite(xml, suite)))?;
    Ok(())
}

fn of_suite<W: Write>(xml: &mut Writer<W>, suite: &Tested) -> io::Result<()> {
    let element = xml.create_element("testsuite").with_attribute(("name", suite.name.as_str()));
    let element = element.with_attribute(("tests", count(suite.outcomes.iter()).as_str()));
    let element = element.with_attribute(("failures", failures(suite.outcomes.iter()).as_str()));
    let element =
        element.with_attribute(("time", seconds(suite.outcomes.iter().map(|o| o.time).sum()).as_str()));
    element.write_inner_content(|xml| suite.outcomes.iter().try_for_each(|o| of_test(xml, suite, o)))?;
    Ok(())
}

fn of_test<W: Write>(xml: &mut Writer<W>, suite: &Tested, outcome: &Outcome) -> io::Result<()> {
    let element = xml.create_element("testcase").with_attribute(("name", outcome.name.as_str()));
    let element = element.with_attribute(("classname", suite.name.as_str()));
    let element = element.with_attribute(("file", suite.file.as_str()));
    let element = element.with_attribute(("line", outcome.line.to_string().as_str()));
    let element = element.with_attribute(("time", seconds(outcome.time).as_str()));
    let failures = outcome.failures();
    let Some(first) = failures.first() else {
        element.write_empty()?;
        return Ok(());
    };
    element.write_inner_content(|xml| {
        let failure = xml.create_element("failure").with_attribute(("message", first.as_str()));
        failure.write_text_content(BytesText::new(&failures.join("\n"))).map(|_| ())
    })?;
    Ok(())
}

fn count<'a>(outcomes: impl Iterator<Item = &'a Outcome>) -> String {
    outcomes.count().to_string()
}

fn failures<'a>(outcomes: impl Iterator<Item = &'a Outcome>) -> String {
    outcomes.filter(|outcome| !outcome.passed()).count().to_string()
}

fn seconds(time: Duration) -> String {
    format!("{:.6}", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh_test::judge::Difference;

    #[test]
    fn names_with_markup_in_them_stay_names() {
        let text = |s: &str| s.to_owned();
        let difference =
            Difference { field: text("path"), expected: text("/<a>&\"b\""), found: text("none") };
        let outcome = Outcome {
            name: text("a <b> & \"c\""),
            line: 3,
            time: Duration::from_millis(2),
            differences: vec![difference],
            error: None,
            place: text("x.yaml:4"),
        };
        let suite = Tested { name: text("s"), file: text("x.yaml"), outcomes: vec![outcome] };
        let mut out = Vec::new();
        document(&mut out, &[suite]).unwrap();
        let mut reader = quick_xml::Reader::from_reader(&out[..]);
        let (mut buffer, mut seen) = (Vec::new(), Vec::new());
        loop {
            match reader.read_event_into(&mut buffer).unwrap() {
                Event::Eof => break,
                Event::Start(e) => seen.push(String::from_utf8(e.name().as_ref().to_vec()).unwrap()),
                _ => {}
            }
        }
        assert_eq!(seen, ["testsuites", "testsuite", "testcase", "failure"]);
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.contains("name=\"a &lt;b&gt; &amp; &quot;c&quot;\"") && text.contains("failures=\"1\""),
            "{text}"
        );
    }
}
