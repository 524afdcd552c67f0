//! `traceparent` and `tracestate` (W3C Trace Context, level 2).

use ::http::{HeaderMap, HeaderName, HeaderValue};

use super::id::{SpanId, TraceId, hex};

/// `traceparent`.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// `tracestate`.
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// The flag of a sampled request.
const SAMPLED: u8 = 1;
/// The flag that says that the trace's name is random (level 2).
const RANDOM: u8 = 2;
/// The most members of a `tracestate`.
const MAX_MEMBERS: usize = 32;
/// The longest key, and the longest value, in bytes.
const MAX_PART: usize = 256;

/// What `traceparent` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traceparent {
    /// The trace.
    pub trace: TraceId,
    /// The span of whoever sent the request.
    pub span: SpanId,
    /// Whether that span is recorded.
    pub sampled: bool,
    /// Whether the trace's name is known to be random.
    pub random: bool,
}

/// Reads a value: version 00 to the letter; of later versions the part that all of them have in common.
pub fn parse(value: &[u8]) -> Option<Traceparent> {
    let (head, rest) = value.split_at_checked(55)?;
    let dashes = [2, 35, 52].iter().all(|at| head[*at] == b'-');
    let version = hex(&head[..2]).filter(|_| dashes)?;
    let whole = match version {
        0 => rest.is_empty(),
        0xff => false,
        _ => matches!(rest, [] | [b'-', ..]),
    };
    let flags = hex(&head[53..]).and_then(|flags| u8::try_from(flags).ok()).filter(|_| whole)?;
    Some(Traceparent {
        trace: TraceId::from_hex(&head[3..35])?,
        span: SpanId::from_hex(&head[36..52])?,
        sampled: flags & SAMPLED != 0,
        random: flags & RANDOM != 0,
    })
}

/// Writes a value of version 00.
pub fn format(context: &Traceparent) -> Option<HeaderValue> {
    let flags = (u8::from(context.sampled) * SAMPLED) | (u8::from(context.random) * RANDOM);
    let mut value =
        HeaderValue::try_from(format!("00-{}-{}-{flags:02x}", context.trace, context.span)).ok()?;
    // It never repeats: a place in HPACK's table would be wasted on it.
    value.set_sensitive(true);
    Some(value)
}

/// Whether a request's `tracestate` may be passed on with a `traceparent` of ours: a list of at most 32 members, each
/// well formed. One that is not is dropped whole, as the specification has it.
pub fn is_passable(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(TRACESTATE).iter();
    let members = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    let mut members = members.map(<[u8]>::trim_ascii).filter(|member| !member.is_empty());
    members.by_ref().take(MAX_MEMBERS).all(is_member) && members.next().is_none()
}

fn is_member(member: &[u8]) -> bool {
    let Some(at) = member.iter().position(|byte| *byte == b'=') else { return false };
    let (key, value) = (&member[..at], &member[at + 1..]);
    let key_byte = |b: &u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/' | b'@');
    let value_byte = |b: &u8| matches!(b, 0x20..=0x7e) && *b != b'=';
    let starts = key.first().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    starts
        && key.len() <= MAX_PART
        && key.iter().all(key_byte)
        && (1..=MAX_PART).contains(&value.len())
        && value.iter().all(value_byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_good_value_is_read_and_written_back() {
        let context = parse(GOOD.as_bytes()).unwrap();
        assert!(context.sampled && !context.random);
        assert_eq!(format(&context).unwrap(), GOOD);
        assert!(!parse(GOOD.replace("-01", "-00").as_bytes()).unwrap().sampled);
        assert!(parse(GOOD.replace("-01", "-03").as_bytes()).unwrap().random);
    }

    #[test]
    fn whatever_is_not_to_the_letter_is_no_context() {
        let wrong = [
            "",
            "00",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319g-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0g",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "00_0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331_01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            " 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ];
        for value in wrong {
            assert_eq!(parse(value.as_bytes()), None, "{value}");
        }
        assert_eq!(parse(&[0xff; 55]), None);
        assert_eq!(parse(&vec![b'0'; 1 << 20]), None);
    }

    #[test]
    fn of_later_versions_the_common_part_is_read() {
        let later = GOOD.replacen("00", "cc", 1);
        assert_eq!(parse(later.as_bytes()), parse(GOOD.as_bytes()));
        assert_eq!(parse(format!("{later}-what-comes").as_bytes()), parse(GOOD.as_bytes()));
        assert_eq!(parse(format!("{later}x").as_bytes()), None);
    }

    #[test]
    fn a_tracestate_of_a_thousand_members_is_dropped() {
        let state = |count: usize| {
            let members: Vec<_> = (0..count).map(|n| format!("vendor{n}=value")).collect();
            let mut headers = HeaderMap::new();
            headers.insert(TRACESTATE, members.join(", ").parse().unwrap());
            headers
        };
        assert!(is_passable(&HeaderMap::new()));
        assert!(is_passable(&state(32)));
        assert!(!is_passable(&state(33)));
        assert!(!is_passable(&state(1000)));
        let mut lines = HeaderMap::new();
        for n in 0..33 {
            lines.append(TRACESTATE, format!("v{n}=1").parse().unwrap());
        }
        assert!(!is_passable(&lines), "lines count together");
    }

    #[test]
    fn a_tracestate_with_a_broken_member_is_dropped() {
        let passes = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(TRACESTATE, value.parse().unwrap());
            is_passable(&headers)
        };
        assert!(passes("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE, ,1a@b=x y"));
        for wrong in ["rojo", "=x", "Rojo=1", "rojo=", "rojo=a=b", "r\u{e9}=1"] {
            assert!(!passes(wrong), "{wrong}");
        }
        assert!(!passes(&format!("a={}", "x".repeat(257))));
        assert!(!passes(&format!("{}=x", "a".repeat(257))));
    }
}
