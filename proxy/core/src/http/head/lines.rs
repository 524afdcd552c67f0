//! Start lines, fields and chunk sizes as they come, whole or in pieces.

use crate::http::head::fault::Fault;
use crate::http::head::framing::Framing;
use crate::http::head::{HeadScanner, Role, State, lex};

/// A request line may be so much longer than the target's limit: method, version, spaces.
const REQUEST_LINE_MORE: usize = 256;
/// Bytes of a chunk-size line, extensions and CRLF included.
const CHUNK_LINE: usize = 4096;

impl HeadScanner {
    /// Takes the lines at the front of `bytes`: all fields that are whole, or one line of another kind.
    pub(super) fn lines(&mut self, bytes: &[u8]) -> Result<usize, Fault> {
        if !self.carry.is_empty() {
            return self.carried(bytes);
        }
        let mut rest = bytes;
        loop {
            match self.line(rest) {
                Ok(Some(used)) => rest = &rest[used..],
                outcome => return Ok(bytes.len() - rest.len() + self.unfinished(rest, outcome.err())?),
            }
            if self.state == State::Fields {
                rest = &rest[self.simple_fields(rest)..];
            }
            if rest.is_empty() || self.state != State::Fields {
                return Ok(bytes.len() - rest.len());
            }
        }
    }

    /// Takes the fields that need no second look, within the limits.
    fn simple_fields(&mut self, bytes: &[u8]) -> usize {
        let room = self.limits.section.saturating_sub(self.used);
        let (used, count) = lex::simple_fields(bytes, room, self.limits.fields - self.fields);
        self.used += used;
        self.fields += count;
        used
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

/// The length of the first line, its LF included.
fn newline(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|b| *b == b'\n').map(|at| at + 1)
}
