//! HTTP/2, gRPC, upgrades, expectations, and the end of a pod.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use weft_core::model::protocol::Protocol;
use weft_proxy::http::version::HttpVersion::{Http1, Http2};
use weft_testkit::http2::{self, Upstream2, What};
use weft_testkit::wire::{Step, Upstream, Wire, ok};
use weft_testkit::world::{World, identity};

use crate::bed::{Bed, on_worker};

fn get(path: &str) -> Request<Full<Bytes>> {
    Request::builder().uri(format!("http://a{path}")).body(Full::default()).expect("a request")
}

async fn text(response: Response<hyper::body::Incoming>) -> String {
    let body = response.into_body().collect().await.expect("a body").to_bytes();
    String::from_utf8_lossy(&body).into_owned()
}

#[tokio::test]
async fn http2_goes_through_both_sidecars_on_one_connection() {
    on_worker(async {
        let application = Upstream2::start(vec![What::Answer("two")]).await;
        let inside = World::new().port(8080, Protocol::Auto);
        let server = Bed::new(&inside).inbound(application.address, Http2, None).await;
        let world = World::new().service("a", Protocol::Auto, &[server]);
        let proxy = Bed::new(&world).outbound(&world, "a", Http2).await;
        let client = http2::connect(proxy).await;
        let all = (0..20).map(|_| client.clone().send_request(get("/")));
        for response in futures_util::future::join_all(all).await {
            let response = response.unwrap();
            assert_eq!((response.status(), response.version()), (StatusCode::OK, Version::HTTP_2));
            assert_eq!(text(response).await, "two");
        }
        assert_eq!(application.connections(), 1);
    })
    .await;
}

#[tokio::test]
async fn an_http2_connection_serves_more_requests_than_it_has_streams_at_a_time() {
    on_worker(async {
        let upstream = Upstream2::start(vec![What::Answer("two")]).await;
        let world = World::new().service("a", Protocol::Auto, &[upstream.address]);
        let proxy = Bed::new(&world).outbound(&world, "a", Http2).await;
        let client = http2::connect(proxy).await;
        for _ in 0..500 {
            let response = client.clone().send_request(get("/")).await.unwrap();
            assert_eq!(text(response).await, "two");
        }
        assert_eq!(upstream.connections(), 1);
    })
    .await;
}

#[tokio::test]
async fn an_http2_connection_carries_as_many_requests_as_its_cluster_allows() {
    on_worker(async {
        let upstream = Upstream2::start(vec![What::Hang]).await;
        let world = World::new()
            .service("a", Protocol::Auto, &[upstream.address])
            .cluster(|cluster| cluster.connections.max_concurrent_streams = Some(2));
        let client = http2::connect(Bed::new(&world).outbound(&world, "a", Http2).await).await;
        let all = futures_util::future::join_all((0..5).map(|_| client.clone().send_request(get("/"))));
        let begun = async {
            while upstream.begun() < 5 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            answers = all => panic!("{answers:?}"),
            () = begun => {}
        }
        assert_eq!(upstream.connections(), 3);
    })
    .await;
}

#[tokio::test]
async fn a_port_declared_http2_is_spoken_to_in_http2_by_http1_clients_too() {
    on_worker(async {
        let upstream = Upstream2::start(vec![What::Answer("two")]).await;
        let world = World::new().service("a", Protocol::Http2, &[upstream.address]);
        let proxy = Bed::new(&world).outbound(&world, "a", Http1).await;
        let mut client = Wire::connect(proxy).await;
        client.send("POST /x HTTP/1.1\r\nHost: a.example\r\nContent-Length: 2\r\n\r\nhi").await;
        let answer = client.message().await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("3\r\ntwo\r\n0\r\n\r\n"), "{answer}");
        let seen = &upstream.requests()[0];
        assert_eq!((seen.uri.to_string().as_str(), seen.body.as_str()), ("http://a.example/x", "hi"));
        assert!(!seen.headers.contains_key("host"));
    })
    .await;
}

