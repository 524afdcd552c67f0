//! A small HTTP/1 server for people and probes: administration, metrics, health. Never on a worker's thread.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Body, Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::impatient::Impatient;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 64;
/// Connections at a time.
const MAX_CONNECTIONS: usize = 64;
/// A client that sends no request for this long is let go.
const IDLE: Duration = Duration::from_secs(30);
/// The longest that a client may take for one answer: who reads a byte a second keeps others from being served.
const TAKING: Duration = Duration::from_secs(30);
/// The pause after accepting failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// An answer.
pub type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// What is asked. Bodies of requests are not read.
#[derive(Clone, Debug)]
pub struct Question {
    /// The method.
    pub method: Method,
    /// The path.
    pub path: String,
    /// The query, as sent.
    pub query: String,
    /// Who asks.
    pub from: SocketAddr,
    /// Where it arrived.
    pub to: SocketAddr,
}

/// Who answers.
pub trait Answers: Send + Sync + 'static {
    /// The answer.
    fn answer(&self, question: Question) -> impl Future<Output = Answer> + Send;
}

/// Opens a listener for this process alone: a port that somebody has is an error. An IPv6 one takes no IPv4.
///
/// # Errors
/// The address is taken, does not exist here, or its family is off.
pub fn listen(at: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(at), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if at.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&at.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Opens listeners on every address of both families; IPv4 alone where IPv6 is off.
///
/// # Errors
/// The port is taken.
pub fn listen_everywhere(port: u16) -> io::Result<Vec<TcpListener>> {
    let v4 = listen((Ipv4Addr::UNSPECIFIED, port).into())?;
    let port = v4.local_addr()?.port();
    match listen((Ipv6Addr::UNSPECIFIED, port).into()) {
        Ok(v6) => Ok(vec![v4, v6]),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(error),
        Err(_) => Ok(vec![v4]),
    }
}

/// Serves until the task is dropped.
pub async fn serve<A: Answers>(listener: TcpListener, answers: Arc<A>) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, from)) => {
                let answers = answers.clone();
                tokio::spawn(async move {
                    serve_connection(stream, from, answers).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accepting failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve_connection<A: Answers>(stream: TcpStream, from: SocketAddr, answers: Arc<A>) {
    let Ok(to) = stream.local_addr() else { return };
    let service = service_fn(move |request: Request<Incoming>| {
        let answers = answers.clone();
        async move { Ok::<_, Infallible>(answers.answer(Question::of(&request, from, to)).await) }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(IDLE).max_buf_size(16 * 1024);
    // Whoever goes away in the middle, or takes too long, is no concern of ours.
    let _ = server.serve_connection(TokioIo::new(Impatient::new(stream, TAKING)), service).await;
}

impl Question {
    fn of(request: &Request<Incoming>, from: SocketAddr, to: SocketAddr) -> Self {
        Self {
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            query: request.uri().query().unwrap_or_default().to_owned(),
            from,
            to,
        }
    }

    /// A parameter of the query.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .find(|(key, _)| *key == name)
            .map(|(_, v)| v)
    }
}

/// Plain text.
pub fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    with_type(status, "text/plain; charset=utf-8", body.into())
}

/// JSON, laid out for reading.
pub fn json(value: &serde_json::Value) -> Answer {
    with_type(StatusCode::OK, "application/json", format!("{value:#}\n").into())
}

/// Prometheus' text format, in pieces that are taken as the client reads.
pub fn metrics(pieces: impl Iterator<Item = Bytes> + Send + 'static) -> Answer {
    let frames = pieces.map(|piece| Ok(Frame::data(piece)));
    let body = StreamBody::new(futures_util::stream::iter(frames));
    with_body(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", body)
}

fn with_type(status: StatusCode, kind: &'static str, body: Bytes) -> Answer {
    with_body(status, kind, Full::new(body))
}

/// Lines of JSON that come one by one.
pub fn lines(body: impl Body<Data = Bytes, Error = Infallible> + Send + 'static) -> Answer {
    with_body(StatusCode::OK, "application/x-ndjson", body)
}

fn with_body(
    status: StatusCode,
    kind: &'static str,
    body: impl Body<Data = Bytes, Error = Infallible> + Send + 'static,
) -> Answer {
    let mut answer = Response::new(body.boxed_unsync());
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_found() {
        let query = "level=debug&x=1".to_owned();
        let from = SocketAddr::from(([127, 0, 0, 1], 1));
        let question = Question { method: Method::GET, path: "/".to_owned(), query, from, to: from };
        assert_eq!(question.parameter("level"), Some("debug"));
        assert_eq!(question.parameter("y"), None);
    }
}
