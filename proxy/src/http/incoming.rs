//! Bodies that come over a connection: from a client, or from an upstream.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body::{Body, Frame, SizeHint};

use super::fault::HttpError;

/// A body that comes over a connection.
#[derive(Debug)]
pub enum Incoming {
    /// Of HTTP/1.
    Http1(hyper::body::Incoming),
    /// Of HTTP/2.
    Http2(Stream),
}

/// The body of one stream of HTTP/2.
#[derive(Debug)]
pub struct Stream {
    received: RecvStream,
    /// What `content-length` says is still to come; the library holds the sender to it.
    left: Option<u64>,
}

impl Incoming {
    /// The body of a stream that began with these headers.
    pub fn of_stream(headers: &HeaderMap, received: RecvStream) -> Self {
        let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        Self::Http2(Stream { received, left: length })
    }
}

impl Stream {
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, h2::Error>>> {
        let data = ready!(self.received.poll_data(cx));
        if let Some(Ok(data)) = &data {
            // Whoever asks passes it on before it asks again: the sender may send as much anew.
            let _ = self.received.flow_control().release_capacity(data.len());
            self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
        }
        Poll::Ready(data)
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        match ready!(self.poll_data(cx)) {
            Some(Ok(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
            // A server that has answered whole and takes no more of the request (RFC 9113 section 8.1).
            Some(Err(error)) if error.reason() == Some(h2::Reason::NO_ERROR) => return Poll::Ready(None),
            Some(Err(error)) => return Poll::Ready(Some(Err(error))),
            None => {}
        }
        let trailers = ready!(self.received.poll_trailers(cx));
        Poll::Ready(trailers.transpose().map(|trailers| trailers.map(Frame::trailers)))
    }
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        match self.get_mut() {
            Self::Http1(body) => Pin::new(body).poll_frame(cx).map_err(HttpError::Http1),
            Self::Http2(stream) => stream.poll_frame(cx).map_err(HttpError::Http2),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(stream) => stream.received.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(body) => body.size_hint(),
            Self::Http2(stream) => stream.left.map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A request under way holds a body several times over.
    #[test]
    fn a_body_takes_no_more_room_than_the_librarys() {
        assert_eq!(size_of::<Incoming>(), size_of::<hyper::body::Incoming>());
    }
}
