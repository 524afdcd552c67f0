//! Spans of requests: one for each side of a hop, in one trace, with what happened on the way.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use allocation_counter::measure;
use opentelemetry::KeyValue;
use opentelemetry::trace::{SpanId, SpanKind};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::task::LocalSet;
use weft_core::model::name::ObjectName;
use weft_core::model::policy::{Action, AuthorizationPolicy};
use weft_core::model::protocol::Protocol;
use weft_core::model::telemetry::{Collector, CollectorProtocol, Sides, Telemetry, Tracing};
use weft_proxy::dial::Dialer;
use weft_proxy::http::version::HttpVersion::Http1;
use weft_proxy::telemetry::spans::connect::Lookup;
use weft_proxy::telemetry::spans::export::exporter;
use weft_proxy::telemetry::spans::{Queue, Sink};
use weft_testkit::wire::{Step, Upstream, Wire, ok};
use weft_testkit::world::World;

use crate::bed::{Bed, on_worker};

const GET: &str = "GET /api/x?a=b HTTP/1.1\r\nHost: reviews\r\n\r\n";
const UNSAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

/// A collector that keeps spans.
#[derive(Clone, Debug, Default)]
struct Kept(Arc<Mutex<Vec<SpanData>>>);

impl SpanExporter for Kept {
    async fn export(&self, mut batch: Vec<SpanData>) -> OTelSdkResult {
        self.0.lock().expect("no panic").append(&mut batch);
        Ok(())
    }
}

impl Kept {
    /// Where the sidecars of a test send their spans.
    fn sink(&self, bed: &Bed) -> Arc<Queue> {
        let spans = bed.telemetry.metrics.spans.clone();
        let resource = Resource::builder_empty().build();
        let queue = Queue::new(self.clone(), "kept".into(), &resource, Duration::from_secs(60), spans);
        let queue = Arc::new(queue);
        let sink = Sink { queue: Arc::clone(&queue), fixed: Vec::new(), headers: Vec::new() };
        let sink = Some(Arc::new(sink));
        bed.telemetry.spans.set(Sides { client: sink.clone(), server: sink });
        queue
    }

    /// All spans, once those of one sidecar have been sent.
    async fn spans(&self, of: Arc<Queue>) -> Vec<SpanData> {
        of.close().await;
        self.0.lock().expect("no panic").clone()
    }
}

/// A sidecar that traces so many of its requests.
fn traced(mut world: World, percent: f64) -> World {
    let tracing = Tracing {
        collector: Some(Arc::new(collector(1, CollectorProtocol::Grpc))),
        sampling: percent,
        ..Tracing::default()
    };
    let tracing = Sides { client: tracing.clone(), server: tracing };
    world.workload.telemetry = Arc::new(Telemetry { tracing, ..Telemetry::default() });
    world
}

fn collector(port: u16, protocol: CollectorProtocol) -> Collector {
    Collector {
        name: "jaeger".into(),
        host: "127.0.0.1".into(),
        port,
        service: None,
        protocol,
        headers: Vec::new(),
        timeout: Duration::from_millis(200),
    }
}

fn get<'a>(span: &'a SpanData, key: &str) -> Option<&'a KeyValue> {
    span.attributes.iter().find(|attribute| attribute.key.as_str() == key)
}

fn text(span: &SpanData, key: &str) -> String {
    get(span, key).unwrap_or_else(|| panic!("{key} in {span:?}")).value.to_string()
}

#[tokio::test]
async fn a_hop_has_a_span_on_each_side_in_one_trace() {
    on_worker(async {
        let kept = Kept::default();
        let application = Upstream::answering("hi").await;
        let server = Bed::new(&traced(World::new().port(8080, Protocol::Http), 0.0));
        let inside = server.inbound(application.address, Http1, None).await;
        let world = traced(World::new().service("reviews", Protocol::Http, &[inside]), 100.0);
        let bed = Bed::new(&world);
        let (client_side, server_side) = (kept.sink(&bed), kept.sink(&server));
        let mut client = Wire::connect(bed.outbound(&world, "reviews", Http1).await).await;
        client.send(GET).await;
        client.message().await;
        server_side.close().await;
        let spans = kept.spans(client_side).await;
        let [received, sent] = &spans[..] else { panic!("{spans:?}") };
        assert_eq!((&sent.span_kind, &received.span_kind), (&SpanKind::Client, &SpanKind::Server));
        assert_eq!(sent.span_context.trace_id(), received.span_context.trace_id());
        assert_eq!(received.parent_span_id, sent.span_context.span_id());
        assert_eq!(sent.parent_span_id, SpanId::INVALID);
        assert_eq!(sent.name, "GET reviews.default.svc.cluster.local");
        assert_eq!(text(sent, "url.full"), "http://reviews/api/x?a=b");
        assert_eq!(text(sent, "http.response.status_code"), "200");
        assert_eq!(text(sent, "weft.cluster"), "outbound|80||reviews.default.svc.cluster.local");
        assert_eq!(text(sent, "weft.attempt"), "1");
        assert_eq!(
            (text(received, "url.path"), text(received, "url.query")),
            ("/api/x".into(), "a=b".into())
        );
        let request = &application.requests()[0];
        let told = format!(
            "traceparent: 00-{}-{}-03",
            sent.span_context.trace_id(),
            received.span_context.span_id()
        );
        assert!(request.contains(&told), "{told} in {request}");
    })
    .await;
}

