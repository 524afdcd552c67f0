//! An API server that forbids a kind, or is slow to list it.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{Ready, ready};
use futures_util::stream::{self, BoxStream, StreamExt};
use http_body_util::StreamBody;
use hyper::body::Frame;
use kube::client::Body;
use serde_json::{Value, json};
use tonic::codegen::Service;

use super::*;

/// Answers each list with one object, by the last part of its path, and then says nothing more; what is forbidden it
/// refuses, and a list that is slow it does not end.
#[derive(Clone, Default)]
struct Server {
    forbidden: Arc<Mutex<HashSet<&'static str>>>,
    slow: Option<&'static str>,
}

type Answered = http::Response<StreamBody<BoxStream<'static, Result<Frame<Bytes>, Infallible>>>>;

impl Service<http::Request<Body>> for Server {
    type Response = Answered;
    type Error = Infallible;
    type Future = Ready<Result<Answered, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let kind = request.uri().path().rsplit('/').next().unwrap_or_default();
        let forbidden = self.forbidden.lock().unwrap().contains(kind);
        let lists = request.uri().query().is_some_and(|query| query.contains("sendInitialEvents=true"));
        let (code, lines) = match (forbidden, lists) {
            (true, _) => (403, vec![refusal()]),
            (false, true) if self.slow == Some(kind) => (200, vec![added(kind)]),
            (false, true) => (200, vec![added(kind), end()]),
            (false, false) => (200, Vec::new()),
        };
        let said = stream::iter(lines.into_iter().map(|line| Ok(Frame::data(format!("{line}\n").into()))));
        let body = if forbidden { said.boxed() } else { said.chain(stream::pending()).boxed() };
        ready(Ok(http::Response::builder().status(code).body(StreamBody::new(body)).unwrap()))
    }
}

fn refusal() -> Value {
    json!({"apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure", "code": 403,
        "message": "not yours to read", "reason": "Forbidden"})
}

fn added(kind: &str) -> Value {
    json!({"type": "ADDED", "object": object(kind)})
}

fn end() -> Value {
    json!({"type": "BOOKMARK", "object": {"apiVersion": "v1", "kind": "A", "metadata":
        {"resourceVersion": "9", "annotations": {"k8s.io/initial-events-end": "true"}}}})
}

fn object(kind: &str) -> Value {
    let metadata = json!({"name": kind, "namespace": "n", "resourceVersion": "7"});
    let spec = match kind {
        "customresourcedefinitions" => {
            json!({"group": "networking.istio.io", "names": {"kind": "VirtualService"},
            "versions": [{"name": "v1", "served": true}]})
        }
        _ => json!({}),
    };
    json!({"metadata": metadata, "spec": spec})
}

/// Hears of objects, by kind, until all of these have been named.
async fn until(heard: &mut mpsc::Receiver<Changes>, kinds: &[&str]) -> HashSet<String> {
    let mut named = HashSet::new();
    let hears = async {
        while !kinds.iter().all(|kind| named.contains(*kind)) {
            for event in heard.recv().await.expect("it goes on").events {
                match event {
                    Event::Apply(object) => named.insert(object.id.kind.to_string()),
                    Event::Synced => named.insert("synced".to_owned()),
                    _ => false,
                };
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), hears).await.expect("they are named");
    named
}

#[tokio::test]
async fn f13_a_kind_that_is_forbidden_holds_up_no_other_and_is_named() {
    let server = Server::default();
    server.forbidden.lock().unwrap().extend(["virtualservices", "endpointslices"]);
    let (out, mut heard) = mpsc::channel(16);
    let progress = Progress::default();
    tokio::spawn(Cluster::new(Client::new(server.clone(), "default"), out, progress.clone()).run());

    let others = until(&mut heard, &["Namespace", "Service", "Pod"]).await;
    assert!(!others.contains("synced"), "the world is not whole: {others:?}");
    let tells =
        |kind: &str| progress.lines().iter().any(|line| line.contains(kind) && line.contains("not yours"));
    while !(tells("VirtualService") && tells("EndpointSlice")) {
        tokio::task::yield_now().await;
    }
    assert!(!progress.lines().iter().any(|line| line.contains("Pod")), "{:?}", progress.lines());

    server.forbidden.lock().unwrap().clear();
    until(&mut heard, &["VirtualService", "EndpointSlice", "synced"]).await;
    assert!(progress.lines().is_empty(), "{:?}", progress.lines());
}

#[tokio::test]
async fn f13_a_list_that_takes_long_holds_up_no_other_kind_and_is_named() {
    let server = Server { slow: Some("virtualservices"), ..Server::default() };
    let (out, mut heard) = mpsc::channel(16);
    let progress = Progress::default();
    tokio::spawn(Cluster::new(Client::new(server, "default"), out, progress.clone()).run());

    let all = ["Namespace", "Service", "EndpointSlice", "Pod", "VirtualService"];
    let named = until(&mut heard, &all).await;
    assert!(!named.contains("synced"), "the world is not whole: {named:?}");
    while progress.lines() != ["VirtualService.networking.istio.io: being listed"] {
        tokio::task::yield_now().await;
    }
    while let Ok(changes) = heard.try_recv() {
        assert!(
            !changes.events.iter().any(|event| matches!(event, Event::Synced)),
            "half a list is nobody's world"
        );
    }
}
