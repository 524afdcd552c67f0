//! The strict HTTP/1 scanner that stands in front of the HTTP library, on both sides of the proxy.
//!
//! It reads the bytes of a connection in whatever pieces they come, before the library does, follows the framing of
//! the messages (so it knows where each next head starts, on pipelined and kept connections), and refuses what the
//! library would let through: anything that another parser on the way could read as different messages.
//!
//! ```text
//!            +---------------------------- next message ----------------------------+
//!            v                                                                       |
//!   Start -> Fields -> Length(n) | Data(n) <-> ChunkEnd, ChunkSize -> Trailers -> (end) -> Held -> Tunnel
//!                      | UntilClose                                                 (upgrade, CONNECT)
//! ```
//!
//! Nothing is allocated while lines arrive whole; the piece of a line that ends a slice is kept until the rest comes,
//! within the limits. The verdict does not depend on how the bytes were cut.

pub mod fault;
pub(crate) mod lex;
mod framing;

use crate::http::head::fault::{Fault, Refusal};
use crate::http::head::framing::{Body, Framing};

/// Bounds of a message head; exceeding one is a refusal.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of the request target (414).
    pub target: usize,
    /// Bytes of the whole head, or of a trailer section (431).
    pub section: usize,
    /// Fields of a head, or of a trailer section (431).
    pub fields: u16,
    /// Interim (1xx) responses before the final one.
    pub interim: u16,
}

impl Default for Limits {
    /// 16 KiB of target, 64 KiB and 100 fields of head, 32 interim responses.
    fn default() -> Self {
        Limits { target: 16 << 10, section: 64 << 10, fields: 100, interim: 32 }
    }
}

/// What may be done with a scanned slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// All of it may be handed on.
    All,
    /// So many bytes may be handed on. The next one belongs to what follows a request that asked to leave HTTP (an
    /// upgrade or CONNECT): keep the rest until the answer is known, call [`HeadScanner::tunnel`] or
    /// [`HeadScanner::stay`], and scan the rest then.
    Held(usize),
}

/// Scanner of one direction of one HTTP/1 connection.
#[derive(Debug)]
pub struct HeadScanner {
    role: Role,
    state: State,
    leave: Leave,
    framing: Framing,
    used: usize,
    fields: u16,
    interim: u16,
    limits: Limits,
    carry: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Request,
    Response { head: bool, connect: bool, upgrade: bool },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Start { blank: bool },
    Fields,
    Length(u64),
    ChunkSize,
    Data(u64),
    ChunkEnd { cr: bool },
    Trailers,
    UntilClose,
    Held,
    Tunnel,
    Unasked,
}

/// Whether the connection leaves HTTP at the end of this message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leave {
    No,
    Asked,
    Yes,
}

/// A request line may be so much longer than the target's limit: method, version, spaces.
const REQUEST_LINE_MORE: usize = 256;
/// Bytes of a chunk-size line, extensions and CRLF included.
const CHUNK_LINE: usize = 4096;

impl HeadScanner {
    /// A scanner of requests, for the server's side of a connection.
    pub fn requests(limits: Limits) -> Self {
        HeadScanner::new(Role::Request, State::Start { blank: false }, limits)
    }

    /// A scanner of responses, for the client's side. Until [`HeadScanner::asked`] is called it expects no byte.
    pub fn responses(limits: Limits) -> Self {
        let role = Role::Response { head: false, connect: false, upgrade: false };
        HeadScanner::new(role, State::Unasked, limits)
    }

    fn new(role: Role, state: State, limits: Limits) -> Self {
        let framing = Framing::default();
        let carry = Vec::new();
        HeadScanner { role, state, leave: Leave::No, framing, used: 0, fields: 0, interim: 0, limits, carry }
    }

    /// A request is about to be sent on this connection, whose response is scanned next. `upgrade`: it carries an
    /// `Upgrade` field, so that 101 is a legal answer.
    pub fn asked(&mut self, method: &::http::Method, upgrade: bool) {
        let head = method == ::http::Method::HEAD;
        let connect = method == ::http::Method::CONNECT;
        self.role = Role::Response { head, connect, upgrade };
        self.interim = 0;
        self.start();
    }

