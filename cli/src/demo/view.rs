//! Live progress: a line on standard error that changes while a step runs, and what stays when it has ended.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use console::style;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::demo::findings::{Report, Summary};
use crate::output;

/// Where progress is shown.
#[derive(Debug)]
pub struct View {
    line: ProgressBar,
    began: Instant,
    terminal: bool,
    json: bool,
}

impl View {
    /// Progress from now on; with `json`, standard output gets the result and nothing else.
    pub fn new(json: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let line = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
            line.set_style(style);
        }
        if terminal {
            line.enable_steady_tick(Duration::from_millis(100));
        }
        Self { line, began: Instant::now(), terminal, json }
    }

    /// What is going on now.
    pub fn doing(&self, text: impl Into<String>) {
        self.line.set_message(format!("{:>5.1} s  {}", self.began.elapsed().as_secs_f64(), text.into()));
    }

    /// Something that stays: on standard output, unless that is for programs.
    pub fn note(&self, text: impl std::fmt::Display) {
        if !self.json {
            self.line.suspend(|| output::line(text));
        } else if self.terminal {
            self.line.println(text.to_string());
        }
    }

    /// A step has ended.
    pub fn ended(&self, number: usize, report: &Report) {
        self.note(format!(
            "{} {number}  {}\n     {}",
            mark(report.ok),
            report.name,
            style(&report.said).dim()
        ));
    }

    /// The tour has ended.
    pub fn summary(&self, summary: &Summary) {
        self.line.finish_and_clear();
        if self.json {
            return output::json(summary);
        }
        output::line("");
        for (number, step) in (1..).zip(&summary.steps) {
            output::line(format!("  {} {number}  {}", mark(step.ok), step.name));
        }
        let held = summary.steps.iter().filter(|s| s.ok).count();
        let seconds = self.began.elapsed().as_secs();
        output::line(format!("\n{held} of {} steps held, in {seconds} s", summary.steps.len()));
    }
}

fn mark(ok: bool) -> impl std::fmt::Display {
    if ok { style("✓").green() } else { style("✗").red() }
}
