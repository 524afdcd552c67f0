//! What the fields of one message head say about where the message ends (RFC 9112 section 6).

use crate::http::head::fault::Fault;
use crate::http::head::lex;

/// Collected while the fields of a head pass by.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Framing {
    pub(super) connect: bool,
    pub(super) upgrade: bool,
    pub(super) old: bool,
    pub(super) status: u16,
    pub(super) length: Option<u64>,
    pub(super) chunked: bool,
}

/// How a body is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    None,
    Length(u64),
    Chunked,
    UntilClose,
}

impl Framing {
    /// Takes note of one field.
    #[inline]
    pub(super) fn field(&mut self, name: &[u8], value: &[u8]) -> Result<(), Fault> {
        match name.len() {
            7 if name.eq_ignore_ascii_case(b"upgrade") => self.upgrade = true,
            14 if name.eq_ignore_ascii_case(b"content-length") => return self.content_length(value),
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => return self.transfer_encoding(value),
            _ => {}
        }
        Ok(())
    }

    #[cold]
    fn transfer_encoding(&mut self, value: &[u8]) -> Result<(), Fault> {
        if self.chunked || self.old {
            return Err(Fault::TransferEncoding);
        }
        self.chunked = true;
        let value = value.trim_ascii();
        match value.eq_ignore_ascii_case(b"chunked") {
            true => Ok(()),
            false if is_list(value) => Err(Fault::TransferCoding),
            false => Err(Fault::TransferEncoding),
        }
    }

    fn content_length(&mut self, value: &[u8]) -> Result<(), Fault> {
        let length = lex::content_length(value).ok_or(Fault::ContentLength)?;
        match self.length.replace(length) {
            Some(before) if before != length => Err(Fault::ContentLengths),
            _ => Ok(()),
        }
    }

    /// The body of a request with this head.
    pub(super) fn request_body(&self) -> Result<Body, Fault> {
        match self.declared()? {
            Body::UntilClose => Ok(Body::None),
            Body::None | Body::Length(0) => Ok(Body::None),
            _ if self.connect => Err(Fault::BodyForbidden),
            body => Ok(body),
        }
    }

    /// The body of a response with this head; `head`: the request was HEAD.
    pub(super) fn response_body(&self, head: bool) -> Result<Body, Fault> {
        let declared = self.declared()?;
        match self.status {
            100..=199 | 204 => match declared {
                Body::Length(1..) | Body::Chunked => Err(Fault::BodyForbidden),
                _ => Ok(Body::None),
            },
            304 => Ok(Body::None),
            _ if head || declared == Body::Length(0) => Ok(Body::None),
            _ => Ok(declared),
        }
    }

    fn declared(&self) -> Result<Body, Fault> {
        match (self.length, self.chunked) {
            (Some(_), true) => Err(Fault::TwoLengths),
            (Some(length), false) => Ok(Body::Length(length)),
            (None, true) => Ok(Body::Chunked),
            (None, false) => Ok(Body::UntilClose),
        }
    }
}

/// Whether the value is a list of tokens with nothing empty between the commas.
fn is_list(value: &[u8]) -> bool {
    let token = |item: &[u8]| !item.is_empty() && item.iter().all(|b| lex::is_token(*b));
    value.split(|b| *b == b',').all(|item| token(item.trim_ascii()))
}