#[tokio::test]
async fn grpc_trailers_and_statuses_come_through_and_the_mesh_answers_in_grpc() {
    on_worker(async {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "5".parse().unwrap());
        trailers.insert("host", "forbidden".parse().unwrap());
        let upstream = Upstream2::start(vec![What::Trailers("\0\0\0\0\x07message", trailers)]).await;
        let world = World::new().service("a", Protocol::Grpc, &[upstream.address]);
        let bed = Bed::new(&world);
        let mut client = http2::connect(bed.outbound(&world, "a", Http2).await).await;
        let mut request = get("/pkg.Service/Method");
        request.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
        request.headers_mut().insert("te", "trailers".parse().unwrap());
        let response = client.send_request(request.clone()).await.unwrap();
        let collected = response.into_body().collect().await.unwrap();
        let trailers = collected.trailers().unwrap();
        assert_eq!(trailers["grpc-status"], "5");
        assert!(!trailers.contains_key("host"), "a23: forbidden in trailers");
        assert!(upstream.requests()[0].headers.contains_key("te"));
        assert!(bed.metrics().contains("grpc_response_status=\"5\""), "{}", bed.metrics());
        let metrics = bed.metrics();
        let mut messages = metrics.lines().filter(|line| line.starts_with("istio_response_messages_total{"));
        assert!(messages.next().is_some_and(|line| line.ends_with("} 1")), "{metrics}");

        let nobody = World::new().service("a", Protocol::Grpc, &[]);
        let mut client = http2::connect(Bed::new(&nobody).outbound(&nobody, "a", Http2).await).await;
        let response = client.send_request(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["grpc-status"], "14");
        assert_eq!(response.headers()["x-weft-reason"], "no_healthy_upstream");
    })
    .await;
}

#[tokio::test]
async fn streams_flow_both_ways_at_once() {
    on_worker(async {
        let upstream = Upstream2::start(vec![What::Echo]).await;
        let world = World::new().service("a", Protocol::Grpc, &[upstream.address]);
        let proxy = Bed::new(&world).outbound(&world, "a", Http2).await;
        let mut client = http2::connect_streaming(proxy).await;
        let (send, receive) = tokio::sync::mpsc::channel(1);
        let frames = tokio_stream::wrappers::ReceiverStream::new(receive);
        let request = Request::post("http://a/chat").body(StreamBody::new(frames)).unwrap();
        let response = client.send_request(request).await.unwrap();
        let mut body = response.into_body();
        for word in ["one", "two", "three"] {
            send.send(Ok::<_, std::io::Error>(Frame::data(Bytes::from(word)))).await.unwrap();
            assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), word);
        }
        drop(send);
        assert!(body.collect().await.unwrap().to_bytes().is_empty());
    })
    .await;
}

