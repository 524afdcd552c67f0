//! A sidecar at its own limits: memory that is nearly used up, requests beyond what it can do (hardening G3, G4).

use std::time::Duration;

use weft_core::model::protocol::Protocol;
use weft_core::overload::Memory;
use weft_proxy::http::version::HttpVersion::{Http1, Http2};
use weft_testkit::frames::{
    DATA, END_HEADERS, END_STREAM, GO_AWAY, HEADERS, PING, RESET, RawClient, frame, get,
};
use weft_testkit::http2::{Upstream2, What};
use weft_testkit::wire::{Step, Upstream, Wire, ok};
use weft_testkit::world::{World, identity};

use crate::bed::{Bed, on_worker};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const WHOLE: u8 = END_STREAM | END_HEADERS;

/// So many hundredths of the memory are used.
fn used(bed: &Bed, hundredths: u64) {
    bed.overload.look(Some(Memory { used: hundredths, limit: 100 }));
}

async fn status(client: &mut Wire, request: &str) -> String {
    client.send(request).await;
    client.message().await
}

#[tokio::test]
async fn g3_where_memory_is_short_new_requests_are_answered_with_503() {
    on_worker(async {
        let upstream = Upstream::answering("fine").await;
        let world = World::new().service("a", Protocol::Auto, &[upstream.address]).port(8080, Protocol::Auto);
        let bed = Bed::new(&world);
        for (proxy, side) in [
            (bed.outbound(&world, "a", Http1).await, 0),
            (bed.inbound(upstream.address, Http1, Some(identity("web"))).await, 1),
        ] {
            let mut client = Wire::connect(proxy).await;
            assert!(status(&mut client, GET).await.starts_with("HTTP/1.1 200"));
            used(&bed, 95);
            let refused = status(&mut client, GET).await.to_lowercase();
            assert!(refused.starts_with("http/1.1 503"), "{refused}");
            assert!(refused.contains("\r\nretry-after: 1\r\n"), "{refused}");
            assert!(refused.contains("\r\nx-weft-reason: overloaded\r\n"), "{refused}");
            let grpc =
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc\r\nContent-Length: 0\r\n\r\n";
            assert!(status(&mut client, grpc).await.to_lowercase().contains("\r\ngrpc-status: 14\r\n"));
            used(&bed, 92);
            assert!(status(&mut client, GET).await.starts_with("HTTP/1.1 200"), "the connection stayed");
            let counted =
                format!(r#"weft_rejected_total{{policy="",reason="overloaded"}} {}"#, 2 * (side + 1));
            assert!(bed.metrics().contains(&counted), "{}", bed.metrics());
        }
        assert_eq!(upstream.requests().len(), 4);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn g3_where_memory_is_tight_connections_without_a_request_end() {
    on_worker(async {
        let (quick, slow) = (Upstream::answering("fine").await, Upstream2::start(vec![What::Hang]).await);
        let world = World::new().service("a", Protocol::Auto, &[quick.address]);
        let quick2 = Upstream2::start(vec![What::Answer("fine")]).await;
        let world = world.service("b", Protocol::Auto, &[slow.address]);
        let world = world.service("c", Protocol::Auto, &[quick2.address]);
        let bed = Bed::new(&world);
        let mut idle = Wire::connect(bed.outbound(&world, "a", Http1).await).await;
        assert!(status(&mut idle, GET).await.ends_with("fine"));
        let mut idle2 = RawClient::connect(bed.outbound(&world, "c", Http2).await, &[]).await;
        idle2.send(frame(HEADERS, WHOLE, 1, get())).await;
        assert_eq!(idle2.next_of(DATA).await.unwrap().payload, b"fine");
        let mut waits = RawClient::connect(bed.outbound(&world, "b", Http2).await, &[]).await;
        waits.send(frame(HEADERS, WHOLE, 1, get())).await;
        while slow.begun() < 1 || bed.local.pool.connections() < 3 {
            tokio::task::yield_now().await;
        }
        used(&bed, 92);
        assert_eq!(idle.rest().await, "", "it ends");
        assert!(idle2.next_of(GO_AWAY).await.is_some());
        assert_eq!(bed.local.pool.connections(), 1, "that of the request that waits");
        waits.send(frame(PING, 0, 0, [7; 8])).await;
        let pong = waits.next_of(PING).await.unwrap();
        assert_eq!((pong.flags, pong.payload.as_slice()), (1, &[7; 8][..]), "it stays");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn g3_where_memory_is_used_up_responses_that_are_not_taken_end() {
    on_worker(async {
        let large: &'static str = Box::leak("x".repeat(1 << 20).into_boxed_str());
        let upstream = Upstream2::start(vec![What::Answer(large), What::Hang]).await;
        let world = World::new().service("a", Protocol::Auto, &[upstream.address]);
        let bed = Bed::new(&world);
        let mut client = RawClient::connect(bed.outbound(&world, "a", Http2).await, &[(4, 10)]).await;
        client.send(frame(HEADERS, WHOLE, 1, get())).await;
        assert_eq!(client.next_of(DATA).await.unwrap().payload.len(), 10);
        client.send(frame(HEADERS, WHOLE, 3, get())).await;
        while upstream.begun() < 2 {
            tokio::task::yield_now().await;
        }
        used(&bed, 98);
        let ended = client.next_of(RESET).await.unwrap();
        assert_eq!(ended.stream, 1, "the one that waits for its upstream holds nothing, and stays");
        assert!(bed.metrics().contains(r#"weft_rejected_total{policy="",reason="unread"} 1"#));
    })
    .await;
}

#[tokio::test]
async fn g4_requests_beyond_the_cap_are_shed_and_those_within_are_served() {
    on_worker(async {
        let waits =
            vec![Step::Request, Step::Pause(Duration::from_millis(300)), Step::Write(ok("fine").into())];
        let upstream = Upstream::start(vec![waits]).await;
        let world = World::new().service("a", Protocol::Auto, &[upstream.address]);
        let bed = Bed::capped(&world, 2);
        let proxy = bed.outbound(&world, "a", Http1).await;
        let ask = async || status(&mut Wire::connect(proxy).await, GET).await;
        for _ in 0..2 {
            let answers = tokio::join!(ask(), ask(), ask(), ask());
            let answers: [String; 4] = answers.into();
            let count = |code: &str| answers.iter().filter(|answer| answer.starts_with(code)).count();
            assert_eq!((count("HTTP/1.1 200"), count("HTTP/1.1 503")), (2, 2), "{answers:?}");
            assert_eq!(bed.overload.requests(), 0, "all have left");
        }
        assert_eq!(upstream.requests().len(), 4);
    })
    .await;
}
