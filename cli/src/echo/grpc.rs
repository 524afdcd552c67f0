//! The gRPC service `weft.echo.v1.Echo`, framed by hand: its messages are opaque bytes, so that a client of any schema
//! gets back what it sent.
//!
//! * `Unary`: the message back. * `ServerStream`: the message back `x-echo-count` times (3). * `ClientStream`: one message
//! that tells how many messages and bytes came, with their checksum. * `Bidi`: each message back as it comes.
//!
//! It also answers gRPC's question of health.
//!
//! `x-echo-grpc-status: N` fails the call with that code, before any message.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_util::stream;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};

use crate::echo::behaviour::Behaviour;
use crate::echo::body::{self, Body, BoxError};
use crate::echo::checksum::Checksum;
use crate::echo::identity::Identity;

/// Longest message that is taken.
const MAX_MESSAGE: usize = 16 << 20;
const SERVICE: &str = "/weft.echo.v1.Echo/";
/// gRPC's own protocol of health, for probes.
const HEALTH: &str = "/grpc.health.v1.Health/Check";
/// Field 1 of its answer: SERVING.
const SERVING: &[u8] = &[0x08, 1];

/// Code and text of a status that is not OK.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Status(u16, String);

/// Whether this is a call.
pub fn is<B>(request: &Request<B>) -> bool {
    let kind = request.headers().get(CONTENT_TYPE);
    kind.is_some_and(|k| k.as_bytes().starts_with(b"application/grpc"))
}

