//! Live progress on standard error: one line that changes while a step runs, one that stays when it has ended.

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
    quiet: bool,
}

impl View {
    /// Progress from now on. A quiet view shows it on terminals only.
    pub fn new(quiet: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let line = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
            line.set_style(style);
        }
        if terminal {
            line.enable_steady_tick(Duration::from_millis(100));
        }
        Self { line, began: Instant::now(), terminal, quiet }
    }

    /// What is going on now.
    pub fn doing(&self, text: impl Into<String>) {
        self.line.set_message(format!("{:>5.1} s  {}", self.began.elapsed().as_secs_f64(), text.into()));
    }

    /// Something that stays.
    pub fn note(&self, text: impl std::fmt::Display) {
        if self.terminal {
            self.line.println(text.to_string());
        } else if !self.quiet {
            output::progress(text);
        }
    }

    /// A step has ended.
    pub fn ended(&self, number: usize, report: &Report) {
        let mark = if report.ok { style("✓").green() } else { style("✗").red() }.for_stderr();
        self.note(format!(
            "{mark} {number}  {}\n     {}",
            report.name,
            style(&report.said).dim().for_stderr()
        ));
    }

    /// The tour has ended.
    pub fn summary(&self, summary: &Summary) {
        self.line.finish_and_clear();
        let held = summary.steps.iter().filter(|s| s.ok).count();
        let seconds = self.began.elapsed().as_secs();
        output::line(format!("{held} of {} steps held, in {seconds} s", summary.steps.len()));
    }

    /// Stops drawing.
    pub fn close(&self) {
        self.line.finish_and_clear();
    }
}
