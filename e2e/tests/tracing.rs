//! A real Jaeger in a local mesh: whole traces of counted load, whatever ends in between.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::Value;
use weft::demo::jaeger::{FILE, NAMESPACE, QUERY_PORT, manifests};
use weft::demo::sample::Sample;
use weft::up::{Mesh, Target};
use weft_e2e::cluster::program;
use weft_e2e::local::{LIMIT, Manifests, lacking, sh};

/// Requests of the client, one after the other.
const REQUESTS: usize = 40;

#[test]
fn jaeger_shows_whole_traces_and_nothing_is_lost_when_a_pod_ends() {
    if lacking(&["curl"]) {
        return;
    }
    let Some(program) = program("jaeger") else { return };
    let files = Manifests::new();
    let sample = Sample::write(files.path()).expect("the sample");
    sample.save(FILE, &manifests(&program).expect("manifests")).expect("a manifest");
    files.run(async |mesh, _| {
        let fail = "curl -s -X PUT 'http://127.0.0.1:8080/control?fail=503&count=1'";
        sh(mesh, "deploy/content-service-v2", fail).await?;
        let answers = load(mesh).await?;
        assert_eq!(answers.matches("200").count(), REQUESTS, "the retry is not seen: {answers}");
        // The last spans of the gateway are not sent yet: they must be when it has ended.
        end_gateway(&sample)?;
        let traces = traces(mesh).await?;
        traces.iter().for_each(check_tree);
        let retried = traces.iter().filter(|trace| spans(trace).len() == 5).count();
        assert_eq!(retried, 1, "the one failure, and no other");
        Ok(())
    });
}

async fn load(mesh: &Mesh) -> anyhow::Result<String> {
    let ask =
        "curl -s -m 10 -o /dev/null -w '%{http_code}\\n' -H 'end-user: premium' http://api-gateway/api/x";
    let (_, answers) =
        sh(mesh, "deploy/client", &format!("for i in $(seq {REQUESTS}); do {ask}; done")).await?;
    Ok(answers)
}

fn end_gateway(sample: &Sample) -> anyhow::Result<()> {
    let file = "callers.yaml";
    let text = std::fs::read_to_string(sample.dir().join(file))?;
    let selector = "  selector:\n    matchLabels: {app: api-gateway}\n";
    anyhow::ensure!(text.contains(selector), "the gateway's Deployment is written otherwise");
    Ok(sample.save(file, &text.replace(selector, &format!("  replicas: 0\n{selector}")))?)
}

/// The traces of the client, once all are whole.
async fn traces(mesh: &Mesh) -> anyhow::Result<Vec<Value>> {
    let jaeger = Target { namespace: NAMESPACE.into(), name: "deploy/jaeger".into() };
    let path = "/api/traces?service=client.default&lookback=1h&limit=1000";
    let began = Instant::now();
    loop {
        let (_, body) = mesh.admin_get(&jaeger, QUERY_PORT, path).await?;
        let found: Value = serde_json::from_str(&body).with_context(|| body.clone())?;
        let traces = found["data"].as_array().cloned().unwrap_or_default();
        let count: usize = traces.iter().map(|trace| spans(trace).len()).sum();
        if count > 4 * REQUESTS {
            assert_eq!(
                (traces.len(), count),
                (REQUESTS, 4 * REQUESTS + 1),
                "a span for each side of each hop"
            );
            return Ok(traces);
        }
        anyhow::ensure!(began.elapsed() < LIMIT, "{} traces, {count} spans", traces.len());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn spans(trace: &Value) -> &[Value] {
    trace["spans"].as_array().map_or(&[], Vec::as_slice)
}

/// Client, gateway and content-service, each side the child of the one before.
fn check_tree(trace: &Value) {
    let by_id: BTreeMap<_, _> = spans(trace).iter().map(|span| (span["spanID"].as_str(), span)).collect();
    for span in spans(trace) {
        let parent = span["references"][0]["spanID"].as_str();
        let of = |span: &Value| format!("{} {}", service(trace, span), tag(span, "span.kind"));
        let above = parent.map(|_| of(by_id.get(&parent).expect("the parent is in the trace")));
        let expected = match of(span).as_str() {
            "client.default client" => None,
            "api-gateway.default server" => Some("client.default client"),
            "api-gateway.default client" => Some("api-gateway.default server"),
            "content-service.default server" => Some("api-gateway.default client"),
            other => panic!("{other} in {trace}"),
        };
        assert_eq!(above.as_deref(), expected, "{trace}");
    }
    let to_content =
        spans(trace).iter().find(|span| tag(span, "weft.subset") == "v2").expect("the chosen version");
    assert_eq!(tag(to_content, "weft.destination.version"), "v2");
    assert!(tag(to_content, "weft.peer.principal").ends_with("/sa/content-service"), "{to_content}");
    let retried = spans(trace).len() == 5;
    let events = to_content["logs"].to_string();
    assert_eq!(events.contains("\"retry\""), retried, "{to_content}");
}

fn service<'a>(trace: &'a Value, span: &Value) -> &'a str {
    let process = span["processID"].as_str().unwrap_or_default();
    trace["processes"][process]["serviceName"].as_str().unwrap_or_default()
}

fn tag<'a>(span: &'a Value, key: &str) -> &'a str {
    let tags = span["tags"].as_array().map_or(&[][..], Vec::as_slice);
    tags.iter().find(|tag| tag["key"] == key).and_then(|tag| tag["value"].as_str()).unwrap_or_default()
}
