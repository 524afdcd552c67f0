//! Step 8: the controller is away for ten seconds under load, and a sidecar is restarted meanwhile. It comes back with what
//! it held, and serves before the controller does.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::demo::findings::Findings;
use crate::demo::stage::{CONTENT, GATEWAY, LOOK, Stage};
use crate::up::Target;

/// What the step shows.
pub const NAME: &str = "the controller away, a sidecar restarted";
/// How long the controller is away.
const AWAY: Duration = Duration::from_secs(10);
/// Connections of each load.
const CONNECTIONS: u64 = 16;
/// How long the controller and the sidecars may take to find each other again.
const REUNITED: Duration = Duration::from_secs(20);

/// Runs the step.
///
/// # Errors
/// When requests cannot be sent.
pub async fn run(stage: &Stage) -> Result<Findings> {
    // A replica of v1 is still ejected: with its only sibling away, nobody could serve v1.
    let replica = stage.replica("v2").await?;
    let connections = CONNECTIONS.to_string();
    let start = |url: &str| stage.client(url, &["-c", &connections, "--rate", "200", "--duration", "120s"]);
    let address = own_address(stage, &replica).await?;
    let (mut direct, mut through) = (start(CONTENT)?, start(GATEWAY)?);
    direct.until(Duration::from_secs(5), |s| s.requests >= 100).await;
    through.until(Duration::from_secs(5), |s| s.requests >= 100).await;
    stage.view.doing("the controller is away");
    stage.mesh.stop_controller().await?;
    let stopped = Instant::now();
    tokio::time::sleep(AWAY / 5).await;
    stage.view.doing(format!("the controller is away, the sidecar of {} is killed", replica.name));
    stage.mesh.kill_sidecar(&replica).await?;
    let served = serves(stage, &address, AWAY.saturating_sub(stopped.elapsed())).await?;
    tokio::time::sleep(AWAY.saturating_sub(stopped.elapsed())).await;
    stage.mesh.start_controller().await?;
    stage.view.doing("the controller comes back");
    let reunited = reunited(stage).await;
    let (direct, through) = (direct.stop().await?, through.stop().await?);
    let failed = direct.failed() + through.failed();
    let mut found = Findings::default();
    found.figure("away_s", AWAY.as_secs());
    found.figure("requests", direct.requests + through.requests);
    found.figure("failed", failed);
    found.figure("errors", [&direct.errors, &through.errors]);
    found.figure("answers", [&direct.statuses, &through.statuses]);
    found.figure("reasons", [&direct.reasons, &through.reasons]);
    found.figure("restarted", &replica.name);
    found.figure("serves_again_after_ms", served);
    found.figure("sidecars_connected_again_after_ms", reunited.map(|t| t.as_millis()));
    found.promise("no request failed but those in flight in the killed sidecar", failed <= 2 * CONNECTIONS);
    found.promise("the restarted sidecar serves while the controller is away", served.is_some());
    found.promise("the controller comes back", reunited.is_some());
    found.say(format!("{failed} of {} requests failed", direct.requests + through.requests));
    let again = served.map_or("not at all".to_owned(), |ms| format!("after {ms} ms"));
    found.say(format!("the restarted sidecar served {again}, without a controller"));
    Ok(found)
}

/// The URL of one pod. A request to it, so that the client's sidecar knows the address before the controller goes.
///
/// Clients of the service cannot tell when the pod serves again: for them it failed, and is ejected for half a minute.
async fn own_address(stage: &Stage, pod: &Target) -> Result<String> {
    let pods = stage.mesh.state().await?.pods;
    let ip = pods.iter().find(|p| p.name == pod.name).and_then(|p| p.ips.first());
    let url = format!("http://{}:8080/", ip.with_context(|| format!("{} has no address", pod.name))?);
    let asked = stage.client(&url, &["-n", "1"])?.finish().await?;
    anyhow::ensure!(asked.ok() == 1, "{url}: {asked:?}");
    Ok(url)
}

/// Milliseconds until the pod answers again; `None` when it takes too long.
async fn serves(stage: &Stage, url: &str, limit: Duration) -> Result<Option<u128>> {
    let began = Instant::now();
    while began.elapsed() < limit {
        if stage.client(url, &["-n", "1"])?.finish().await?.ok() == 1 {
            return Ok(Some(began.elapsed().as_millis()));
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(None)
}

/// How long until every sidecar is connected to the controller again; `None` when it took too long.
async fn reunited(stage: &Stage) -> Option<Duration> {
    let began = Instant::now();
    while began.elapsed() < REUNITED {
        if let (Ok(sync), Ok(state)) = (stage.controller("/sync").await, stage.mesh.state().await) {
            let meshed = state.pods.iter().filter(|p| p.namespace == "default").count();
            if sync["sidecars"].as_array().is_some_and(|all| all.len() >= meshed) {
                return Some(began.elapsed());
            }
        }
        tokio::time::sleep(LOOK).await;
    }
    None
}
