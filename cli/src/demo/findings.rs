//! What a step found: its figures, and whether what was promised held. Pure.

use serde::Serialize;
use serde_json::{Map, Value};

/// What one step found.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    figures: Map<String, Value>,
    broken: Vec<String>,
    said: Vec<String>,
}

/// One step of the tour, as it is reported.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// What the step shows.
    pub name: &'static str,
    /// Whether it held.
    pub ok: bool,
    /// What was measured; `broken` lists the promises that did not hold.
    pub figures: Map<String, Value>,
    /// The most telling figures in words.
    #[serde(skip)]
    pub said: String,
}

/// The whole tour.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Whether every step held.
    pub ok: bool,
    /// The steps, in order.
    pub steps: Vec<Report>,
}

impl Findings {
    /// Notes a figure.
    pub fn figure(&mut self, name: &str, value: impl Serialize) {
        self.figures.insert(name.to_owned(), serde_json::to_value(value).unwrap_or_default());
    }

    /// Notes a promise, and whether it held.
    pub fn promise(&mut self, what: &str, held: bool) {
        if !held {
            self.broken.push(what.to_owned());
        }
    }

    /// Adds to what people are told.
    pub fn say(&mut self, text: impl Into<String>) {
        self.said.push(text.into());
    }

    /// Takes over what an earlier part of the same step found.
    #[must_use]
    pub fn and(mut self, later: Self) -> Self {
        self.figures.extend(later.figures);
        self.broken.extend(later.broken);
        self.said.extend(later.said);
        self
    }

    /// The report of a step.
    pub fn report(self, name: &'static str) -> Report {
        let Self { mut figures, broken, said } = self;
        let ok = broken.is_empty();
        let mut said = said.join("; ");
        if !ok {
            said = format!("did not hold: {} ({said})", broken.join(", "));
            figures.insert("broken".to_owned(), broken.into());
        }
        Report { name, ok, figures, said }
    }
}

/// The report of a step that could not be carried through.
pub fn failed(name: &'static str, error: &anyhow::Error) -> Report {
    let said = format!("{error:#}");
    let figures = Map::from_iter([("error".to_owned(), said.clone().into())]);
    Report { name, ok: false, figures, said }
}

impl Summary {
    /// Over all steps.
    pub fn of(steps: Vec<Report>) -> Self {
        Self { ok: steps.iter().all(|s| s.ok), steps }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_broken_promise_breaks_the_tour() {
        let mut good = Findings::default();
        good.figure("requests", 7);
        good.promise("all answered", true);
        let mut bad = Findings::default();
        bad.promise("none failed", false);
        let tour = Summary::of(vec![good.report("one"), bad.report("two")]);
        let json = serde_json::to_value(&tour).unwrap();
        assert_eq!(json["ok"], false);
        assert_eq!(
            json["steps"][0],
            serde_json::json!({"name": "one", "ok": true, "figures": {"requests": 7}})
        );
        assert_eq!(json["steps"][1]["figures"]["broken"][0], "none failed");
    }
}
