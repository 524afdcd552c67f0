//! The controller is killed, away, and replaced, while traffic goes on.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use weft_e2e::kubectl::{Kubectl, text};

use crate::fixture::{Fixture, LIMIT, ROOT, fixture};
use crate::space::{Space, all_succeeded};

const CONTROLLER: &str = "deployment/weft-controller";
const LEASE: &str = "lease/weft-controller";
/// How soon another leads.
const FAILOVER: Duration = Duration::from_secs(5);

fn applications<'a>(fixture: &'a Fixture, test: &'static str) -> Space<'a> {
    let space = Space::meshed(fixture, test);
    space.echo("web", 2, "").and_then(|()| space.echo("client", 1, "")).expect("applications");
    space.ready("deployment/web").and_then(|()| space.ready("deployment/client")).expect("they start");
    // What a sidecar has never asked for it does not know while the controller is away.
    all_succeeded(&space.load("deployment/client", &["http://web/", "-n", "50"]).expect("load"))
        .expect("it is known");
    space
}

fn leader(kubectl: &Kubectl) -> Result<String> {
    let lease = kubectl.get(&[LEASE])?;
    Ok(text(&lease, "/spec/holderIdentity")?.to_owned())
}

#[test]
fn another_leads_within_five_seconds_and_no_request_is_lost() {
    let Some(fixture) = fixture() else { return };
    let _alone = fixture.alone();
    let space = applications(fixture, "failover");
    let root = fixture.kubectl().within(ROOT);
    let killed = root.until("a leader", LIMIT, leader).expect("a leader");
    let loading = space
        .loading("deployment/client", &["http://web/", "--rate", "200", "--duration", "20s"])
        .expect("load");
    let pod = killed.split(['/', '_']).next().unwrap_or(&killed);
    root.run(&["delete", "pod", pod, "--grace-period=0", "--force", "--wait=false"]).expect("it is killed");
    let began = Instant::now();
    let other = |kubectl: &Kubectl| {
        let now = leader(kubectl)?;
        ensure!(now != killed && !now.is_empty(), "{now} leads still");
        Ok(now)
    };
    let next = root.until("another leader", LIMIT, other).expect("another leads");
    let took = began.elapsed();
    space.say(format!("{next} leads {:.1} s after {killed} was killed", took.as_secs_f64()));
    all_succeeded(&loading.finish().expect("counts")).expect("no request is lost");
    assert!(took < FAILOVER, "it took {took:?}");
    root.run(&["rollout", "status", CONTROLLER, "--timeout=120s"]).expect("two replicas again");
}

#[test]
fn pods_go_on_without_a_controller_and_new_ones_wait_for_it() {
    let Some(fixture) = fixture() else { return };
    let _alone = fixture.alone();
    let space = applications(fixture, "absence");
    let root = fixture.kubectl().within(ROOT);
    root.run(&["scale", CONTROLLER, "--replicas=0"]).expect("it goes");
    root.run(&[
        "wait",
        "pod",
        "--for=delete",
        "--selector",
        "app.kubernetes.io/name=weft-controller",
        "--timeout=90s",
    ])
    .expect("it is gone");
    let loading = space
        .loading("deployment/client", &["http://web/", "--rate", "200", "--duration", "40s"])
        .expect("load");
    space.kubectl().run(&["scale", "deployment/web", "--replicas=3"]).expect("one more");
    std::thread::sleep(Duration::from_secs(20));
    let web = space.kubectl().get(&["deployment/web"]).expect("web");
    assert_eq!(web["status"]["readyReplicas"], 2, "a pod started without a sidecar: {web}");
    root.run(&["scale", CONTROLLER, "--replicas=2"]).expect("it comes back");
    all_succeeded(&loading.finish().expect("counts")).expect("traffic went on");
    space.ready("deployment/web").expect("the new pod starts");
    root.run(&["rollout", "status", CONTROLLER, "--timeout=120s"]).expect("two replicas again");
}

#[test]
fn the_controller_is_replaced_without_a_lost_request() {
    let Some(fixture) = fixture() else { return };
    let _alone = fixture.alone();
    let space = applications(fixture, "replaced");
    let pods =
        |space: &Space<'_>| space.kubectl().run(&["get", "pods", "-o", "jsonpath={.items[*].metadata.uid}"]);
    let before = pods(&space).expect("pods");
    let loading = space
        .loading("deployment/client", &["http://web/", "--rate", "200", "--duration", "30s"])
        .expect("load");
    fixture.install(&["controller.podAnnotations.e2e=again"]).expect("upgraded");
    all_succeeded(&loading.finish().expect("counts")).expect("no request is lost");
    assert_eq!(pods(&space).expect("pods"), before, "an upgrade touches no pod");
}