#[tokio::test]
async fn a_request_that_is_not_sampled_is_passed_on_as_it_came() {
    on_worker(async {
        let kept = Kept::default();
        let upstream = Upstream::answering("hi").await;
        let world = traced(World::new().service("reviews", Protocol::Http, &[upstream.address]), 100.0);
        let bed = Bed::new(&world);
        let queue = kept.sink(&bed);
        let mut client = Wire::connect(bed.outbound(&world, "reviews", Http1).await).await;
        let fields = format!("traceparent: {UNSAMPLED}\r\ntracestate: a=1\r\nbaggage: user=1\r\n");
        client.send(GET.replace("\r\n\r\n", &format!("\r\n{fields}\r\n"))).await;
        client.message().await;
        assert!(upstream.requests()[0].contains(&fields), "{}", upstream.requests()[0]);
        assert!(kept.spans(queue).await.is_empty());
    })
    .await;
}

/// A sidecar that traces everything, and a client of it that sends requests with more fields.
struct Hostile {
    upstream: Upstream,
    queue: Arc<Queue>,
    kept: Kept,
    proxy: SocketAddr,
    _bed: Bed,
}

impl Hostile {
    async fn new() -> Self {
        let (kept, upstream) = (Kept::default(), Upstream::answering("hi").await);
        let world = traced(World::new().service("reviews", Protocol::Http, &[upstream.address]), 100.0);
        let bed = Bed::new(&world);
        let (queue, proxy) = (kept.sink(&bed), bed.outbound(&world, "reviews", Http1).await);
        Self { upstream, queue, kept, proxy, _bed: bed }
    }

    /// Sends a request on a connection of its own; the answer.
    async fn answer(&self, fields: &str) -> String {
        let mut client = Wire::connect(self.proxy).await;
        client.send(GET.replace("\r\n\r\n", &format!("\r\n{fields}\r\n\r\n"))).await;
        client.message().await
    }

    /// All that was passed on begins a trace of its own, and that of `count` requests was kept.
    async fn began_anew(self, count: usize) {
        for request in self.upstream.requests() {
            assert_eq!(request.matches("traceparent: ").count(), 1, "{request}");
            assert!(!request.contains("tracestate"), "{request}");
        }
        assert_eq!(self.kept.spans(self.queue).await.len(), count);
    }
}

#[tokio::test]
async fn a_mebibyte_of_baggage_is_refused_and_serving_goes_on() {
    on_worker(async {
        let hostile = Hostile::new().await;
        let answer = hostile.answer(&format!("baggage: {}", "k=v,".repeat(1 << 18))).await;
        assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
        assert!(hostile.answer("baggage: k=v").await.starts_with("HTTP/1.1 200"));
        assert!(hostile.upstream.requests()[0].contains("baggage: k=v\r\n"), "what is meant well passes");
        hostile.began_anew(1).await;
    })
    .await;
}

#[tokio::test]
async fn a_tracestate_of_a_thousand_members_ends_here() {
    on_worker(async {
        let hostile = Hostile::new().await;
        let thousand: Vec<_> = (0..1000).map(|n| format!("vendor{n}=1")).collect();
        let sampled = UNSAMPLED.replace("-00", "-01");
        let fields = format!("traceparent: {sampled}\r\ntracestate: {}", thousand.join(","));
        assert!(hostile.answer(&fields).await.starts_with("HTTP/1.1 200"));
        hostile.began_anew(1).await;
    })
    .await;
}

#[tokio::test]
async fn traces_of_wrong_digits_and_told_twice_begin_anew() {
    on_worker(async {
        let hostile = Hostile::new().await;
        let wrong = UNSAMPLED.replace("0af7", "0AfG");
        for fields in [
            "traceparent: 00-xyz\r\ntracestate: a=1".to_owned(),
            format!("traceparent: {wrong}\r\ntracestate: a=1"),
            format!("traceparent: {UNSAMPLED}\r\ntraceparent: {UNSAMPLED}\r\nb3: \u{e9}\u{e9}"),
        ] {
            assert!(hostile.answer(&fields).await.starts_with("HTTP/1.1 200"), "{fields}");
        }
        hostile.began_anew(3).await;
    })
    .await;
}

