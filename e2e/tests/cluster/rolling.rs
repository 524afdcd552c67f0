//! Rolling updates under load: nothing is lost, without a preStop hook anywhere.

use anyhow::Result;

use crate::fixture::fixture;
use crate::space::{Loading, Space, all_succeeded};

/// Long enough for a server and a client that is one too to be rolled. A request that is late is made up for, so that less
/// than the rate means that they came back too slowly.
const LOAD: [&str; 6] = ["--rate", "500", "--connections", "16", "--duration", "60s"];
/// Requests a second that must have been reached.
const REACHED: f64 = 490.0;

#[test]
fn servers_and_their_clients_are_updated_at_500_requests_a_second_without_an_error() {
    let Some(fixture) = fixture() else { return };
    let _calm = fixture.calm();
    let space = Space::meshed(fixture, "rolling");
    space.echo("web", 3, "").expect("web");
    space.echo("gateway", 2, ", --forward-to, \"http://web\"").expect("gateway");
    space.echo("client", 1, "").expect("client");
    for name in ["web", "gateway", "client"] {
        space.ready(&format!("deployment/{name}")).expect("it starts");
    }
    let loading = begin(&space).expect("load");
    for name in ["web", "gateway"] {
        space.say(format!("rolling {name}"));
        let workload = format!("deployment/{name}");
        space.kubectl().run(&["rollout", "restart", &workload]).expect("restart");
        space.ready(&workload).expect("the new ones start");
    }
    let summary = loading.finish().expect("counts");
    all_succeeded(&summary).expect("nothing is lost");
    let rate = summary.requests as f64 * 1000.0 / summary.elapsed_ms as f64;
    let latency = summary.latency_ms;
    space.say(format!(
        "{rate:.0} requests a second, p50 {} ms, p99 {} ms, no error",
        latency.p50, latency.p99
    ));
    assert!(rate >= REACHED, "only {rate:.0} requests a second: {summary:?}");
    assert!(summary.pods.len() > 3, "the pods that answered changed: {:?}", summary.pods);
}

fn begin(space: &Space<'_>) -> Result<Loading> {
    let mut arguments = vec!["http://gateway/"];
    arguments.extend(LOAD);
    space.loading("deployment/client", &arguments)
}
