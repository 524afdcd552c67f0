//! What upstreams do, and what becomes of it.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weft_core::model::cluster::OutlierDetection;
use weft_core::model::protocol::Protocol;
use weft_proxy::http::version::HttpVersion::Http1;
use weft_testkit::wire::{Step, Upstream, Wire, ok};
use weft_testkit::world::World;

use crate::bed::{Bed, on_worker};

/// The instruction of a socket filter that says how much of a segment is taken.
const BPF_RETURN: u16 = 6;
const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody";

fn respond(text: &str) -> Step {
    Step::Write(text.into())
}

fn world(upstreams: &[&Upstream]) -> World {
    let addresses: Vec<_> = upstreams.iter().map(|upstream| upstream.address).collect();
    World::new().service("a", Protocol::Http, &addresses)
}

/// The answers to these requests, one after the other, on one connection.
async fn answers(world: &World, requests: &[&str]) -> Vec<String> {
    let proxy = Bed::new(world).outbound(world, "a", Http1).await;
    let mut client = Wire::connect(proxy).await;
    let mut answers = Vec::new();
    for request in requests {
        client.send(request).await;
        answers.push(client.message().await);
    }
    answers
}

#[track_caller]
fn is(answer: &str, status: u16, reason: &str) {
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    assert!(answer.contains(&format!("x-weft-reason: {reason}\r\n")), "{answer}");
}

#[tokio::test]
async fn g9_an_upstream_that_refuses_is_passed_over_whatever_the_method() {
    on_worker(async {
        let nobody = Upstream::nobody().await;
        let good = Upstream::answering("good").await;
        let world = World::new().service("a", Protocol::Http, &[nobody, good.address]);
        for answer in answers(&world, &[POST; 8]).await {
            assert!(answer.ends_with("good"), "{answer}");
        }
        assert!(good.requests().iter().all(|request| request.ends_with("body")));
        let alone = World::new().service("a", Protocol::Http, &[nobody]);
        is(&answers(&alone, &[GET]).await[0], 503, "connect_failure");
    })
    .await;
}

#[tokio::test]
async fn g9_g11_a_reset_is_tried_again_only_where_nothing_can_happen_twice() {
    on_worker(async {
        let script = || vec![vec![Step::Request, Step::Reset], vec![Step::Request, respond(&ok("twice"))]];
        let upstream = Upstream::start(script()).await;
        let answer = &answers(&world(&[&upstream]), &[GET]).await[0];
        assert!(answer.ends_with("twice"), "{answer}");
        assert!(upstream.requests()[1].contains("x-envoy-attempt-count: 2\r\n"));

        let upstream = Upstream::start(script()).await;
        is(&answers(&world(&[&upstream]), &[POST]).await[0], 503, "upstream_reset");
        assert_eq!(upstream.connections(), 1);
    })
    .await;
}

