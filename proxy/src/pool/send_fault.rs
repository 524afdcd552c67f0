//! What is known of a request that got no response.

use weft_core::http::head::fault::Fault;

/// Why there is no response.
#[derive(Debug)]
pub enum SendFault {
    /// Nothing of the request was written.
    Unsent,
    /// The upstream said that it has not processed the request (REFUSED_STREAM, or GOAWAY with a lower stream).
    Refused,
    /// The upstream's bytes broke the rules of HTTP.
    Framing(Option<Fault>),
    /// The connection or the stream broke off; what the upstream has done is not known.
    Reset,
    /// The client's body failed.
    Body,
}
