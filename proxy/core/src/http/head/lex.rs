//! The lines of an HTTP/1 message (RFC 9112 sections 2 to 7), one function each. `Ok(None)` means that the line
//! does not end in the bytes given. All of them stop at the line's end, however much follows.

use crate::http::head::fault::Fault;

const TOKEN: u8 = 1;
const TARGET: u8 = 2;

static CLASS: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        if b > 0x20 && b != 0x7f && b != b'#' {
            table[byte] |= TARGET;
        }
        if is_token(b) {
            table[byte] |= TOKEN;
        }
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
    let method = run(line, TOKEN);
    match line.get(method) {
        None => return Ok(None),
        Some(b' ') if method > 0 => {}
        Some(_) => return Err(Fault::Method),
    }
    let target = run(&line[method + 1..], TARGET);
    let version = method + target + 2;
    match line.get(version - 1) {
        None => return Ok(None),
        Some(b' ') if target > 0 => {}
        // HTTP/0.9 has no version.
        Some(b'\r' | b'\n') if target > 0 => return Err(Fault::Version),
        Some(_) => return Err(Fault::Target),
    }
    if std::str::from_utf8(&line[method + 1..version - 1]).is_err() {
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
    let name = run(line, TOKEN);
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

/// How many bytes at the front belong to the class.
#[inline]
fn run(bytes: &[u8], class: u8) -> usize {
    bytes.iter().position(|b| CLASS[*b as usize] & class == 0).unwrap_or(bytes.len())
}

/// How many bytes at the front are text: anything but control characters, tab excepted.
#[inline]
fn text(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    loop {
        let skip = printable(rest);
        rest = &rest[skip..];
        match rest {
            [b'\t', more @ ..] => rest = more,
            _ => return bytes.len() - rest.len(),
        }
    }
}

/// How many bytes at the front are no control characters; eight at a time.
#[inline]
fn printable(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    while let Some((word, more)) = rest.split_first_chunk::<8>() {
        let hit = controls(u64::from_le_bytes(*word));
        if hit != 0 {
            return bytes.len() - rest.len() + (hit.trailing_zeros() / 8) as usize;
        }
        rest = more;
    }
    let tail = rest.iter().position(u8::is_ascii_control).unwrap_or(rest.len());
    bytes.len() - rest.len() + tail
}

/// A mask whose lowest set bit is in the first control character (below 0x20, or 0x7f) of the eight. Bits above
/// the first hit may be wrong, because a subtraction borrows from its neighbour.
#[inline]
fn controls(word: u64) -> u64 {
    const EACH: u64 = u64::MAX / 0xff;
    let low = word.wrapping_sub(EACH * 0x20) & !word;
    let delete = word ^ (EACH * 0x7f);
    let delete = delete.wrapping_sub(EACH) & !delete;
    (low | delete) & (EACH * 0x80)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_control_character_is_found_at_every_offset() {
        for at in 0..40 {
            for control in (0..0x20).chain([0x7f]) {
                let mut bytes = vec![b'a'; 40];
                bytes[at] = control;
                assert_eq!(printable(&bytes), at, "{control:#x}");
            }
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
