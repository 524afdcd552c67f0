//! The content-service sample by `kubectl`, as it is: routes, weights, identities, and every object's status.

use std::time::Duration;

use anyhow::{Result, ensure};
use weft_e2e::kubectl::Kubectl;

use crate::fixture::{Fixture, LIMIT, fixture, repository};
use crate::space::{ECHO, Space, accepted, all_succeeded, answered};

const APPLICATIONS: [&str; 2] =
    ["cli/src/demo/manifests/content.yaml", "cli/src/demo/manifests/callers.yaml"];
const SAMPLE: &str = "samples/content-service.yaml";
/// How long a change may take to reach every sidecar.
pub(crate) const ARRIVAL: Duration = Duration::from_secs(30);

#[test]
fn the_content_service_sample_is_routed_and_authorized() {
    let Some(fixture) = fixture() else { return };
    let _calm = fixture.calm();
    let space = content_service(fixture, "sample");
    routes(&space);
    identities(&space);
}

/// A namespace in which the sample is in force, with the pods of the demo.
pub(crate) fn content_service<'a>(fixture: &'a Fixture, test: &'static str) -> Space<'a> {
    let space = Space::meshed(fixture, test);
    for file in APPLICATIONS {
        let manifests = read(file).replace("image: weft/echo", &format!("image: {ECHO}"));
        space
            .apply(&manifests.replace("- name: client\n        image", "- name: app\n        image"))
            .expect("applications");
    }
    space.say(space.apply(&sample(&space)).expect("the sample").replace('\n', "; "));
    for name in ["content-service-v1", "content-service-v2", "api-gateway", "client"] {
        space.ready(&format!("deployment/{name}")).expect("it starts");
    }
    for object in ["virtualservice", "destinationrule"] {
        let name = format!("{object}.networking.istio.io/content-service");
        space
            .kubectl()
            .until("accepted", LIMIT, |kubectl| accepted(kubectl, &name, "True"))
            .expect("it is accepted");
    }
    space
}

/// The sample for this namespace: it names the account of the gateway in the namespace `default`.
pub(crate) fn sample(space: &Space<'_>) -> String {
    read(SAMPLE).replace("/ns/default/", &format!("/ns/{}/", space.name()))
}

fn read(file: &str) -> String {
    std::fs::read_to_string(repository().join(file)).expect("a manifest")
}

/// 80 and 20 of 100, and everything of premium users to v2.
fn routes(space: &Space<'_>) {
    let premium = ["http://api-gateway/", "-n", "100", "-H", "end-user: premium"];
    let only_v2 = |_: &Kubectl| -> Result<()> {
        let summary = space.load("deployment/client", &premium)?;
        all_succeeded(&summary)?;
        ensure!(summary.versions.keys().eq(["v2"]), "premium users are at {:?}", summary.versions);
        Ok(())
    };
    space.kubectl().until("routed by header", ARRIVAL, only_v2).expect("premium users reach v2");
    let summary =
        space.load("deployment/client", &["http://api-gateway/", "-n", "2000", "-c", "4"]).expect("load");
    all_succeeded(&summary).expect("everybody is served");
    let v2 = summary.versions.get("v2").copied().unwrap_or(0);
    space.say(format!("weights 80 and 20: {:?}", summary.versions));
    // Five standard deviations of 2000 at 20 %.
    assert!((310..=490).contains(&v2), "{:?}", summary.versions);
}

/// DELETE is the gateway's alone; its sidecar's certificate says who it is.
fn identities(space: &Space<'_>) {
    let denied = space
        .load("deployment/client", &["http://content-service/", "-X", "DELETE", "-n", "20"])
        .expect("load");
    assert_eq!(answered(&denied, "403"), 20, "{denied:?}");
    assert!(denied.policies.keys().all(|name| name.contains("content-service-authz")), "{denied:?}");
    let passed =
        space.load("deployment/client", &["http://api-gateway/", "-X", "DELETE", "-n", "20"]).expect("load");
    all_succeeded(&passed).expect("the gateway may");
}