#[tokio::test]
async fn c14_a_refused_stream_is_sent_again_whatever_the_method() {
    on_worker(async {
        let upstream =
            Upstream2::start(vec![What::Reset(h2::Reason::REFUSED_STREAM), What::Answer("ok")]).await;
        let world = World::new().service("a", Protocol::Http2, &[upstream.address]);
        let proxy = Bed::new(&world).outbound(&world, "a", Http2).await;
        let mut client = http2::connect(proxy).await;
        let request = Request::post("http://a/").body(Full::from("body")).unwrap();
        let response = client.send_request(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(upstream.requests().last().unwrap().body, "body");
    })
    .await;
}

#[tokio::test]
async fn c14_a_stream_that_the_application_refused_is_sent_to_it_again() {
    on_worker(async {
        let refuse = What::Reset(h2::Reason::REFUSED_STREAM);
        let application = Upstream2::start(vec![refuse, What::Answer("ok")]).await;
        let inside = World::new().port(8080, Protocol::Http2);
        let server = Bed::new(&inside).inbound(application.address, Http2, None).await;
        let mut client = http2::connect(server).await;
        let request = Request::post("http://a/").body(Full::from("body")).unwrap();
        let response = client.send_request(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(application.requests().last().unwrap().body, "body");
    })
    .await;
}

#[tokio::test]
async fn c13_requests_behind_a_goaway_are_sent_again_on_another_connection() {
    on_worker(async {
        let upstream = Upstream2::start(vec![What::AnswerAndGo("last"), What::Answer("next")]).await;
        let world = World::new().service("a", Protocol::Http2, &[upstream.address]);
        let proxy = Bed::new(&world).outbound(&world, "a", Http2).await;
        let client = http2::connect(proxy).await;
        for _ in 0..10 {
            let request = Request::post("http://a/").body(Full::from("body")).unwrap();
            let response = client.clone().send_request(request).await.unwrap();
            assert_eq!(response.status(), StatusCode::OK);
        }
        assert!(upstream.connections() >= 2);
    })
    .await;
}

#[tokio::test]
async fn a25_a_reset_upstream_stream_is_a_reset_downstream() {
    on_worker(async {
        let upstream = Upstream2::start(vec![What::Cut("half")]).await;
        let world = World::new().service("a", Protocol::Http2, &[upstream.address]);
        let proxy = Bed::new(&world).outbound(&world, "a", Http2).await;
        let mut client = http2::connect(proxy).await;
        let response = client.send_request(get("/")).await.unwrap();
        assert!(response.into_body().collect().await.is_err());
    })
    .await;
}

const UPGRADE: &str =
    "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

#[tokio::test]
async fn an_upgrade_tunnels_both_ways_through_both_sidecars() {
    on_worker(async {
        let write = |text: &str| Step::Write(text.into());
        let script = vec![Step::Head, write(SWITCH), Step::Head, write("pong\r\n\r\n")];
        let application = Upstream::start(vec![script]).await;
        let inside = World::new().port(8080, Protocol::Http);
        let server = Bed::new(&inside).inbound(application.address, Http1, None).await;
        let world = World::new().service("a", Protocol::Http, &[server]);
        let proxy = Bed::new(&world).outbound(&world, "a", Http1).await;
        let mut client = Wire::connect(proxy).await;
        client.send(UPGRADE).await;
        let answer = client.head().await;
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        assert!(answer.to_ascii_lowercase().contains("upgrade: websocket\r\n"), "{answer}");
        client.send("ping\r\n\r\n").await;
        assert_eq!(client.rest().await, "pong\r\n\r\n");
        assert_eq!(application.requests()[1], "ping\r\n\r\n");
    })
    .await;
}

#[tokio::test]
async fn g21_what_follows_a_refused_upgrade_is_a_request() {
    on_worker(async {
        let upstream = Upstream::answering("no").await;
        let world = World::new().service("a", Protocol::Http, &[upstream.address]);
        let proxy = Bed::new(&world).outbound(&world, "a", Http1).await;
        let mut client = Wire::connect(proxy).await;
        client.send(format!("{UPGRADE}GET /second HTTP/1.1\r\nHost: a\r\nx: y\r\n\r\n")).await;
        assert!(client.message().await.ends_with("no"));
        assert!(client.message().await.ends_with("no"));
        let requests = upstream.requests();
        assert_eq!(requests.len(), 2);
        assert!(requests[1].starts_with("GET /second HTTP/1.1\r\n"), "{requests:?}");
    })
    .await;
}

const EXPECT: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n";

#[tokio::test]
async fn a21_100_comes_when_the_application_sends_it() {
    on_worker(async {
        let write = |text: &str| Step::Write(text.into());
        let script =
            vec![Step::Head, write("HTTP/1.1 100 Continue\r\n\r\n"), Step::Body(4), write(&ok("thanks"))];
        let application = Upstream::start(vec![script]).await;
        let inside = World::new().port(8080, Protocol::Http);
        let server = Bed::new(&inside).inbound(application.address, Http1, None).await;
        let world = World::new().service("a", Protocol::Http, &[server]);
        let proxy = Bed::new(&world).outbound(&world, "a", Http1).await;
        let mut client = Wire::connect(proxy).await;
        client.send(EXPECT).await;
        assert_eq!(client.head().await, "HTTP/1.1 100 Continue\r\n\r\n");
        client.send("body").await;
        assert!(client.message().await.ends_with("thanks"));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a21_an_answer_without_100_comes_alone() {
    on_worker(async {
        let no = "HTTP/1.1 417 Expectation Failed\r\ncontent-length: 0\r\n\r\n";
        let upstream = Upstream::start(vec![vec![Step::Head, Step::Write(no.into()), Step::Hang]]).await;
        let world = World::new().service("a", Protocol::Http, &[upstream.address]);
        let bed = Bed::new(&world);
        let mut client = Wire::connect(bed.outbound(&world, "a", Http1).await).await;
        client.send(EXPECT).await;
        let answer = client.message().await;
        assert!(answer.starts_with("HTTP/1.1 417 "), "{answer}");
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(bed.local.pool.connections(), 0);
    })
    .await;
}

#[tokio::test]
async fn a_pod_that_ends_says_that_nothing_was_sent_and_its_clients_go_elsewhere() {
    on_worker(async {
        let nobody = Upstream::nobody().await;
        let bed = Bed::new(&World::new().port(8080, Protocol::Http));
        let peer = Some(identity("client"));
        let one = bed.inbound(nobody, Http1, peer.clone()).await;
        let two = bed.inbound(nobody, Http2, peer).await;
        bed.shutdown.begin();
        bed.local.drain.draining().await;
        let mut client = Wire::connect(one).await;
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").await;
        let answer = client.rest().await;
        assert!(
            answer.starts_with("HTTP/1.1 503 ") && answer.contains("x-weft-reason: not_sent\r\n"),
            "{answer}"
        );
        let refused = http2::connect(two).await.send_request(get("/")).await.unwrap_err();
        assert!(http2::reset_with(&refused) == Some(h2::Reason::REFUSED_STREAM), "{refused:?}");
    })
    .await;
}
