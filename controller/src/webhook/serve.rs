//! Connections and requests of the webhooks, bounded in number, bytes and time.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::review::{Answer, Request as Question};

/// Connections at a time: the API server needs one, and everybody in the cluster may try.
const CONNECTIONS: usize = 512;
/// Requests at a time on one connection.
const STREAMS: u32 = 250;
/// A handshake, and the head of a request, may take this long.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// A request may take this long from its head to its answer: what the API server waits, and a little less.
const REQUEST_TIMEOUT: Duration = Duration::from_millis(4500);
/// A connection without requests is closed after this.
const IDLE: Duration = Duration::from_secs(120);
/// The largest question, in bytes: what the API server takes, twice.
pub const BODY_LIMIT: usize = 3 << 20;
/// A question up to so many bytes is always read: nearly all are smaller, and who sends large ones slowly is not to hold
/// them up.
const SMALL: usize = 64 << 10;
/// Bytes of larger questions that are held at a time.
const HELD: usize = 24 << 20;
/// Bytes that one permit of [`HELD`] stands for.
const UNIT: usize = 16 << 10;
/// Questions that are judged at a time.
const JUDGED: usize = 4;
/// Bytes of a connection that are read before they are asked for; of one request on HTTP/2, and of all four times that.
const BUFFER: usize = 32 << 10;
const WINDOW: u32 = 256 << 10;
/// After a failure to accept.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// Answers questions.
pub trait Webhook: Send + Sync + 'static {
    /// Answers a question that came on a path; `None` where nothing is on that path.
    fn answer(&self, path: &str, question: &Question) -> impl Future<Output = Option<Answer>> + Send;
}

/// A server of webhooks.
pub struct Server<W> {
    webhook: W,
    held: Arc<Semaphore>,
    judged: Semaphore,
}

/// Why a request gets no answer to its question.
type Refusal = (StatusCode, String);

impl<W: Webhook> Server<W> {
    /// A server that has not started.
    pub fn new(webhook: W) -> Arc<Self> {
        let (held, judged) = (Arc::new(Semaphore::new(HELD / UNIT)), Semaphore::new(JUDGED));
        Arc::new(Self { webhook, held, judged })
    }

    /// Serves until told to stop; requests that are under way are answered.
    pub async fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        tls: TlsAcceptor,
        shutdown: CancellationToken,
    ) {
        let open = TaskTracker::new();
        let accepting = self.accept(listener, tls, shutdown.clone(), open.clone());
        shutdown.run_until_cancelled(accepting).await;
        open.close();
        let _ = timeout(REQUEST_TIMEOUT, open.wait()).await;
    }

    async fn accept(
        self: Arc<Self>,
        listener: TcpListener,
        tls: TlsAcceptor,
        shutdown: CancellationToken,
        open: TaskTracker,
    ) {
        let permits = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let Ok(permit) = permits.clone().acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let (server, tls, shutdown) = (self.clone(), tls.clone(), shutdown.clone());
                    open.spawn(async move {
                        match timeout(HEAD_TIMEOUT, tls.accept(stream)).await {
                            Ok(Ok(stream)) => server.connection(stream, shutdown).await,
                            Ok(Err(error)) => tracing::debug!("webhooks: {error}"),
                            Err(_) => tracing::debug!("webhooks: no handshake in time"),
                        }
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!("webhooks: accept: {error}");
                    sleep(ACCEPT_BACKOFF).await;
                }
            }
        }
    }

    /// Serves one connection, HTTP/1.1 or HTTP/2.
    pub async fn connection<I>(self: Arc<Self>, stream: I, shutdown: CancellationToken)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service = service_fn(move |request: Request<Incoming>| {
            let server = self.clone();
            async move { Ok::<_, Infallible>(server.respond(request).await) }
        });
        let mut builder = auto::Builder::new(TokioExecutor::new());
        let http1 = &mut builder.http1();
        http1.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(BUFFER);
        let http2 = &mut builder.http2();
        http2.timer(TokioTimer::new()).max_concurrent_streams(STREAMS);
        http2.initial_stream_window_size(WINDOW).initial_connection_window_size(4 * WINDOW);
        http2.keep_alive_interval(IDLE).keep_alive_timeout(HEAD_TIMEOUT);
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        let served = tokio::select! {
            served = &mut connection => served,
            () = shutdown.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = served {
            tracing::debug!("webhooks: {error}");
        }
    }

    async fn respond(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let late = || Err((StatusCode::SERVICE_UNAVAILABLE, "it took too long".to_owned()));
        match timeout(REQUEST_TIMEOUT, self.answer(request)).await.unwrap_or_else(|_| late()) {
            Ok(body) => response(StatusCode::OK, "application/json", body),
            Err((status, why)) => response(status, "text/plain; charset=utf-8", why + "\n"),
        }
    }

    async fn answer<B: Body<Data = Bytes>>(&self, request: Request<B>) -> Result<Vec<u8>, Refusal> {
        if request.method() != Method::POST {
            return Err((StatusCode::METHOD_NOT_ALLOWED, "only POST".to_owned()));
        }
        let path = request.uri().path().to_owned();
        let (_held, body) = self.body(request.into_body()).await?;
        let _turn = self.judged.acquire().await;
        let question = Question::read(&body).map_err(|why| (StatusCode::BAD_REQUEST, why))?;
        let answer = self.webhook.answer(&path, &question).await;
        let answer = answer.ok_or_else(|| (StatusCode::NOT_FOUND, "/validate /inject".to_owned()))?;
        Ok(answer.to_json(&question.uid).to_string().into_bytes())
    }

    /// A body. Room for a large one is taken once and whole, so that no two wait for each other.
    async fn body<B: Body<Data = Bytes>>(
        &self,
        body: B,
    ) -> Result<(Option<OwnedSemaphorePermit>, BytesMut), Refusal> {
        let too_large = || (StatusCode::PAYLOAD_TOO_LARGE, format!("less than {BODY_LIMIT} bytes are taken"));
        let hint = body.size_hint();
        if hint.lower() >= BODY_LIMIT as u64 {
            return Err(too_large());
        }
        let most = hint
            .upper()
            .map_or(BODY_LIMIT, |most| BODY_LIMIT.min(usize::try_from(most).unwrap_or(BODY_LIMIT)));
        let mut body = std::pin::pin!(body);
        let (mut held, mut whole) = (None, BytesMut::new());
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| (StatusCode::BAD_REQUEST, "the body ends too early".to_owned()))?;
            let Ok(data) = frame.into_data() else { continue };
            let length = whole.len() + data.len();
            if length >= BODY_LIMIT {
                return Err(too_large());
            }
            if length > SMALL && held.is_none() {
                let units = u32::try_from(most.div_ceil(UNIT)).unwrap_or(u32::MAX);
                held = self.held.clone().acquire_many_owned(units).await.ok();
            }
            whole.extend_from_slice(&data);
        }
        Ok((held, whole))
    }
}

