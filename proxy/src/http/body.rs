//! Response bodies: what the client is sent, in either direction.
//!
//! A body knows when it ends, however it ends, and says so exactly once: when it is dropped after its last frame, with
//! the error that cuts it, or when it is dropped before its end (the client went away).

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use weft_core::http::grpc;
use weft_core::http::headers::strip_trailers;

use super::fault::Cut;
use super::incoming::Incoming;
use super::patience::Patience;

/// How a body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With its last byte.
    Complete,
    /// The upstream broke off.
    Upstream,
    /// The client went away.
    Client,
    /// The client did not take it in time.
    Unread,
    /// It stood still for too long, or the request's time was up.
    Time,
}

/// What there is to say of a body that has ended.
#[derive(Clone, Copy, Debug)]
pub struct Summary {
    /// How.
    pub end: End,
    /// Bytes of its data.
    pub bytes: u64,
    /// `grpc-status` of its trailers.
    pub grpc_status: Option<u8>,
    /// Messages of gRPC in it.
    pub messages: u64,
}

/// Who is told of a body's end.
pub trait Finish {
    /// The body has ended. Called once.
    fn finish(self: Box<Self>, summary: Summary);
}

/// A response body.
pub struct Body {
    source: Source,
    bytes: u64,
    /// Its last frame was given: whether it is taken, whoever drops it knows.
    complete: bool,
    grpc_status: Option<u8>,
    /// Counted where it is gRPC.
    messages: Option<grpc::Messages>,
    patience: Patience,
    finish: Option<Box<dyn Finish>>,
}

enum Source {
    Empty,
    Full(Bytes),
    Stream(Incoming),
}

impl Body {
    /// No bytes.
    pub fn empty() -> Self {
        Self::over(Source::Empty, Patience::default())
    }

    /// These bytes.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let source = if bytes.is_empty() { Source::Empty } else { Source::Full(bytes) };
        Self::over(source, Patience::default())
    }

    /// What an upstream sends.
    pub fn stream(incoming: Incoming, patience: Patience) -> Self {
        Self::over(Source::Stream(incoming), patience)
    }

    fn over(source: Source, patience: Patience) -> Self {
        Self { source, bytes: 0, complete: false, grpc_status: None, messages: None, patience, finish: None }
    }

    /// Counts its messages where it is gRPC.
    #[must_use]
    pub fn counting(mut self, grpc: bool) -> Self {
        self.messages = grpc.then(Default::default);
        self
    }

    /// Says who is to be told of the end; at once, if there is nothing to wait for.
    #[must_use]
    pub fn told(mut self, finish: Box<dyn Finish>) -> Self {
        self.finish = Some(finish);
        if self.is_end_stream() {
            self.ended(End::Complete);
        }
        self
    }

    /// Something of it was not taken.
    pub fn not_taken(mut self, end: End) {
        self.ended(end);
    }

    fn ended(&mut self, end: End) {
        if let Some(finish) = self.finish.take() {
            let messages = self.messages.map_or(0, |messages| messages.count());
            finish.finish(Summary { end, bytes: self.bytes, grpc_status: self.grpc_status, messages });
        }
    }

    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        match &mut self.source {
            Source::Empty => Poll::Ready(None),
            Source::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                self.source = Source::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Source::Stream(incoming) => match Pin::new(incoming).poll_frame(cx) {
                Poll::Ready(frame) => Poll::Ready(frame.map(|frame| frame.map_err(Cut::Peer))),
                Poll::Pending => self.patience.poll(cx).map(|cut| Some(Err(cut))),
            },
        }
    }

    fn passed(&mut self, frame: &mut Frame<Bytes>) {
        self.patience.moved();
        if let Some(data) = frame.data_ref() {
            self.bytes += data.len() as u64;
            if let Some(messages) = &mut self.messages {
                messages.pass(data);
            }
        } else if let Some(trailers) = frame.trailers_mut() {
            strip_trailers(trailers);
            self.grpc_status = grpc_status(trailers);
        }
        self.complete = self.source.is_end_stream() || frame.is_trailers();
    }
}

impl Source {
    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(_) => false,
            Self::Stream(incoming) => incoming.is_end_stream(),
        }
    }
}

/// `grpc-status` of a response's headers or trailers.
pub fn grpc_status(fields: &HeaderMap) -> Option<u8> {
    u8::try_from(grpc::status(fields)?).ok()
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let this = self.get_mut();
        Poll::Ready(match ready!(this.poll_source(cx)) {
            None => {
                this.ended(End::Complete);
                None
            }
            Some(Ok(mut frame)) => {
                this.passed(&mut frame);
                Some(Ok(frame))
            }
            Some(Err(cut)) => {
                this.ended(if matches!(cut, Cut::Peer(_)) { End::Upstream } else { End::Time });
                Some(Err(cut))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.source.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Empty => SizeHint::with_exact(0),
            Source::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Source::Stream(incoming) => incoming.size_hint(),
        }
    }
}

/// A body that goes before its end: the client went away.
impl Drop for Body {
    fn drop(&mut self) {
        self.ended(if self.complete { End::Complete } else { End::Client });
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Body").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}
