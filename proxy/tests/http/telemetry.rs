//! What is counted: nothing of it from those who send, and at no cost in memory.

use std::sync::Arc;
use std::time::Duration;

use allocation_counter::measure;
use http_body_util::BodyExt;
use tokio::time::Instant;
use weft_core::model::metadata::WorkloadMetadata;
use weft_core::model::protocol::Protocol;
use weft_proxy::clock::Clock;
use weft_proxy::http::version::HttpVersion::Http1;
use weft_proxy::settings::AccessLogFormat;
use weft_proxy::telemetry::tap::Filter;
use weft_proxy::telemetry::{
    Outcome, PeerRef, Reporter, RequestRecord, ScopeRef, Security, ServiceLabels, Telemetry,
};
use weft_testkit::wire::{Upstream, Wire};
use weft_testkit::world::World;

use crate::bed::{Bed, on_worker};

#[tokio::test]
async fn no_label_comes_from_what_is_sent() {
    on_worker(async {
        let upstream = Upstream::answering("hi").await;
        let world = World::new().service("reviews", Protocol::Http, &[upstream.address]);
        let bed = Bed::new(&world);
        let proxy = bed.outbound(&world, "reviews", Http1).await;
        for head in [
            &b"GET /a\"b\\n?c={x=\"} HTTP/1.1\r\nHost: reviews\r\nUser-Agent: \"evil\\\"\r\n\r\n"[..],
            b"EVIL /evil HTTP/1.1\r\nHost: reviews\r\nX-Evil: \xff\xfe\r\nUser-Agent: \xc3\x28\r\n\r\n",
            b"GET /%0Aevil%00 HTTP/1.1\r\nHost: reviews\r\nX-Request-Id: evil\"\r\n\r\n",
        ] {
            let mut client = Wire::connect(proxy).await;
            client.send(head).await;
            assert!(client.message().await.starts_with("HTTP/1.1 "), "{}", head.escape_ascii());
        }
        let text = bed.metrics();
        assert!(!text.contains("evil") && !text.contains("EVIL"), "{text}");
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        let broken: Vec<_> = samples.filter(|line| !is_sample(line)).collect();
        assert_eq!(broken, [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn the_id_that_a_request_is_given_is_shown() {
    on_worker(async {
        let upstream = Upstream::answering("hi").await;
        let world = World::new().service("reviews", Protocol::Http, &[upstream.address]);
        let bed = Bed::new(&world);
        let mut tapping = bed.telemetry.taps.open(Filter::default()).unwrap();
        let proxy = bed.outbound(&world, "reviews", Http1).await;
        for sent in ["", "X-Request-Id: own\r\n"] {
            let mut client = Wire::connect(proxy).await;
            client.send(format!("GET / HTTP/1.1\r\nHost: reviews\r\n{sent}\r\n").as_bytes()).await;
            assert!(client.message().await.starts_with("HTTP/1.1 200"));
            let shown = tapping.frame().await.unwrap().unwrap().into_data().unwrap();
            let shown: serde_json::Value = serde_json::from_slice(&shown).unwrap();
            let id = shown["requestId"].as_str().unwrap();
            let received = upstream.requests().last().unwrap().to_ascii_lowercase();
            assert!(received.contains(&format!("x-request-id: {id}\r\n")), "{shown} {received}");
            assert_eq!(id == "own", !sent.is_empty());
        }
    })
    .await;
}

/// Whether a line is `name{label="value",...} number`, as Prometheus reads it.
fn is_sample(line: &str) -> bool {
    let Some((series, number)) = line.rsplit_once(' ') else { return false };
    let labels = match series.split_once('{') {
        Some((_, labels)) => labels.strip_suffix('}'),
        None => Some(""),
    };
    let pair = |pair: &str| {
        pair.split_once("=\"").is_some_and(|(name, value)| !name.is_empty() && !value.contains('"'))
    };
    let pairs = |labels: &str| {
        labels.is_empty() || labels.strip_suffix('"').is_some_and(|labels| labels.split("\",").all(pair))
    };
    number.parse::<f64>().is_ok() && labels.is_some_and(pairs)
}

/// With metrics on, and neither a log nor somebody who watches; spans have a test of their own.
#[test]
fn a_request_that_is_counted_allocates_nothing() {
    let telemetry = Telemetry::new(AccessLogFormat::Off, Clock::system());
    let worker = telemetry.worker(0);
    let metadata = Arc::new(WorkloadMetadata { workload: "web".into(), ..WorkloadMetadata::default() });
    let service = ServiceLabels { host: "web".into(), ..ServiceLabels::default() };
    let end = PeerRef { metadata: &metadata, principal: None };
    let scope = || ScopeRef {
        reporter: Reporter::Source,
        security: Security::Unknown,
        source: end,
        destination: end,
        service: &service,
    };
    let one = || {
        assert!(telemetry.access_log.logs(None, Reporter::Source).is_none());
        assert!(!telemetry.taps.want("GET", "/api/x"));
        let mut record = RequestRecord::begin(Instant::now());
        record.scope = Some(worker.scope(scope()));
        record.outcome = Outcome { status: 200, ..Outcome::default() };
        record.finish(&worker, Duration::from_millis(3));
    };
    one();
    assert_eq!(measure(|| (0..1000).for_each(|_| one())).count_total, 0);
    let counted = telemetry.render();
    let counted = counted.lines().find(|line| line.starts_with("istio_requests_total{"));
    assert!(counted.is_some_and(|line| line.ends_with("} 1001")), "{counted:?}");
}
