//! The steps of `weft demo` in which something goes wrong or changes under load, with real pods: a replica that fails, one
//! that is killed, an edit. Nobody notices.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use weft::metrics::sum;
use weft_e2e::kubectl::Kubectl;

use crate::fixture::{LIMIT, fixture};
use crate::sample::{ARRIVAL, content_service, sample};
use crate::space::{Space, all_succeeded};

/// The service that is called.
const URL: &str = "http://content-service/";
/// Connections of the load during the edit.
const BUSY: &str = "50";
/// Until a load has connections and has used them.
const UNDER_WAY: Duration = Duration::from_secs(2);

#[test]
fn a_failing_replica_a_killed_one_and_an_edit_cost_no_request() {
    let Some(fixture) = fixture() else { return };
    let _calm = fixture.calm();
    let space = content_service(fixture, "trouble");
    knows_its_client(&space).expect("mTLS");
    is_ejected(&space).expect("ejection");
    is_killed(&space).expect("a killed replica");
    is_edited(&space).expect("an edit");
}

/// The servers' sidecars saw who asked, by certificate.
fn knows_its_client(space: &Space<'_>) -> Result<()> {
    all_succeeded(&space.load("deployment/client", &[URL, "-n", "100"])?)?;
    let client = format!("spiffe://cluster.local/ns/{}/sa/client", space.name());
    let labels = [
        ("reporter", "destination"),
        ("source_principal", client.as_str()),
        ("connection_security_policy", "mutual_tls"),
    ];
    let mut known = 0.0;
    for pod in pods(space, "app=content-service")? {
        let page = format!("/api/v1/namespaces/{}/pods/{pod}:15020/proxy/stats/prometheus", space.name());
        known += sum(&space.kubectl().run(&["get", "--raw", &page])?, "istio_requests_total", &labels);
    }
    ensure!(known >= 100.0, "only {known} of 100 requests came by mTLS from {client}");
    Ok(())
}

/// A replica that answers 503 is set aside, its requests are sent elsewhere, and it comes back.
fn is_ejected(space: &Space<'_>) -> Result<()> {
    let loading =
        space.loading("deployment/client", &[URL, "-c", "16", "--rate", "150", "--duration", "60s"])?;
    std::thread::sleep(UNDER_WAY);
    let replica = pods(space, "app=content-service,version=v1")?.into_iter().next().context("a replica")?;
    tell(space, &replica, "PUT", "fail=503")?;
    space.kubectl().until("ejected", LIMIT, |_| set_aside(space, &replica, true))?;
    space.say(format!("{replica} is ejected"));
    tell(space, &replica, "DELETE", "")?;
    space.kubectl().until("back", LIMIT, |_| set_aside(space, &replica, false))?;
    let summary = loading.finish()?;
    space.say(format!("{} requests, answers by pod: {:?}", summary.requests, summary.pods));
    all_succeeded(&summary)
}

/// One of two replicas goes without a word, and another takes its place.
fn is_killed(space: &Space<'_>) -> Result<()> {
    let premium = [URL, "-H", "end-user: premium", "-c", "16", "--rate", "150", "--duration", "40s"];
    let loading = space.loading("deployment/client", &premium)?;
    std::thread::sleep(UNDER_WAY);
    let replica = pods(space, "app=content-service,version=v2")?.into_iter().next().context("a replica")?;
    space.kubectl().run(&["delete", "pod", &replica, "--grace-period=0", "--force", "--wait=false"])?;
    space.ready("deployment/content-service-v2")?;
    let summary = loading.finish()?;
    space.say(format!("{} requests, answers by pod: {:?}", summary.requests, summary.pods));
    ensure!(summary.pods.len() > 2, "the new one was never asked: {summary:?}");
    all_succeeded(&summary)
}

/// Other weights reach a client that is busy; no request fails and none of its connections is closed.
fn is_edited(space: &Space<'_>) -> Result<()> {
    let busy = [URL, "-c", BUSY, "--rate", "300", "--duration", "30s"];
    let loading = space.loading("deployment/client", &busy)?;
    std::thread::sleep(UNDER_WAY);
    space.apply(&sample(space).replace("weight: 80", "weight: 50").replace("weight: 20", "weight: 50"))?;
    let halves = |_: &Kubectl| -> Result<()> {
        let summary = space.load("deployment/client", &[URL, "-n", "2000", "-c", "4"])?;
        all_succeeded(&summary)?;
        let v1 = summary.versions.get("v1").copied().unwrap_or(0);
        // Five standard deviations of 2000 at 50 %.
        ensure!((889..=1111).contains(&v1), "not halves: {:?}", summary.versions);
        Ok(())
    };
    space.kubectl().until("50 and 50", ARRIVAL, halves)?;
    let summary = loading.finish()?;
    all_succeeded(&summary)?;
    let connections = (summary.connections_opened.to_string(), summary.connections_closed);
    ensure!(connections == (BUSY.to_owned(), 0), "opened and closed: {connections:?}");
    Ok(())
}

fn pods(space: &Space<'_>, selector: &str) -> Result<Vec<String>> {
    let names = "jsonpath={.items[*].metadata.name}";
    let all = space.kubectl().run(&["get", "pods", "--selector", selector, "--output", names])?;
    Ok(all.split_whitespace().map(str::to_owned).collect())
}

/// Tells the application in a pod how to answer from now on.
fn tell(space: &Space<'_>, pod: &str, method: &str, rule: &str) -> Result<()> {
    let url = format!("http://127.0.0.1:8080/control?{rule}");
    let load = ["/weft", "load", "-X", method, "-n", "1", &url];
    let mut command = vec!["exec", pod, "--container", "content-service", "--"];
    command.extend(load);
    space.kubectl().run(&command).map(drop)
}

/// The client's sidecar has set a replica aside, or has not.
fn set_aside(space: &Space<'_>, pod: &str, expected: bool) -> Result<()> {
    let page = space.weft_json(&["proxy", "endpoints", "deploy/client", "-o", "json"])?;
    let clusters = page["held"].as_array().map(Vec::as_slice).unwrap_or_default();
    let endpoints = clusters.iter().filter_map(|cluster| cluster["endpoints"].as_array()).flatten();
    let found: Vec<&Value> = endpoints.filter(|endpoint| endpoint["pod"] == pod).collect();
    let ejected = found.iter().any(|endpoint| endpoint["state"] == "ejected");
    ensure!(!found.is_empty() && ejected == expected, "{pod} ejected: {ejected}; {found:?}");
    Ok(())
}
