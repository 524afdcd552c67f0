//! Rolling updates under load: nothing is lost, without a preStop hook anywhere.

use anyhow::Result;

use crate::fixture::fixture;
use crate::space::{Loading, Space, all_succeeded};

/// Long enough for a server and a client that is one too to be rolled.
const LOAD: [&str; 6] = ["--rate", "500", "--connections", "16", "--duration", "60s"];

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
    space.say(format!("{} requests, p99 {} ms, no error", summary.requests, summary.latency_ms.p99));
    assert!(summary.pods.len() > 3, "the pods that answered changed: {:?}", summary.pods);
}

fn begin(space: &Space<'_>) -> Result<Loading> {
    let mut arguments = vec!["http://gateway/"];
    arguments.extend(LOAD);
    space.loading("deployment/client", &arguments)
}
