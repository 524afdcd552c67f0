//! Bodies of answers: whole, made up, in pieces with pauses, cut short, with trailers. None is held in memory whole but
//! the small ones.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Body as _, Frame, Incoming};
use serde_json::Value;

use crate::echo::behaviour::{Behaviour, Pace, Reset};
use crate::echo::checksum::Checksum;

/// Whatever went wrong with a body.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// Any body of an answer.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// The trailer that carries the checksum of the body before it.
pub const CHECKSUM: HeaderName = HeaderName::from_static("x-echo-checksum");
/// Bytes of a piece of a made-up body when nothing else was asked for.
const PIECE: u64 = 64 << 10;
/// Made-up bodies repeat these bytes.
static PATTERN: [u8; PIECE as usize] = pattern();

const fn pattern() -> [u8; PIECE as usize] {
    let mut bytes = [0; PIECE as usize];
    let mut at = 0;
    while at < bytes.len() {
        bytes[at] = if at % 64 == 63 { b'\n' } else { b'!' + (at % 64) as u8 };
        at += 1;
    }
    bytes
}

/// A body that is there already.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A small answer of JSON.
pub fn message(status: StatusCode, json: impl Into<Value>) -> Response<Body> {
    let mut response = Response::new(full(format!("{}\n", json.into())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The request's body as the answer's, with its trailers.
pub fn back(body: Incoming) -> Body {
    body.map_err(Into::into).boxed_unsync()
}

/// The error that ends a connection, or a stream of HTTP/2, with a reset.
pub fn reset_error() -> BoxError {
    h2::Error::from(h2::Reason::INTERNAL_ERROR).into()
}

/// The body that the behaviour asks for, and its length where that is to be announced.
pub fn answer(json: Bytes, behaviour: &Behaviour) -> (Body, Option<u64>) {
    let plain =
        *behaviour == Behaviour { status: behaviour.status, delay: behaviour.delay, ..Behaviour::default() };
    if plain {
        return (full(json), None);
    }
    let left = behaviour.bytes.unwrap_or(json.len() as u64);
    let made = Made {
        given: behaviour.bytes.is_none().then_some(json),
        sent: 0,
        left,
        pace: behaviour.trickle.unwrap_or(Pace { size: PIECE, interval: Duration::ZERO }),
        cut_at: (behaviour.reset == Some(Reset::Body)).then_some(left / 2),
        trailers: behaviour.trailers.then(Checksum::new),
    };
    let length = (!behaviour.trailers).then_some(left);
    (StreamBody::new(stream::unfold(made, Made::next)).boxed_unsync(), length)
}

/// A body in the making.
struct Made {
    given: Option<Bytes>,
    sent: u64,
    left: u64,
    pace: Pace,
    cut_at: Option<u64>,
    trailers: Option<Checksum>,
}

impl Made {
    async fn next(mut self) -> Option<(Result<Frame<Bytes>, BoxError>, Self)> {
        if self.cut_at.is_some_and(|at| self.sent >= at) {
            // Let what was sent so far leave before the reset overtakes it.
            tokio::time::sleep(Duration::from_millis(20)).await;
            return Some((Err(reset_error()), self));
        }
        if self.left == 0 {
            let trailers = self.trailers.take()?;
            return Some((Ok(Frame::trailers(checksum_trailer(&trailers))), self));
        }
        if !self.pace.interval.is_zero() {
            tokio::time::sleep(self.pace.interval).await;
        }
        let piece = self.piece();
        Some((Ok(Frame::data(piece)), self))
    }

    fn piece(&mut self) -> Bytes {
        let until_cut = self.cut_at.map_or(u64::MAX, |at| (at - self.sent).max(1));
        let size = self.left.min(self.pace.size).min(PIECE).min(until_cut) as usize;
        let piece = match &mut self.given {
            Some(given) => given.split_to(size),
            None => Bytes::from_static(&PATTERN).slice(..size),
        };
        self.sent += size as u64;
        self.left -= size as u64;
        if let Some(checksum) = &mut self.trailers {
            checksum.update(&piece);
        }
        piece
    }
}

fn checksum_trailer(checksum: &Checksum) -> HeaderMap {
    let value = HeaderValue::from_str(&checksum.hex()).ok();
    value.into_iter().map(|v| (CHECKSUM, v)).collect()
}

/// Reads a body to its end, without keeping it.
///
/// # Errors
/// When it breaks off.
pub async fn drain(mut body: Incoming) -> Result<(Checksum, Option<HeaderMap>), hyper::Error> {
    let (mut checksum, mut trailers) = (Checksum::new(), None);
    while !body.is_end_stream() {
        let Some(frame) = body.frame().await else { break };
        match frame?.into_data() {
            Ok(data) => checksum.update(&data),
            Err(other) => trailers = other.into_trailers().ok(),
        }
    }
    Ok((checksum, trailers))
}
