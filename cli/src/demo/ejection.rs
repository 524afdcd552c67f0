//! Step 4: a replica that begins to fail is ejected, its clients see nothing of it, and it comes back in time. The time of
//! the ejection, half a minute by the sample, passes under the steps that follow.

use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::demo::findings::Findings;
use crate::demo::judge::{back_in_time, ejected_in_time};
use crate::demo::stage::{CONTENT, LOOK, Stage};
use crate::demo::traffic::Traffic;
use crate::load::tally::Summary;
use crate::up::Target;

/// What the step shows.
pub const NAME: &str = "outlier ejection and return";
/// Errors after which the sample has a host ejected (`consecutiveErrors`).
const THRESHOLD: u64 = 3;
/// Connections of the load.
const CONNECTIONS: u64 = 16;
/// The sample's `baseEjectionTime`, seconds.
const EJECTION: f64 = 30.0;

/// An ejection whose time runs.
#[derive(Debug)]
pub struct Running {
    load: Traffic,
    replica: Target,
    back: JoinHandle<Option<f64>>,
    found: Findings,
}

/// Has a replica fail until it is ejected.
///
/// # Errors
/// When requests cannot be sent.
pub async fn begin(stage: &Stage) -> Result<Running> {
    let mut load =
        stage.client(CONTENT, &["-c", &CONNECTIONS.to_string(), "--rate", "150", "--duration", "120s"])?;
    let replica = stage.replica("v1").await?;
    stage.view.doing(format!("{} begins to fail", replica.name));
    load.until(Duration::from_secs(5), |s| answers(s, &replica.name) >= 20).await;
    stage.tell(&replica, "PUT", "fail=503").await?;
    let (errors, ejected) = settled(stage, &replica).await?;
    stage.tell(&replica, "DELETE", "").await?;
    let back = tokio::task::spawn_local(returned(load.watch(), replica.name.clone(), ejected));
    let mut found = Findings::default();
    found.figure("replica", &replica.name);
    found.figure("errors_before_ejection", errors);
    found.promise(
        "ejected after three errors and those in flight",
        ejected_in_time(errors, THRESHOLD, CONNECTIONS),
    );
    found.say(format!("{} ejected after {errors} errors", replica.name));
    Ok(Running { load, replica, back, found })
}

/// Waits until no more errors are made, and gives their number and when the last was made.
async fn settled(stage: &Stage, replica: &Target) -> Result<(u64, Instant)> {
    let (mut errors, mut since) = (0, Instant::now());
    let quiet = Duration::from_secs(1);
    let began = Instant::now();
    while (errors == 0 || since.elapsed() < quiet) && began.elapsed() < Duration::from_secs(10) {
        let now = stage.counted(replica).await?["affected"].as_u64().unwrap_or(0);
        if now != errors {
            (errors, since) = (now, Instant::now());
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok((errors, since))
}

fn answers(summary: &Summary, replica: &str) -> u64 {
    summary.pods.get(replica).copied().unwrap_or(0)
}

/// Seconds from the ejection to the next answer of the replica.
async fn returned(mut counts: watch::Receiver<Summary>, replica: String, ejected: Instant) -> Option<f64> {
    let before = answers(&counts.borrow(), &replica);
    let limit = Duration::from_secs_f64(EJECTION + 10.0);
    let back = counts.wait_for(|s| answers(s, &replica) > before);
    let in_time = tokio::time::timeout(limit, back).await.is_ok_and(|back| back.is_ok());
    in_time.then(|| ejected.elapsed().as_secs_f64())
}

/// Waits until the replica is back.
///
/// # Errors
/// When requests cannot be sent.
pub async fn finish(stage: &Stage, running: Running) -> Result<Findings> {
    let Running { load, replica, back, mut found } = running;
    stage.view.doing(format!("waiting for {} to come back", replica.name));
    let back = back.await?;
    let all = load.stop().await?;
    found.figure("back_after_s", back);
    found.figure("requests", all.requests);
    found.figure("failed", all.failed());
    found.figure("answers", &all.statuses);
    found.figure("errors", &all.errors);
    found.figure("reasons", &all.reasons);
    found.promise("no idempotent request failed", all.failed() == 0 && all.requests > 0);
    found.promise("back when the ejection time is up", back.is_some_and(|s| back_in_time(s, EJECTION, 2.0)));
    let back = back.map_or("not back".to_owned(), |s| format!("back after {s:.1} s"));
    found.say(format!("{back}; {} of {} requests failed", all.failed(), all.requests));
    Ok(found)
}
