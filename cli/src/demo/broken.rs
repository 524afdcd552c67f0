//! Step 7: broken files are saved. Each mistake is told with file, line and field; traffic goes on under the last good
//! configuration; mending the file clears the error.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::Value;

use crate::demo::findings::Findings;
use crate::demo::judge::within_chance;
use crate::demo::sample::{FILE, MISTAKES, Mistake, split};
use crate::demo::stage::{CONTENT, LOOK, Stage};

/// What the step shows.
pub const NAME: &str = "broken files";
/// How long an error may take to be told, or to go.
const TOLD: Duration = Duration::from_secs(10);

/// Runs the step.
///
/// # Errors
/// When requests cannot be sent.
pub async fn run(stage: &Stage) -> Result<Findings> {
    let load = stage.client(CONTENT, &["-c", "10", "--rate", "400", "--duration", "60s"])?;
    let good = split(50, 50);
    stage.sample.save(FILE, &good)?;
    let mut found = Findings::default();
    let mut told = Vec::new();
    for mistake in MISTAKES {
        stage.view.doing(format!("{FILE} gets {}", mistake.what));
        let text = mistake.made_in(&good);
        stage.sample.save(FILE, &text)?;
        let error = wait(stage, |errors| errors.iter().find(|e| names(e, &mistake, &text)).cloned()).await?;
        found.promise(&format!("{} is told with file, line and field", mistake.what), error.is_some());
        told.push(error.as_ref().map(words));
        stage.view.note(format!("     {}", error.as_ref().map_or("nothing was told".to_owned(), words)));
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    stage.sample.save(FILE, &good)?;
    let mended = wait(stage, |errors| errors.is_empty().then_some(())).await?;
    let all = load.stop().await?;
    let v1 = all.versions.get("v1").copied().unwrap_or(0);
    found.figure("errors", &told);
    found.figure("requests", all.requests);
    found.figure("failed", all.failed());
    found.figure("answers", &all.versions);
    found.promise("traffic goes on", all.failed() == 0 && all.requests > 0);
    found.promise("the last good split stays", within_chance(v1, all.requests, 0.5));
    found.promise("mending clears the error", mended.is_some());
    let count = told.iter().flatten().count();
    found.say(format!(
        "{count} of {} mistakes told, {} of {} requests failed",
        MISTAKES.len(),
        all.failed(),
        all.requests
    ));
    Ok(found)
}

/// Asks the controller for its errors until they are as wanted, or it takes too long.
async fn wait<T>(stage: &Stage, wanted: impl Fn(&[Value]) -> Option<T>) -> Result<Option<T>> {
    let began = Instant::now();
    while began.elapsed() < TOLD {
        let errors = errors(&stage.controller("/errors").await?);
        if let Some(found) = wanted(&errors) {
            return Ok(Some(found));
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(None)
}

/// What is wrong, without mere warnings.
fn errors(page: &Value) -> Vec<Value> {
    let all = page["reports"].as_array().cloned().unwrap_or_default();
    all.into_iter()
        .filter(|r| !r["severity"].as_str().is_some_and(|s| s.eq_ignore_ascii_case("warning")))
        .collect()
}

/// Whether a report names the file, a line of the mistake and its field.
fn names(report: &Value, mistake: &Mistake, text: &str) -> bool {
    let is = |key: &str, wanted: &dyn Fn(&str) -> bool| report[key].as_str().is_some_and(wanted);
    let line = report["line"].as_u64().and_then(|line| u32::try_from(line).ok()).unwrap_or(0);
    let (first, last) = around(mistake, text);
    is("file", &|file| file.ends_with(FILE))
        && is("field", &|f| f.starts_with(mistake.field))
        && (first..=last).contains(&line)
}

/// The lines among which the mistake's must be: its own, and for a list whose items are wrong together the list's.
fn around(mistake: &Mistake, text: &str) -> (u32, u32) {
    let lines = mistake.lines(text);
    let (first, last) = (lines.first().copied().unwrap_or(0), lines.last().copied().unwrap_or(0));
    if lines.len() > 1 { (first.saturating_sub(4), last) } else { (first, last) }
}

/// The report as one line.
fn words(report: &Value) -> String {
    let text = |key: &str| report[key].as_str().unwrap_or("");
    let file = text("file").rsplit('/').next().unwrap_or("");
    format!("{file}:{}: {}: {}: {}", report["line"], text("object"), text("field"), text("reason"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_report_must_name_the_very_line() {
        let text = MISTAKES[0].made_in(&split(50, 50));
        let line = MISTAKES[0].lines(&text)[0];
        let report =
            |line: u32, field: &str| json!({"file": "/x/content-service.yaml", "line": line, "field": field});
        assert!(names(&report(line, MISTAKES[0].field), &MISTAKES[0], &text));
        assert!(!names(&report(line + 1, MISTAKES[0].field), &MISTAKES[0], &text));
        assert!(!names(&report(line, "spec.host"), &MISTAKES[0], &text));
    }

    #[test]
    fn warnings_are_no_errors() {
        let page = json!({"reports": [{"severity": "warning"}, {"severity": "error"}]});
        assert_eq!(errors(&page).len(), 1);
    }
}
