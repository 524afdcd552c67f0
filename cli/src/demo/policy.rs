//! Step 3: who may do what, by the AuthorizationPolicy as it is written; and nobody in clear once STRICT is asked for.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::demo::findings::Findings;
use crate::demo::sample::{STRICT, STRICT_FILE};
use crate::demo::stage::{CONTENT, GATEWAY, LOOK, Stage, target};
use crate::metrics;
use crate::up::api::Logs;
use crate::up::plan::SIDECAR;

/// What the step shows.
pub const NAME: &str = "authorization by identity, and STRICT";
/// The policy of the sample.
const POLICY: &str = "content-service-authz";
/// How long a change may take to arrive.
const ARRIVAL: Duration = Duration::from_secs(10);

/// Runs the step.
///
/// # Errors
/// When requests cannot be sent.
pub async fn run(stage: &Stage) -> Result<Findings> {
    Ok(written(stage).await?.and(strict(stage).await?))
}

/// A DELETE by somebody else, and by the gateway.
async fn written(stage: &Stage) -> Result<Findings> {
    stage.view.doing("DELETE as client and as api-gateway");
    let denied = stage.client(CONTENT, &["-X", "DELETE", "-n", "20"])?.finish().await?;
    let passed = stage.client(GATEWAY, &["-X", "DELETE", "-n", "20"])?.finish().await?;
    let named = denied.policies.iter().filter(|(name, _)| name.contains(POLICY)).map(|(_, n)| n).sum::<u64>();
    let rejected = rejections(&stage.content_metrics().await?);
    let logged = logged(stage).await?;
    let mut found = Findings::default();
    found.figure("denied", denied.statuses.get("403"));
    found.figure("reasons", &denied.reasons);
    found.figure("answers_naming_the_policy", named);
    found.figure("log_lines_naming_the_policy", logged);
    found.figure("rejections_counted_by_policy", rejected);
    found.figure("gateway_passed", passed.ok());
    found.promise("DELETE of another account is 403", denied.statuses.get("403") == Some(&20));
    found.promise("the answer names the policy", named == 20);
    found.promise("the log names the policy", logged >= 20);
    found.promise("the metric names the policy", rejected >= 20.0);
    found.promise("DELETE of api-gateway passes", passed.ok() == 20);
    found.say(format!(
        "DELETE as client: {named} of 20 refused by {POLICY}, as api-gateway: {} of 20 passed",
        passed.ok()
    ));
    Ok(found)
}

/// What the sidecars counted for the policy.
fn rejections(text: &str) -> f64 {
    let lines = text.lines().filter(|line| line.contains(POLICY));
    let lines: Vec<_> = lines.collect();
    metrics::sum(&lines.join("\n"), "weft_rejected_total", &[])
}

/// Lines of the sidecars' access logs that name the policy.
async fn logged(stage: &Stage) -> Result<usize> {
    let mut count = 0;
    for version in ["v1", "v2"] {
        for pod in stage.content(version).await? {
            let logs = Logs {
                target: target(&pod.name),
                container: Some(SIDECAR.into()),
                tail: None,
                follow: false,
            };
            let mut text = String::new();
            stage.mesh.logs(logs, |part| text += part).await?;
            count += text.lines().filter(|line| line.contains(POLICY) && line.contains("\"policy\"")).count();
        }
    }
    Ok(count)
}

/// A caller in clear, before and after STRICT.
async fn strict(stage: &Stage) -> Result<Findings> {
    let before = stage.outsider(&["-n", "5"]).await?;
    stage.view.doing("STRICT");
    stage.sample.save(STRICT_FILE, STRICT)?;
    let saved = Instant::now();
    let refused = loop {
        let tried = stage.outsider(&["-n", "8", "-c", "4"]).await?;
        if tried.ok() == 0 || saved.elapsed() > ARRIVAL {
            break tried;
        }
        tokio::time::sleep(LOOK).await;
    };
    let arrived = saved.elapsed().as_millis();
    let inside = stage.client(CONTENT, &["-n", "50", "-c", "5"])?.finish().await?;
    let mut found = Findings::default();
    found.figure("plaintext_before_strict", before.ok());
    found.figure("plaintext_after_strict", refused.ok());
    found.figure("refusals", [&refused.errors, &refused.statuses]);
    found.figure("strict_in_force_ms", arrived);
    found.promise("plaintext passes before STRICT", before.failed() == 0);
    found.promise("plaintext is refused after STRICT", refused.ok() == 0);
    found.promise("the mesh goes on under STRICT", inside.failed() == 0);
    found.say(format!("plaintext refused {arrived} ms after STRICT was saved"));
    Ok(found)
}
