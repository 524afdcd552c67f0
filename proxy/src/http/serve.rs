//! One connection from a client, served by hyper: the guard in front, limits, an orderly end.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use http::{Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use weft_core::http::head::Limits;
use weft_core::overload::Level;

use super::body::Body;
use super::cork::Cork;
use super::exec::StreamExecutor;
use super::fault::{Cut, CutError};
use super::frame_guard::FrameGuard;
use super::guard::{Exchange, Refused, ServerGuard};
use super::turn::Turn;
use super::version::{CONNECTION_WINDOW, HEADER_LIST, HTTP1_BUFFER, HttpVersion, SEND_BUFFER, STREAM_WINDOW};
use crate::drain::Drain;
use crate::io::Io;
use crate::overload::Overload;
use crate::rarely::Rarely;

/// A head must be whole so long after its first byte (hardening A14).
const HEAD_TIME: Duration = Duration::from_secs(10);
/// Requests under way on one HTTP/2 connection.
const STREAMS: u32 = 1000;
/// Streams that a client resets before they were looked at, in a row (hardening C1).
const UNSEEN_RESETS: usize = 20;
/// Streams that a client makes us reset, over the life of its connection (hardening C2).
const CAUSED_RESETS: usize = 200;
/// A client that reads nothing for so long is gone: of HTTP/1 it may be slow, of HTTP/2 it must read always (hardening
/// A16, C5).
const HTTP1_WRITE_TIME: Duration = Duration::from_secs(300);
const HTTP2_WRITE_TIME: Duration = Duration::from_secs(20);
/// A connection without a request for so long is closed (`idleTimeout` of Istio's HTTP settings).
const IDLE_TIME: Duration = Duration::from_secs(3600);
/// The same where memory is tight (hardening G3).
const TIGHT_IDLE_TIME: Duration = Duration::from_secs(1);
/// An idle HTTP/2 connection ends so long after it was told so: what is left was answered and is not taken (hardening
/// C7).
const LEAVE_TIME: Duration = Duration::from_secs(60);

/// What answers the requests of one connection.
pub trait Handle: 'static {
    /// Answers a request. An error resets the stream, or closes the connection without an answer.
    fn handle(
        self: Rc<Self>,
        request: Request<Incoming>,
    ) -> impl Future<Output = Result<Response<Body>, CutError>>;

    /// Answers what never became a request.
    fn refuse(&self, refused: Refused) -> Response<Body>;

    /// Answers in place of a task that panicked, after counting it.
    fn panicked(&self) -> Response<Body>;
}

/// What tells a connection to end.
#[derive(Clone, Copy, Debug)]
pub struct Word<'w> {
    /// The sidecar ends.
    pub drain: &'w Drain,
    /// Memory is nearly used up.
    pub overload: &'w Overload,
}

/// Serves a connection until it ends; in an orderly way when draining begins.
///
/// # Errors
/// Those of the connection: nothing is left to answer then.
pub async fn serve<H: Handle>(
    mut io: Io,
    version: HttpVersion,
    handler: Rc<H>,
    word: &Word<'_>,
) -> hyper::Result<()> {
    io.shed_writes(word.overload.clone());
    let pulse = Rc::new(Pulse::default());
    match version {
        HttpVersion::Http1 => serve_http1(io, handler, word, pulse).await,
        HttpVersion::Http2 => serve_http2(io, handler, word, pulse).await,
    }
}

/// Whether a connection is in use.
#[derive(Debug, Default)]
struct Pulse {
    begun: Cell<u64>,
    under_way: Cell<u32>,
}

/// A request that is being answered.
struct Beat<'p>(&'p Pulse);

impl Pulse {
    fn begin(&self) -> Beat<'_> {
        self.begun.set(self.begun.get().wrapping_add(1));
        self.under_way.set(self.under_way.get() + 1);
        Beat(self)
    }

    /// Waits until the connection is to take no more requests: the sidecar ends, or it was idle (true).
    async fn end(&self, word: &Word<'_>) -> bool {
        tokio::select! {
            () = word.drain.draining() => false,
            () = self.idle(word.overload) => true,
        }
    }

    /// Waits until there was no request for [`IDLE_TIME`], to twice that: nothing is set anew with each. Where memory is
    /// tight for [`TIGHT_IDLE_TIME`].
    async fn idle(&self, overload: &Overload) {
        let mut seen = self.begun.get();
        loop {
            let level = overload.level();
            let time = if level >= Level::Tight { TIGHT_IDLE_TIME } else { IDLE_TIME };
            if tokio::time::timeout(time, overload.other_than(level)).await.is_ok() {
                continue;
            }
            if std::mem::replace(&mut seen, self.begun.get()) == seen && self.under_way.get() == 0 {
                return;
            }
        }
    }
}

impl Drop for Beat<'_> {
    fn drop(&mut self) {
        self.0.under_way.set(self.0.under_way.get() - 1);
    }
}

