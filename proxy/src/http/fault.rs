//! What ends a message before its end.

use std::error::Error;
use std::fmt;
use std::io;

use weft_core::http::head::fault::Fault;

/// Why a body was cut off. Given to hyper, it becomes a reset of the stream (HTTP/2, with the code of
/// [`Cut::code`]) or a connection that closes without the body's end (HTTP/1): never a clean end.
#[derive(Debug)]
pub enum Cut {
    /// The other side of the proxy broke off.
    Peer(hyper::Error),
    /// Nothing came for as long as an idle body may take.
    Idle,
    /// The route's time was up.
    Deadline,
    /// The stream must not be processed: the client may send the request again, to somebody else.
    Refused,
    /// The sidecar itself failed.
    Internal,
}

/// Bytes of an upstream that break HTTP/1's rules; wrapped in an [`io::Error`], so that it travels through hyper.
#[derive(Debug)]
pub struct FramingFault(pub Fault);

impl Cut {
    /// The HTTP/2 error code by which the peer learns of it (RFC 9113, section 7).
    pub fn code(&self) -> h2::Reason {
        match self {
            Self::Peer(error) => code_of(error).unwrap_or(h2::Reason::INTERNAL_ERROR),
            Self::Refused => h2::Reason::REFUSED_STREAM,
            Self::Idle | Self::Deadline => h2::Reason::CANCEL,
            Self::Internal => h2::Reason::INTERNAL_ERROR,
        }
    }

    /// As hyper takes it: the HTTP/2 code is found at the end of the chain of sources.
    pub fn into_error(self) -> CutError {
        CutError { code: self.code().into(), cut: self }
    }
}

/// A [`Cut`] with its HTTP/2 error as source.
#[derive(Debug)]
pub struct CutError {
    cut: Cut,
    code: h2::Error,
}

impl CutError {
    /// What happened.
    pub fn cut(&self) -> &Cut {
        &self.cut
    }
}

/// The code of a stream that was reset, passed on as the peer sent it. CANCEL stays CANCEL; a refusal after the
/// response began is no refusal any more.
fn code_of(error: &hyper::Error) -> Option<h2::Reason> {
    let reason = find::<h2::Error>(error)?.reason()?;
    Some(if reason == h2::Reason::REFUSED_STREAM { h2::Reason::INTERNAL_ERROR } else { reason })
}

/// The first error of this type in the chain of sources.
pub fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        // An io::Error shows its inner error's source, not the inner error.
        if let Some(found) = inner(error).and_then(|inner| inner.downcast_ref::<E>()) {
            return Some(found);
        }
        next = error.source();
    }
    None
}

fn inner<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + Send + Sync + 'static)> {
    error.downcast_ref::<io::Error>()?.get_ref()
}

impl From<FramingFault> for io::Error {
    fn from(fault: FramingFault) -> Self {
        io::Error::new(io::ErrorKind::InvalidData, fault)
    }
}

impl fmt::Display for FramingFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the message breaks the rules of HTTP: {}", self.0.as_str())
    }
}

impl Error for FramingFault {}

impl fmt::Display for CutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cut {
            Cut::Peer(error) => error.fmt(f),
            Cut::Idle => f.write_str("the body stood still for too long"),
            Cut::Deadline => f.write_str("the request's time was up"),
            Cut::Refused => f.write_str("the request was not processed"),
            Cut::Internal => f.write_str("a defect of the sidecar"),
        }
    }
}

impl Error for CutError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.code)
    }
}
