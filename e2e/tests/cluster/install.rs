//! The chart's life: that `helm test` says it works, who is certified, and what is left when it goes.

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::fixture::{Fixture, LIMIT, ROOT, fixture};
use crate::space::{Space, all_succeeded};

#[test]
fn helm_test_starts_a_pod_with_a_sidecar() {
    let Some(fixture) = fixture() else { return };
    let _calm = fixture.calm();
    let said = fixture.helm(&["test", "weft", "--timeout", "3m"], None).expect("helm test");
    assert!(said.contains("Succeeded"), "{said}");
}

#[test]
fn webhooks_have_certificates_and_never_concern_the_system() {
    let Some(fixture) = fixture() else { return };
    let _calm = fixture.calm();
    for kind in [
        "mutatingwebhookconfiguration/weft-injector-default",
        "validatingwebhookconfiguration/weft-validator-default",
    ] {
        let what = format!("certificates in {kind}");
        fixture
            .kubectl()
            .until(&what, LIMIT, |kubectl| certified(&kubectl.get(&[kind])?))
            .expect("certificates");
    }
    let injector =
        fixture.kubectl().get(&["mutatingwebhookconfiguration/weft-injector-default"]).expect("the injector");
    for webhook in injector["webhooks"].as_array().expect("webhooks") {
        let selector = webhook["namespaceSelector"].to_string();
        assert!(selector.contains("kube-system") && selector.contains(ROOT), "{selector}");
    }
}

/// What it lacked would be missing quietly: a kind that is not followed, a status that is not written.
#[test]
fn nothing_that_the_controller_asks_for_is_forbidden() {
    let Some(fixture) = fixture() else { return };
    let _calm = fixture.calm();
    let logs = ["logs", "--selector", "app.kubernetes.io/name=weft-controller", "--tail=-1", "--prefix"];
    let logs = fixture.kubectl().within(ROOT).run(&logs).expect("logs");
    assert!(logs.contains("leads"), "{logs}");
    let refused: Vec<_> =
        logs.lines().filter(|line| line.contains("orbidden") || line.contains("cannot ")).collect();
    assert!(refused.is_empty(), "{refused:#?}");
}

fn certified(configuration: &Value) -> Result<()> {
    let webhooks = configuration["webhooks"].as_array().map(Vec::as_slice).unwrap_or_default();
    let all =
        webhooks.iter().all(|w| w["clientConfig"]["caBundle"].as_str().is_some_and(|ca| ca.len() > 100));
    ensure!(all && !webhooks.is_empty(), "a webhook without caBundle: {configuration}");
    Ok(())
}

/// Taken away and installed again: webhooks go, kinds and the root stay, and pods that ran go on under the same root.
#[test]
fn uninstall_leaves_no_webhook_and_a_new_install_goes_on() {
    let Some(fixture) = fixture() else { return };
    let _alone = fixture.alone();
    let space = Space::meshed(fixture, "uninstall");
    space.echo("web", 2, "").and_then(|()| space.echo("client", 1, "")).expect("applications");
    space.ready("deployment/web").and_then(|()| space.ready("deployment/client")).expect("they start");
    let before = space.load("deployment/client", &["http://web/", "-n", "50"]).expect("load");
    all_succeeded(&before).expect("the client knows the service");
    let root = secret(fixture).expect("the root");
    let _again = Reinstalled(fixture);

    fixture.helm(&["uninstall", "weft", "--wait"], None).expect("uninstall");
    let left = fixture.kubectl().run(&[
        "get",
        "mutatingwebhookconfigurations,validatingwebhookconfigurations,clusterroles",
        "-o",
        "name",
    ]);
    assert!(!left.expect("what is left").contains("weft"), "left behind");
    let kinds = fixture.kubectl().run(&["get", "crd", "-o", "name"]).expect("kinds");
    assert!(kinds.contains("virtualservices.networking.weft.dev"), "{kinds}");
    let alone = space.load("deployment/client", &["http://web/", "-n", "200"]).expect("load");
    all_succeeded(&alone).expect("pods go on without a controller");
    space
        .kubectl()
        .run(&["run", "plain", "--image", crate::space::ECHO])
        .expect("pods start without a webhook");

    fixture.install(&[]).expect("installed again");
    assert_eq!(secret(fixture).expect("the root"), root, "the root was kept");
    space.kubectl().run(&["rollout", "restart", "deployment/web"]).expect("restart");
    space.ready("deployment/web").expect("new pods get sidecars again");
    let again = space.load("deployment/client", &["http://web/", "-n", "200"]).expect("load");
    all_succeeded(&again).expect("old and new pods under one root");
}

/// Installs the chart again for the other tests, should this one fail in between.
struct Reinstalled<'a>(&'a Fixture);

impl Drop for Reinstalled<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = self.0.install(&[]);
        }
    }
}

fn secret(fixture: &Fixture) -> Result<String> {
    let secret = fixture.kubectl().within(ROOT).get(&["secret", "weft-ca"])?;
    Ok(secret["data"]["root-cert.pem"].to_string())
}
