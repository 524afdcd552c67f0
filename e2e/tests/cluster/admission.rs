//! Bad objects: ours are refused with the field's path, Istio's warned about and marked, and so are ours that got past the
//! webhook.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use weft_e2e::kubectl::Kubectl;

use crate::fixture::{LIMIT, fixture};
use crate::space::{Space, accepted, answered};

/// Its schema is enough to refuse it.
fn bad(group: &str) -> String {
    format!(
        "
apiVersion: {group}/v1
kind: VirtualService
metadata: {{name: bad}}
spec:
  hosts: [web]
  http:
  - route: [{{destination: {{host: web}}, weight: 100}}]
    timeout: 30s
    retries: {{attempts: 2, perTryTimeout: 60 bananas}}
"
    )
}

#[test]
fn a_bad_object_of_ours_is_refused_with_the_path_of_the_field() {
    let Some(fixture) = fixture() else { return };
    let _calm = fixture.calm();
    let space = Space::meshed(fixture, "refused");
    let refused = space.apply(&bad("networking.weft.dev")).expect_err("it is refused").to_string();
    assert!(refused.contains("spec.http[0].retries.perTryTimeout"), "{refused}");
    let typo = bad("networking.weft.dev").replace("timeout: 30s", "timeuot: 30s").replace("60 bananas", "1s");
    let refused = space.apply(&typo).expect_err("a typo is refused").to_string();
    assert!(refused.contains("timeuot"), "{refused}");
}

#[test]
fn a_bad_object_of_istios_is_marked_in_its_status() {
    let Some(fixture) = fixture() else { return };
    let _calm = fixture.calm();
    let space = Space::meshed(fixture, "marked");
    // A field that is valid and not honoured: no schema refuses it.
    let good = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web}
spec: {hosts: [web], http: [{route: [{destination: {host: web}}]}]}
";
    space.apply(good).expect("it is taken");
    let object = "virtualservice.networking.istio.io/web";
    space.kubectl().until("accepted", LIMIT, |k| accepted(k, object, "True")).expect("the good one");
    let said = space
        .apply(&good.replace("host: web}", "host: \"*.web\"}"))
        .expect("Istio's is taken with a warning");
    assert!(said.contains("Warning"), "{said}");
    let marked = |kubectl: &Kubectl| accepted(kubectl, object, "False");
    let marked = space.kubectl().until("marked", LIMIT, marked).expect("the bad one");
    assert!(marked["message"].as_str().is_some_and(|m| m.contains("spec.http[0].route[0]")), "{marked}");
}

/// What only the controller's own functions see: no schema lists what may be retried on.
pub(crate) const SENSELESS: &str = "
apiVersion: networking.weft.dev/v1
kind: VirtualService
metadata: {name: web}
spec: {hosts: [web], http: [{route: [{destination: {host: web}}], retries: {attempts: 1, retryOn: sometimes}}]}
";
/// Where [`SENSELESS`] is wrong.
pub(crate) const SENSELESS_FIELD: &str = "spec.http[0].retries.retryOn";
/// As long as this is in force, the service's own pods are not asked.
const TEAPOT: &str = "
apiVersion: networking.weft.dev/v1
kind: VirtualService
metadata: {name: web}
spec: {hosts: [web], http: [{directResponse: {status: 418}}]}
";

#[test]
fn one_of_ours_that_got_past_the_webhook_is_marked_and_the_last_good_stays() {
    let Some(fixture) = fixture() else { return };
    let _calm = fixture.calm();
    let space = Space::meshed(fixture, "smuggled");
    space.echo("web", 1, "").and_then(|()| space.echo("client", 1, "")).expect("applications");
    space.ready("deployment/web").and_then(|()| space.ready("deployment/client")).expect("they start");
    space.apply(TEAPOT).expect("the good one");
    let by_the_good_one = |_: &Kubectl| -> Result<()> {
        let summary = space.load("deployment/client", &["http://web/", "-n", "20"])?;
        ensure!(answered(&summary, "418") == 20, "{summary:?}");
        Ok(())
    };
    space.kubectl().until("in force", LIMIT, by_the_good_one).expect("the good one is in force");
    {
        let _past = Unasked::about(&space);
        space.kubectl().until("let in", LIMIT, |k| k.apply(SENSELESS)).expect("nobody asks the webhook");
    }
    let object = "virtualservice.networking.weft.dev/web";
    let marked = |kubectl: &Kubectl| accepted(kubectl, object, "False");
    let marked = space.kubectl().until("marked", LIMIT, marked).expect("it is marked");
    assert!(marked["message"].as_str().is_some_and(|m| m.contains(SENSELESS_FIELD)), "{marked}");
    by_the_good_one(space.kubectl()).expect("the last good one stays");
    let other = SENSELESS.replace("sometimes", "seldom");
    let refused = |kubectl: &Kubectl| match kubectl.pipe(&DRY_RUN, &other) {
        Ok(said) => anyhow::bail!("let in: {said}"),
        Err(error) => Ok(error.to_string()),
    };
    let refused = space.kubectl().until("asked again", LIMIT, refused).expect("it is refused");
    assert!(refused.contains(SENSELESS_FIELD), "{refused}");
    space.apply(TEAPOT).expect("mended");
    space.kubectl().until("accepted", LIMIT, |k| accepted(k, object, "True")).expect("the mended one");
}

/// `kubectl` asks what would become of standard input.
pub(crate) const DRY_RUN: [&str; 4] = ["apply", "--dry-run=server", "--filename", "-"];

/// The webhook for our groups is not asked about one namespace until the value goes. It is the first of its configuration,
/// and nobody else changes that meanwhile.
struct Unasked<'a>(&'a Space<'a>);

impl<'a> Unasked<'a> {
    fn about(space: &'a Space<'a>) -> Self {
        let not_here =
            json!({"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": [space.name()]});
        patch(space, json!([{"op": "add", "path": FIRST, "value": not_here}])).expect("another selector");
        Self(space)
    }
}

impl Drop for Unasked<'_> {
    fn drop(&mut self) {
        patch(self.0, json!([{"op": "remove", "path": FIRST}])).expect("the selector as it was");
    }
}

const FIRST: &str = "/webhooks/0/namespaceSelector/matchExpressions/0";

fn patch(space: &Space<'_>, patch: Value) -> Result<()> {
    let text = patch.to_string();
    let object = ["patch", "validatingwebhookconfiguration", "weft-validator-default"];
    space.kubectl().run(&[&object[..], &["--type=json", "--patch", &text]].concat()).map(drop)
}