    /// Inspects the next bytes of the connection. After an error it refuses everything; after `Held` nothing more
    /// passes until that is resolved.
    pub fn scan(&mut self, bytes: &[u8]) -> Result<Progress, Refusal> {
        let mut at = 0;
        let mut sound = 0;
        while at < bytes.len() {
            match self.state {
                State::Held => return Ok(Progress::Held(at)),
                State::Tunnel | State::UntilClose => return Ok(Progress::All),
                _ => {}
            }
            match self.step(&bytes[at..]) {
                Ok(used) => at += used,
                Err(fault) => return Err(self.refuse(fault, sound)),
            }
            if !self.in_head() {
                sound = at;
            }
        }
        Ok(Progress::All)
    }

    /// The request that asked to leave HTTP was granted (101, or 2xx to CONNECT): everything after it passes unread.
    /// May be called before the end of the request's body has been seen.
    pub fn tunnel(&mut self) {
        self.leave = Leave::Yes;
        if self.state == State::Held {
            self.state = State::Tunnel;
        }
    }

    /// The request that asked to leave HTTP was answered otherwise: what follows it is the next request.
    pub fn stay(&mut self) {
        self.leave = Leave::No;
        if self.state == State::Held {
            self.start();
        }
    }

    /// The connection ended; an error if that cuts a message short.
    pub fn end(&self) -> Result<(), Fault> {
        match self.state {
            State::Held | State::Tunnel | State::UntilClose | State::Unasked => Ok(()),
            State::Start { .. } if self.carry.is_empty() => Ok(()),
            _ => Err(Fault::Truncated),
        }
    }

    /// Whether a head has begun and is not complete: the time that a header timer measures.
    pub fn in_head(&self) -> bool {
        match self.state {
            State::Fields => true,
            State::Start { .. } => !self.carry.is_empty(),
            _ => false,
        }
    }

    /// How many bytes of a head have come that is not complete: whoever must not see half a head keeps so many.
    pub fn head_so_far(&self) -> usize {
        match self.state {
            State::Fields => self.used + self.carry.len(),
            State::Start { .. } => self.carry.len(),
            _ => 0,
        }
    }

    /// Whether the connection is between two messages.
    pub fn between_messages(&self) -> bool {
        matches!(self.state, State::Start { .. } | State::Unasked) && self.carry.is_empty()
    }

    /// Whether the connection has left HTTP.
    pub fn is_tunnel(&self) -> bool {
        self.state == State::Tunnel
    }

    fn refuse(&mut self, fault: Fault, at: usize) -> Refusal {
        let in_body = !matches!(self.state, State::Start { .. } | State::Fields | State::Unasked);
        self.carry = Vec::new();
        self.state = State::Unasked;
        let status = match self.role {
            Role::Request => fault.request_status(),
            Role::Response { .. } => 502,
        };
        Refusal { status, fault, at, in_body }
    }

    /// Takes one step at the front of `bytes`, which is not empty; the bytes used.
    fn step(&mut self, bytes: &[u8]) -> Result<usize, Fault> {
        match self.state {
            State::Length(left) => {
                let used = take(left, bytes);
                match left - used as u64 {
                    0 => self.end_message(),
                    left => self.state = State::Length(left),
                }
                Ok(used)
            }
            State::Data(left) => {
                let used = take(left, bytes);
                self.state = match left - used as u64 {
                    0 => State::ChunkEnd { cr: false },
                    left => State::Data(left),
                };
                Ok(used)
            }
            State::ChunkEnd { cr } => self.chunk_end(cr, bytes[0]),
            State::Unasked => Err(Fault::Unasked),
            State::Held | State::Tunnel | State::UntilClose => Ok(0),
            State::Start { .. } | State::Fields | State::ChunkSize | State::Trailers => self.lines(bytes),
        }
    }

    fn chunk_end(&mut self, cr: bool, byte: u8) -> Result<usize, Fault> {
        self.state = match (cr, byte) {
            (false, b'\r') => State::ChunkEnd { cr: true },
            (true, b'\n') => State::ChunkSize,
            _ => return Err(Fault::ChunkEnd),
        };
        Ok(1)
    }
}

// === lines, whole or in pieces ===

