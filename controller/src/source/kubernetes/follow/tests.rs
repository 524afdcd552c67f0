//! An API server by a script: away, forgetful, silent.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Mutex;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use http_body_util::StreamBody;
use hyper::body::Frame;
use kube::client::Body;
use serde_json::json;
use tonic::codegen::Service;

use super::*;
use crate::source::kubernetes::fields::NamespaceFields;

/// What the API server does with one request.
enum Answer {
    /// There is none.
    Away,
    /// It says no.
    Refused(u16),
    /// It says these lines, and then nothing without closing.
    Silence(Vec<Value>),
}

/// The answers to come; when there is none any more, it is silent.
#[derive(Clone, Default)]
struct Scripted {
    answers: Arc<Mutex<VecDeque<Answer>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

type Answered = http::Response<StreamBody<BoxStream<'static, Result<Frame<Bytes>, Infallible>>>>;

impl Service<http::Request<Body>> for Scripted {
    type Response = Answered;
    type Error = std::io::Error;
    type Future = BoxFuture<'static, Result<Answered, std::io::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), std::io::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let query = request.uri().query().unwrap_or_default().to_owned();
        self.asked.lock().unwrap().push(query);
        let answer = self.answers.lock().unwrap().pop_front();
        Box::pin(async move {
            match answer.unwrap_or(Answer::Silence(Vec::new())) {
                Answer::Away => Err(std::io::ErrorKind::ConnectionRefused.into()),
                Answer::Refused(code) => {
                    let body = stream::iter([line(&status(code))]).boxed();
                    Ok(http::Response::builder().status(code).body(StreamBody::new(body)).unwrap())
                }
                Answer::Silence(lines) => {
                    let said = stream::iter(lines.iter().map(line).collect::<Vec<_>>());
                    Ok(http::Response::new(StreamBody::new(said.chain(stream::pending()).boxed())))
                }
            }
        })
    }
}

fn line(value: &Value) -> Result<Frame<Bytes>, Infallible> {
    Ok(Frame::data(format!("{value}\n").into()))
}

fn status(code: u16) -> Value {
    json!({"apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure", "message": "no", "reason": "No",
        "code": code})
}

fn namespace(name: &str, version: u64) -> Value {
    json!({"metadata": {"name": name, "resourceVersion": version.to_string()}})
}

fn added(name: &str, version: u64) -> Value {
    json!({"type": "ADDED", "object": namespace(name, version)})
}

fn deleted(name: &str, version: u64) -> Value {
    json!({"type": "DELETED", "object": namespace(name, version)})
}

/// The end of a streamed list.
fn end(version: u64) -> Value {
    json!({"type": "BOOKMARK", "object": {"apiVersion": "v1", "kind": "Namespace", "metadata":
        {"resourceVersion": version.to_string(), "annotations": {LIST_ENDS: "true"}}}})
}

/// A bookmark of a watch.
fn mark(version: u64) -> Value {
    json!({"type": "BOOKMARK", "object": {"apiVersion": "v1", "kind": "Namespace", "metadata":
        {"resourceVersion": version.to_string()}}})
}

/// A follower of namespaces before a scripted API server.
struct Following {
    server: Scripted,
    progress: Progress,
    heard: mpsc::Receiver<Changes>,
}

impl Following {
    fn start(script: impl IntoIterator<Item = Answer>) -> Self {
        let server =
            Scripted { answers: Arc::new(Mutex::new(script.into_iter().collect())), ..Scripted::default() };
        let client = Client::new(server.clone(), "default");
        let (out, heard) = mpsc::channel(16);
        let progress = Progress::default();
        let resource = Resource::core("", "Namespace", "namespaces");
        let mut follower = Follower::<NamespaceFields>::new(client, resource, out, progress.clone());
        follower.patience = Patience { silence: Duration::from_millis(20), pause: Duration::ZERO };
        tokio::spawn(follower.run());
        Self { server, progress, heard }
    }

