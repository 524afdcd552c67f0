//! What few route rules ask for, on the wire: faults, answers to browsers of other origins.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use tokio::time::Instant;
use weft_core::matching::StringMatch;
use weft_core::model::extras::{Abort, AbortWith, Cors, Delay, Extras, Fault, Share};
use weft_core::model::name::ServiceName;
use weft_core::model::protocol::Protocol;
use weft_core::model::route::{Forward, HttpAction};
use weft_proxy::http::version::HttpVersion::{Http1, Http2};
use weft_proxy::telemetry::tap::Filter;
use weft_testkit::http2::{self, Upstream2, What};
use weft_testkit::wire::{Upstream, Wire};
use weft_testkit::world::{World, cluster_name, rule};

use crate::bed::{Bed, on_worker};

const GET: &str = "GET / HTTP/1.1\r\nHost: reviews\r\n\r\n";
const DELAY: Duration = Duration::from_secs(7);

fn delay(time: Duration) -> Option<Delay> {
    Some(Delay { share: Share::ALL, time })
}

fn abort(with: AbortWith) -> Option<Abort> {
    Some(Abort { share: Share::ALL, with })
}

fn harmed(upstream: std::net::SocketAddr, protocol: Protocol, fault: Fault) -> World {
    let world = World::new().service("reviews", protocol, &[upstream]);
    world.forward(|_| {}).extras(Extras { fault: Some(fault), cors: None })
}

/// The one line that counts a request with these flags.
fn counted(bed: &Bed, flags: &str) -> String {
    let metrics = bed.metrics();
    let flags = format!("response_flags=\"{flags}\"");
    let mut lines = metrics.lines().filter(|l| l.starts_with("istio_requests_total{") && l.contains(&flags));
    lines.next().unwrap_or_else(|| panic!("{metrics}")).to_owned()
}

#[tokio::test]
async fn f2_an_aborted_request_goes_nowhere_and_says_why() {
    on_worker(async {
        let upstream = Upstream::answering("up").await;
        for (with, line) in [
            (AbortWith::Http(StatusCode::IM_A_TEAPOT), "HTTP/1.1 418 "),
            (AbortWith::Grpc(14), "HTTP/1.1 503 "),
        ] {
            let fault = Fault { abort: abort(with), delay: None };
            let world = harmed(upstream.address, Protocol::Http, fault);
            let bed = Bed::new(&world);
            let mut client = Wire::connect(bed.outbound(&world, "reviews", Http1).await).await;
            for _ in 0..2 {
                client.send(GET).await;
                let answer = client.message().await;
                assert!(answer.starts_with(line) && answer.ends_with("fault filter abort"), "{answer}");
                assert!(answer.contains("x-weft-reason: fault_injected\r\n"), "{answer}");
            }
            let line = counted(&bed, "FI");
            assert!(line.contains("destination_service_name=\"reviews\"") && line.ends_with(" 2"), "{line}");
            assert!(bed.metrics().contains("weft_rejected_total{policy=\"\",reason=\"fault_injected\"} 2"));
        }
        assert_eq!(upstream.connections(), 0);
    })
    .await;
}

