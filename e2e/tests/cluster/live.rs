//! `weft proxy`, `weft tap`, `weft top` and `weft explain` in a cluster: through the API server's port-forward, and what a user lacks who
//! may not use it.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use weft_e2e::kubectl::Kubectl;

use crate::fixture::{LIMIT, fixture};
use crate::space::{Space, all_succeeded, answered};

/// How long one tap may take to see what is asked of it.
const TAP: &str = "60s";

#[test]
fn sidecars_are_seen_through_the_api_server() {
    let Some(fixture) = fixture() else { return };
    let _calm = fixture.calm();
    let space = Space::meshed(fixture, "live");
    space.echo("web", 2, "").expect("web");
    space.echo("client", 1, "").expect("client");
    for name in ["deployment/web", "deployment/client"] {
        space.ready(name).expect("it starts");
    }
    let summary = space.load("deployment/client", &["http://web/", "-n", "50"]).expect("load");
    all_succeeded(&summary).expect("everybody is served");
    holds_what_is_meant(&space).expect("proxy");
    taps(&space).expect("tap");
    counts(&space).expect("top");
    explains(&space).expect("explain");
    says_what_it_takes(&space).expect("permissions");
}

fn holds_what_is_meant(space: &Space<'_>) -> Result<()> {
    let certs = space.weft_json(&["proxy", "certs", "deploy/web", "-o", "json"])?;
    let identity = certs["held"]["identity"].as_str().unwrap_or_default();
    ensure!(identity.ends_with(&format!("/ns/{}/sa/web", space.name())), "{certs}");
    // A change may be on its way.
    let same = |_: &Kubectl| -> Result<()> {
        let endpoints = space.weft_json(&["proxy", "endpoints", "deploy/client", "-o", "json"])?;
        ensure!(endpoints["difference"]["differences"] == Value::Array(Vec::new()), "{endpoints}");
        ensure!(endpoints["difference"]["known"] == true, "{endpoints}");
        Ok(())
    };
    space.kubectl().until("held as meant", LIMIT, same)
}

fn taps(space: &Space<'_>) -> Result<()> {
    let arguments = ["tap", "deploy/web", "--path", "/seen", "-c", "20", "--for", TAP, "-o", "json"];
    let mut command = space.weft(&arguments);
    let tapping = command.stdout(Stdio::piped()).spawn()?;
    let url = "http://web/seen";
    let loading = space.loading("deployment/client", &[url, "--duration", "10s", "--rate", "20"])?;
    let output = tapping.wait_with_output()?;
    all_succeeded(&loading.finish()?)?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(text.lines().count() == 20, "{text}");
    for line in text.lines() {
        let line: Value = serde_json::from_str(line)?;
        ensure!(line["path"] == "/seen" && line["source"]["workload"] == "client", "{line}");
    }
    Ok(())
}

fn counts(space: &Space<'_>) -> Result<()> {
    let loading = space.loading("deployment/client", &["http://web/", "--duration", "8s", "--rate", "50"])?;
    let page = space.weft_json(&["top", "deploy/client", "--once", "--interval", "4s", "-o", "json"])?;
    all_succeeded(&loading.finish()?)?;
    let to = format!("{}/web", space.name());
    let row = page["rows"].as_array().into_iter().flatten().find(|row| row["destination"] == to.as_str());
    let row = row.with_context(|| page.to_string())?;
    ensure!(row["requests"].as_f64().is_some_and(|requests| requests > 0.0) && row["failed"] == 0.0, "{row}");
    Ok(())
}

/// Denies what begins with `/admin`.
const NO_ADMIN: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-admin}
spec: {selector: {matchLabels: {app: web}}, action: DENY, rules: [{to: [{operation: {paths: [/admin*]}}]}]}
";

/// What the sidecars say of a request is what becomes of it.
fn explains(space: &Space<'_>) -> Result<()> {
    let forwarded = space.weft_json(&["explain", "deploy/client", "http://web/", "-o", "json"])?;
    ensure!(forwarded["verdict"] == "forwarded", "{forwarded}");
    ensure!(forwarded["endpoints"].as_array().is_some_and(|all| all.len() == 2), "{forwarded}");
    space.apply(NO_ADMIN)?;
    let refused = |_: &Kubectl| -> Result<()> {
        let said = space.weft_json(&["explain", "deploy/client", "http://web/admin/x", "-o", "json"])?;
        let policy = said["policy"].as_str().unwrap_or_default();
        ensure!(
            said["verdict"] == "refused" && said["status"] == 403 && policy.ends_with("/no-admin"),
            "{said}"
        );
        Ok(())
    };
    space.kubectl().until("said to be refused", LIMIT, refused)?;
    let happens = space.load("deployment/client", &["http://web/admin/x", "-n", "20"])?;
    ensure!(answered(&happens, "403") == 20, "{happens:?}");
    let others = space.load("deployment/client", &["http://web/", "-n", "20"])?;
    all_succeeded(&others)
}

/// A user who may see pods and not forward ports is told what to ask for.
fn says_what_it_takes(space: &Space<'_>) -> Result<()> {
    let name = space.name();
    space.apply(&format!(
        "
apiVersion: v1
kind: ServiceAccount
metadata: {{name: onlooker}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: onlooker}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}}
subjects: [{{kind: ServiceAccount, name: onlooker, namespace: {name}}}]
"
    ))?;
    let token = space.kubectl().run(&["create", "token", "onlooker"])?;
    let admin = std::fs::read_to_string(space.kubectl().kubeconfig())?;
    let mut config: Value = serde_saphyr::from_str(&admin)?;
    config["users"][0]["user"] = serde_json::json!({ "token": token.trim() });
    let folder = std::env::temp_dir().join(format!("weft-onlooker-{}", std::process::id()));
    std::fs::write(&folder, config.to_string())?;
    let output = space.weft(&["proxy", "certs", "deploy/web"]).env("KUBECONFIG", &folder).output()?;
    std::fs::remove_file(&folder)?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(!output.status.success() && said.contains("pods/portforward"), "{said}");
    Ok(())
}
