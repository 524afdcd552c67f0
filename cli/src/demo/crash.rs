//! Step 5: a replica is killed under load, as when its node fails, and nobody notices.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::demo::findings::Findings;
use crate::demo::stage::{CONTENT, LOOK, Stage, target};
use crate::demo::traffic::Traffic;

/// What the step shows.
pub const NAME: &str = "a replica killed under load";
/// Connections of the load.
const CONNECTIONS: &str = "16";
/// Requests, at least, after the kill.
const AFTER: u64 = 200;
/// How long a new one may take.
const REPLACED: Duration = Duration::from_secs(20);

/// Runs the step.
///
/// # Errors
/// When requests cannot be sent.
pub async fn run(stage: &Stage) -> Result<Findings> {
    let args = ["-c", CONNECTIONS, "--rate", "150", "-H", "end-user: premium", "--duration", "60s"];
    let mut load = Traffic::start(&stage.mesh, &target("deploy/api-gateway"), CONTENT, &args)?;
    let before = load.until(Duration::from_secs(5), |s| s.requests >= 100).await;
    let victim = stage.replica("v2").await?;
    stage.view.doing(format!("{} is killed", victim.name));
    stage.mesh.kill_pod(&victim).await?;
    let killed = Instant::now();
    while !replaced(stage, &victim.name).await? && killed.elapsed() < REPLACED {
        tokio::time::sleep(LOOK).await;
    }
    let replaced = killed.elapsed().as_millis();
    load.until(Duration::from_secs(15), |s| s.requests >= before.requests + AFTER).await;
    let all = load.stop().await?;
    let since = all.since(&before);
    let mut found = Findings::default();
    found.figure("killed", &victim.name);
    found.figure("requests", all.requests);
    found.figure("requests_after_the_kill", since.requests);
    found.figure("failed", all.failed());
    found.figure("answers", &all.statuses);
    found.figure("errors", &all.errors);
    found.figure("reasons", &all.reasons);
    found.figure("replaced_ms", replaced);
    found.figure("latency_max_ms", all.latency_ms.max);
    found.promise("requests go on", since.requests >= AFTER);
    found.promise("no idempotent request failed", all.failed() == 0);
    found.say(format!("{} killed: {} of {} requests failed", victim.name, all.failed(), all.requests));
    found.say(format!("slowest {:.0} ms, replaced after {replaced} ms", all.latency_ms.max));
    Ok(found)
}

/// Whether two replicas are ready, none of them the one that was killed.
async fn replaced(stage: &Stage, victim: &str) -> Result<bool> {
    let pods = stage.content("v2").await?;
    Ok(pods.len() == 2 && pods.iter().all(|p| p.name != victim))
}
