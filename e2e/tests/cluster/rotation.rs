//! Certificates end and are renewed while they are used: those of workloads under load, the webhooks' while the API server
//! asks; and the root that signs is changed.

use std::collections::BTreeSet;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use serde_json::{Value, json};
use weft_controller::ca::authority::Authority;
use weft_e2e::kubectl::{Kubectl, text};

use crate::admission::{DRY_RUN, SENSELESS, SENSELESS_FIELD};
use crate::fixture::{Fixture, LIMIT, ROOT, fixture};
use crate::space::{ECHO, Space, all_succeeded};

/// Renewed at half of it; a certificate begins a quarter of it before it is made.
const TTL: &str = "controller.workloadCertificateTTL=30s";
/// So many that the first has ended before the last is made.
const CERTIFICATES: usize = 4;

/// Certificates of 30 s, under load; and the root is changed as the chart's README says: two roots, the other one first, and
/// it alone.
#[test]
fn certificates_are_renewed_and_the_root_is_changed_under_load_without_a_lost_request() {
    let Some(fixture) = fixture() else { return };
    let _alone = fixture.alone();
    let _short = fixture.changed(&[TTL]).expect("certificates of 30 s");
    let space = Space::meshed(fixture, "rotation");
    space.echo("web", 1, "").and_then(|()| space.echo("client", 1, "")).expect("applications");
    space.ready("deployment/web").and_then(|()| space.ready("deployment/client")).expect("they start");
    let load = ["http://web/", "--rate", "200", "--connections", "8", "--duration", "120s"];
    let loading = space.loading("deployment/client", &load).expect("load");
    let old = fixture.kubectl().within(ROOT).get(&["secret", "weft-ca"]).expect("a root");
    let old = decoded(&old, "/data/root-cert.pem").expect("a root");
    let (key, new) = Authority::generate(SystemTime::now().into()).expect("another root");

    step(&space, fixture, json!({"root-cert.pem": format!("{old}{new}")}));
    step(&space, fixture, json!({"root-cert.pem": format!("{new}{old}"), "root-key.pem": key}));
    // The first of these ended before the last was made, so that all of the old root have ended.
    let began = Instant::now();
    let seen = serials(&space, ["deploy/client", "deploy/web"]);
    space.say(format!("{CERTIFICATES} certificates of client and server after {:?}", began.elapsed()));
    assert!(
        seen.iter().all(|serials| serials.len() >= CERTIFICATES),
        "renewed while requests went through: {seen:?}"
    );
    step(&space, fixture, json!({"root-cert.pem": new}));
    // Who is met now is met with a certificate that was renewed, and knows nothing of the old root.
    space.kubectl().run(&["scale", "deployment/web", "--replicas=2"]).expect("one more");
    space.ready("deployment/web").expect("it starts");
    let fresh = space.load("deployment/client", &["http://web/", "-n", "300", "-c", "4"]).expect("load");
    all_succeeded(&fresh).expect("the new one is asked");
    assert_eq!(fresh.pods.len(), 2, "the new one is asked too: {fresh:?}");
    all_succeeded(&loading.finish().expect("counts")).expect("no request is lost");
}