fn response(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, StreamExt};
    use hyper::body::Frame;
    use serde_json::{Value, json};

    use super::*;

    /// Lets everything pass, and says on which path.
    struct Echo;

    impl Webhook for Echo {
        async fn answer(&self, path: &str, _: &Question) -> Option<Answer> {
            (path == "/validate").then(|| Answer::allow(vec![path.to_owned()]))
        }
    }

    async fn ask(method: &str, path: &str, body: impl Into<Bytes>) -> Result<Value, Refusal> {
        let request = Request::builder().method(method).uri(path).body(Full::new(body.into())).unwrap();
        Server::new(Echo).answer(request).await.map(|body| serde_json::from_slice(&body).unwrap())
    }

    fn review(object: Value) -> Vec<u8> {
        let request = json!({"uid": "u", "kind": {}, "object": object});
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request})
            .to_string()
            .into_bytes()
    }

    #[tokio::test]
    async fn f15_every_question_gets_its_uid_and_the_rest_a_status() {
        let answer = ask("POST", "/validate", review(json!({}))).await.unwrap();
        assert_eq!(answer["response"]["uid"], "u");
        assert_eq!(answer["response"]["warnings"], json!(["/validate"]));
        let status = |refusal: Result<Value, Refusal>| refusal.unwrap_err().0.as_u16();
        assert_eq!(status(ask("GET", "/validate", "").await), 405);
        assert_eq!(status(ask("POST", "/nothing", review(json!({}))).await), 404);
        assert_eq!(status(ask("POST", "/validate", "{").await), 400);
        assert_eq!(status(ask("POST", "/validate", review(json!({"x": "a".repeat(BODY_LIMIT)}))).await), 413);
    }

    /// A body in pieces.
    fn pieces(body: &Bytes, of: usize) -> impl Body<Data = Bytes, Error = Infallible> + use<> {
        let pieces: Vec<_> =
            body.chunks(of).map(|piece| Ok(Frame::data(Bytes::copy_from_slice(piece)))).collect();
        http_body_util::StreamBody::new(futures_util::stream::iter(pieces).then(|piece| async {
            tokio::task::yield_now().await;
            piece
        }))
    }

    #[tokio::test]
    async fn f15_two_hundred_at_a_time_are_all_answered_within_what_may_be_held() {
        let server = Server::new(Echo);
        let body = Bytes::from(review(json!({"x": "a".repeat(1 << 20)})));
        let ask =
            |_| server.answer(Request::post("/validate").body(Box::pin(pieces(&body, 100 << 10))).unwrap());
        let answers = futures_util::future::join_all((0..200).map(ask)).await;
        assert!(answers.iter().all(Result::is_ok));
        assert_eq!(server.held.available_permits(), HELD / UNIT);
    }

    #[tokio::test]
    async fn f15_a_slow_large_body_holds_no_small_one_up() {
        let server = Server::new(Echo);
        let _all = server.held.clone().acquire_many_owned((HELD / UNIT) as u32).await.unwrap();
        let ask = |size: usize| {
            let body = Full::new(Bytes::from(review(json!({"x": "a".repeat(size)}))));
            server.answer(Request::post("/validate").body(body).unwrap()).now_or_never()
        };
        assert!(ask(SMALL / 2).is_some_and(|answer| answer.is_ok()));
        assert!(ask(SMALL * 2).is_none(), "it waits for room");
    }
}
