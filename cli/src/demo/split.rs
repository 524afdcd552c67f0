//! Step 1: premium users always reach v2, everybody else is split as the weights say.

use anyhow::Result;

use crate::demo::findings::Findings;
use crate::demo::judge::{deviations, within_chance};
use crate::demo::stage::{GATEWAY, Stage};

/// What the step shows.
pub const NAME: &str = "routing by header and by weight";
/// Requests without a header.
const REQUESTS: u64 = 2000;

/// Runs the step.
///
/// # Errors
/// When requests cannot be sent.
pub async fn run(stage: &Stage) -> Result<Findings> {
    stage.view.doing("premium users");
    let premium =
        stage.client(GATEWAY, &["-n", "500", "-c", "10", "-H", "end-user: premium"])?.finish().await?;
    stage.view.doing(format!("{REQUESTS} requests of everybody else"));
    let plain = stage.client(GATEWAY, &["-n", &REQUESTS.to_string(), "-c", "10"])?.finish().await?;
    let count = |summary: &crate::load::tally::Summary, version: &str| {
        summary.versions.get(version).copied().unwrap_or(0)
    };
    let (v1, v2) = (count(&plain, "v1"), count(&plain, "v2"));
    let mut found = Findings::default();
    found.figure("premium_requests", premium.requests);
    found.figure("premium_v2", count(&premium, "v2"));
    found.figure("requests", plain.requests);
    found.figure("v1", v1);
    found.figure("v2", v2);
    found.figure("deviations", deviations(v1, REQUESTS, 0.8));
    found.figure("latency_p50_ms", plain.latency_ms.p50);
    found.promise(
        "premium users reach v2",
        count(&premium, "v2") == premium.requests && premium.failed() == 0,
    );
    found.promise("every request is answered", v1 + v2 == REQUESTS && plain.failed() == 0);
    found.promise("80/20 within five standard deviations", within_chance(v1, REQUESTS, 0.8));
    found.say(format!("premium: {} of {} to v2", count(&premium, "v2"), premium.requests));
    found.say(format!(
        "others: {v1} to v1, {v2} to v2, {:.1} standard deviations",
        deviations(v1, REQUESTS, 0.8)
    ));
    Ok(found)
}
