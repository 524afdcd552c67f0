//! A body on its way into a stream of HTTP/2: a client's to an upstream, an upstream's to a client.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http_body::{Body, Frame};

use super::fault::Cut;

/// Sends a body, no more of it at a time than the other end leaves room for: what finds none stays here, and the body
/// is not asked for more.
pub struct Pipe<B> {
    stream: SendStream<Bytes>,
    body: B,
    /// Of the body's last frame, what found no room yet.
    rest: Bytes,
    /// Nothing follows it.
    is_last: bool,
    /// Something went since [`Self::take_moved`].
    moved: bool,
}

/// What ends a pipe: nothing is left to send, or nobody takes it.
struct Done;

impl<B: Body<Data = Bytes, Error = Cut> + Unpin> Pipe<B> {
    /// Sends this body on this stream.
    pub fn new(stream: SendStream<Bytes>, body: B) -> Self {
        Self { stream, body, rest: Bytes::new(), is_last: false, moved: false }
    }

    /// Ready when everything is sent, or the stream has ended: by the other end, or because the body was cut.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let step = match self.rest.is_empty() {
                true => self.poll_body(cx),
                false => self.poll_rest(cx),
            };
            if ready!(step).is_err() {
                return Poll::Ready(());
            }
            self.moved = true;
        }
    }

    /// Whether it waits for the other end to leave room; or did, when it ended.
    pub fn is_blocked(&self) -> bool {
        !self.rest.is_empty()
    }

    /// Whether anything went since the last call.
    pub fn take_moved(&mut self) -> bool {
        std::mem::take(&mut self.moved)
    }

    /// Ends the stream before the body's end; the body is returned.
    pub fn cancel(mut self) -> B {
        self.stream.send_reset(Reason::CANCEL);
        self.body
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Done>> {
        let frame = match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(frame) => frame,
            Poll::Pending => return self.stream.poll_reset(cx).map(|_| Err(Done)),
        };
        Poll::Ready(match frame {
            Some(Ok(frame)) => self.take(frame),
            Some(Err(cut)) => {
                self.stream.send_reset(cut.code());
                Err(Done)
            }
            None => self.end(),
        })
    }

    fn take(&mut self, frame: Frame<Bytes>) -> Result<(), Done> {
        match frame.into_data() {
            Ok(data) => {
                self.is_last = self.body.is_end_stream();
                if data.is_empty() && self.is_last {
                    return self.end();
                }
                self.rest = data;
                Ok(())
            }
            Err(frame) => {
                if let Ok(trailers) = frame.into_trailers() {
                    // A stream that was reset meanwhile takes none.
                    let _ = self.stream.send_trailers(trailers);
                }
                Err(Done)
            }
        }
    }

    fn end(&mut self) -> Result<(), Done> {
        // A stream that was reset meanwhile has ended.
        let _ = self.stream.send_data(Bytes::new(), true);
        Err(Done)
    }

    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Done>> {
        let Some(room) = ready!(self.poll_room(cx)) else { return Poll::Ready(Err(Done)) };
        let part = self.rest.split_to(room.min(self.rest.len()));
        let ends = self.is_last && self.rest.is_empty();
        let sent = self.stream.send_data(part, ends);
        Poll::Ready(if ends || sent.is_err() { Err(Done) } else { Ok(()) })
    }

    /// How much the other end has room for; `None` where it has ended the stream.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Option<usize>> {
        self.stream.reserve_capacity(self.rest.len());
        loop {
            let room = self.stream.capacity();
            if room > 0 {
                return Poll::Ready(Some(room));
            }
            if !matches!(ready!(self.stream.poll_capacity(cx)), Some(Ok(_))) {
                return Poll::Ready(None);
            }
        }
    }
}
