//! HTTP requests: which part of the application answers them, and the plain answer, which tells what was received.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, TRAILER};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, request};
use hyper::body::Incoming;
use serde::Serialize;
use serde_json::{Value, json};

use crate::echo::behaviour::{Behaviour, Reset};
use crate::echo::body::{self, Body, BoxError, CHECKSUM, message};
use crate::echo::checksum::Checksum;
use crate::echo::forward;
use crate::echo::grpc;
use crate::echo::identity::Identity;
use crate::echo::state::State;
use crate::echo::websocket;
use crate::echo::wire::Tape;

/// What a request's connection knows.
#[derive(Clone, Debug)]
pub struct Context {
    /// The application.
    pub state: Rc<State>,
    /// Connections to forward over.
    pub pool: Rc<forward::Pool>,
    /// Request heads as they came; HTTP/1 only.
    pub tape: Option<Tape>,
    /// The client's address.
    pub client: SocketAddr,
    /// The address that the client reached.
    pub local: SocketAddr,
}

/// What was received, as the plain answer tells it.
#[derive(Debug, Serialize)]
struct Heard<'a> {
    #[serde(flatten)]
    identity: &'a Identity,
    method: &'a str,
    /// Path and query as received.
    path: String,
    host: String,
    http_version: &'static str,
    /// Name and value of each header, in order; HTTP/1 names in the case in which they came.
    headers: Vec<(String, String)>,
    body_length: u64,
    body_checksum: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    trailers: Vec<(String, String)>,
    client: String,
    server: String,
}

/// Answers one request.
///
/// # Errors
/// To have the connection, or the stream, reset.
pub async fn serve(context: Context, request: Request<Incoming>) -> Result<Response<Body>, BoxError> {
    let mut response = match request.uri().path() {
        "/control" => control(&context.state, &request),
        "/healthz" => message(context.state.control.borrow().health(Instant::now()), json!({})),
        _ => application(&context, request).await?,
    };
    if !response.headers().contains_key("x-echo-pod") {
        context.state.identity.stamp(response.headers_mut());
    }
    if let Some(tape) = &context.tape {
        tape.rearm();
    }
    Ok(response)
}

async fn application(context: &Context, request: Request<Incoming>) -> Result<Response<Body>, BoxError> {
    let rule = context.state.rule();
    if grpc::is(&request) {
        return Ok(grpc::answer(&context.state.identity, rule.unwrap_or_default(), request).await);
    }
    match forward::target(context.state.forward_to.as_ref(), request.uri()) {
        Ok(Some(target)) => {
            if let Some(failed) = instead(context, &rule.unwrap_or_default()).await? {
                return Ok(failed);
            }
            Ok(forward::forward(&context.pool, target, request).await)
        }
        Ok(None) => echo(context, &rule.unwrap_or_default(), request).await,
        Err(wrong) => Ok(bad_request(&wrong)),
    }
}

async fn echo(
    context: &Context,
    rule: &Behaviour,
    request: Request<Incoming>,
) -> Result<Response<Body>, BoxError> {
    let (head, body) = request.into_parts();
    let behaviour = match Behaviour::asked(&head) {
        Ok(asked) => asked.over(rule),
        Err(wrong) => return Ok(bad_request(&wrong)),
    };
    let headers = received(context, &head);
    before(context, &behaviour).await?;
    if websocket::is(&head) {
        return Ok(websocket::accept(context.state.identity.clone(), Request::from_parts(head, body)));
    }
    if behaviour.echo {
        return Ok(dressed(&behaviour, body::back(body), None));
    }
    let (checksum, trailers) = body::drain(body).await?;
    let told = heard(context, &head, headers, &checksum, trailers.as_ref());
    let (body, length) = body::answer(told, &behaviour);
    Ok(dressed(&behaviour, body, length))
}

