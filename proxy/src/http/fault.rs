//! What ends a message, or a connection, before its end.

use std::error::Error;
use std::io;

use weft_core::http::head::fault::Fault;

/// What the library says is wrong with a connection, or with a message that comes over it.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// Of HTTP/1.
    #[error("{0}")]
    Http1(#[source] hyper::Error),
    /// Of HTTP/2.
    #[error("{0}")]
    Http2(#[source] h2::Error),
}

/// Why a body was cut off. It becomes a reset of the stream (HTTP/2, with the code of [`Cut::code`]) or a connection
/// that closes without the body's end (HTTP/1): never a clean end.
#[derive(Debug, thiserror::Error)]
pub enum Cut {
    /// The other side of the proxy broke off.
    #[error("{0}")]
    Peer(#[source] HttpError),
    /// Nothing came for as long as an idle body may take.
    #[error("the body stood still for too long")]
    Idle,
    /// The route's time was up.
    #[error("the request's time was up")]
    Deadline,
    /// The stream must not be processed: the client may send the request again, to somebody else.
    #[error("the request was not processed")]
    Refused,
}

/// Bytes of an upstream that break HTTP/1's rules; wrapped in an [`io::Error`], so that it travels through hyper.
#[derive(Debug, thiserror::Error)]
#[error("the message breaks the rules of HTTP: {}", .0.as_str())]
pub struct FramingFault(pub Fault);

impl Cut {
    /// The HTTP/2 error code by which the peer learns of it (RFC 9113, section 7).
    pub fn code(&self) -> h2::Reason {
        match self {
            Self::Peer(error) => code_of(error).unwrap_or(h2::Reason::INTERNAL_ERROR),
            Self::Refused => h2::Reason::REFUSED_STREAM,
            Self::Idle | Self::Deadline => h2::Reason::CANCEL,
        }
    }
}

/// The code of a stream that was reset, passed on as the peer sent it. CANCEL stays CANCEL; a refusal after the
/// response began is no refusal any more.
fn code_of(error: &HttpError) -> Option<h2::Reason> {
    let HttpError::Http2(error) = error else { return None };
    let reason = error.reason()?;
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
