//! Bytes that are no request, and requests that ask for too much.

use weft_core::model::protocol::Protocol;
use weft_proxy::http::version::HttpVersion::Http1;
use weft_testkit::wire::{Step, Upstream, Wire, ok};
use weft_testkit::world::World;

use crate::bed::{Bed, on_worker};

/// What a client gets that sends these bytes, to the end of the connection, and what the upstream saw.
async fn sends(bytes: &str) -> (String, Upstream) {
    let upstream = Upstream::answering("ok").await;
    let world = World::new().service("a", Protocol::Http, &[upstream.address]);
    let proxy = Bed::new(&world).outbound(&world, "a", Http1).await;
    let mut client = Wire::connect(proxy).await;
    client.send(bytes).await;
    (client.rest().await, upstream)
}

#[track_caller]
fn is_refused((answer, upstream): &(String, Upstream), status: u16) {
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    assert!(upstream.requests().is_empty(), "0 upstream");
}

#[tokio::test]
async fn a1_length_and_encoding_are_refused() {
    on_worker(async {
        let both =
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
        let seen = sends(both).await;
        is_refused(&seen, 400);
        assert!(
            seen.0.contains("x-weft-reason: bad_request\r\n") && seen.0.contains("connection: close\r\n")
        );
    })
    .await;
}

#[tokio::test]
async fn a4_a8_a12_a13_each_have_their_status() {
    on_worker(async {
        is_refused(&sends("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n").await, 501);
        is_refused(&sends("GET / HTTP/1.1\r\nHost: a\0b\r\n\r\n").await, 400);
        is_refused(&sends("GET / HTTP/2.0\r\nHost: a\r\n\r\n").await, 505);
        let target = "a".repeat(17 << 10);
        let long = sends(&format!("GET /{target} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        is_refused(&long, 414);
        assert!(long.0.contains("x-weft-reason: uri_too_long\r\n"), "{}", long.0);
        let fields = "x: y\r\n".repeat(101);
        let large = sends(&format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")).await;
        is_refused(&large, 431);
        assert!(large.0.contains("x-weft-reason: head_too_large\r\n"), "{}", large.0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a14_a_head_that_does_not_come_is_answered_and_closed() {
    on_worker(async {
        let (answer, upstream) = sends("GET / HTTP/1.1\r\nHo").await;
        assert!(answer.contains("x-weft-reason: request_timeout\r\n"), "{answer}");
        is_refused(&(answer, upstream), 408);
    })
    .await;
}

#[tokio::test]
async fn a18_garbage_after_a_request_does_not_spoil_it() {
    on_worker(async {
        let (answer, upstream) = sends("GET / HTTP/1.1\r\nHost: a\r\n\r\nGARBAGE\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        let second = answer.split("\r\n\r\nok").nth(1).unwrap();
        assert!(second.starts_with("HTTP/1.1 400 "), "{answer}");
        assert_eq!(upstream.requests().len(), 1);
    })
    .await;
}

#[tokio::test]
async fn a20_connection_cannot_take_end_to_end_fields_away() {
    on_worker(async {
        let (answer, upstream) = sends("GET / HTTP/1.1\r\nHost: a\r\nConnection: close, host\r\n\r\n").await;
        is_refused(&(answer, upstream), 400);
        let (_, upstream) =
            sends("GET / HTTP/1.1\r\nHost: a\r\nConnection: close, x-hop\r\nx-hop: 1\r\n\r\n").await;
        let request = &upstream.requests()[0];
        assert!(!request.contains("x-hop") && !request.contains("connection"), "{request}");
    })
    .await;
}

#[tokio::test]
async fn a6_a_bad_chunk_aborts_the_upstream_and_is_the_clients_fault() {
    on_worker(async {
        let upstream = Upstream::start(vec![vec![Step::Request, Step::Write(ok("late").into())]]).await;
        let world = World::new().service("a", Protocol::Http, &[upstream.address]);
        let proxy = Bed::new(&world).outbound(&world, "a", Http1).await;
        let mut client = Wire::connect(proxy).await;
        client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n").await;
        client.send("0x5\r\nabcde\r\n0\r\n\r\n").await;
        let answer = client.rest().await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    })
    .await;
}

#[tokio::test]
async fn b1_b2_b5_b15_g22_hosts_and_methods() {
    on_worker(async {
        let close = "Connection: close\r\n\r\n";
        for (head, status, reason) in [
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n", 400, "bad_request"),
            ("GET / HTTP/1.1\r\n", 400, "bad_request"),
            ("GET / HTTP/1.1\r\nHost: u@a\r\n", 400, "bad_request"),
            ("GET / HTTP/1.1\r\nHost: a:99999\r\n", 400, "bad_request"),
            ("GET * HTTP/1.1\r\nHost: a\r\n", 400, "bad_request"),
            ("TRACE / HTTP/1.1\r\nHost: a\r\n", 405, "method_refused"),
            ("GET /a%00b HTTP/1.1\r\nHost: a\r\n", 400, "bad_path"),
            ("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n", 405, "method_refused"),
        ] {
            let seen = sends(&format!("{head}{close}")).await;
            is_refused(&seen, status);
            assert!(seen.0.contains(&format!("x-weft-reason: {reason}\r\n")), "{head}: {}", seen.0);
        }
    })
    .await;
}
