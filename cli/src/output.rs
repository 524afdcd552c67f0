//! What the command prints: the one place that writes to standard output, so that `-o json` can promise that nothing else does.

use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;

/// How a command prints its result: the values of `-o`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Text,
    /// For programs
    Json,
}

/// Prints a line to standard output. A reader that has gone away ends the process quietly, as it does for other commands.
pub fn line(text: impl std::fmt::Display) {
    raw(&format!("{text}\n"));
}

/// Prints text as it is to standard output.
pub fn raw(text: &str) {
    let mut out = io::stdout().lock();
    if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}

/// Prints a value as one line of JSON.
pub fn json<T: serde::Serialize>(value: &T) {
    line(serde_json::to_string(value).unwrap_or_else(|e| format!("{{\"error\":\"{e}\"}}")));
}

/// Prints a value as indented JSON.
pub fn pretty<T: serde::Serialize>(value: &T) {
    line(serde_json::to_string_pretty(value).unwrap_or_else(|e| format!("{{\"error\":\"{e}\"}}")));
}

/// Tells how things go on, on standard error.
pub fn progress(text: impl std::fmt::Display) {
    // Nobody may be reading.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Tells what is wrong, on standard error.
pub fn problem(text: impl std::fmt::Display) {
    let head = if io::stderr().is_terminal() { "\u{1b}[31merror:\u{1b}[0m" } else { "error:" };
    progress(format!("{head} {text}"));
}

/// Tells what has no effect, on standard error.
pub fn warning(text: impl std::fmt::Display) {
    let head = if io::stderr().is_terminal() { "\u{1b}[33mwarning:\u{1b}[0m" } else { "warning:" };
    progress(format!("{head} {text}"));
}

/// A table with columns as wide as they need to be, two spaces apart, without lines.
#[derive(Debug)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings.
    pub fn new(headings: &[&str]) -> Self {
        Self { rows: vec![headings.iter().map(|h| (*h).to_owned()).collect()] }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// The table as text.
    pub fn text(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let cell =
            |row: &Vec<String>, column: usize| -> String { row.get(column).cloned().unwrap_or_default() };
        let width =
            |column: usize| self.rows.iter().map(|row| cell(row, column).chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let line = |row: &Vec<String>| {
            let cells = widths.iter().enumerate().map(|(i, w)| format!("{:w$}", cell(row, i)));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
        };
        self.rows.iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_do_not_trail() {
        let mut table = Table::new(&["NAME", "READY"]);
        table.row(vec!["api-gateway".into(), "yes".into()]);
        assert_eq!(table.text(), "NAME         READY\napi-gateway  yes\n");
    }
}