/// The serial numbers of the certificates of sidecars, until there were enough.
fn serials(space: &Space<'_>, pods: [&str; 2]) -> [BTreeSet<String>; 2] {
    let (mut seen, began) = (pods.map(|_| BTreeSet::new()), Instant::now());
    while seen.iter().any(|serials| serials.len() < CERTIFICATES) && began.elapsed() < LIMIT {
        for (serials, pod) in seen.iter_mut().zip(pods) {
            let certificate = space.weft_json(&["proxy", "certs", pod, "-o", "json"]).expect("a certificate");
            serials.insert(text(&certificate, "/held/serial").expect("a serial number").to_owned());
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    seen
}

/// Changes the Secret of the root, starts the controller again, and waits until everybody holds the roots.
fn step(space: &Space<'_>, fixture: &Fixture, data: Value) {
    let root = fixture.kubectl().within(ROOT);
    let change = json!({"stringData": data}).to_string();
    root.run(&["patch", "secret", "weft-ca", "--patch", &change]).expect("it is changed");
    for part in [&["restart"][..], &["status", "--timeout=120s"]] {
        let rollout = [&["rollout", part[0], "deployment/weft-controller"], &part[1..]].concat();
        root.run(&rollout).expect("the controller starts again");
    }
    let roots = data["root-cert.pem"].as_str().unwrap_or_default();
    let told = |kubectl: &Kubectl| {
        let map = kubectl.get(&["configmap", "weft-root"])?;
        ensure!(text(&map, "/data/root-cert.pem")? == roots, "others: {map}");
        Ok(())
    };
    space.kubectl().until("told of the roots", LIMIT, told).expect("every namespace is told");
    let holds = |_: &Kubectl| {
        for pod in ["deploy/client", "deploy/web"] {
            let said = space.weft_json(&["proxy", "certs", pod, "-o", "json"])?;
            ensure!(said["difference"]["known"] == true, "{said}");
            ensure!(said["difference"]["differences"] == json!([]), "{said}");
        }
        Ok(())
    };
    space.kubectl().until("believed", LIMIT, holds).expect("every sidecar is told");
    space.say(format!("{} roots", roots.matches("BEGIN").count()));
}

fn decoded(secret: &Value, pointer: &str) -> Result<String> {
    let bytes = base64::engine::general_purpose::STANDARD.decode(text(secret, pointer)?)?;
    Ok(String::from_utf8(bytes)?)
}

#[test]
fn the_api_server_gets_answers_while_the_webhooks_certificate_is_renewed_and_replicas_replaced() {
    let Some(fixture) = fixture() else { return };
    let _alone = fixture.alone();
    let space = Space::meshed(fixture, "renewed");
    let root = fixture.kubectl().within(ROOT);
    let secret = ["secret", "weft-webhook-default"];
    let authority = root.get(&secret).expect("a Secret")["data"]["ca.crt"].clone();
    for _ in 0..3 {
        let before = certificate(&root).expect("a certificate");
        let without = r#"{"data":{"tls.crt":null}}"#;
        root.run(&["patch", "secret", "weft-webhook-default", "--patch", without]).expect("it is taken away");
        let renewed = |kubectl: &Kubectl| {
            asked(&space).expect("an answer at any time");
            ensure!(certificate(kubectl)? != before, "the old one");
            Ok(())
        };
        root.until("renewed", LIMIT, renewed).expect("a new one");
    }
    assert_eq!(root.get(&secret).expect("a Secret")["data"]["ca.crt"], authority, "who is believed stays");
    // New replicas are met with new handshakes.
    root.run(&["rollout", "restart", "deployment/weft-controller"]).expect("restart");
    let replaced = |kubectl: &Kubectl| {
        asked(&space).expect("an answer at any time");
        kubectl.run(&["rollout", "status", "deployment/weft-controller", "--timeout=1s"]).map(drop)
    };
    root.until("replaced", LIMIT, replaced).expect("two other replicas");
}

fn certificate(kubectl: &Kubectl) -> Result<String> {
    let secret = kubectl.get(&["secret", "weft-webhook-default"])?;
    Ok(text(&secret, "/data/tls.crt")?.to_owned())
}

/// Both webhooks are asked, and say what they have to say.
fn asked(space: &Space<'_>) -> Result<()> {
    match space.kubectl().pipe(&DRY_RUN, SENSELESS) {
        Ok(said) => bail!("nobody asked the validating webhook: {said}"),
        Err(error) => ensure!(error.to_string().contains(SENSELESS_FIELD), "{error}"),
    }
    let pod = format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: asked}}, spec: {{containers: [{{name: app, image: {ECHO}}}]}}}}"
    );
    let said = space.kubectl().pipe(&[&DRY_RUN[..], &["--output", "json"]].concat(), &pod);
    let said = said.context("the injecting webhook")?;
    ensure!(said.contains("weft-proxy"), "nobody asked the injecting webhook: {said}");
    Ok(())
}
