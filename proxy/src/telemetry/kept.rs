//! What an entry of the access log keeps of what was sent: texts and headers, in one piece of memory.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::text::{MAX_VALUE, cut};

/// Room for the texts of most requests, in bytes.
const USUAL_TEXT: usize = 256;
/// The most headers that one entry keeps beside those that every line shows.
const MAX_HEADERS: usize = 64;

/// The texts that every entry may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Text {
    /// The request's method.
    Method,
    /// The path with its query, as the client sent it.
    Path,
    /// `Host` or `:authority`.
    Authority,
    /// `User-Agent`.
    UserAgent,
    /// `X-Forwarded-For`.
    ForwardedFor,
    /// `X-Request-Id`.
    RequestId,
    /// The SNI of the client's handshake.
    ServerName,
    /// What went wrong with the upstream's connection.
    TransportFailure,
}

impl Text {
    pub(super) const COUNT: usize = 8;
}

/// What is kept of what was sent, one text after the other.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    /// Always UTF-8.
    pub(super) text: Vec<u8>,
    pub(super) spans: [Span; Text::COUNT],
    /// Which of them are there.
    pub(super) present: u32,
    chosen: Option<Box<Chosen>>,
}

/// Headers of the user's choice.
#[derive(Clone, Debug, Default)]
pub(super) struct Chosen {
    pub(super) request: Vec<(HeaderName, Span)>,
    pub(super) response: Vec<(HeaderName, Span)>,
}

/// Where a text stands among those that are kept.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Span {
    pub(super) start: u32,
    end: u32,
}

// === impl Kept ===

impl Kept {
    /// Nothing yet, and room for the usual.
    pub(super) fn new() -> Self {
        let text = Vec::with_capacity(USUAL_TEXT);
        Self { text, spans: Default::default(), present: 0, chosen: None }
    }

    /// One of its texts.
    pub(super) fn at(&self, span: Span) -> &str {
        let text = self.text.get(span.start as usize..span.end as usize).unwrap_or_default();
        std::str::from_utf8(text).unwrap_or_default()
    }

    /// Keeps the head of a text that is UTF-8.
    pub(super) fn keep(&mut self, text: &[u8], most: usize) -> Span {
        let start = self.text.len();
        self.text.extend_from_slice(&text[..text.len().min(most)]);
        Span { start: start as u32, end: self.text.len() as u32 }
    }

    pub(super) fn put(&mut self, what: Text, span: Span) {
        self.spans[what as usize] = span;
        self.present &= !(1 << what as usize);
        self.present |= u32::from(span.length() > 0) << what as usize;
    }

    /// The headers of every line, the first of each. To look at all that a request has beats looking four up.
    pub(super) fn keep_usual(&mut self, headers: &HeaderMap) {
        for (name, value) in headers {
            if let Some(what) = text_of_header(name)
                && self.spans[what as usize].length() == 0
            {
                let span = self.keep_value(value);
                self.put(what, span);
            }
        }
    }

    pub(super) fn keep_value(&mut self, value: &HeaderValue) -> Span {
        let bytes = value.as_bytes();
        if bytes.is_ascii() { self.keep(bytes, MAX_VALUE) } else { self.keep_lossy(bytes) }
    }

    #[cold]
    fn keep_lossy(&mut self, bytes: &[u8]) -> Span {
        let text = String::from_utf8_lossy(bytes);
        self.keep(text.as_bytes(), cut(&text, MAX_VALUE).len())
    }

    fn keep_header(&mut self, headers: &HeaderMap, name: &HeaderName) -> Option<Span> {
        headers.get(name).map(|value| self.keep_value(value))
    }

    pub(super) fn capture_request(&mut self, headers: &HeaderMap, name: &HeaderName) {
        let known = |(known, _): &(HeaderName, Span)| known == name;
        if !self.chosen.as_ref().is_some_and(|chosen| chosen.request.iter().any(known)) {
            self.capture(headers, name, |chosen| &mut chosen.request);
        }
    }

    pub(super) fn capture_response(&mut self, headers: &HeaderMap, name: &HeaderName) {
        self.capture(headers, name, |chosen| &mut chosen.response);
    }

    fn capture(
        &mut self,
        headers: &HeaderMap,
        name: &HeaderName,
        of: impl Fn(&mut Chosen) -> &mut Vec<(HeaderName, Span)>,
    ) {
        let full = self.chosen.as_mut().is_some_and(|chosen| of(chosen).len() >= MAX_HEADERS);
        if !full && let Some(span) = self.keep_header(headers, name) {
            of(self.chosen.get_or_insert_default()).push((name.clone(), span));
        }
    }

    pub(super) fn find(&self, of: impl Fn(&Chosen) -> &Vec<(HeaderName, Span)>, name: &HeaderName) -> Span {
        let mut all = self.chosen.iter().flat_map(|chosen| of(chosen));
        all.find(|(known, _)| known == name).map_or(Span::default(), |(_, span)| *span)
    }
}

impl Span {
    pub(super) fn length(self) -> usize {
        self.end.saturating_sub(self.start) as usize
    }
}

/// The text that every entry keeps of a request header.
pub(super) fn text_of_header(name: &HeaderName) -> Option<Text> {
    match name.as_str() {
        "host" => Some(Text::Authority),
        "user-agent" => Some(Text::UserAgent),
        "x-forwarded-for" => Some(Text::ForwardedFor),
        "x-request-id" => Some(Text::RequestId),
        _ => None,
    }
}
