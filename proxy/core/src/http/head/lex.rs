//! The lines of an HTTP/1 message (RFC 9112 sections 2 to 7), one function each. `Ok(None)` means that the line
//! does not end in the bytes given. All of them stop at the line's end, however much follows.

use crate::http::head::fault::Fault;

static TOKEN: [bool; 256] = tokens();

const fn tokens() -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = is_token(byte as u8);
        byte += 1;
    }
    table
}

/// A character of a token (RFC 9110 section 5.6.2).
pub(crate) const fn is_token(b: u8) -> bool {
    b.is_ascii_alphanumeric()
        || matches!(
            b,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

/// What the scanner needs of a request line.
pub(super) struct RequestLine {
    pub(super) connect: bool,
    pub(super) old: bool,
    pub(super) target: usize,
}

/// `method SP target SP HTTP/1.x CRLF`.
pub(super) fn request_line(line: &[u8]) -> Result<Option<(RequestLine, usize)>, Fault> {
    let method = token(line);
    match line.get(method) {
        None => return Ok(None),
        Some(b' ') if method > 0 => {}
        Some(_) => return Err(Fault::Method),
    }
    let target = target(&line[method + 1..]);
    let version = method + target + 2;
    match line.get(version - 1) {
        None => return Ok(None),
        Some(b' ') if target > 0 => {}
        // HTTP/0.9 has no version.
        Some(b'\r' | b'\n') if target > 0 => return Err(Fault::Version),
        Some(_) => return Err(Fault::Target),
    }
    let text = &line[method + 1..version - 1];
    if !text.is_ascii() && std::str::from_utf8(text).is_err() {
        return Err(Fault::Target);
    }
    let Some(old) = self::version(&line[version..])? else { return Ok(None) };
    let connect = &line[..method] == b"CONNECT";
    Ok(end_of_line(line, version + 8)?.map(|used| (RequestLine { connect, old, target }, used)))
}

/// What the scanner needs of a status line.
pub(super) struct StatusLine {
    pub(super) status: u16,
    pub(super) old: bool,
}

/// `HTTP/1.x SP 3DIGIT [SP reason] CRLF`.
pub(super) fn status_line(line: &[u8]) -> Result<Option<(StatusLine, usize)>, Fault> {
    let Some(old) = version(line)? else { return Ok(None) };
    let Some(code) = line.get(8..12) else { return short(line, Fault::StatusLine) };
    let digits = code[1..].iter().all(u8::is_ascii_digit);
    if code[0] != b' ' || code[1] == b'0' || !digits {
        return Err(Fault::StatusLine);
    }
    let status = code[1..].iter().fold(0, |n, d| n * 10 + u16::from(d - b'0'));
    let reason = match line.get(12) {
        None => return Ok(None),
        Some(b' ') => text(&line[12..]),
        Some(b'\r') => 0,
        Some(_) => return Err(Fault::StatusLine),
    };
    Ok(end_of_line(line, 12 + reason)?.map(|used| (StatusLine { status, old }, used)))
}

/// A field line: name, value without the white space around it, and bytes used.
pub(super) type Field<'a> = (&'a [u8], &'a [u8], usize);

/// `name ":" OWS value OWS CRLF`, for headers and trailers.
#[inline]
pub(super) fn field(line: &[u8]) -> Result<Option<Field<'_>>, Fault> {
    let name = token(line);
    match line.get(name) {
        Some(b':') if name > 0 => {}
        None => return Ok(None),
        Some(b' ' | b'\t') if name == 0 => return Err(Fault::Fold),
        Some(b'\n') => return Err(Fault::BareLf),
        Some(_) => return Err(Fault::FieldName),
    }
    let end = name + 1 + text(&line[name + 1..]);
    Ok(end_of_line(line, end)?.map(|used| (&line[..name], &line[name + 1..end], used)))
}

/// Fields at the front that are whole and simple, taken fast: their bytes and their number. Simple: nothing in them
/// has a meaning for framing (no such field has a name of that length) or needs a second look. The rest is for
/// [`field`]; so is any doubt, and what would pass a limit.
pub(super) fn simple_fields(bytes: &[u8], most_bytes: usize, most: u16) -> (usize, u16) {
    let (mut used, mut count) = (0, 0);
    while count < most
        && let Some(length) = simple_field(&bytes[used..])
        && used + length <= most_bytes
    {
        used += length;
        count += 1;
    }
    (used, count)
}

#[inline(always)]
fn simple_field(line: &[u8]) -> Option<usize> {
    let name = token(line);
    if matches!(name, 0 | 7 | 14 | 17) || *line.get(name)? != b':' {
        return None;
    }
    let end = name + 1 + printable(&line[name + 1..]);
    (line.get(end..end + 2)? == b"\r\n").then_some(end + 2)
}

/// The size of a chunk: `1*16HEXDIG [";" extension] CRLF`.
pub(super) fn chunk_size(line: &[u8]) -> Result<Option<(u64, usize)>, Fault> {
    let digits = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
    let extension = match line.get(digits) {
        None if digits <= 16 => return Ok(None),
        Some(b';') => text(&line[digits..]),
        Some(b'\r' | b'\n') => 0,
        _ => return Err(Fault::ChunkSize),
    };
    let text = std::str::from_utf8(&line[..digits]).unwrap_or_default();
    let size = match u64::from_str_radix(text, 16) {
        Ok(size) if digits <= 16 && size <= LARGEST => size,
        _ => return Err(Fault::ChunkSize),
    };
    Ok(end_of_line(line, digits + extension)?.map(|used| (size, used)))
}

/// The value of `Content-Length` (RFC 9110 section 8.6): digits only. Lengths that a signed 64 bit number cannot
/// hold are refused, because peers that keep one in such a number would see another length than we do.
pub(super) fn content_length(value: &[u8]) -> Option<u64> {
    let value = value.trim_ascii();
    if value.is_empty() {
        return None;
    }
    let add = |n: u64, d: &u8| match d {
        b'0'..=b'9' => n.checked_mul(10)?.checked_add(u64::from(d - b'0')),
        _ => None,
    };
    value.iter().try_fold(0, add).filter(|n| *n <= LARGEST)
}

const LARGEST: u64 = i64::MAX as u64;

/// Whether the line that ends at `end` does so properly; the bytes used with its CRLF.
#[inline]
pub(super) fn end_of_line(line: &[u8], end: usize) -> Result<Option<usize>, Fault> {
    match line.get(end..) {
        Some([b'\r', b'\n', ..]) => Ok(Some(end + 2)),
        Some([] | [b'\r']) | None => Ok(None),
        Some([b'\r', ..]) => Err(Fault::BareCr),
        Some([b'\n', ..]) => Err(Fault::BareLf),
        Some(_) => Err(Fault::Control),
    }
}

/// Whether the version is 1.0 (and not 1.1); `None` when there are fewer than eight bytes.
#[inline]
fn version(bytes: &[u8]) -> Result<Option<bool>, Fault> {
    let Some(version) = bytes.first_chunk::<8>() else { return short(bytes, Fault::Version) };
    match version {
        b"HTTP/1.1" => Ok(Some(false)),
        b"HTTP/1.0" => Ok(Some(true)),
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => Err(Fault::VersionUnsupported),
        _ => Err(Fault::Version),
    }
}

/// Too few bytes: the rest is awaited, unless the line ends here already.
#[cold]
fn short<T>(bytes: &[u8], fault: Fault) -> Result<Option<T>, Fault> {
    if bytes.contains(&b'\n') { Err(fault) } else { Ok(None) }
}

/// How many bytes at the front are a token.
#[inline(always)]
fn token(bytes: &[u8]) -> usize {
    let other = |b: &u8| !TOKEN[usize::from(*b)];
    let mut at = 0;
    while let Some(block) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        match block.iter().position(other) {
            Some(found) => return at + found,
            None => at += 8,
        }
    }
    let rest = &bytes[at..];
    at + rest.iter().position(other).unwrap_or(rest.len())
}

