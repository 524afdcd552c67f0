//! Why a peer's HTTP/1 bytes were refused, and the status that answers it.

use std::fmt;

use crate::reason::Reason;

/// A message that must not be forwarded. The connection always closes after the answer: where the next message
/// would begin is no longer known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Status of the answer: to the client for a request, 502 for a response.
    pub status: u16,
    /// What was wrong.
    pub fault: Fault,
    /// How many bytes of the scanned slice are still sound (they belong to earlier messages, or to the body before
    /// the fault) and may be handed on; nothing from there on may.
    pub at: usize,
    /// Whether the fault lies in a body (or its trailers), whose head has been handed on.
    pub in_body: bool,
}

/// What is wrong with the framing or the head of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The method is not a token.
    Method,
    /// The request target holds a control character, a space or a fragment, or is empty.
    Target,
    /// The request target, or the whole request line, is longer than the limit.
    TargetTooLong,
    /// The version is not `HTTP/` DIGIT `.` DIGIT, or is missing.
    Version,
    /// A well-formed version that is neither 1.0 nor 1.1.
    VersionUnsupported,
    /// The status line is malformed.
    StatusLine,
    /// LF without CR ends a line.
    BareLf,
    /// CR that is not followed by LF.
    BareCr,
    /// A control character inside a field.
    Control,
    /// A field name that is empty, holds a byte that is no token character, or has no colon after it.
    FieldName,
    /// A line that begins with a space or a tab.
    Fold,
    /// More fields than the limit.
    TooManyFields,
    /// A header or trailer section larger than the limit.
    SectionTooLarge,
    /// `Content-Length` is not a decimal number that fits.
    ContentLength,
    /// Several `Content-Length` fields that differ.
    ContentLengths,
    /// `Transfer-Encoding` is malformed, repeated, or does not belong in HTTP/1.0.
    TransferEncoding,
    /// A transfer coding other than `chunked`.
    TransferCoding,
    /// Both `Content-Length` and `Transfer-Encoding`.
    TwoLengths,
    /// A body where the message cannot have one (CONNECT, 1xx, 204).
    BodyForbidden,
    /// A chunk-size line is malformed or too long.
    ChunkSize,
    /// Chunk data is not followed by CRLF.
    ChunkEnd,
    /// More interim (1xx) responses than the limit.
    TooManyInterim,
    /// 101 although no upgrade was asked for.
    Switch,
    /// Bytes from an upstream that was asked nothing, or after the end of its response.
    Unasked,
    /// The connection ended inside a message.
    Truncated,
}

impl Fault {
    /// The word for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Fault::Method => "method",
            Fault::Target => "target",
            Fault::TargetTooLong => "target_too_long",
            Fault::Version => "version",
            Fault::VersionUnsupported => "version_unsupported",
            Fault::StatusLine => "status_line",
            Fault::BareLf => "bare_lf",
            Fault::BareCr => "bare_cr",
            Fault::Control => "control_character",
            Fault::FieldName => "field_name",
            Fault::Fold => "folded_line",
            Fault::TooManyFields => "too_many_fields",
            Fault::SectionTooLarge => "section_too_large",
            Fault::ContentLength => "content_length",
            Fault::ContentLengths => "content_lengths_differ",
            Fault::TransferEncoding => "transfer_encoding",
            Fault::TransferCoding => "transfer_coding",
            Fault::TwoLengths => "length_and_encoding",
            Fault::BodyForbidden => "body_forbidden",
            Fault::ChunkSize => "chunk_size",
            Fault::ChunkEnd => "chunk_end",
            Fault::TooManyInterim => "too_many_interim",
            Fault::Switch => "switch_unasked",
            Fault::Unasked => "unasked_bytes",
            Fault::Truncated => "truncated",
        }
    }

    /// The status that answers a request with this fault (RFC 9110 section 15, RFC 6585 section 5).
    pub fn request_status(self) -> u16 {
        match self {
            Fault::TargetTooLong => 414,
            Fault::TooManyFields | Fault::SectionTooLarge => 431,
            Fault::TransferCoding => 501,
            Fault::VersionUnsupported => 505,
            _ => 400,
        }
    }
}

impl Refusal {
    /// The reason that the answer carries.
    pub fn reason(&self) -> Reason {
        match self.status {
            502 => Reason::UpstreamFraming,
            414 => Reason::UriTooLong,
            431 => Reason::HeadTooLarge,
            _ => Reason::BadRequest,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::error::Error for Fault {}
