//! Request bodies: what an upstream is sent, once or again.
//!
//! An `Upload` is the client's body and outlives the tries; each try reads it through an `UploadBody` of its
//! own. What was read is kept for another try while it is small; a larger body can be sent only once.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use weft_core::http::grpc::Messages;
use weft_core::http::headers::strip_trailers;
use weft_core::reason::Reason;

use super::fault::Cut;
use super::incoming::Incoming;
use super::patience::Patience;
use super::permission::{Permission, Permitted};

/// The most bytes of a request body that are kept to be sent again.
pub const REPLAY_LIMIT: usize = 64 * 1024;

/// The body of one request, shared by its tries.
#[derive(Clone, Default)]
pub struct Upload(Option<Rc<RefCell<Source>>>);

struct Source {
    incoming: Incoming,
    patience: Patience,
    /// The upstream's word, where the client waits for it.
    permitted: Option<Permitted>,
    /// Bytes received from the client.
    received: u64,
    /// Messages among them; counted where it is gRPC.
    messages: Option<Messages>,
    /// What was received, to be sent again; `None` when it was too much or is not wanted.
    kept: Option<Kept>,
    /// The client's body failed, and why.
    failed: Option<Reason>,
    /// The number of the try that may read.
    reader: u32,
    /// Nobody is to read any more.
    abandoned: bool,
    /// Who waits for more.
    waiting: Option<Waker>,
}

#[derive(Default)]
struct Kept {
    chunks: Vec<Bytes>,
    bytes: usize,
    trailers: Option<HeaderMap>,
}

/// The body as one try sends it.
pub struct UploadBody {
    source: Option<Rc<RefCell<Source>>>,
    reader: u32,
    /// The next of the kept chunks.
    next: usize,
}

impl Upload {
    /// The client's body. `again`: it may have to be sent more than once.
    pub fn new(incoming: Incoming, patience: Patience, again: bool) -> Self {
        if incoming.is_end_stream() {
            return Self(None);
        }
        let kept = again.then(Kept::default);
        let source = Source {
            incoming,
            patience,
            permitted: None,
            received: 0,
            messages: None,
            kept,
            failed: None,
            reader: 0,
            abandoned: false,
            waiting: None,
        };
        Self(Some(Rc::new(RefCell::new(source))))
    }

    /// The client waits for the upstream's word before it sends.
    #[must_use]
    pub fn expecting(self) -> Self {
        if let Some(source) = &self.0 {
            source.borrow_mut().permitted = Some(Permission::default().wait());
        }
        self
    }

    /// Counts its messages where it is gRPC.
    #[must_use]
    pub fn counting(self, grpc: bool) -> Self {
        if let Some(source) = &self.0 {
            source.borrow_mut().messages = grpc.then(Messages::default);
        }
        self
    }

    /// Messages of gRPC received from the client so far.
    pub fn messages(&self) -> u64 {
        self.0.as_ref().and_then(|source| source.borrow().messages).map_or(0, |messages| messages.count())
    }

    /// Whether there is no body at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Bytes received from the client so far.
    pub fn received(&self) -> u64 {
        self.0.as_ref().map_or(0, |source| source.borrow().received)
    }

    /// The upstream has answered: from now on the client may take its time, as long as the exchange lasts.
    pub fn answered(&self) {
        if let Some(source) = &self.0 {
            source.borrow_mut().answered();
        }
    }

    /// The exchange is over, though its client may still be there: whoever sends the body breaks off.
    pub fn abandon(&self) {
        if let Some(source) = &self.0 {
            source.borrow_mut().abandon();
        }
    }

    /// Whether another try can send the whole of it.
    pub fn can_repeat(&self) -> bool {
        let Some(source) = &self.0 else { return true };
        let source = source.borrow();
        source.failed.is_none() && (source.kept.is_some() || source.received == 0)
    }

    /// Why the client's side of it failed, where it did.
    pub fn failed(&self) -> Option<Reason> {
        self.0.as_ref().and_then(|source| source.borrow().failed)
    }

    /// The body for the next try. The bodies of earlier tries end with an error from now on.
    pub fn body(&self) -> UploadBody {
        let reader = self.0.as_ref().map_or(0, |source| {
            let mut source = source.borrow_mut();
            source.reader += 1;
            source.reader
        });
        UploadBody { source: self.0.clone(), reader, next: 0 }
    }
}

