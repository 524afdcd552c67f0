//! Step 6: the split is edited while connections are busy. Every sidecar that routes to the service takes it, no request
//! fails and no connection is closed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::Value;

use crate::demo::findings::Findings;
use crate::demo::judge::{deviations, quantile, within_chance};
use crate::demo::sample::{FILE, split};
use crate::demo::stage::{CONTENT, Stage};

/// What the step shows.
pub const NAME: &str = "an edit under load";
/// Busy connections.
const CONNECTIONS: u64 = 50;
/// How long an edit may take to arrive everywhere.
const ARRIVAL: Duration = Duration::from_secs(10);

/// Runs the step.
///
/// # Errors
/// When requests cannot be sent.
pub async fn run(stage: &Stage) -> Result<Findings> {
    let mut load = stage.client(CONTENT, &["-c", &CONNECTIONS.to_string(), "--duration", "60s"])?;
    load.until(Duration::from_secs(5), |s| s.requests >= 10 * CONNECTIONS).await;
    stage.view.doing("the split becomes 50/50");
    let before = routes(&stage.controller("/sync").await?);
    stage.sample.save(FILE, &split(50, 50))?;
    let saved = Instant::now();
    let arrived = arrived(stage, &before, saved).await?;
    // Requests that were routed before the edit are counted when they end.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let then = load.now();
    let all = load.until(Duration::from_secs(15), |s| s.requests >= then.requests + 2000).await;
    let last = load.stop().await?;
    let since = all.since(&then);
    let v1 = since.versions.get("v1").copied().unwrap_or(0);
    let closed = last.connections_closed + last.connections_opened.saturating_sub(CONNECTIONS);
    let mut found = Findings::default();
    found.figure("sidecars", before.len());
    found.figure("in_force_everywhere_ms", arrived.map(|t| t.as_secs_f64() * 1000.0));
    found.figure("requests", last.requests);
    found.figure("failed", last.failed());
    found.figure("answers", &last.statuses);
    found.figure("errors", &last.errors);
    found.figure("reasons", &last.reasons);
    found.figure("connections_closed", closed);
    found.figure("after_the_edit", &since.versions);
    found.figure("deviations", deviations(v1, since.requests, 0.5));
    found.promise("all sidecars have the edit", arrived.is_some() && !before.is_empty());
    found.promise("no request failed", last.failed() == 0 && last.requests > 0);
    found.promise("no connection was closed", closed == 0);
    found.promise("50/50 within five standard deviations", within_chance(v1, since.requests, 0.5));
    let ms = arrived.map_or("never".to_owned(), |t| format!("after {:.1} ms", t.as_secs_f64() * 1000.0));
    found.say(format!("in force in {} sidecars {ms}", before.len()));
    found.say(format!(
        "{} of {} requests failed, {closed} of {CONNECTIONS} connections closed",
        last.failed(),
        last.requests
    ));
    Ok(found)
}

/// Edits the split again and again under load, and tells how long each took to be in force in every sidecar.
///
/// # Errors
/// When requests cannot be sent.
pub async fn measure(stage: &Stage, edits: u32) -> Result<Findings> {
    let mut load =
        stage.client(CONTENT, &["-c", &CONNECTIONS.to_string(), "--rate", "500", "--duration", "600s"])?;
    load.until(Duration::from_secs(5), |s| s.requests >= 10 * CONNECTIONS).await;
    let (mut times, mut lost) = (Vec::new(), 0);
    for edit in 0..edits {
        stage.view.doing(format!("edit {} of {edits}", edit + 1));
        let before = routes(&stage.controller("/sync").await?);
        stage.sample.save(FILE, &split(10 + edit % 80, 90 - edit % 80))?;
        match arrived(stage, &before, Instant::now()).await? {
            Some(time) => times.push(time.as_secs_f64() * 1000.0),
            None => lost += 1,
        }
        // Edits that come at a steady pace would always meet the same phase of whatever polls.
        tokio::time::sleep(Duration::from_millis(100 + rand::random_range(0..100))).await;
    }
    let last = load.stop().await?;
    let closed = last.connections_closed + last.connections_opened.saturating_sub(CONNECTIONS);
    let (p50, p99) = (quantile(&times, 0.5), quantile(&times, 0.99));
    let mut found = Findings::default();
    found.figure("edits", edits);
    found.figure("p50_ms", p50);
    found.figure("p99_ms", p99);
    found.figure("max_ms", quantile(&times, 1.0));
    found.figure("requests", last.requests);
    found.figure("failed", last.failed());
    found.figure("connections_closed", closed);
    found.promise("every edit arrives", lost == 0);
    found.promise("no request failed", last.failed() == 0 && last.requests > 0);
    found.promise("no connection was closed", closed == 0);
    found.say(format!(
        "p50 {p50:.1} ms, p99 {p99:.1} ms; {} of {} requests failed",
        last.failed(),
        last.requests
    ));
    Ok(found)
}

/// Version and status of the content service's routes, by sidecar, of those that asked for them.
fn routes(sync: &Value) -> BTreeMap<String, (String, String)> {
    let text = |value: &Value, key: &str| value[key].as_str().unwrap_or("").to_owned();
    let list = |value: &Value, key: &str| value[key].as_array().cloned().unwrap_or_default();
    let mut found = BTreeMap::new();
    for sidecar in list(sync, "sidecars") {
        for resource in list(&sidecar, "resources") {
            if text(&resource, "kind") == "service" && text(&resource, "name").contains("content-service") {
                found.insert(text(&sidecar, "pod"), (text(&resource, "version"), text(&resource, "status")));
            }
        }
    }
    found
}

/// How long it took until every sidecar had taken another version; `None` when it took too long.
async fn arrived(
    stage: &Stage,
    before: &BTreeMap<String, (String, String)>,
    saved: Instant,
) -> Result<Option<Duration>> {
    while saved.elapsed() < ARRIVAL {
        let now = routes(&stage.controller("/sync").await?);
        let has = |(pod, (old, _)): (&String, &(String, String))| {
            now.get(pod).is_some_and(|(version, status)| version != old && status == "programmed")
        };
        if before.iter().all(has) {
            return Ok(Some(saved.elapsed()));
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_found_by_sidecar() {
        let sync = serde_json::json!({"sidecars": [
            {"pod": "client-1", "resources": [
                {"kind": "workload", "name": "workload", "version": "1", "status": "programmed"},
                {"kind": "service", "name": "service/default/content-service", "version": "2", "status": "sent"}]},
            {"pod": "other", "resources": []}]});
        let expected = ("client-1".to_owned(), ("2".to_owned(), "sent".to_owned()));
        assert_eq!(routes(&sync), BTreeMap::from([expected]));
    }
}
