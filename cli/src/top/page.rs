//! Rows for people and for programs. Pure.

use std::time::Duration;

use serde_json::{Value, json};

use super::rows::{Row, Sample};
use crate::output::Table;

/// Lines that are no rows: the summary, an empty one, the headings, and what is left out.
const FRAME: usize = 5;

/// A page; no more rows than fit the height, if one is given.
pub(super) fn text(rows: &[Row], now: &Sample, took: Duration, height: Option<usize>) -> String {
    let seconds = took.as_secs_f64();
    let total: f64 = rows.iter().map(|row| row.requests).sum();
    let silent = match now.silent {
        0 => String::new(),
        silent => format!(", {silent} do not answer"),
    };
    let sidecars = now.counted.len();
    let head =
        format!("{sidecars} sidecars{silent}; {} requests/s over {seconds:.1} s\n\n", rate(total / seconds));
    if rows.is_empty() {
        return head + "no request ended, and no connection is open\n";
    }
    let most = height.map_or(rows.len(), |height| height.saturating_sub(FRAME).max(1)).min(rows.len());
    let mut table = Table::new(&["FROM", "TO", "REQ/S", "ERRORS", "4XX", "P50 MS", "P99 MS", "CONNS"]);
    rows[..most].iter().for_each(|row| table.row(cells(row, seconds)));
    let rest = rows.len() - most;
    let more = if rest > 0 { format!("and {rest} more pairs\n") } else { String::new() };
    head + &table.text() + &more
}

fn cells(row: &Row, seconds: f64) -> Vec<String> {
    let number =
        |value: Option<f64>, digits: usize| value.map_or("-".into(), |value| format!("{value:.digits$}"));
    vec![
        row.source.clone(),
        row.destination.clone(),
        rate(row.requests / seconds),
        share(row.failed, row.requests),
        share(row.refused, row.requests),
        number(row.p50, 1),
        number(row.p99, 1),
        number(row.connections, 0),
    ]
}

fn rate(rate: f64) -> String {
    if rate < 100.0 { format!("{rate:.1}") } else { format!("{rate:.0}") }
}

fn share(part: f64, whole: f64) -> String {
    match part {
        _ if whole == 0.0 => "-".into(),
        0.0 => "0%".into(),
        part => format!("{:.2}%", 100.0 * part / whole),
    }
}

/// A page for programs; amounts are of the whole time between two samples.
pub(super) fn json(rows: &[Row], now: &Sample, took: Duration) -> Value {
    json!({ "seconds": took.as_secs_f64(), "sidecars": now.counted.len(), "silent": now.silent, "rows": rows })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use tokio::time::Instant;

    #[test]
    fn a_page_fits_its_terminal() {
        let row = Row {
            source: "a".into(),
            destination: "b".into(),
            requests: 300.0,
            failed: 3.0,
            ..Row::default()
        };
        let sample = Sample { at: Instant::now(), counted: BTreeMap::new(), silent: 1 };
        let rows = vec![row; 50];
        let page = text(&rows, &sample, Duration::from_secs(2), Some(10));
        assert!(page.lines().count() <= 10 && page.ends_with("and 45 more pairs\n"), "{page}");
        assert!(page.contains("1 do not answer") && page.contains("150") && page.contains("1.00%"), "{page}");
        assert_eq!(text(&rows, &sample, Duration::from_secs(2), None).lines().count(), 53);
        assert!(text(&[], &sample, Duration::from_secs(2), None).contains("no request ended"));
    }
}
