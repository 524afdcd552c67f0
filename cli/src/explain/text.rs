//! An explanation for people: the steps, the verdict, what would have to change, and what is worth knowing.

use std::fmt::Write as _;

use weft_core::explain::told::{Side, Step, Verdict};
use weft_core::explain::{Explanation, Outcome};

/// The width of a step's name.
const WIDTH: usize = 12;

/// The whole as text.
pub fn text(title: &str, all: &Explanation, colours: bool) -> String {
    let bare = all.steps.iter().any(|step| step.step == "intercepted");
    let who = if bare { "client" } else { "client's sidecar" };
    let mut text = format!("{title}\n\n{who} ({})\n", all.client);
    steps(&mut text, &all.steps);
    for outcome in &all.destinations {
        destination(&mut text, all, outcome);
    }
    let _ = writeln!(text, "\n{}", coloured(&verdict(all), all, colours));
    list(&mut text, "for a yes", &all.mend);
    list(&mut text, "worth knowing", &all.notes);
    text
}

/// One line: what becomes of the request.
pub fn verdict(all: &Explanation) -> String {
    let status = all.status.map_or_else(|| "the connection is closed".to_owned(), |s| s.to_string());
    let reason = all.reason.as_deref().unwrap_or("-");
    let line = match all.verdict {
        Verdict::Forwarded => {
            let path = all.path.as_ref().map(|path| format!(" as {path}")).unwrap_or_default();
            format!("FORWARDED to the application{path}")
        }
        Verdict::Answered => {
            let location = all.location.as_ref().map(|to| format!(", location {to}")).unwrap_or_default();
            format!("ANSWERED by the route: {status} ({reason}){location}")
        }
        Verdict::Refused => {
            let server = all.server_reason.as_ref().map(|r| format!("; the server's sidecar says {r}"));
            format!("REFUSED: {status} ({reason}){}", server.unwrap_or_default())
        }
    };
    if all.mixed { format!("{line}; but not all of such requests fare alike") } else { line }
}

fn destination(text: &mut String, all: &Explanation, outcome: &Outcome) {
    let subset = outcome.subset.as_ref().map_or_else(|| outcome.cluster.clone(), |s| format!("subset {s}"));
    let several = all.destinations.len() > 1;
    let share = if several { format!(" ({:.0}% of requests)", outcome.share) } else { String::new() };
    let _ = writeln!(text, "\nto {subset}{share}");
    let (client, server): (Vec<Step>, Vec<Step>) =
        outcome.steps.iter().cloned().partition(|step| step.side == Side::Client);
    steps(text, &client);
    if !server.is_empty() {
        let _ = writeln!(text, "server's sidecar");
        steps(text, &server);
    }
    if several && outcome.verdict == Verdict::Refused {
        let reason = outcome.reason.as_deref().unwrap_or("-");
        let _ = writeln!(text, "  {:WIDTH$} by {reason}", "refused");
    }
}

fn steps(text: &mut String, steps: &[Step]) {
    for step in steps {
        let _ = writeln!(text, "  {:WIDTH$} {}", step.step, step.says);
    }
}

fn list(text: &mut String, title: &str, items: &[String]) {
    if items.is_empty() {
        return;
    }
    let _ = writeln!(text, "\n{title}:");
    for item in items {
        let _ = writeln!(text, "  - {item}");
    }
}

fn coloured(line: &str, all: &Explanation, colours: bool) -> String {
    let colour = match all.verdict {
        _ if !colours => return line.to_owned(),
        Verdict::Refused => 31,
        _ if all.mixed => 33,
        Verdict::Forwarded | Verdict::Answered => 32,
    };
    format!("\u{1b}[{colour}m{line}\u{1b}[0m")
}
