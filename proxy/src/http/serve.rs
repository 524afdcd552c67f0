//! One connection from a client, served by hyper: the guard in front, limits, an orderly end.

use std::future::Future;
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

use super::body::Body;
use super::exec::LocalExecutor;
use super::fault::{Cut, CutError};
use super::guard::{Exchange, Refused, ServerGuard};
use super::version::{CONNECTION_WINDOW, HEADER_LIST, HttpVersion, SEND_BUFFER, STREAM_WINDOW};
use crate::drain::Drain;
use crate::io::Io;

/// A head must be whole so long after its first byte (hardening A14).
const HEAD_TIME: Duration = Duration::from_secs(10);
/// Requests under way on one HTTP/2 connection.
const STREAMS: u32 = 1000;

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

/// Serves a connection until it ends; in an orderly way when draining begins.
///
/// # Errors
/// Those of the connection: nothing is left to answer then.
pub async fn serve<H: Handle>(
    io: Io,
    version: HttpVersion,
    handler: Rc<H>,
    drain: &Drain,
) -> hyper::Result<()> {
    match version {
        HttpVersion::Http1 => serve_http1(io, handler, drain).await,
        HttpVersion::Http2 => serve_http2(io, handler, drain).await,
    }
}

async fn serve_http1<H: Handle>(io: Io, handler: Rc<H>, drain: &Drain) -> hyper::Result<()> {
    let exchange = Arc::new(Exchange::default());
    let guard = ServerGuard::new(io, Limits::default(), HEAD_TIME, Arc::clone(&exchange));
    let service =
        service_fn(move |request| answer_http1(Rc::clone(&handler), request, Arc::clone(&exchange)));
    let mut connection = pin!(
        http1::Builder::new()
            .preserve_header_case(true)
            .header_read_timeout(None)
            .serve_connection(TokioIo::new(guard), service)
            .with_upgrades()
    );
    tokio::select! {
        biased;
        ended = connection.as_mut() => return ended,
        () = drain.draining() => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}

async fn serve_http2<H: Handle>(io: Io, handler: Rc<H>, drain: &Drain) -> hyper::Result<()> {
    let service = service_fn(move |request| answer(Rc::clone(&handler), request));
    let mut connection = pin!(
        http2::Builder::new(LocalExecutor)
            .timer(TokioTimer::new())
            .initial_connection_window_size(CONNECTION_WINDOW)
            .initial_stream_window_size(STREAM_WINDOW)
            .max_send_buf_size(SEND_BUFFER)
            .max_header_list_size(HEADER_LIST)
            .max_concurrent_streams(STREAMS)
            .serve_connection(TokioIo::new(io), service)
    );
    tokio::select! {
        biased;
        ended = connection.as_mut() => return ended,
        () = drain.draining() => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}

/// The guard's own request is answered as what it stands for; the guard is told what becomes of an upgrade.
async fn answer_http1<H: Handle>(
    handler: Rc<H>,
    request: Request<Incoming>,
    exchange: Arc<Exchange>,
) -> Result<Response<Body>, CutError> {
    if let Some(refused) = exchange.refused(request.headers()) {
        let mut response = handler.refuse(refused);
        response.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("close"));
        return Ok(response);
    }
    let leaving =
        request.headers().contains_key(header::UPGRADE) || request.method() == http::Method::CONNECT;
    let response = answer(handler, request).await;
    if leaving {
        match &response {
            Ok(response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => exchange.tunnel(),
            _ => exchange.stay(),
        }
    }
    response
}

/// A defect in the task of one request is that request's alone.
async fn answer<H: Handle>(handler: Rc<H>, request: Request<Incoming>) -> Result<Response<Body>, CutError> {
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
    use std::cell::Cell;

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
            let drain = Drain::default();
            serve(Io::plain(stream), HttpVersion::Http1, Rc::new(Shaky(Cell::new(0))), &drain).await
        };
        let (answer, ended) = LocalSet::new().run_until(async { tokio::join!(client, server) }).await;
        ended.unwrap();
        let statuses: Vec<_> =
            answer.matches("HTTP/1.1 200 ").chain(answer.matches("HTTP/1.1 500 ")).collect();
        assert_eq!(statuses.len(), 3, "{answer}");
        assert_eq!(answer.matches("HTTP/1.1 500 ").count(), 1, "{answer}");
    }
}
