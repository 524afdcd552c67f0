//! The echo application over loopback, as clients see it.

use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use crate::echo::identity::Identity;
use crate::echo::listen::{self, Kind, Ports};
use crate::echo::state::State;
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::LocalSet;

/// Status, headers, body and trailers of an answer.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
    trailers: HeaderMap,
}

impl Answer {
    async fn read(response: Response<hyper::body::Incoming>) -> Result<Self, hyper::Error> {
        let (head, body) = response.into_parts();
        let body = body.collect().await?;
        let trailers = body.trailers().cloned().unwrap_or_default();
        Ok(Self { status: head.status, headers: head.headers, body: body.to_bytes(), trailers })
    }

    fn header(&self, name: &str) -> &str {
        let found = self.headers.get(name).or_else(|| self.trailers.get(name));
        found.map_or("", |value| value.to_str().expect("this works"))
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("this works")
    }
}

/// Runs a test beside an echo application on one port.
fn with_echo<F: Future>(
    kind: Kind,
    forward_to: Option<http::Uri>,
    test: impl FnOnce(SocketAddr) -> F,
) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("this works");
    LocalSet::new().block_on(&runtime, async {
        let identity = Identity { pod: "echo-0".into(), version: "v7".into(), ..Identity::default() };
        let listener = listen::bind(0).expect("this works");
        let port = listener.local_addr().expect("this works").port();
        let ports = Ports::new(Rc::new(State::new(identity, forward_to)));
        tokio::task::spawn_local(async move { ports.serve(kind, listener).await.expect("this works") });
        tokio::time::timeout(Duration::from_secs(20), test((Ipv4Addr::LOCALHOST, port).into()))
            .await
            .expect("this works")
    })
}

fn request(
    method: &str,
    uri: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::new(body.into())).expect("this works")
}

async fn ask1(to: SocketAddr, request: Request<Full<Bytes>>) -> Result<Answer, hyper::Error> {
    let stream = TcpStream::connect(to).await.expect("this works");
    let mut builder = http1::Builder::new();
    let (mut sender, connection) =
        builder.preserve_header_case(true).title_case_headers(true).handshake(TokioIo::new(stream)).await?;
    tokio::task::spawn_local(connection);
    Answer::read(sender.send_request(request).await?).await
}

async fn ask2(to: SocketAddr, request: Request<Full<Bytes>>) -> Result<Answer, hyper::Error> {
    let stream = TcpStream::connect(to).await.expect("this works");
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    tokio::task::spawn_local(connection);
    Answer::read(sender.send_request(request).await?).await
}

#[test]
fn it_tells_what_it_heard_and_who_it_is() {
    with_echo(Kind::Http, None, async |to| {
        let headers = [("host", "somewhere"), ("x-two", "2")];
        let heard = ask1(to, request("PUT", "/a?b=c", &headers, "hello")).await.unwrap();
        let json = heard.json();
        assert_eq!((json["path"].as_str(), json["host"].as_str()), (Some("/a?b=c"), Some("somewhere")));
        assert_eq!(json["headers"][1], serde_json::json!(["X-Two", "2"]), "{json}");
        assert_eq!(
            (json["body_length"].as_u64(), json["http_version"].as_str()),
            (Some(5), Some("HTTP/1.1"))
        );
        assert_eq!((heard.header("x-echo-pod"), heard.header("x-echo-version")), ("echo-0", "v7"));
        let heard = ask2(to, request("GET", "http://else/", &[], "")).await.unwrap().json();
        assert_eq!((heard["host"].as_str(), heard["http_version"].as_str()), (Some("else"), Some("HTTP/2")));
    });
}

#[test]
fn a_request_can_ask_for_a_behaviour() {
    with_echo(Kind::Http, None, async |to| {
        let asked = ask1(to, request("GET", "/?status=418&bytes=100000&header=a:b", &[], "")).await.unwrap();
        assert_eq!((asked.status.as_u16(), asked.body.len(), asked.header("a")), (418, 100_000, "b"));
        let back = ask2(to, request("POST", "/?echo=1", &[], "to and fro")).await.unwrap();
        assert_eq!(back.body, "to and fro");
        let trailers =
            ask1(to, request("GET", "/?trailers=1&bytes=5", &[("te", "trailers")], "")).await.unwrap();
        assert_eq!(trailers.header("x-echo-checksum").len(), 16);
        for uri in ["/?reset=head", "/?reset=body&bytes=1M"] {
            assert!(ask1(to, request("GET", uri, &[], "")).await.is_err(), "{uri}");
            assert!(ask2(to, request("GET", &format!("http://a{uri}"), &[], "")).await.is_err(), "{uri}");
        }
        let wrong = ask1(to, request("GET", "/?delay=soon", &[], "")).await.unwrap();
        assert_eq!(wrong.status, StatusCode::BAD_REQUEST);
    });
}

