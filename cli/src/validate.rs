//! `weft validate`: what is wrong with manifests, before anything reads them.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;
use weft_controller::check::{Checked, check};
use weft_controller::report::{Report, Severity};

use crate::output::{self, Format};

/// The exit code of manifests that are wrong.
const INVALID: u8 = 1;
/// The exit code of manifests that are right, but have something that is not honoured yet.
const UNHONOURED: u8 = 2;

/// `weft validate`
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  weft validate mesh.yaml                    one file
  weft validate manifests/ extra.yaml        directories with all below them (*.yaml, *.yml, *.json), and files
  kubectl get vs,dr -A -o yaml | weft validate -f -
  weft validate -f manifests/ -o json | jq '.reports[] | select(.severity == \"error\")'

Each finding is a line: FILE:LINE: error: KIND NAMESPACE/NAME: FIELD: what is wrong, and what to write.
  error             the object would be refused
  not honoured yet  the object is valid, and would be refused for a field that Weft does not honour yet
  warning           the object would be in force, and may not do what its author thinks

References are looked for in what is given: a route to a Service that is in none of the files gets a warning if there \
are Services at all. Nothing is asked of a cluster.

Exit code: 0 valid, warnings or not; 1 invalid; 2 valid but not honoured.")]
pub struct Args {
    /// A file, a directory, or - for standard input
    #[arg(value_name = "FILE_OR_DIR", required_unless_present = "files")]
    paths: Vec<PathBuf>,
    /// The same
    #[arg(short, long = "file", num_args = 1.., value_name = "FILE_OR_DIR")]
    files: Vec<PathBuf>,
    /// How
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    output: Format,
}

/// Checks files and prints what was found; the exit code tells the worst of it.
pub fn run(args: &Args) -> ExitCode {
    let checked = check([&args.paths[..], &args.files].concat());
    match args.output {
        Format::Json => output::pretty(&Summary::of(&checked)),
        Format::Text => {
            let colours = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            checked.reports.iter().for_each(|report| output::line(shown(report, colours)));
            output::line(Summary::of(&checked).line());
        }
    }
    code(&checked)
}

fn code(checked: &Checked) -> ExitCode {
    let worst = |severity| checked.reports.iter().any(|report| report.severity == severity);
    if worst(Severity::Error) {
        return ExitCode::from(INVALID);
    }
    if worst(Severity::Unhonoured) { ExitCode::from(UNHONOURED) } else { ExitCode::SUCCESS }
}

/// What `-o json` prints.
#[derive(Debug, Serialize)]
struct Summary<'a> {
    ok: bool,
    objects: usize,
    errors: usize,
    unhonoured: usize,
    warnings: usize,
    reports: &'a [Report],
}

impl<'a> Summary<'a> {
    fn of(checked: &'a Checked) -> Self {
        let count = |severity| checked.reports.iter().filter(|report| report.severity == severity).count();
        let (errors, unhonoured) = (count(Severity::Error), count(Severity::Unhonoured));
        let warnings = count(Severity::Warning);
        let ok = errors == 0 && unhonoured == 0;
        Self { ok, objects: checked.objects, errors, unhonoured, warnings, reports: &checked.reports }
    }

    /// `3 objects: valid; 2 warnings`.
    fn line(&self) -> String {
        let verdict = match (self.errors, self.unhonoured) {
            (0, 0) => "valid".to_owned(),
            (0, n) => format!("valid, but {} not honoured yet", counted(n, "field")),
            (n, 0) => format!("invalid: {}", counted(n, "error")),
            (n, m) => format!("invalid: {}, {} not honoured yet", counted(n, "error"), counted(m, "field")),
        };
        let warnings = match self.warnings {
            0 => String::new(),
            n => format!("; {}", counted(n, "warning")),
        };
        format!("{}: {verdict}{warnings}", counted(self.objects, "object"))
    }
}

fn counted(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// One finding; with colours, the severity stands out.
fn shown(report: &Report, colours: bool) -> String {
    let text = report.to_string();
    if !colours {
        return text;
    }
    let word = report.severity.to_string();
    let colour = match report.severity {
        Severity::Error => 31,
        Severity::Unhonoured => 35,
        Severity::Warning => 33,
    };
    // The first one after the place: a file may be called `error: .yaml`.
    let place = text.find(&format!(" {word}: ")).map_or(0, |at| at + 1);
    let (before, rest) = text.split_at(place);
    let after = rest.strip_prefix(&word).unwrap_or(rest);
    format!("{before}\u{1b}[{colour}m{word}\u{1b}[0m{after}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(severity: Severity) -> Report {
        Report {
            file: "x.yaml".into(),
            line: 3,
            severity,
            object: "VirtualService default/x".into(),
            field: "spec.http[0].timeout".into(),
            reason: "is wrong".into(),
        }
    }

    #[test]
    fn a_line_names_place_object_and_field() {
        let line = "x.yaml:3: error: VirtualService default/x: spec.http[0].timeout: is wrong";
        assert_eq!(shown(&report(Severity::Error), false), line);
        let coloured = shown(&report(Severity::Error), true);
        assert_eq!(coloured.replace("\u{1b}[31m", "").replace("\u{1b}[0m", ""), line);
        assert!(coloured.starts_with("x.yaml:3: \u{1b}[31merror\u{1b}[0m: "));
    }

    #[test]
    fn the_worst_decides() {
        use Severity::{Error, Unhonoured, Warning};
        let of = |all: &[Severity]| {
            let reports = all.iter().map(|severity| report(*severity)).collect();
            let checked = Checked { objects: 1, reports };
            (format!("{:?}", code(&checked)), Summary::of(&checked).line())
        };
        let exit = |n: u8| format!("{:?}", ExitCode::from(n));
        assert_eq!(of(&[]), (exit(0), "1 object: valid".into()));
        assert_eq!(of(&[Warning]), (exit(0), "1 object: valid; 1 warning".into()));
        assert_eq!(of(&[Unhonoured, Warning]).0, exit(2));
        assert_eq!(of(&[Error, Unhonoured]).0, exit(1));
        assert_eq!(of(&[Error, Error]).1, "1 object: invalid: 2 errors");
    }
}