#[tokio::test]
async fn f2_a_grpc_client_is_told_in_grpc() {
    on_worker(async {
        let upstream = Upstream2::start(vec![What::Answer("up")]).await;
        for (with, status) in
            [(AbortWith::Grpc(5), "5"), (AbortWith::Http(StatusCode::SERVICE_UNAVAILABLE), "14")]
        {
            let fault = Fault { abort: abort(with), delay: None };
            let world = harmed(upstream.address, Protocol::Grpc, fault);
            let proxy = Bed::new(&world).outbound(&world, "reviews", Http2).await;
            let mut client = http2::connect(proxy).await;
            let request = Request::post("http://reviews/a.B/C").header("content-type", "application/grpc");
            let answer = client.send_request(request.body(Full::new(Bytes::new())).unwrap()).await.unwrap();
            assert_eq!(
                (answer.status(), &answer.headers()["grpc-status"]),
                (StatusCode::OK, &status.parse().unwrap())
            );
            assert_eq!(answer.headers()["x-weft-reason"], "fault_injected");
        }
        assert_eq!(upstream.begun(), 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn f2_a_delayed_request_goes_on_and_the_time_of_its_route_begins_then() {
    on_worker(async {
        let upstream = Upstream::answering("up").await;
        let fault = Fault { delay: delay(DELAY), abort: None };
        let world = World::new().service("reviews", Protocol::Http, &[upstream.address]);
        let world = world.forward(|forward| forward.timeout = Some(DELAY / 2));
        let world = world.extras(Extras { fault: Some(fault), cors: None });
        let bed = Bed::new(&world);
        let mut client = Wire::connect(bed.outbound(&world, "reviews", Http1).await).await;
        let began = Instant::now();
        client.send(GET).await;
        let answer = client.message().await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("up"), "{answer}");
        assert!((DELAY..DELAY + DELAY / 2).contains(&began.elapsed()), "{:?}", began.elapsed());
        assert!(counted(&bed, "DI").contains("response_code=\"200\""));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn f2_delay_and_abort_together() {
    on_worker(async {
        let abort = abort(AbortWith::Http(StatusCode::INTERNAL_SERVER_ERROR));
        let fault = Fault { delay: delay(DELAY), abort };
        let world = harmed(Upstream::nobody().await, Protocol::Http, fault);
        let bed = Bed::new(&world);
        let mut client = Wire::connect(bed.outbound(&world, "reviews", Http1).await).await;
        let began = Instant::now();
        client.send(GET).await;
        assert!(client.message().await.starts_with("HTTP/1.1 500 "));
        assert!(began.elapsed() >= DELAY);
        assert!(counted(&bed, "DI,FI").ends_with(" 1"));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn f2_a_delay_ends_with_its_client_and_holds_nobody_else() {
    on_worker(async {
        let upstream = Upstream::answering("up").await;
        let fault = Fault { delay: delay(DELAY), abort: None };
        let world = harmed(upstream.address, Protocol::Http, fault);
        let bed = Bed::new(&world);
        let proxy = bed.outbound(&world, "reviews", Http1).await;
        let mut leaves = Wire::connect(proxy).await;
        leaves.send(GET).await;
        tokio::time::sleep(DELAY / 7).await;
        leaves.reset();
        let began = Instant::now();
        let mut all = Vec::new();
        for _ in 0..20 {
            let mut client = Wire::connect(proxy).await;
            client.send(GET).await;
            all.push(client);
        }
        for mut client in all {
            assert!(client.message().await.ends_with("up"));
        }
        assert!(began.elapsed() < DELAY * 2, "they wait side by side: {:?}", began.elapsed());
        assert_eq!(upstream.requests().len(), 20, "who has gone asks for nothing");
        let metrics = bed.metrics();
        let gone = metrics
            .lines()
            .find(|l| l.contains("response_code=\"0\"") && l.contains("response_flags=\"DI\""));
        assert!(gone.is_some(), "{metrics}");
    })
    .await;
}

/// A service whose pages `https://shop` may read.
fn shop(upstreams: &[std::net::SocketAddr], change: impl FnOnce(&mut Cors)) -> World {
    let mut cors = Cors {
        origins: vec![StringMatch::Exact("https://shop".into())],
        allow_methods: Some(HeaderValue::from_static("GET,PUT")),
        expose_headers: Some(HeaderValue::from_static("x-a")),
        max_age: Some(60),
        ..Cors::default()
    };
    change(&mut cors);
    let own = cluster_name(&ServiceName::new("default", "reviews.default.svc.cluster.local"));
    let mut rule = rule(Vec::new(), HttpAction::Forward(Box::new(Forward::to(own))));
    rule.source.name = "pages".into();
    let world = World::new().service("reviews", Protocol::Http, upstreams).rule(rule);
    world.extras(Extras { fault: None, cors: Some(cors) })
}

fn asked(method: &str, origin: &str) -> String {
    format!(
        "{method} / HTTP/1.1\r\nHost: reviews\r\nOrigin: {origin}\r\nAccess-Control-Request-Method: PUT\r\n\r\n"
    )
}

#[tokio::test]
async fn f3_a_preflight_is_answered_by_the_clients_sidecar() {
    on_worker(async {
        let upstream = Upstream::answering("up").await;
        let world = shop(&[upstream.address], |_| {});
        let bed = Bed::new(&world);
        let mut tapping = bed.telemetry.taps.open(Filter::default()).unwrap();
        let mut client = Wire::connect(bed.outbound(&world, "reviews", Http1).await).await;
        client.send(asked("OPTIONS", "https://shop")).await;
        let answer = client.message().await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
        for line in [
            "access-control-allow-origin: https://shop\r\n",
            "access-control-allow-methods: GET,PUT\r\n",
            "access-control-max-age: 60\r\n",
            "x-weft-reason: preflight\r\n",
        ] {
            assert!(answer.contains(line), "{line} in {answer}");
        }
        let shown = tapping.frame().await.unwrap().unwrap().into_data().unwrap();
        let shown: serde_json::Value = serde_json::from_slice(&shown).unwrap();
        assert_eq!((&shown["route"], &shown["reason"]), (&"pages".into(), &"preflight".into()), "{shown}");
        let line = counted(&bed, "-");
        assert!(line.contains("destination_service_name=\"reviews\"") && line.ends_with(" 1"), "{line}");
        assert!(!bed.metrics().contains("reason=\"preflight\""), "no refusal");
        assert_eq!(upstream.connections(), 0);
    })
    .await;
}

#[tokio::test]
async fn f3_a_preflight_over_http2_is_answered_as_well() {
    on_worker(async {
        let world = shop(&[], |_| {});
        let proxy = Bed::new(&world).outbound(&world, "reviews", Http2).await;
        let mut client = http2::connect(proxy).await;
        let asks = Request::options("http://reviews/").header("origin", "https://shop");
        let asks = asks.header("access-control-request-method", "PUT");
        let answer = client.send_request(asks.body(Full::new(Bytes::new())).unwrap()).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()["access-control-allow-methods"], "GET,PUT");
    })
    .await;
}

#[tokio::test]
async fn f3_whoever_is_not_allowed_goes_on_and_is_told_nothing() {
    on_worker(async {
        let upstream = Upstream::answering("up").await;
        let world = shop(&[upstream.address], |_| {});
        let bed = Bed::new(&world);
        let mut client = Wire::connect(bed.outbound(&world, "reviews", Http1).await).await;
        for method in ["OPTIONS", "GET"] {
            client.send(asked(method, "https://other")).await;
            let answer = client.message().await;
            assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("up"), "{answer}");
            assert!(!answer.contains("access-control-"), "{answer}");
        }
        assert_eq!(upstream.requests().len(), 2);
    })
    .await;
}

#[tokio::test]
async fn f3_a_preflight_of_others_may_end_here() {
    on_worker(async {
        let upstream = Upstream::answering("up").await;
        let world = shop(&[upstream.address], |cors| cors.ignore_unmatched = true);
        let bed = Bed::new(&world);
        let mut client = Wire::connect(bed.outbound(&world, "reviews", Http1).await).await;
        client.send(asked("OPTIONS", "https://other")).await;
        let answer = client.message().await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("x-weft-reason: preflight\r\n"));
        assert!(!answer.contains("access-control-"), "{answer}");
        assert_eq!(upstream.connections(), 0);
    })
    .await;
}

#[tokio::test]
async fn f3_what_the_upstream_says_of_origins_is_replaced() {
    on_worker(async {
        let said = "access-control-allow-origin: *\r\nAccess-Control-Expose-Headers: x-b\r\n";
        let reply = format!("HTTP/1.1 200 OK\r\n{said}content-length: 2\r\n\r\nup");
        let upstream = Upstream::replying(&reply).await;
        let world = shop(&[upstream.address], |cors| cors.credentials = true);
        let bed = Bed::new(&world);
        let mut client = Wire::connect(bed.outbound(&world, "reviews", Http1).await).await;
        client.send(asked("GET", "https://shop")).await;
        let answer = client.message().await.to_ascii_lowercase();
        let mut told: Vec<_> = answer.lines().filter(|line| line.starts_with("access-control-")).collect();
        told.sort_unstable();
        assert_eq!(
            told,
            [
                "access-control-allow-credentials: true",
                "access-control-allow-origin: https://shop",
                "access-control-expose-headers: x-a"
            ]
        );
        client.send(asked("GET", "https://other")).await;
        assert!(client.message().await.contains("access-control-allow-origin: *\r\n"), "the upstream's own");
    })
    .await;
}

#[tokio::test]
async fn f3_an_allowed_origin_may_read_why_the_mesh_refused() {
    on_worker(async {
        let world = shop(&[], |_| {});
        let bed = Bed::new(&world);
        let mut client = Wire::connect(bed.outbound(&world, "reviews", Http1).await).await;
        for (origin, told) in [("https://shop", true), ("https://other", false)] {
            client.send(asked("GET", origin)).await;
            let answer = client.message().await;
            assert!(answer.contains("x-weft-reason: no_healthy_upstream\r\n"), "{answer}");
            assert_eq!(answer.contains("access-control-allow-origin: https://shop\r\n"), told, "{answer}");
        }
        assert!(counted(&bed, "UH").ends_with(" 2"));
    })
    .await;
}

#[tokio::test]
async fn f3_a_fault_comes_before_the_origin() {
    on_worker(async {
        let fault = Fault { abort: abort(AbortWith::Http(StatusCode::IM_A_TEAPOT)), delay: None };
        let cors = Cors { origins: vec![StringMatch::Exact("*".into())], ..Cors::default() };
        let world = World::new().service("reviews", Protocol::Http, &[]).forward(|_| {});
        let world = world.extras(Extras { fault: Some(fault), cors: Some(cors) });
        let bed = Bed::new(&world);
        let mut client = Wire::connect(bed.outbound(&world, "reviews", Http1).await).await;
        for method in ["OPTIONS", "GET"] {
            client.send(asked(method, "https://shop")).await;
            let answer = client.message().await;
            assert!(answer.starts_with("HTTP/1.1 418 ") && !answer.contains("access-control-"), "{answer}");
        }
    })
    .await;
}