#[test]
fn the_control_path_holds_until_it_is_spent() {
    with_echo(Kind::Http, None, async |to| {
        let status =
            async |method, uri| ask1(to, request(method, uri, &[], "")).await.unwrap().status.as_u16();
        assert_eq!(status("PUT", "/control?fail=503&count=2&health=500").await, 200);
        assert_eq!((status("GET", "/").await, status("GET", "/healthz").await), (503, 500));
        assert_eq!((status("GET", "/").await, status("GET", "/").await), (503, 200));
        let report = ask1(to, request("GET", "/control", &[], "")).await.unwrap().json();
        assert_eq!((report["requests"].as_u64(), report["affected"].as_u64()), (Some(3), Some(2)));
        assert_eq!(status("PUT", "/control?fial=503").await, 400);
    });
}

#[test]
fn a_port_that_refuses_comes_back() {
    with_echo(Kind::Http, None, async |to| {
        ask1(to, request("PUT", "/control?refuse=1&for=100ms", &[], "")).await.unwrap();
        while TcpStream::connect(to).await.is_ok() {
            tokio::task::yield_now().await;
        }
        while TcpStream::connect(to).await.is_err() {
            tokio::task::yield_now().await;
        }
        assert_eq!(ask1(to, request("GET", "/healthz", &[], "")).await.unwrap().status, StatusCode::OK);
    });
}

#[test]
fn a_gateway_passes_on_who_asks_and_what_for() {
    with_echo(Kind::Http, None, async |service| {
        let uri = format!("/forward?url=http://{service}/x?y=z");
        let headers = [("end-user", "premium"), ("authorization", "Bearer a"), ("cookie", "own")];
        let answer = ask1(service, request("POST", &uri, &headers, "body")).await.unwrap();
        let heard = answer.json();
        let names: Vec<_> =
            heard["headers"].as_array().unwrap().iter().map(|h| h[0].as_str().unwrap()).collect();
        assert_eq!((heard["path"].as_str(), heard["method"].as_str()), (Some("/x?y=z"), Some("POST")));
        assert!(
            names.contains(&"end-user") && names.contains(&"authorization") && !names.contains(&"cookie")
        );
        assert_eq!((heard["body_length"].as_u64(), answer.status), (Some(4), StatusCode::OK));
        let nowhere =
            ask1(service, request("GET", "/forward?url=http://127.0.0.1:1/", &[], "")).await.unwrap();
        assert_eq!((nowhere.status, nowhere.header("x-echo-error")), (StatusCode::BAD_GATEWAY, "connect"));
    });
}

#[test]
fn grpc_in_all_four_shapes() {
    let message = |text: &str| [&[0, 0, 0, 0, u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    let call = async |to, method: &str, extra: &[(&str, &str)], body: Vec<u8>| {
        let headers = [&[("content-type", "application/grpc"), ("te", "trailers")], extra].concat();
        ask2(to, request("POST", &format!("http://echo/weft.echo.v1.Echo/{method}"), &headers, body))
            .await
            .unwrap()
    };
    with_echo(Kind::Http, None, async |to| {
        let two = [message("one"), message("two")].concat();
        let unary = call(to, "Unary", &[], message("one")).await;
        assert_eq!((&unary.body[..], unary.header("grpc-status")), (&message("one")[..], "0"));
        let server = call(to, "ServerStream", &[("x-echo-count", "4")], message("a")).await;
        assert_eq!((server.body.len(), server.header("grpc-status")), (24, "0"));
        let client = call(to, "ClientStream", &[], two.clone()).await;
        assert!(client.body[5..].starts_with(b"{\"messages\":2,\"bytes\":6,"), "{:?}", client.body);
        assert_eq!(call(to, "Bidi", &[], two.clone()).await.body, two);
        let failed = call(to, "Unary", &[("x-echo-grpc-status", "7")], message("one")).await;
        assert_eq!((failed.header("grpc-status"), failed.body.len()), ("7", 0));
        assert_eq!(call(to, "Else", &[], message("one")).await.header("grpc-status"), "12");
        let cut_short = call(to, "Bidi", &[], two[..10].to_vec()).await;
        assert_eq!((cut_short.body.len(), cut_short.header("grpc-status")), (8, "13"));
    });
}

#[test]
fn tcp_comes_back_and_is_summed_up_after_a_half_close() {
    let talk = async |to, text: &[u8]| {
        let mut stream = TcpStream::connect(to).await.unwrap();
        stream.write_all(text).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut back = String::new();
        stream.read_to_string(&mut back).await.unwrap();
        back
    };
    with_echo(Kind::Tcp, None, async |to| {
        let back = talk(to, b"hello").await;
        assert!(back.starts_with("hello{\"bytes\":5,\"checksum\":\""), "{back}");
        assert!(talk(to, b"who\n").await.starts_with("{\"pod\":\"echo-0\","));
    });
    with_echo(Kind::ServerFirst, None, async |to| {
        let mut stream = TcpStream::connect(to).await.unwrap();
        let mut greeting = [0; 25];
        stream.read_exact(&mut greeting).await.unwrap();
        assert_eq!(&greeting, b"220 weft-echo echo-0 v7\r\n");
    });
}