/// What comes before an answer: a pause, or the end of the connection.
async fn before(context: &Context, behaviour: &Behaviour) -> Result<(), BoxError> {
    if let Some(delay) = behaviour.delay {
        tokio::time::sleep(delay).await;
    }
    if let (Some(_), Some(tape)) = (behaviour.reset, &context.tape) {
        tape.cut();
    }
    if behaviour.reset == Some(Reset::Head) { Err(body::reset_error()) } else { Ok(()) }
}

/// What a rule has a forwarding application answer by itself.
async fn instead(context: &Context, rule: &Behaviour) -> Result<Option<Response<Body>>, BoxError> {
    before(context, rule).await?;
    Ok(rule.status.map(|status| message(status, json!({ "error": "as told by the control path" }))))
}

/// Name and value of each header: as they came, where that is known.
fn received(context: &Context, head: &request::Parts) -> Vec<(String, String)> {
    let target = head.uri.to_string();
    let raw = context.tape.as_ref().and_then(|tape| tape.take(head.method.as_str(), &target));
    raw.unwrap_or_else(|| listed(&head.headers))
}

fn listed(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect()
}

fn heard(
    context: &Context,
    head: &request::Parts,
    headers: Vec<(String, String)>,
    checksum: &Checksum,
    trailers: Option<&HeaderMap>,
) -> Bytes {
    let host = head.headers.get("host").and_then(|h| h.to_str().ok());
    let authority = head.uri.authority().map(http::uri::Authority::as_str);
    let heard = Heard {
        identity: &context.state.identity,
        method: head.method.as_str(),
        path: head.uri.path_and_query().map_or_else(String::new, ToString::to_string),
        host: host.or(authority).unwrap_or("").to_owned(),
        http_version: version(head.version),
        headers,
        body_length: checksum.length(),
        body_checksum: checksum.hex(),
        trailers: trailers.map(listed).unwrap_or_default(),
        client: context.client.to_string(),
        server: context.local.to_string(),
    };
    let mut json = serde_json::to_vec(&heard).unwrap_or_default();
    json.push(b'\n');
    json.into()
}

fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2",
        _ => "HTTP/1.1",
    }
}

/// The head that the behaviour asks for, around a body.
fn dressed(behaviour: &Behaviour, body: Body, length: Option<u64>) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = behaviour.status.unwrap_or(StatusCode::OK);
    let headers = response.headers_mut();
    let made_up = behaviour.bytes.is_some() || behaviour.echo;
    let kind = if made_up { "application/octet-stream" } else { "application/json" };
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    if let Some(length) = length {
        headers.insert(CONTENT_LENGTH, length.into());
    }
    if behaviour.trailers {
        headers.insert(TRAILER, HeaderValue::from_name(CHECKSUM));
    }
    if behaviour.close {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    for (name, value) in &behaviour.headers {
        headers.append(name, value.clone());
    }
    response
}

fn bad_request(error: &str) -> Response<Body> {
    message(StatusCode::BAD_REQUEST, json!({ "error": error }))
}

fn control(state: &State, request: &Request<Incoming>) -> Response<Body> {
    let now = Instant::now();
    let query = request.uri().query().unwrap_or("");
    let told = match *request.method() {
        Method::PUT | Method::POST => state.control.borrow_mut().put(query, now),
        Method::DELETE => {
            state.control.borrow_mut().clear();
            Ok(())
        }
        _ => Ok(()),
    };
    let control = state.control.borrow();
    if request.method() != Method::GET {
        state.refuse.send_replace(control.refuse(now).map(|time| now + time));
    }
    match told {
        Ok(()) => message(StatusCode::OK, report(state, &control.report(now))),
        Err(wrong) => bad_request(&wrong),
    }
}

fn report(state: &State, report: &impl Serialize) -> Value {
    let mut value = serde_json::to_value(report).unwrap_or_default();
    value["connections_open"] = state.open.get().into();
    value["connections_accepted"] = state.accepted.get().into();
    value
}