async fn serve_http1<H: Handle>(
    mut io: Io,
    handler: Rc<H>,
    word: &Word<'_>,
    pulse: Rc<Pulse>,
) -> hyper::Result<()> {
    io.limit_writes(HTTP1_WRITE_TIME);
    let exchange = Arc::new(Exchange::default());
    let guard = ServerGuard::new(io, Limits::default(), HEAD_TIME, Arc::clone(&exchange));
    let beats = Rc::clone(&pulse);
    let service = service_fn(move |request| {
        answer_http1(Rc::clone(&handler), request, Arc::clone(&exchange), Rc::clone(&beats))
    });
    let mut connection = pin!(
        http1::Builder::new()
            .preserve_header_case(true)
            .max_buf_size(HTTP1_BUFFER)
            .header_read_timeout(None)
            .serve_connection(TokioIo::new(guard), service)
            .with_upgrades()
    );
    tokio::select! {
        biased;
        ended = connection.as_mut() => return ended,
        _ = Rarely::new(pulse.end(word)) => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}

async fn serve_http2<H: Handle>(
    mut io: Io,
    handler: Rc<H>,
    word: &Word<'_>,
    pulse: Rc<Pulse>,
) -> hyper::Result<()> {
    io.limit_writes(HTTP2_WRITE_TIME);
    let (beats, turn) = (Rc::clone(&pulse), Rc::new(Turn::new(word.overload.clone())));
    let executor = StreamExecutor(Rc::clone(&turn));
    // Boxed: the library moves what it was given several times, from making its task to ending it.
    let service = service_fn(move |request| {
        Box::pin(answer_http2(Rc::clone(&handler), request, Rc::clone(&beats), Rc::clone(&turn)))
    });
    let cork = Cork::new(FrameGuard::new(io));
    let mut connection = pin!(
        http2::Builder::new(executor)
            .timer(TokioTimer::new())
            .initial_connection_window_size(CONNECTION_WINDOW)
            .initial_stream_window_size(STREAM_WINDOW)
            .max_send_buf_size(SEND_BUFFER)
            .max_header_list_size(HEADER_LIST)
            .max_concurrent_streams(STREAMS)
            .max_pending_accept_reset_streams(UNSEEN_RESETS)
            .max_local_error_reset_streams(CAUSED_RESETS)
            .serve_connection(TokioIo::new(cork.clone()), service)
    );
    let idle = tokio::select! {
        biased;
        ended = poll_fn(|cx| cork.drive(connection.as_mut(), cx)) => return ended,
        idle = Rarely::new(pulse.end(word)) => idle,
    };
    connection.as_mut().graceful_shutdown();
    let rest = poll_fn(|cx| cork.drive(connection.as_mut(), cx));
    match idle {
        true => tokio::time::timeout(LEAVE_TIME, rest).await.unwrap_or(Ok(())),
        false => rest.await,
    }
}

/// The guard's own request is answered as what it stands for; the guard is told what becomes of an upgrade.
async fn answer_http1<H: Handle>(
    handler: Rc<H>,
    request: Request<Incoming>,
    exchange: Arc<Exchange>,
    pulse: Rc<Pulse>,
) -> Result<Response<Body>, CutError> {
    if let Some(refused) = exchange.refused(request.headers()) {
        let mut response = handler.refuse(refused);
        response.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("close"));
        return Ok(response);
    }
    let leaving =
        request.headers().contains_key(header::UPGRADE) || request.method() == http::Method::CONNECT;
    let response = answer(handler, request, pulse).await;
    if leaving {
        match &response {
            Ok(response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => exchange.tunnel(),
            _ => exchange.stay(),
        }
    }
    response
}

/// A response takes its turn among the others of its connection.
async fn answer_http2<H: Handle>(
    handler: Rc<H>,
    request: Request<Incoming>,
    pulse: Rc<Pulse>,
    turn: Rc<Turn>,
) -> Result<Response<Body>, CutError> {
    let mut response = answer(handler, request, pulse).await?;
    response.body_mut().take_turns(&turn);
    Ok(response)
}

/// A defect in the task of one request is that request's alone.
async fn answer<H: Handle>(
    handler: Rc<H>,
    request: Request<Incoming>,
    pulse: Rc<Pulse>,
) -> Result<Response<Body>, CutError> {
    let _beat = pulse.begin();
    let answering = AssertUnwindSafe(Rc::clone(&handler).handle(request)).catch_unwind();
    match answering.await {
        Ok(answered) => answered,
        Err(_) => Ok(handler.panicked()),
    }
}

/// The end of a request that was not processed, for HTTP/2: REFUSED_STREAM.
pub fn refused_stream() -> CutError {
    Cut::Refused.into_error()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::task::LocalSet;

    use super::*;

    /// Panics on every second request.
    struct Shaky(Cell<u32>);

    impl Handle for Shaky {
        async fn handle(self: Rc<Self>, _: Request<Incoming>) -> Result<Response<Body>, CutError> {
            self.0.set(self.0.get() + 1);
            assert!(self.0.get() % 2 == 1, "a defect");
            Ok(Response::new(Body::full("fine")))
        }

        fn refuse(&self, _: Refused) -> Response<Body> {
            Response::new(Body::empty())
        }

        fn panicked(&self) -> Response<Body> {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            response
        }
    }

    #[tokio::test]
    async fn g25_a_panic_is_one_requests_alone() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = listener.local_addr().unwrap();
        let client = async {
            let mut stream = TcpStream::connect(to).await.unwrap();
            let mut answer = String::new();
            let close = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
            let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
            stream.write_all(format!("{get}{get}{close}").as_bytes()).await.unwrap();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        };
        let server = async {
            let (stream, _) = listener.accept().await.unwrap();
            let word = Word { drain: &Drain::default(), overload: &Overload::default() };
            serve(Io::plain(stream), HttpVersion::Http1, Rc::new(Shaky(Cell::new(0))), &word).await
        };
        let (answer, ended) = LocalSet::new().run_until(async { tokio::join!(client, server) }).await;
        ended.unwrap();
        let statuses: Vec<_> =
            answer.matches("HTTP/1.1 200 ").chain(answer.matches("HTTP/1.1 500 ")).collect();
        assert_eq!(statuses.len(), 3, "{answer}");
        assert_eq!(answer.matches("HTTP/1.1 500 ").count(), 1, "{answer}");
    }
}