impl Source {
    fn answered(&mut self) {
        self.patience.relax();
        if let Some(permitted) = &self.permitted {
            permitted.permission().deny();
        }
    }

    fn abandon(&mut self) {
        self.abandoned = true;
        if let Some(waiting) = self.waiting.take() {
            waiting.wake();
        }
    }

    fn wait(&mut self, cx: &Context<'_>) {
        if self.waiting.as_ref().is_none_or(|waiting| !waiting.will_wake(cx.waker())) {
            self.waiting = Some(cx.waker().clone());
        }
    }

    /// Ready when the body may be read.
    fn poll_permitted(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let Some(permitted) = &mut self.permitted else { return Poll::Ready(true) };
        let may = ready!(permitted.poll(cx));
        if may {
            self.permitted = None;
        }
        Poll::Ready(may)
    }

    fn poll_fresh(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        if self.abandoned || !ready!(self.poll_permitted(cx)) {
            return Poll::Ready(Some(Err(Cut::Refused)));
        }
        match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(mut frame))) => {
                self.keep(&mut frame);
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => self.fail(Cut::Peer(error)),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => match self.patience.poll(cx) {
                Poll::Ready(cut) => self.fail(cut),
                Poll::Pending => {
                    self.wait(cx);
                    Poll::Pending
                }
            },
        }
    }

    fn fail(&mut self, cut: Cut) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        self.failed = Some(match cut {
            Cut::Idle => Reason::RequestTimeout,
            Cut::Deadline => Reason::Timeout,
            _ => Reason::BadRequest,
        });
        Poll::Ready(Some(Err(cut)))
    }

    fn keep(&mut self, frame: &mut Frame<Bytes>) {
        self.patience.moved();
        if let Some(data) = frame.data_ref() {
            self.received += data.len() as u64;
            if let Some(messages) = &mut self.messages {
                messages.pass(data);
            }
            self.kept = self.kept.take().and_then(|kept| kept.with(data));
        } else if let Some(trailers) = frame.trailers_mut() {
            strip_trailers(trailers);
            if let Some(kept) = &mut self.kept {
                kept.trailers = Some(trailers.clone());
            }
        }
    }
}

impl Kept {
    fn with(mut self, data: &Bytes) -> Option<Self> {
        self.bytes += data.len();
        if self.bytes > REPLAY_LIMIT {
            return None;
        }
        self.chunks.push(data.clone());
        Some(self)
    }

    /// The frame at this place of those kept.
    fn frame(&self, place: usize) -> Option<Frame<Bytes>> {
        match self.chunks.get(place) {
            Some(chunk) => Some(Frame::data(chunk.clone())),
            None if place == self.chunks.len() => self.trailers.clone().map(Frame::trailers),
            None => None,
        }
    }
}

impl UploadBody {
    /// The word that the client waits for, where it does.
    pub fn permission(&self) -> Option<Permission> {
        let source = self.source.as_ref()?.borrow();
        source.permitted.as_ref().map(|permitted| permitted.permission().clone())
    }
}

impl HttpBody for UploadBody {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let this = self.get_mut();
        let Some(source) = &this.source else { return Poll::Ready(None) };
        let source = &mut *source.borrow_mut();
        if source.reader != this.reader {
            return Poll::Ready(Some(Err(Cut::Refused)));
        }
        if let Some(frame) = source.kept.as_ref().and_then(|kept| kept.frame(this.next)) {
            this.next += 1;
            return Poll::Ready(Some(Ok(frame)));
        }
        let polled = source.poll_fresh(cx);
        if let Poll::Ready(Some(Ok(_))) = polled {
            this.next += 1;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        let Some(source) = &self.source else { return true };
        let source = source.borrow();
        let repeated = source.kept.as_ref().is_none_or(|kept| kept.frame(self.next).is_none());
        repeated && source.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let Some(source) = &self.source else { return SizeHint::with_exact(0) };
        let source = source.borrow();
        let again = source.kept.as_ref().map_or(0, |kept| kept.left(self.next));
        match source.incoming.size_hint().exact() {
            Some(left) => SizeHint::with_exact(left + again),
            None => SizeHint::default(),
        }
    }
}

impl Kept {
    /// Bytes from this place on.
    fn left(&self, place: usize) -> u64 {
        self.chunks.iter().skip(place).map(|chunk| chunk.len() as u64).sum()
    }
}
