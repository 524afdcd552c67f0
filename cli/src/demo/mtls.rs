//! Step 2: what passes between pods is mTLS 1.3, and the server's side knows who the client is.
//!
//! The capture would prove nothing if it saw nothing: so a caller outside the mesh, whose request is in clear, must be
//! seen in it.

use anyhow::{Context, Result};

use crate::demo::findings::Findings;
use crate::demo::frames::Seen;
use crate::demo::stage::{GATEWAY, Stage, target};
use crate::demo::traffic::Lines;
use crate::metrics;

/// What the step shows.
pub const NAME: &str = "mutual TLS 1.3 between pods";
/// Who calls the content service.
const GATEWAY_ID: &str = "spiffe://cluster.local/ns/default/sa/api-gateway";

/// Runs the step.
///
/// # Errors
/// When requests cannot be sent or packets not read.
pub async fn run(stage: &Stage) -> Result<Findings> {
    stage.view.doing("looking at the network between the pods");
    let word = |kind: &str| format!("weft-{kind}-{:016x}", rand::random::<u64>());
    let (secret, open) = (word("secret"), word("open"));
    let mut capture =
        Lines::start(&stage.mesh, &target("@mesh"), &["capture", "--word", &secret, "--word", &open])?;
    capture.next().await.context("the capture did not begin")?;
    let header = |word: &str| format!("end-user: {word}");
    let inside = stage.client(GATEWAY, &["-n", "100", "-c", "5", "-H", &header(&secret)])?.finish().await?;
    let outside = stage.outsider(&["-n", "10", "-H", &header(&open)]).await?;
    capture.interrupt().await;
    let seen: Seen = serde_json::from_str(&capture.next().await.context("the capture told nothing")?)?;
    capture.ended().await?;
    let labels = [
        ("reporter", "destination"),
        ("source_principal", GATEWAY_ID),
        ("connection_security_policy", "mutual_tls"),
    ];
    let known = metrics::sum(&stage.content_metrics().await?, "istio_requests_total", &labels);
    let mut found = Findings::default();
    found.figure("segments", seen.segments);
    found.figure("tls13_handshakes", seen.tls13);
    found.figure("older_tls_handshakes", seen.older_tls);
    found.figure("plaintext_seen_of_mesh", seen.words[0]);
    found.figure("plaintext_seen_of_outsider", seen.words[1]);
    found.figure("requests_with_gateway_identity", known);
    found.figure("client_identity", GATEWAY_ID);
    found.promise("requests pass", inside.failed() == 0 && outside.failed() == 0);
    found.promise("no plaintext between pods of the mesh", seen.words[0] == 0);
    found.promise("the capture sees what is in clear", seen.words[1] > 0);
    found.promise("TLS 1.3 only", seen.tls13 > 0 && seen.older_tls == 0);
    found.promise("the server's sidecar knows the client", known >= 100.0);
    found.say(format!("{} segments, {} handshakes of TLS 1.3, none in clear", seen.segments, seen.tls13));
    found.say(format!("{known} requests from {GATEWAY_ID}"));
    Ok(found)
}
