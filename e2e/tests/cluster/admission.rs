//! Bad objects: ours are refused with the field's path, Istio's warned about and marked.

use anyhow::ensure;

use crate::fixture::{LIMIT, fixture};
use crate::sample::condition;
use crate::space::Space;

/// Its two rules point at no subset that exists; the schema cannot know.
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
    let is = |status: &'static str| {
        move |kubectl: &weft_e2e::kubectl::Kubectl| {
            let object = kubectl.get(&[object])?;
            let found = condition(&object, "Accepted").clone();
            ensure!(found["status"] == status, "Accepted is not {status}: {object}");
            Ok(found)
        }
    };
    space.kubectl().until("accepted", LIMIT, is("True")).expect("the good one");
    let said = space
        .apply(&good.replace("host: web}", "host: \"*.web\"}"))
        .expect("Istio's is taken with a warning");
    assert!(said.contains("Warning"), "{said}");
    let marked = space.kubectl().until("marked", LIMIT, is("False")).expect("the bad one");
    assert!(marked["message"].as_str().is_some_and(|m| m.contains("spec.http[0].route[0]")), "{marked}");
}