#[tokio::test]
async fn g11_a_body_is_sent_again_while_it_is_small() {
    on_worker(async {
        let script = || vec![vec![Step::Request, Step::Reset], vec![Step::Request, respond(&ok("twice"))]];
        for (size, again) in [(60 << 10, true), (70 << 10, false)] {
            let upstream = Upstream::start(script()).await;
            let body = "b".repeat(size);
            let put = format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n{body}");
            let answer = &answers(&world(&[&upstream]), &[&put]).await[0];
            assert_eq!(answer.ends_with("twice"), again, "{answer}");
            assert!(upstream.requests().last().unwrap().len() > size);
            assert_eq!(upstream.connections(), if again { 2 } else { 1 });
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn g9_an_upstream_that_hangs_is_given_up_in_time() {
    on_worker(async {
        let upstream = Upstream::start(vec![vec![Step::Request, Step::Hang]]).await;
        let world = world(&[&upstream]).forward(|forward| forward.timeout = Some(Duration::from_secs(2)));
        is(&answers(&world, &[GET]).await[0], 504, "timeout");
        let world = self::world(&[&upstream]).forward(|forward| {
            forward.retries.per_try_timeout = Some(Duration::from_secs(1));
        });
        is(&answers(&world, &[GET]).await[0], 504, "per_try_timeout");
    })
    .await;
}

#[tokio::test]
async fn g10_a_connection_that_closes_as_it_is_used_costs_nothing() {
    on_worker(async {
        let script = vec![vec![Step::Request, respond(&ok("one"))], vec![Step::Request, respond(&ok("two"))]];
        let upstream = Upstream::start(script).await;
        let got = answers(&world(&[&upstream]), &[POST, POST]).await;
        assert!(got[0].ends_with("one") && got[1].ends_with("two"), "{got:?}");
    })
    .await;
}

#[tokio::test]
async fn a24_malformed_responses_are_502_and_their_connection_is_not_used_again() {
    on_worker(async {
        for bad in [
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
            "HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\nabc",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabHTTP/1.1 200 OK\r\n\r\n",
            "HTTP/9.1 200 OK\r\n\r\n",
        ] {
            let script = vec![vec![Step::Request, respond(bad)], vec![Step::Request, respond(&ok("good"))]];
            let upstream = Upstream::start(script).await;
            let got = answers(&world(&[&upstream]), &[GET, GET]).await;
            is(&got[0], 502, "upstream_framing");
            assert!(got[1].ends_with("good"), "{got:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a25_a_body_that_is_cut_never_ends_cleanly() {
    on_worker(async {
        for cut in [
            "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        ] {
            let upstream = Upstream::start(vec![vec![Step::Request, respond(cut)]]).await;
            let world = world(&[&upstream]);
            let bed = Bed::new(&world);
            let proxy = bed.outbound(&world, "a", Http1).await;
            let mut client = Wire::connect(proxy).await;
            client.send(GET).await;
            let answer = client.rest().await;
            assert!(answer.starts_with("HTTP/1.1 200 ") && !answer.ends_with("0\r\n\r\n"), "{answer}");
            assert!(bed.metrics().contains("response_flags=\"UC\""), "{}", bed.metrics());
        }
    })
    .await;
}

#[tokio::test]
async fn a22_interim_responses_are_dropped_and_bounded() {
    on_worker(async {
        let few = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(5) + &ok("done");
        let upstream = Upstream::replying(&few).await;
        let answer = &answers(&world(&[&upstream]), &[GET]).await[0];
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("done"), "{answer}");
        let many = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(50) + &ok("done");
        let upstream = Upstream::replying(&many).await;
        is(&answers(&world(&[&upstream]), &[GET]).await[0], 502, "upstream_framing");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_away_aborts_the_upstream() {
    on_worker(async {
        let script =
            vec![Step::Request, respond("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"), Step::Request];
        let upstream = Upstream::start(vec![script]).await;
        let world = world(&[&upstream]);
        let bed = Bed::new(&world);
        let proxy = bed.outbound(&world, "a", Http1).await;
        let mut client = Wire::connect(proxy).await;
        client.send(GET).await;
        client.head().await;
        drop(client);
        while !bed.metrics().contains("istio_requests_total{") {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(bed.local.pool.connections(), 0, "its connection is not kept");
    })
    .await;
}

#[tokio::test]
async fn max_requests_per_connection_closes_it() {
    on_worker(async {
        let upstream = Upstream::answering("x").await;
        let world = world(&[&upstream]).cluster(|cluster| {
            cluster.connections.max_requests_per_connection = Some(2);
        });
        answers(&world, &[GET; 6]).await;
        assert_eq!((upstream.requests().len(), upstream.connections()), (6, 3));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn h3_what_exceeds_the_pool_overflows_at_once() {
    on_worker(async {
        let upstream = Upstream::start(vec![vec![Step::Request, Step::Hang]]).await;
        let world = world(&[&upstream]).cluster(|cluster| {
            cluster.connections.max_connections = Some(1);
            cluster.connections.max_pending_requests = Some(1);
        });
        let bed = Bed::new(&world);
        let proxy = bed.outbound(&world, "a", Http1).await;
        let mut clients = Vec::new();
        for under_way in 1..=2 {
            let mut client = Wire::connect(proxy).await;
            client.send(GET).await;
            clients.push(client);
            if under_way == 1 {
                while upstream.requests().is_empty() {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        let mut third = Wire::connect(proxy).await;
        third.send(GET).await;
        let answer = third.message().await;
        is(&answer, 503, "overflow");
        assert!(answer.contains("x-envoy-overloaded: true\r\n"), "{answer}");
        assert_eq!(upstream.connections(), 1);
    })
    .await;
}

#[tokio::test]
async fn who_waits_is_served_in_turn_when_a_connection_is_free() {
    on_worker(async {
        let upstream = Upstream::answering("x").await;
        let world = world(&[&upstream]).cluster(|cluster| cluster.connections.max_connections = Some(1));
        let bed = Bed::new(&world);
        let proxy = bed.outbound(&world, "a", Http1).await;
        let mut clients = Vec::new();
        for _ in 0..20 {
            let mut client = Wire::connect(proxy).await;
            client.send(GET).await;
            clients.push(client);
        }
        for mut client in clients {
            assert!(client.message().await.ends_with('x'));
        }
        assert_eq!((upstream.requests().len(), upstream.connections()), (20, 1));
    })
    .await;
}

#[tokio::test]
async fn a_worker_with_an_idle_connection_gives_it_up_to_another() {
    on_worker(async {
        let upstream = Upstream::answering("x").await;
        let world = world(&[&upstream]).cluster(|cluster| cluster.connections.max_connections = Some(1));
        let one = Bed::new(&world);
        let two = Bed::beside(&one);
        for bed in [&one, &two, &one, &two] {
            let proxy = bed.outbound(&world, "a", Http1).await;
            let mut client = Wire::connect(proxy).await;
            client.send(GET).await;
            assert!(client.message().await.ends_with('x'));
        }
        assert_eq!(upstream.connections(), 4);
    })
    .await;
}

#[tokio::test]
async fn h10_an_endpoint_that_fails_is_set_aside_and_idempotent_requests_see_nothing() {
    on_worker(async {
        let bad = Upstream::replying("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n").await;
        let good = Upstream::answering("good").await;
        let world = world(&[&bad, &good]).cluster(|cluster| {
            cluster.outlier = Some(OutlierDetection {
                consecutive_5xx: 3,
                max_ejection_percent: 100,
                ..OutlierDetection::default()
            });
        });
        for answer in answers(&world, &[GET; 40]).await {
            assert!(answer.ends_with("good"), "{answer}");
        }
        assert_eq!((bad.requests().len(), bad.connections()), (3, 1));
    })
    .await;
}

/// What so many clients are answered that ask at once.
async fn answers_at_once(world: &World, clients: usize) -> Vec<String> {
    let proxy = Bed::new(world).outbound(world, "a", Http1).await;
    let mut waiting = Vec::new();
    for _ in 0..clients {
        let mut client = Wire::connect(proxy).await;
        client.send(GET).await;
        waiting.push(client);
    }
    let mut answers = Vec::new();
    for mut client in waiting {
        answers.push(client.message().await);
    }
    answers
}

#[tokio::test(start_paused = true)]
async fn g12_a_storm_of_failures_keeps_to_the_budget() {
    on_worker(async {
        let no = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";
        let script = vec![Step::Request, Step::Pause(Duration::from_secs(1)), respond(no), Step::Again];
        let bad = Upstream::start(vec![script]).await;
        let world = world(&[&bad]).forward(|forward| forward.retries.backoff = Duration::ZERO);
        for answer in answers_at_once(&world, 50).await {
            assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        }
        let requests = bad.requests();
        let second = requests.iter().filter(|request| request.contains("x-envoy-attempt-count: 2\r\n"));
        assert_eq!(second.count(), 10, "a fifth of fifty");
        assert!(requests.len() <= 50 + 10 + 3, "{}", requests.len());
    })
    .await;
}

#[tokio::test]
async fn g12_tries_that_reach_nobody_are_no_load_and_take_nothing_of_the_budget() {
    on_worker(async {
        let (nobody, good) = (Upstream::nobody().await, Upstream::answering("good").await);
        let world = World::new().service("a", Protocol::Http, &[nobody, good.address]);
        for answer in answers_at_once(&world, 50).await {
            assert!(answer.ends_with("good"), "{answer}");
        }
        let alone = World::new().service("a", Protocol::Http, &[nobody]);
        for answer in answers_at_once(&alone, 10).await {
            is(&answer, 503, "connect_failure");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a16_an_upstream_that_does_not_read_stops_the_client() {
    on_worker(async {
        let upstream = Upstream::start(vec![vec![Step::Head, Step::Hang]]).await;
        let inside = World::new().port(8080, Protocol::Http);
        let server = Bed::new(&inside).inbound(upstream.address, Http1, None).await;
        let world = World::new().service("a", Protocol::Http, &[server]);
        let proxy = Bed::new(&world).outbound(&world, "a", Http1).await;
        let mut client = Wire::connect(proxy).await;
        client.send(format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", 1 << 30)).await;
        let chunk = vec![0_u8; 64 << 10];
        let mut taken = 0;
        while taken < 256 << 20 {
            let sent = tokio::time::timeout(Duration::from_millis(500), client.send(&chunk)).await;
            if sent.is_err() {
                break;
            }
            taken += chunk.len();
        }
        // What the sockets of the kernel hold, on three connections.
        assert!(taken < 64 << 20, "{taken} bytes were taken");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a15_a_body_that_does_not_come_is_answered_and_the_upstream_given_up() {
    on_worker(async {
        let upstream = Upstream::start(vec![vec![Step::Head, Step::Hang]]).await;
        let world = world(&[&upstream]);
        let bed = Bed::new(&world);
        let inside = Bed::new(&World::new().port(8080, Protocol::Http));
        let proxies =
            [bed.outbound(&world, "a", Http1).await, inside.inbound(upstream.address, Http1, None).await];
        for proxy in proxies {
            let mut client = Wire::connect(proxy).await;
            client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc").await;
            let began = tokio::time::Instant::now();
            tokio::time::sleep(Duration::from_secs(299)).await;
            client.send("d").await;
            tokio::time::sleep(Duration::from_secs(299)).await;
            client.send("e").await;
            tokio::time::sleep(Duration::from_secs(601)).await;
            let answer = client.rest().await;
            assert!(answer.starts_with("HTTP/1.1 408 "), "{answer} after {:?}", began.elapsed());
        }
        assert_eq!((bed.local.pool.connections(), inside.local.pool.connections()), (0, 0));
    })
    .await;
}

#[tokio::test]
async fn connections_to_endpoints_that_are_gone_are_closed_at_once() {
    on_worker(async {
        let upstream = Upstream::answering("fine").await;
        let world = world(&[&upstream]);
        let bed = Bed::new(&world);
        let proxy = bed.outbound(&world, "a", Http1).await;
        let mut client = Wire::connect(proxy).await;
        client.send(GET).await;
        client.message().await;
        while bed.local.pool.connections() == 0 {
            tokio::task::yield_now().await;
        }
        bed.mesh.swap(self::world(&[]).snapshot(), &Default::default());
        while bed.local.pool.connections() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_connection_without_requests_is_closed_after_an_hour() {
    on_worker(async {
        let upstream = Upstream::answering("fine").await;
        let world = world(&[&upstream]);
        let proxy = Bed::new(&world).outbound(&world, "a", Http1).await;
        let mut client = Wire::connect(proxy).await;
        for _ in 0..3 {
            client.send(GET).await;
            assert!(client.message().await.ends_with("fine"));
            pass(Duration::from_secs(3500)).await;
        }
        pass(Duration::from_secs(3800)).await;
        assert_eq!(client.rest().await, "");
    })
    .await;
}

/// Lets time pass at once while nothing is under way: a clock that stood still would jump ahead of bytes that are.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::sleep(time).await;
    tokio::time::resume();
}

#[tokio::test(start_paused = true)]
async fn g15_an_upstream_that_vanished_is_noticed() {
    on_worker(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let world = World::new().service("a", Protocol::Http, &[listener.local_addr().unwrap()]);
        let proxy = Bed::new(&world).outbound(&world, "a", Http1).await;
        let mut client = tokio::net::TcpStream::connect(proxy).await.unwrap();
        let vanish = async {
            let (upstream, _) = listener.accept().await.unwrap();
            // From now on the kernel drops every segment to it: nothing is acknowledged.
            let drop_all = socket2::SockFilter::new(BPF_RETURN, 0, 0, 0);
            socket2::SockRef::from(&upstream).attach_filter(&[drop_all]).unwrap();
            upstream
        };
        let (_upstream, sent) = tokio::join!(vanish, client.write_all(POST.as_bytes()));
        sent.unwrap();
        let mut answer = [0; 1024];
        // The kernel's own time counts here, which no test can pause: some three seconds.
        let count = client.read(&mut answer).await.unwrap();
        is(&String::from_utf8_lossy(&answer[..count]), 503, "upstream_reset");
    })
    .await;
}