/// How many bytes at the front may stand in a request target: no control character, space or fragment.
#[inline]
fn target(bytes: &[u8]) -> usize {
    span(bytes, |word| below(word, 0x21) | equal(word, 0x7f) | equal(word, b'#'))
}

/// How many bytes at the front are text: anything but control characters, tab excepted.
#[inline]
fn text(bytes: &[u8]) -> usize {
    let mut length = 0;
    loop {
        length += printable(&bytes[length..]);
        match bytes.get(length) {
            Some(b'\t') => length += 1,
            _ => return length,
        }
    }
}

/// How many bytes at the front are no control characters. Long values are skipped sixteen bytes at a time, in a form
/// that becomes vector instructions.
#[inline(always)]
fn printable(bytes: &[u8]) -> usize {
    let control = |b: &u8| u8::from(*b < b' ') | u8::from(*b == 0x7f);
    let mut at = 0;
    while let Some(block) = bytes.get(at..).and_then(|rest| rest.first_chunk::<16>())
        && block.iter().fold(0, |any, b| any | control(b)) == 0
    {
        at += 16;
    }
    at + span(&bytes[at..], |word| below(word, 0x20) | equal(word, 0x7f))
}

/// How many bytes stand before the first that `stops` tells, eight at a time. `stops` gives a mask whose lowest set
/// bit is the high bit of the first such byte.
#[inline(always)]
fn span(bytes: &[u8], stops: impl Fn(u64) -> u64) -> usize {
    let mut at = 0;
    while let Some(word) = bytes.get(at..).and_then(|rest| rest.first_chunk()) {
        let hits = stops(u64::from_le_bytes(*word)) & HIGH;
        if hits != 0 {
            return at + (hits.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    // What is left, with bytes after it that stop everything.
    let rest = &bytes[at..];
    let mut word = [b'\n'; 8];
    word[..rest.len()].copy_from_slice(rest);
    let hits = stops(u64::from_le_bytes(word)) & HIGH;
    at + ((hits.trailing_zeros() / 8) as usize).min(rest.len())
}

const EACH: u64 = u64::MAX / 0xff;
const HIGH: u64 = EACH * 0x80;

/// Marks the bytes below `limit` (at most 0x80). Above the first mark others may be wrong: a subtraction borrows.
#[inline(always)]
fn below(word: u64, limit: u8) -> u64 {
    word.wrapping_sub(EACH * u64::from(limit)) & !word
}

/// Marks the bytes that are `byte`. Above the first mark others may be wrong.
#[inline(always)]
fn equal(word: u64, byte: u8) -> u64 {
    below(word ^ (EACH * u64::from(byte)), 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_stop_is_found_at_every_offset() {
        for at in 0..40 {
            for control in (0..0x20).chain([0x7f]).filter(|b| *b != b'\t') {
                let mut bytes = vec![b'a'; 40];
                bytes[at] = control;
                assert_eq!(text(&bytes), at, "{control:#x}");
            }
        }
    }

    #[test]
    fn every_byte_is_a_token_character_or_not() {
        for byte in 0..=255 {
            let bytes = [&[b'a'; 20][..], &[byte; 20]].concat();
            assert_eq!(token(&bytes), if is_token(byte) { 40 } else { 20 }, "{byte:#x}");
        }
    }

    proptest! {
        #[test]
        fn text_is_what_the_byte_rule_says(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let slow = bytes.iter().position(|b| b.is_ascii_control() && *b != b'\t').unwrap_or(bytes.len());
            prop_assert_eq!(text(&bytes), slow);
        }

        #[test]
        fn a_content_length_is_its_decimal_value(n in 0..=LARGEST) {
            prop_assert_eq!(content_length(format!(" 0{n}\t").as_bytes()), Some(n));
        }
    }
}