#[tokio::test]
async fn a_retry_is_an_event_of_the_span() {
    on_worker(async {
        let kept = Kept::default();
        let failing = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";
        let script =
            vec![Step::Request, Step::Write(failing.into()), Step::Request, Step::Write(ok("hi").into())];
        let upstream = Upstream::start(vec![script]).await;
        let world = World::new().service("reviews", Protocol::Http, &[upstream.address]).forward(|forward| {
            forward.retries.on.server_error = true;
            forward.retries.backoff = Duration::ZERO;
        });
        let world = traced(world, 100.0);
        let bed = Bed::new(&world);
        let queue = kept.sink(&bed);
        let mut client = Wire::connect(bed.outbound(&world, "reviews", Http1).await).await;
        client.send(GET).await;
        assert!(client.message().await.starts_with("HTTP/1.1 200"));
        let spans = kept.spans(queue).await;
        let [span] = &spans[..] else { panic!("{spans:?}") };
        let [retry] = &span.events.events[..] else { panic!("{span:?}") };
        assert_eq!(retry.name, "retry");
        assert!(retry.attributes.contains(&KeyValue::new("weft.retry.reason", "503")), "{retry:?}");
        assert_eq!(text(span, "weft.attempt"), "2");
        assert_eq!(text(span, "http.request.resend_count"), "1");
        assert_eq!(text(span, "weft.route"), "default http[0]");
    })
    .await;
}

#[tokio::test]
async fn a_refusal_says_why_and_by_which_policy() {
    on_worker(async {
        let kept = Kept::default();
        let name = ObjectName { namespace: "default".into(), name: "closed".into() };
        let policy = AuthorizationPolicy { name, action: Action::Allow, rules: Vec::new(), dry_run: false };
        let server = Bed::new(&traced(World::new().port(8080, Protocol::Http).policy(policy), 100.0));
        let queue = kept.sink(&server);
        let inside = server.inbound(Upstream::nobody().await, Http1, None).await;
        let mut client = Wire::connect(inside).await;
        client.send(GET).await;
        assert!(client.message().await.starts_with("HTTP/1.1 403"));
        let spans = kept.spans(queue).await;
        let [span] = &spans[..] else { panic!("{spans:?}") };
        assert_eq!(text(span, "weft.reason"), "policy_not_allowed");
        assert_eq!(text(span, "http.response.status_code"), "403");
        assert!(get(span, "error.type").is_none(), "for a server 403 is no error");
    })
    .await;
}

#[tokio::test]
async fn a_collector_that_accepts_and_never_answers_holds_nothing_up() {
    on_worker(async {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = silent.local_addr().unwrap().port();
        tokio::task::spawn_local(async move {
            let mut held = Vec::new();
            while let Ok((stream, _)) = silent.accept().await {
                held.push(stream);
            }
        });
        let upstream = Upstream::answering("hi").await;
        let world = traced(World::new().service("reviews", Protocol::Http, &[upstream.address]), 100.0);
        for protocol in [CollectorProtocol::Grpc, CollectorProtocol::Http { path: "/v1/traces".into() }] {
            let bed = Bed::new(&world);
            let unknown: Lookup = Arc::new(|| Box::pin(async { Vec::new() }));
            let exporter = exporter(&collector(port, protocol), Dialer::default(), unknown).unwrap();
            let resource = Resource::builder_empty().build();
            let spans = bed.telemetry.metrics.spans.clone();
            let timeout = Duration::from_millis(200);
            let queue = Arc::new(Queue::new(exporter, "silent".into(), &resource, timeout, spans.clone()));
            let sink = Sink { queue: Arc::clone(&queue), fixed: Vec::new(), headers: Vec::new() };
            bed.telemetry.spans.set(Sides { client: Some(Arc::new(sink)), server: None });
            let mut client = Wire::connect(bed.outbound(&world, "reviews", Http1).await).await;
            for _ in 0..20 {
                client.send(GET).await;
                assert!(client.message().await.starts_with("HTTP/1.1 200"));
            }
            queue.close().await;
            let count = |result| spans.with_label_values(&[result]).get();
            assert_eq!((count("exported"), count("failed"), count("dropped")), (0, 20, 0));
        }
    })
    .await;
}

#[test]
fn what_is_not_traced_allocates_as_much_as_without_tracing() {
    let plain = allocations(None);
    let unsampled = allocations(Some(0.0));
    // One allocation a request would be 200; what wakes whom, and when, makes some difference.
    assert!(unsampled < plain + REQUESTS / 2, "{plain} without, {unsampled} with tracing at 0%");
    assert!(allocations(Some(100.0)) > plain + REQUESTS, "what is traced is seen to allocate");
}

/// Requests whose allocations are counted.
const REQUESTS: u64 = 200;

/// What [`REQUESTS`] requests through a sidecar allocate, client and upstream included, after some that warm up.
fn allocations(percent: Option<f64>) -> u64 {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let tasks = LocalSet::new();
    let (mut client, _bed) = tasks.block_on(&runtime, async {
        let upstream = Upstream::answering("hi").await;
        let world = World::new().service("reviews", Protocol::Http, &[upstream.address]);
        let world = percent.map_or(world.clone(), |percent| traced(world, percent));
        let bed = Bed::new(&world);
        Kept::default().sink(&bed);
        let mut client = Wire::connect(bed.outbound(&world, "reviews", Http1).await).await;
        ask(&mut client, 50).await;
        (client, bed)
    });
    measure(|| tasks.block_on(&runtime, ask(&mut client, REQUESTS))).count_total
}

async fn ask(client: &mut Wire, times: u64) {
    for _ in 0..times {
        client.send(GET).await;
        client.message().await;
    }
}
