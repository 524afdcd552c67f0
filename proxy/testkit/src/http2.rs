//! Both ends of HTTP/2: upstreams that answer, reset and go away, and clients.

use std::error::Error;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, Uri};
use http_body_util::Full;
use hyper::body::Body;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};

/// What an upstream does with a request. The n-th connection's first request gets the n-th, all others the last.
#[derive(Clone, Debug)]
pub enum What {
    /// Reads the body, answers 200 with this one.
    Answer(&'static str),
    /// Answers at once, and reads nothing of the body.
    AnswerUnread(&'static str),
    /// Answers, and says that it takes no other request on this connection.
    AnswerAndGo(&'static str),
    /// Answers with these trailers.
    Trailers(&'static str, HeaderMap),
    /// Resets the stream.
    Reset(h2::Reason),
    /// Begins a body and resets the stream.
    Cut(&'static str),
    /// Sends every frame back as it comes.
    Echo,
    /// Nothing, until the client gives it up.
    Hang,
}

/// A request as an upstream saw it.
#[derive(Clone, Debug)]
pub struct SeenRequest {
    /// The method.
    pub method: Method,
    /// The target, with its authority.
    pub uri: Uri,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: String,
}

/// An upstream on loopback.
#[derive(Clone, Debug)]
pub struct Upstream2 {
    /// Where it listens.
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<SeenRequest>>>,
    connections: Arc<AtomicUsize>,
    begun: Arc<AtomicUsize>,
    given_up: Arc<AtomicUsize>,
}

impl Upstream2 {
    /// Listens.
    pub async fn start(what: Vec<What>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let upstream = Self {
            address,
            seen: Arc::default(),
            connections: Arc::default(),
            begun: Arc::default(),
            given_up: Arc::default(),
        };
        let served = upstream.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                served.connections.fetch_add(1, SeqCst);
                tokio::spawn(serve(stream, what.clone(), served.clone()));
            }
        });
        upstream
    }

    /// The requests so far that were read to their end.
    pub fn requests(&self) -> Vec<SeenRequest> {
        self.seen.lock().expect("no panic").clone()
    }

    /// The requests so far that were begun.
    pub fn begun(&self) -> usize {
        self.begun.load(SeqCst)
    }

    /// The requests so far that their client gave up before an answer, or before its own body's end.
    pub fn given_up(&self) -> usize {
        self.given_up.load(SeqCst)
    }

    /// The connections so far.
    pub fn connections(&self) -> usize {
        self.connections.load(SeqCst)
    }
}

/// Streams at a time on one connection.
const STREAMS: u32 = 100;

async fn serve(stream: TcpStream, what: Vec<What>, upstream: Upstream2) {
    stream.set_nodelay(true).expect("a socket that stands");
    let mut builder = h2::server::Builder::new();
    let handshake = builder.max_concurrent_streams(STREAMS).handshake(stream);
    let Ok(mut connection) = handshake.await else { return };
    while let Some(Ok((request, respond))) = connection.accept().await {
        let place = upstream.begun.fetch_add(1, SeqCst).min(what.len() - 1);
        let what = what[place].clone();
        if matches!(what, What::AnswerAndGo(_)) {
            connection.graceful_shutdown();
        }
        tokio::spawn(answer(request, respond, what, upstream.clone()));
    }
}

async fn answer(
    request: Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
    what: What,
    upstream: Upstream2,
) -> Result<(), h2::Error> {
    let (parts, mut body) = request.into_parts();
    match what {
        What::Reset(reason) => {
            respond.send_reset(reason);
            return Ok(());
        }
        What::Hang => {
            // Ready when the client resets the stream.
            let _ = poll_fn(|cx| respond.poll_reset(cx)).await;
            upstream.given_up.fetch_add(1, SeqCst);
            return Ok(());
        }
        What::AnswerUnread(text) => {
            let mut stream = respond.send_response(Response::new(()), false)?;
            stream.send_data(text.into(), true)?;
            let _ = poll_fn(|cx| stream.poll_reset(cx)).await;
            upstream.given_up.fetch_add(1, SeqCst);
            drop(body);
            return Ok(());
        }
        What::Echo => {
            let mut stream = respond.send_response(Response::new(()), false)?;
            while let Some(data) = body.data().await {
                let data = data?;
                body.flow_control().release_capacity(data.len())?;
                stream.send_data(data, false)?;
            }
            return stream.send_data(Bytes::new(), true);
        }
        What::Cut(text) => {
            let mut stream = respond.send_response(Response::new(()), false)?;
            stream.send_data(text.into(), false)?;
            tokio::task::yield_now().await;
            stream.send_reset(h2::Reason::INTERNAL_ERROR);
            return Ok(());
        }
        What::Answer(_) | What::AnswerAndGo(_) | What::Trailers(..) => {}
    }
    let mut bytes = Vec::new();
    while let Some(data) = body.data().await {
        bytes.extend_from_slice(&data?);
    }
    let body = String::from_utf8_lossy(&bytes).into_owned();
    let (method, uri, headers) = (parts.method, parts.uri, parts.headers);
    upstream.seen.lock().expect("no panic").push(SeenRequest { method, uri, headers, body });
    let mut stream = respond.send_response(Response::new(()), false)?;
    match what {
        What::Trailers(text, trailers) => {
            stream.send_data(text.into(), false)?;
            stream.send_trailers(trailers)
        }
        What::Answer(text) | What::AnswerAndGo(text) => stream.send_data(text.into(), true),
        What::Reset(_) | What::Cut(_) | What::Echo | What::Hang | What::AnswerUnread(_) => Ok(()),
    }
}

/// A client, by prior knowledge.
pub async fn connect(to: SocketAddr) -> SendRequest<Full<Bytes>> {
    connect_streaming(to).await
}

/// A client whose bodies are of any kind.
pub async fn connect_streaming<B>(to: SocketAddr) -> SendRequest<B>
where
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let stream = TcpStream::connect(to).await.expect("a connection");
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (client, connection) = handshake.await.expect("HTTP/2");
    tokio::spawn(connection);
    client
}

/// The code with which a stream was reset.
pub fn reset_with(error: &hyper::Error) -> Option<h2::Reason> {
    error.source()?.downcast_ref::<h2::Error>()?.reason()
}
