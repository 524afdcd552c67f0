//! A client's connection of HTTP/2: frames are the library's, what becomes of a stream is told here.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::{Builder, SendResponse};
use http::header::{CONTENT_LENGTH, DATE, HeaderValue};
use http::{Request, Response};
use http_body::Body as _;

use super::pulse::Pulse;
use super::unread::Unread;
use super::{Handle, Word, answer};
use crate::http::body::{Body, End};
use crate::http::cork::Cork;
use crate::http::fault::HttpError;
use crate::http::frame_guard::FrameGuard;
use crate::http::incoming::Incoming;
use crate::http::pipe::Pipe;
use crate::http::version::{CONNECTION_WINDOW, HEADER_LIST, SEND_BUFFER, STREAM_WINDOW};
use crate::io::Io;
use crate::overload::Overload;
use crate::rarely::Rarely;

/// Requests under way on one connection.
const STREAMS: u32 = 1000;
/// Streams that a client resets before they were looked at, in a row (hardening C1).
const UNSEEN_RESETS: usize = 20;
/// Streams that a client makes us reset, over the life of its connection (hardening C2).
const CAUSED_RESETS: usize = 200;
/// A client that reads nothing for so long is gone: it must read always (hardening C5).
const WRITE_TIME: Duration = Duration::from_secs(20);
/// An idle connection ends so long after it was told so: what is left was answered and is not taken (hardening C7).
const LEAVE_TIME: Duration = Duration::from_secs(60);

pub(super) async fn serve<H: Handle>(
    mut io: Io,
    handler: Rc<H>,
    word: &Word<'_>,
    pulse: Rc<Pulse>,
) -> Result<(), HttpError> {
    io.limit_writes(WRITE_TIME);
    io.read_ahead();
    let cork = Cork::new(FrameGuard::new(io));
    let shared = Rc::new(Shared { handler, pulse: Rc::clone(&pulse), overload: word.overload.clone() });
    let leave = Cell::new(false);
    let mut connection = Box::pin(take(cork.clone(), shared, &leave));
    let idle = tokio::select! {
        biased;
        ended = poll_fn(|cx| cork.drive(connection.as_mut(), cx)) => return ended.map_err(HttpError::Http2),
        idle = Rarely::new(pulse.end(word)) => idle,
    };
    leave.set(true);
    let rest = poll_fn(|cx| cork.drive(connection.as_mut(), cx));
    let ended = match idle {
        true => tokio::time::timeout(LEAVE_TIME, rest).await.unwrap_or(Ok(())),
        false => rest.await,
    };
    ended.map_err(HttpError::Http2)
}

/// What the streams of one connection share.
struct Shared<H> {
    handler: Rc<H>,
    pulse: Rc<Pulse>,
    overload: Overload,
}

/// Takes requests until the connection ends: each has a task of its own. `leave`: it is to take no more.
async fn take<H: Handle>(
    io: Cork<FrameGuard<Io>>,
    shared: Rc<Shared<H>>,
    leave: &Cell<bool>,
) -> Result<(), h2::Error> {
    let mut connection = builder().handshake::<_, Bytes>(io).await?;
    let mut next = poll_fn(|cx| {
        if leave.take() {
            connection.graceful_shutdown();
        }
        connection.poll_accept(cx)
    });
    while let Some(accepted) = (&mut next).await {
        let (request, reply) = accepted?;
        // Boxed: the runtime moves what it was given several times, from making a task to ending it. Made in its place:
        // else all that it has room for would be copied there.
        let exchange = Box::write(Box::new_uninit(), exchange(Rc::clone(&shared), request, reply));
        tokio::task::spawn_local(Box::into_pin(exchange));
    }
    Ok(())
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder
        .initial_connection_window_size(CONNECTION_WINDOW)
        .initial_window_size(STREAM_WINDOW)
        .max_send_buffer_size(SEND_BUFFER)
        .max_header_list_size(HEADER_LIST)
        .max_concurrent_streams(STREAMS)
        .max_pending_accept_reset_streams(UNSEEN_RESETS)
        .max_local_error_reset_streams(Some(CAUSED_RESETS));
    builder
}

/// One request and its response.
async fn exchange<H: Handle>(
    shared: Rc<Shared<H>>,
    request: Request<RecvStream>,
    mut reply: SendResponse<Bytes>,
) {
    let (head, received) = request.into_parts();
    let body = Incoming::of_stream(&head.headers, received);
    let request = Request::from_parts(head, body);
    let answering = answer(&shared.handler, request, &shared.pulse);
    match unless_reset(&mut reply, answering).await {
        Some(Ok(response)) => respond(&shared, reply, response).await,
        Some(Err(cut)) => reply.send_reset(cut.code()),
        None => {}
    }
}

/// `None` where the client resets the stream before there is an answer.
async fn unless_reset<F: Future>(reply: &mut SendResponse<Bytes>, answering: F) -> Option<F::Output> {
    let mut answering = pin!(answering);
    poll_fn(|cx| match answering.as_mut().poll(cx) {
        Poll::Ready(answered) => Poll::Ready(Some(answered)),
        Poll::Pending => reply.poll_reset(cx).map(|_| None),
    })
    .await
}

/// Sends a response, for as long as the client takes it.
async fn respond<H: Handle>(shared: &Shared<H>, mut reply: SendResponse<Bytes>, response: Response<Body>) {
    let (mut head, body) = response.into_parts();
    let ends = body.is_end_stream();
    if !ends && let Some(length) = body.size_hint().exact() {
        head.headers.entry(CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(length));
    }
    head.headers.entry(DATE).or_insert_with(|| shared.handler.date());
    let stream = match reply.send_response(Response::from_parts(head, ()), ends) {
        Ok(stream) => stream,
        Err(error) => {
            tracing::debug!(%error, "response not sent");
            return reply.send_reset(h2::Reason::INTERNAL_ERROR);
        }
    };
    if ends {
        return;
    }
    let (mut pipe, mut unread) = (Pipe::new(stream, body), Unread::default());
    match poll_fn(|cx| poll_taken(&mut pipe, &mut unread, &shared.overload, cx)).await {
        Err(NotTaken) => pipe.cancel().not_taken(End::Unread),
        Ok(()) if pipe.is_blocked() => pipe.cancel().not_taken(End::Client),
        Ok(()) => {}
    }
}

/// The client takes nothing of its response.
struct NotTaken;

fn poll_taken(
    pipe: &mut Pipe<Body>,
    unread: &mut Unread,
    overload: &Overload,
    cx: &mut Context<'_>,
) -> Poll<Result<(), NotTaken>> {
    if pipe.poll(cx).is_ready() {
        return Poll::Ready(Ok(()));
    }
    if pipe.take_moved() {
        unread.moved();
    }
    match pipe.is_blocked() {
        true => unread.poll(cx, overload).map(|()| Err(NotTaken)),
        false => Poll::Pending,
    }
}