impl HeadScanner {
    /// Takes the lines at the front of `bytes`: all fields that are whole, or one line of another kind.
    fn lines(&mut self, bytes: &[u8]) -> Result<usize, Fault> {
        if !self.carry.is_empty() {
            return self.carried(bytes);
        }
        let mut rest = bytes;
        loop {
            match self.line(rest) {
                Ok(Some(used)) => rest = &rest[used..],
                outcome => return Ok(bytes.len() - rest.len() + self.unfinished(rest, outcome.err())?),
            }
            if rest.is_empty() || self.state != State::Fields {
                return Ok(bytes.len() - rest.len());
            }
        }
    }

    /// Keeps the piece of a line. A fault counts once its line has ended within the limit, so that the verdict is
    /// the same however the bytes were cut.
    #[cold]
    fn unfinished(&mut self, bytes: &[u8], fault: Option<Fault>) -> Result<usize, Fault> {
        let end = newline(bytes);
        self.room(end.unwrap_or(bytes.len()))?;
        match (end, fault) {
            (Some(_), fault) => Err(fault.unwrap_or(Fault::BareLf)),
            (None, _) => {
                self.carry.extend_from_slice(bytes);
                Ok(bytes.len())
            }
        }
    }

    /// Adds to the kept piece, and takes the line once it is whole.
    #[cold]
    fn carried(&mut self, bytes: &[u8]) -> Result<usize, Fault> {
        let end = newline(bytes);
        let used = end.unwrap_or(bytes.len());
        self.room(self.carry.len() + used)?;
        self.carry.extend_from_slice(&bytes[..used]);
        if end.is_some() {
            let line = std::mem::take(&mut self.carry);
            self.line(&line)?.ok_or(Fault::BareLf)?;
        }
        Ok(used)
    }

    /// Takes one line at the front of `bytes`, if it is whole; the bytes used.
    fn line(&mut self, bytes: &[u8]) -> Result<Option<usize>, Fault> {
        match self.state {
            State::Fields => self.header(bytes),
            State::Trailers => self.trailer(bytes),
            State::ChunkSize => self.chunk_size(bytes),
            _ => self.start_line(bytes),
        }
    }

    /// Whether a line of this length is within the limits.
    #[inline]
    fn room(&self, length: usize) -> Result<(), Fault> {
        match self.state {
            State::Fields | State::Trailers if self.used + length > self.limits.section => {
                Err(Fault::SectionTooLarge)
            }
            State::Start { .. } if length > self.limits.target + REQUEST_LINE_MORE => {
                Err(Fault::TargetTooLong)
            }
            State::ChunkSize if length > CHUNK_LINE => Err(Fault::ChunkSize),
            _ => Ok(()),
        }
    }

    fn start_line(&mut self, bytes: &[u8]) -> Result<Option<usize>, Fault> {
        let used = match self.role {
            Role::Request if matches!(bytes[0], b'\r' | b'\n') => return self.blank_line(bytes),
            Role::Request => self.request_line(bytes)?,
            Role::Response { .. } => self.status_line(bytes)?,
        };
        let Some(used) = used else { return Ok(None) };
        self.room(used)?;
        self.state = State::Fields;
        self.used = used;
        self.fields = 0;
        Ok(Some(used))
    }

    /// One empty line before a request is ignored (RFC 9112 section 2.2), a second is not.
    fn blank_line(&mut self, bytes: &[u8]) -> Result<Option<usize>, Fault> {
        let Some(used) = lex::end_of_line(bytes, 0)? else { return Ok(None) };
        if self.state == (State::Start { blank: true }) {
            return Err(Fault::Method);
        }
        self.state = State::Start { blank: true };
        Ok(Some(used))
    }

    fn request_line(&mut self, bytes: &[u8]) -> Result<Option<usize>, Fault> {
        let Some((line, used)) = lex::request_line(bytes)? else { return Ok(None) };
        if line.target > self.limits.target {
            return Err(Fault::TargetTooLong);
        }
        self.framing = Framing { connect: line.connect, old: line.old, ..Framing::default() };
        Ok(Some(used))
    }

