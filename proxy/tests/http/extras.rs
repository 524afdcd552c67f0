//! What few route rules ask for, on the wire: faults.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;
use tokio::time::Instant;
use weft_core::model::extras::{Abort, AbortWith, Delay, Extras, Fault, Share};
use weft_core::model::protocol::Protocol;
use weft_proxy::http::version::HttpVersion::{Http1, Http2};
use weft_testkit::http2::{self, Upstream2, What};
use weft_testkit::wire::{Upstream, Wire};
use weft_testkit::world::World;

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
    world.forward(|_| {}).extras(Extras { fault: Some(fault) })
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
        let world = world.extras(Extras { fault: Some(fault) });
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
