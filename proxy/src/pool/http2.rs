//! A connection of HTTP/2 to an upstream: frames are the library's, what becomes of a request is told here.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, Connection, ResponseFuture, SendRequest};
use http::header::{CONTENT_LENGTH, HeaderValue};
use http::{Method, Request, Response};
use http_body::Body as _;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::connect::{ConnectFault, Destination, WRITE_TIME};
use super::gate::OpenConnection;
use super::send_fault::SendFault;
use crate::http::cork::Cork;
use crate::http::incoming::Incoming;
use crate::http::pipe::Pipe;
use crate::http::upload::UploadBody;
use crate::http::version::{CONNECTION_WINDOW, HEADER_LIST, SEND_BUFFER, STREAM_WINDOW};
use crate::io::Io;

/// Streams that may be opened before the upstream has said how many.
const FIRST_STREAMS: usize = 100;
/// An upstream that has answered takes the rest of a request for so long; a client that is cut earlier may lose the
/// answer.
const REST_TIME: Duration = Duration::from_secs(30);

/// An HTTP/2 connection: as many requests at a time as the upstream takes.
pub(super) struct Http2 {
    /// Never sent with itself: one that has a stream waiting to be opened takes no other request.
    sender: RefCell<SendRequest<Bytes>>,
    pub(super) active: Cell<u32>,
    pub(super) served: Cell<u32>,
    /// The upstream takes no more requests on it.
    pub(super) draining: Cell<bool>,
    pub(super) idle_until: Cell<Instant>,
}

/// A request that has no response yet.
pub(super) struct Begun {
    /// For [`answered`].
    pub(super) response: ResponseFuture,
    /// Sends what is left of its body, as long as somebody has this.
    pub(super) rest: Option<Rest>,
}

/// The task that sends the rest of a request's body.
pub(super) type Rest = AbortOnDropHandle<()>;

/// Begins HTTP/2 on a new connection.
pub(super) async fn handshake(mut io: Io, open: OpenConnection) -> Result<Http2, ConnectFault> {
    io.limit_writes(WRITE_TIME);
    io.read_ahead();
    let cork = Cork::new(io);
    let (sender, connection) = builder().handshake(cork.clone()).await.map_err(|_| ConnectFault::Http)?;
    tokio::task::spawn_local(drive(connection, cork, open));
    Ok(Http2 {
        sender: RefCell::new(sender),
        active: Cell::new(0),
        served: Cell::new(0),
        draining: Cell::new(false),
        idle_until: Cell::new(Instant::now()),
    })
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        .initial_max_send_streams(FIRST_STREAMS)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .initial_window_size(STREAM_WINDOW)
        .max_send_buffer_size(SEND_BUFFER)
        .max_header_list_size(HEADER_LIST);
    builder
}

/// Carries frames until the connection ends: by the upstream, or because nobody has it any more.
async fn drive(mut connection: Connection<Cork<Io>, Bytes>, cork: Cork<Io>, open: OpenConnection) {
    // With its connection the library's senders end: before there is room for another.
    let ended = poll_fn(move |cx| cork.drive(Pin::new(&mut connection), cx)).await;
    if let Err(error) = ended {
        tracing::debug!(%error, "upstream connection ended");
    }
    drop(open);
}

impl Http2 {
    /// Whether another request may begin on it.
    pub(super) fn has_room(&self, to: &Destination) -> bool {
        let policy = &to.cluster.cluster.connections;
        // `SETTINGS_MAX_CONCURRENT_STREAMS` of the upstream.
        let allowed = u32::try_from(self.sender.borrow().current_max_send_streams()).unwrap_or(u32::MAX);
        let most = policy.max_concurrent_streams.unwrap_or(u32::MAX).min(allowed);
        self.is_open(to) && self.active.get() < most
    }

    /// Whether it may be used at all.
    pub(super) fn is_open(&self, to: &Destination) -> bool {
        let requests = to.cluster.cluster.connections.max_requests_per_connection;
        !self.draining.get() && !self.is_closed() && requests.is_none_or(|most| self.served.get() < most)
    }

    /// Whether it has ended, or takes no more requests: the upstream said GOAWAY.
    pub(super) fn is_closed(&self) -> bool {
        let asks = &mut Context::from_waker(Waker::noop());
        matches!(self.sender.borrow_mut().poll_ready(asks), Poll::Ready(Err(_)))
    }

    /// Sends a request's head, and what is there of its body.
    pub(super) fn begin(&self, request: Request<UploadBody>) -> Result<Begun, SendFault> {
        let (mut head, body) = request.into_parts();
        if let Some(length) = body.size_hint().exact()
            && (length > 0 || may_have_body(&head.method))
        {
            head.headers.entry(CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(length));
        }
        let ends = body.is_end_stream();
        let mut sender = self.sender.borrow().clone();
        match sender.send_request(Request::from_parts(head, ()), ends) {
            Ok((response, _)) if ends => Ok(Begun { response, rest: None }),
            Ok((response, stream)) => Ok(Begun { response, rest: begin_upload(Pipe::new(stream, body)) }),
            Err(error) => {
                tracing::debug!(%error, "request not sent");
                Err(SendFault::Unsent)
            }
        }
    }
}

/// The response is complete: what is left of its request may go on for a while.
pub(super) fn end_soon(rest: Rest) {
    tokio::task::spawn_local(tokio::time::timeout(REST_TIME, rest));
}

/// Waits for the head of the response. Whoever stops waiting resets the stream.
pub(super) async fn answered(response: ResponseFuture) -> Result<Response<Incoming>, SendFault> {
    let (head, received) = response.await.map_err(|error| fault(&error))?.into_parts();
    let body = Incoming::of_stream(&head.headers, received);
    Ok(Response::from_parts(head, body))
}

/// What became of a request that has no response.
fn fault(error: &h2::Error) -> SendFault {
    match is_refusal(error) {
        true => SendFault::Refused,
        false => SendFault::Reset,
    }
}

/// Sends what is there of a request's body, and the rest beside the exchange.
fn begin_upload(mut upload: Pipe<UploadBody>) -> Option<Rest> {
    // The task of the rest asks again.
    if upload.poll(&mut Context::from_waker(Waker::noop())).is_ready() {
        return None;
    }
    Some(Rest::new(tokio::task::spawn_local(poll_fn(move |cx| upload.poll(cx)))))
}

/// Of an empty body these methods say that it is empty (RFC 9110 section 8.6).
fn may_have_body(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::DELETE | Method::CONNECT)
}

/// REFUSED_STREAM, or GOAWAY without an error whose last stream is lower than ours: streams that the upstream has
/// begun end otherwise when its connection closes.
fn is_refusal(error: &h2::Error) -> bool {
    let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
    let left = error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR);
    error.is_remote() && (refused || left)
}
