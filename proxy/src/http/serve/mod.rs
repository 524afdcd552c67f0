//! One connection from a client: the guard in front, limits, an orderly end.

/// When a connection is to take no more requests.
mod pulse;
/// Responses of HTTP/2 that their client leaves no room for.
mod unread;
/// HTTP/1.
mod http1;
/// HTTP/2.
mod http2;

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;

use futures_util::FutureExt;
use http::{HeaderValue, Request, Response};

use super::body::Body;
use super::fault::{Cut, HttpError};
use super::guard::Refused;
use super::incoming::Incoming;
use super::version::HttpVersion;
use crate::drain::Drain;
use crate::io::Io;
use crate::overload::Overload;
use pulse::Pulse;

/// What answers the requests of one connection.
pub trait Handle: 'static {
    /// Answers a request. An error resets the stream, or closes the connection without an answer.
    fn handle(
        self: Rc<Self>,
        request: Request<Incoming>,
    ) -> impl Future<Output = Result<Response<Body>, Cut>>;

    /// Answers what never became a request.
    fn refuse(&self, refused: Refused) -> Response<Body>;

    /// Answers in place of a task that panicked, after counting it.
    fn panicked(&self) -> Response<Body>;

    /// `Date` of a response that came without (RFC 9110 section 6.6.1).
    fn date(&self) -> HeaderValue;
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
) -> Result<(), HttpError> {
    io.shed_writes(word.overload.clone());
    let pulse = Rc::new(Pulse::default());
    match version {
        HttpVersion::Http1 => http1::serve(io, handler, word, pulse).await,
        HttpVersion::Http2 => http2::serve(io, handler, word, pulse).await,
    }
}

/// A defect in the task of one request is that request's alone.
async fn answer<H: Handle>(
    handler: &Rc<H>,
    request: Request<Incoming>,
    pulse: &Pulse,
) -> Result<Response<Body>, Cut> {
    let _beat = pulse.begin();
    let answering = AssertUnwindSafe(Rc::clone(handler).handle(request)).catch_unwind();
    match answering.await {
        Ok(answered) => answered,
        Err(_) => Ok(handler.panicked()),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use http::StatusCode;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::task::LocalSet;

    use super::*;

    /// Panics on every second request.
    struct Shaky(Cell<u32>);

    impl Handle for Shaky {
        async fn handle(self: Rc<Self>, _: Request<Incoming>) -> Result<Response<Body>, Cut> {
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

        fn date(&self) -> HeaderValue {
            HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT")
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
