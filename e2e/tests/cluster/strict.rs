//! STRICT for a namespace: probes pass, those outside are refused, those inside are served.

use anyhow::{Result, ensure};

use crate::fixture::{LIMIT, fixture};
use crate::space::{Space, all_succeeded, answered, echo};

/// All of a namespace take nothing but mTLS.
pub(crate) const STRICT: &str = "
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default}
spec: {mtls: {mode: STRICT}}
";

#[test]
fn probes_pass_where_mtls_is_strict() {
    let Some(fixture) = fixture() else { return };
    let _calm = fixture.calm();
    let outside = Space::new(fixture, "strict-outside", "");
    let inside = Space::meshed(fixture, "strict");
    inside.apply(STRICT).expect("STRICT");
    inside.echo("web", 1, "").expect("web");
    inside.echo("client", 1, "").expect("client");
    outside.apply(&echo("outsider", 1, "")).expect("an outsider");
    inside.ready("deployment/web").expect("its probes pass");
    inside.ready("deployment/client").expect("its probes pass");
    outside.ready("deployment/outsider").expect("it starts");

    let url = format!("http://web.{}/", inside.name());
    let refused = |space: &Space<'_>| -> Result<()> {
        let summary = space.load("deployment/outsider", &[&url, "-n", "20"])?;
        ensure!(answered(&summary, "200") == 0, "served in clear: {summary:?}");
        Ok(())
    };
    inside.kubectl().until("STRICT in force", LIMIT, |_| refused(&outside)).expect("the outsider is refused");
    all_succeeded(&inside.load("deployment/client", &[&url, "-n", "200"]).expect("load"))
        .expect("peers are served");
    std::thread::sleep(std::time::Duration::from_secs(12));
    let pods = inside.kubectl().get(&["pods", "--selector", "app=web"]).expect("pods");
    let restarts = pods.pointer("/items/0/status/containerStatuses/0/restartCount");
    assert_eq!(restarts.and_then(serde_json::Value::as_u64), Some(0), "the liveness probe failed: {pods}");
}