/// Answers a call.
pub async fn answer(identity: &Identity, rule: Behaviour, request: Request<Incoming>) -> Response<Body> {
    if let Some(delay) = rule.delay {
        tokio::time::sleep(delay).await;
    }
    let outcome = match refused(request.headers(), &rule) {
        Some(status) => Err(status),
        None => call(request).await,
    };
    let mut response = outcome.unwrap_or_else(|status| trailers_only(&status));
    identity.stamp(response.headers_mut());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

fn refused(headers: &HeaderMap, rule: &Behaviour) -> Option<Status> {
    let asked = number(headers, "x-echo-grpc-status").and_then(|code| u16::try_from(code).ok());
    let code = asked.or(rule.status.map(|_| 14)).filter(|code| *code != 0)?;
    Some(Status(code, "as asked".into()))
}

async fn call(request: Request<Incoming>) -> Result<Response<Body>, Status> {
    let (head, body) = request.into_parts();
    let mut messages = Messages::new(body);
    if head.uri.path() == HEALTH {
        return Ok(replies(vec![Bytes::from_static(SERVING)]));
    }
    match head.uri.path().strip_prefix(SERVICE) {
        Some("Unary") => Ok(replies(vec![messages.only().await?])),
        Some("ServerStream") => {
            let count = number(&head.headers, "x-echo-count").unwrap_or(3);
            Ok(repeated(messages.only().await?, count))
        }
        Some("ClientStream") => Ok(replies(vec![messages.summary().await?])),
        Some("Bidi") => Ok(Response::new(streamed(messages))),
        _ => Err(Status(12, format!("{} is not known here", head.uri.path()))),
    }
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.parse().ok()
}

fn replies(messages: Vec<Bytes>) -> Response<Body> {
    let frames = messages.into_iter().map(|m| Ok(Frame::data(framed(&m)))).chain([Ok(trailers(Ok(())))]);
    Response::new(StreamBody::new(stream::iter(frames)).boxed_unsync())
}

fn repeated(message: Bytes, count: u64) -> Response<Body> {
    let frame = framed(&message);
    let each = (0..count).map(move |_| Ok(Frame::data(frame.clone()))).chain([Ok(trailers(Ok(())))]);
    Response::new(StreamBody::new(stream::iter(each)).boxed_unsync())
}

/// Each message as it comes, then the status.
fn streamed(messages: Messages) -> Body {
    let next = async |state: Option<Messages>| {
        let mut messages = state?;
        let frame: Result<_, BoxError> = Ok(match messages.next().await {
            Ok(Some(message)) => return Some((Ok(Frame::data(framed(&message))), Some(messages))),
            Ok(None) => trailers(Ok(())),
            Err(status) => trailers(Err(&status)),
        });
        Some((frame, None))
    };
    StreamBody::new(stream::unfold(Some(messages), next)).boxed_unsync()
}

fn framed(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(5 + message.len());
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.put_slice(message);
    frame.freeze()
}

fn trailers(outcome: Result<(), &Status>) -> Frame<Bytes> {
    Frame::trailers(status_headers(outcome))
}

fn trailers_only(status: &Status) -> Response<Body> {
    let mut response = Response::new(body::full(Bytes::new()));
    *response.headers_mut() = status_headers(Err(status));
    response
}

fn status_headers(outcome: Result<(), &Status>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("grpc-status", outcome.err().map_or(0, |s| s.0).into());
    if let Some(text) = outcome.err().and_then(|s| HeaderValue::from_str(&s.1).ok()) {
        headers.insert("grpc-message", text);
    }
    headers
}

/// The messages of a request.
struct Messages {
    body: Incoming,
    buffer: BytesMut,
}

impl Messages {
    fn new(body: Incoming) -> Self {
        Self { body, buffer: BytesMut::new() }
    }

    /// The next message; none at the end.
    async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            if let Some(message) = split(&mut self.buffer)? {
                return Ok(Some(message));
            }
            match self.body.frame().await {
                None if self.buffer.is_empty() => return Ok(None),
                None => return Err(Status(13, "the request ends inside a message".into())),
                Some(Err(e)) => return Err(Status(1, e.to_string())),
                Some(Ok(frame)) => {
                    frame.data_ref().into_iter().for_each(|data| self.buffer.extend_from_slice(data))
                }
            }
        }
    }

    /// The one message of a call that has one: it is answered once the client has said that there is no other.
    async fn only(&mut self) -> Result<Bytes, Status> {
        let message = self.next().await?.ok_or_else(|| Status(13, "a message is missing".into()))?;
        match self.next().await? {
            None => Ok(message),
            Some(_) => Err(Status(13, "one message too many".into())),
        }
    }

    async fn summary(&mut self) -> Result<Bytes, Status> {
        let (mut count, mut checksum) = (0u64, Checksum::new());
        while let Some(message) = self.next().await? {
            count += 1;
            checksum.update(&message);
        }
        let (bytes, sum) = (checksum.length(), checksum.hex());
        Ok(format!("{{\"messages\":{count},\"bytes\":{bytes},\"checksum\":\"{sum}\"}}").into())
    }
}

/// Takes the first message off the buffer, when it is whole.
fn split(buffer: &mut BytesMut) -> Result<Option<Bytes>, Status> {
    let Some((head, _)) = buffer.split_first_chunk::<5>() else { return Ok(None) };
    let [compressed, length @ ..] = *head;
    let length = u32::from_be_bytes(length) as usize;
    if compressed != 0 {
        return Err(Status(12, "compressed messages are not known here".into()));
    }
    if length > MAX_MESSAGE {
        return Err(Status(8, format!("a message of {length} bytes is longer than {MAX_MESSAGE}")));
    }
    if buffer.len() < 5 + length {
        return Ok(None);
    }
    buffer.advance(5);
    Ok(Some(buffer.split_to(length).freeze()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_split_wherever_the_frames_break() {
        let wire = [framed(b"one"), framed(b""), framed(b"three")].concat();
        let (mut buffer, mut messages) = (BytesMut::new(), Vec::new());
        for byte in wire {
            buffer.put_u8(byte);
            messages.extend(split(&mut buffer).unwrap());
        }
        assert_eq!(messages, [&b"one"[..], b"", b"three"]);
    }

    #[test]
    fn what_cannot_be_read_has_a_status() {
        let status = |bytes: &[u8]| split(&mut BytesMut::from(bytes)).unwrap_err().0;
        assert_eq!((status(&[1, 0, 0, 0, 0]), status(&[0, 255, 0, 0, 0])), (12, 8));
    }
}