    fn status_line(&mut self, bytes: &[u8]) -> Result<Option<usize>, Fault> {
        let Some((line, used)) = lex::status_line(bytes)? else { return Ok(None) };
        self.framing = Framing { status: line.status, old: line.old, ..Framing::default() };
        Ok(Some(used))
    }

    /// A header, or the empty line after the last.
    #[inline]
    fn header(&mut self, bytes: &[u8]) -> Result<Option<usize>, Fault> {
        if bytes[0] == b'\r' {
            return self.empty_line(bytes);
        }
        let Some((name, value, used)) = lex::field(bytes)? else { return Ok(None) };
        self.framing.field(name, value)?;
        self.count(used)?;
        Ok(Some(used))
    }

    fn trailer(&mut self, bytes: &[u8]) -> Result<Option<usize>, Fault> {
        if bytes[0] == b'\r' {
            return self.empty_line(bytes);
        }
        let Some((_, _, used)) = lex::field(bytes)? else { return Ok(None) };
        self.count(used)?;
        Ok(Some(used))
    }

    fn empty_line(&mut self, bytes: &[u8]) -> Result<Option<usize>, Fault> {
        let Some(used) = lex::end_of_line(bytes, 0)? else { return Ok(None) };
        self.room(used)?;
        match self.state {
            State::Trailers => self.end_message(),
            _ => self.end_head()?,
        }
        Ok(Some(used))
    }

    /// Counts a field of `used` bytes against the limits.
    #[inline]
    fn count(&mut self, used: usize) -> Result<(), Fault> {
        self.room(used)?;
        if self.fields == self.limits.fields {
            return Err(Fault::TooManyFields);
        }
        self.fields += 1;
        self.used += used;
        Ok(())
    }

    fn chunk_size(&mut self, bytes: &[u8]) -> Result<Option<usize>, Fault> {
        let Some((size, used)) = lex::chunk_size(bytes)? else { return Ok(None) };
        self.room(used)?;
        (self.used, self.fields) = (0, 0);
        self.state = if size == 0 { State::Trailers } else { State::Data(size) };
        Ok(Some(used))
    }
}

// === ends of heads and messages ===

impl HeadScanner {
    fn end_head(&mut self) -> Result<(), Fault> {
        let body = match self.role {
            Role::Request => self.end_request_head()?,
            Role::Response { head, connect, upgrade } => {
                let body = self.framing.response_body(head)?;
                match self.framing.status {
                    101 if upgrade => self.leave = Leave::Yes,
                    101 => return Err(Fault::Switch),
                    100..=199 => return self.end_interim(),
                    200..=299 if connect => return self.end_connect(),
                    _ => {}
                }
                body
            }
        };
        match body {
            Body::None => self.end_message(),
            Body::Length(left) => self.state = State::Length(left),
            Body::Chunked => self.state = State::ChunkSize,
            Body::UntilClose => self.state = State::UntilClose,
        }
        Ok(())
    }

    fn end_request_head(&mut self) -> Result<Body, Fault> {
        let asks = self.framing.connect || (self.framing.upgrade && !self.framing.old);
        self.leave = if asks { Leave::Asked } else { Leave::No };
        self.framing.request_body()
    }

    /// The tunnel begins right after the head, whatever length it claims (RFC 9112 section 6.3).
    fn end_connect(&mut self) -> Result<(), Fault> {
        self.state = State::Tunnel;
        Ok(())
    }

    fn end_interim(&mut self) -> Result<(), Fault> {
        self.interim += 1;
        if self.interim > self.limits.interim {
            return Err(Fault::TooManyInterim);
        }
        self.start();
        Ok(())
    }

    fn end_message(&mut self) {
        match (self.leave, self.role) {
            (Leave::Yes, _) => self.state = State::Tunnel,
            (Leave::Asked, _) => self.state = State::Held,
            (Leave::No, Role::Request) => self.start(),
            (Leave::No, Role::Response { .. }) => self.state = State::Unasked,
        }
    }

    fn start(&mut self) {
        self.state = State::Start { blank: false };
        self.leave = Leave::No;
    }
}

fn take(left: u64, bytes: &[u8]) -> usize {
    usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()))
}

/// The length of the first line, its LF included.
fn newline(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|b| *b == b'\n').map(|at| at + 1)
}

#[cfg(test)]
mod tests;