    /// The next so many events, as words.
    async fn hear(&mut self, count: usize) -> Vec<String> {
        let mut all = Vec::new();
        while all.len() < count {
            let changes = self.heard.recv().await.expect("it goes on");
            all.extend(changes.events.iter().map(|event| match event {
                Event::Listing(_) => "listing".to_owned(),
                Event::Listed(_) => "listed".to_owned(),
                Event::Apply(object) => format!("+{}", object.id.name),
                Event::Delete(id) => format!("-{}", id.name),
                other => format!("{other:?}"),
            }));
        }
        all
    }

    /// Whether each request so far wants a list, or else from which version on.
    fn asked(&self) -> Vec<String> {
        let what = |query: &String| match query.contains("sendInitialEvents=true") {
            true => "list".to_owned(),
            false => query
                .split('&')
                .find_map(|part| part.strip_prefix("resourceVersion="))
                .unwrap_or("?")
                .to_owned(),
        };
        self.server.asked.lock().unwrap().iter().map(what).collect()
    }
}

#[tokio::test]
async fn f13_an_api_server_that_is_away_at_the_start_is_asked_until_it_is_there() {
    let away = (0..8).map(|_| Answer::Away);
    let busy = [429, 500, 503].map(Answer::Refused);
    let there = Answer::Silence(vec![added("a", 7), end(9)]);
    let mut following = Following::start(away.chain(busy).chain([there]));
    let heard = following.hear(6).await;
    assert_eq!(heard[..4], ["listing"; 4], "a list that is refused is one that breaks off: {heard:?}");
    assert_eq!(heard[4..], ["+a", "listed"], "and only one that is whole ends");
    assert_eq!(following.asked()[..12], ["list"; 12], "it is asked again and again");
    assert!(following.progress.lines().is_empty());
}

#[tokio::test]
async fn f12_what_the_api_server_has_forgotten_is_listed_anew_at_once() {
    let gone = json!({"type": "ERROR", "object": status(GONE)});
    let first = Answer::Silence(vec![added("a", 7), added("b", 8), end(9), gone]);
    let again = Answer::Silence(vec![added("b", 8), end(20), deleted("b", 21)]);
    let mut following = Following::start([first, again]);
    assert_eq!(following.hear(4).await, ["listing", "+a", "+b", "listed"]);
    assert_eq!(following.hear(4).await, ["listing", "+b", "listed", "-b"], "what it does not name is gone");
    assert_eq!(following.asked()[1], "list");
    assert!(following.progress.lines().is_empty());
}

#[tokio::test]
async fn f12_a_watch_that_says_nothing_is_given_up_and_goes_on_where_it_was() {
    let first = Answer::Silence(vec![added("a", 7), end(9), added("b", 11)]);
    let after = Answer::Silence(vec![added("c", 12)]);
    let mut following =
        Following::start([first, after, Answer::Refused(GONE), Answer::Silence(vec![end(30)])]);
    assert_eq!(following.hear(5).await, ["listing", "+a", "listed", "+b", "+c"]);
    assert_eq!(
        following.hear(2).await,
        ["listing", "listed"],
        "it was silent for so long that it is forgotten"
    );
    assert_eq!(following.asked()[..4], ["list", "11", "12", "list"]);
}

#[tokio::test]
async fn f12_what_is_said_twice_or_too_late_changes_nothing() {
    let gone = [deleted("a", 10), added("b", 12)];
    let late = [added("a", 7), added("a", 10), added("b", 12), deleted("b", 11), mark(8)];
    let first = [added("a", 7), end(9)].into_iter().chain(gone).chain(late).chain([added("c", 13)]);
    let mut following = Following::start([Answer::Silence(first.collect())]);
    assert_eq!(following.hear(6).await, ["listing", "+a", "listed", "-a", "+b", "+c"]);
    while following.asked().len() < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(following.asked()[..2], ["list", "13"]);
}

#[tokio::test]
async fn f12_a_list_that_breaks_off_begins_anew() {
    let broken = json!({"type": "ERROR", "object": status(500)});
    let first = Answer::Silence(vec![added("a", 7), broken]);
    let again = Answer::Silence(vec![added("b", 8), end(9)]);
    let mut following = Following::start([first, again]);
    assert_eq!(following.hear(5).await, ["listing", "+a", "listing", "+b", "listed"]);
}
