//! The order of the steps. The ejection of step 4 runs its half minute while 5, 6, 7 and 8 are shown.

use std::time::Duration;

use anyhow::{Result, bail};

use crate::demo::findings::{Findings, Report, Summary, failed};
use crate::demo::stage::Stage;
use crate::demo::{broken, crash, edit, ejection, mtls, outage, policy, split};

/// The longest that a step may take.
const LIMIT: Duration = Duration::from_secs(60);
/// The longest that a measurement may take.
const LONG: Duration = Duration::from_secs(600);

/// Walks through all steps.
pub async fn walk(stage: &Stage) -> Summary {
    let one = step(stage, 1, split::NAME, LIMIT, split::run(stage)).await;
    let two = step(stage, 2, mtls::NAME, LIMIT, mtls::run(stage)).await;
    let three = step(stage, 3, policy::NAME, LIMIT, policy::run(stage)).await;
    let ejection = ejection::begin(stage).await;
    let five = step(stage, 5, crash::NAME, LIMIT, crash::run(stage)).await;
    let six = step(stage, 6, edit::NAME, LIMIT, edit::run(stage)).await;
    let seven = step(stage, 7, broken::NAME, LIMIT, broken::run(stage)).await;
    let eight = step(stage, 8, outage::NAME, LIMIT, outage::run(stage)).await;
    let four = async { ejection::finish(stage, ejection?).await };
    let four = step(stage, 4, ejection::NAME, LIMIT, four).await;
    Summary::of(vec![one, two, three, four, five, six, seven, eight])
}

/// Nothing but edits, as a measurement.
pub async fn edits(stage: &Stage, edits: u32) -> Summary {
    Summary::of(vec![step(stage, 1, "edits under load", LONG, edit::measure(stage, edits)).await])
}

async fn step(
    stage: &Stage,
    number: usize,
    name: &'static str,
    limit: Duration,
    run: impl Future<Output = Result<Findings>>,
) -> Report {
    let ended = tokio::time::timeout(limit, Box::pin(run)).await;
    let ended = ended.unwrap_or_else(|_| bail!("not done after {} s", limit.as_secs()));
    let report = ended.map_or_else(|e| failed(name, &e), |found| found.report(name));
    stage.view.ended(number, &report);
    report
}
