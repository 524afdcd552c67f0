//! B3, as Zipkin and Envoy's older tracers write it: `b3: TRACE-SPAN-SAMPLED-PARENT`, or a field for each part.

use ::http::{HeaderMap, HeaderName, HeaderValue};

use super::id::{SpanId, TraceId};

/// `b3`.
pub const SINGLE: HeaderName = HeaderName::from_static("b3");
/// `x-b3-traceid`.
pub const TRACE: HeaderName = HeaderName::from_static("x-b3-traceid");
/// `x-b3-spanid`.
pub const SPAN: HeaderName = HeaderName::from_static("x-b3-spanid");
/// `x-b3-parentspanid`.
pub const PARENT: HeaderName = HeaderName::from_static("x-b3-parentspanid");
/// `x-b3-sampled`.
pub const SAMPLED: HeaderName = HeaderName::from_static("x-b3-sampled");
/// `x-b3-flags`.
pub const FLAGS: HeaderName = HeaderName::from_static("x-b3-flags");

/// What B3 says. Either part can be missing: a decision without a trace, and a trace of which nothing is decided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct B3 {
    /// The trace, and the span of whoever sent the request.
    pub ids: Option<(TraceId, SpanId)>,
    /// Whether it is recorded.
    pub decision: Option<Decision>,
}

/// Whether a request is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// No.
    Deny,
    /// Yes.
    Accept,
    /// Yes, and nobody on the way may decide otherwise.
    Debug,
}

/// A span as it is written for the next hop: recorded.
#[derive(Clone, Copy, Debug)]
pub struct Recorded {
    /// The trace.
    pub trace: TraceId,
    /// The span.
    pub span: SpanId,
    /// The span that it belongs to.
    pub parent: Option<SpanId>,
    /// Whether [`Decision::Debug`] goes on.
    pub debug: bool,
}

/// Reads the value of `b3`.
pub fn parse_single(value: &[u8]) -> Option<B3> {
    if let [decision] = value {
        return Some(B3 { ids: None, decision: Some(Decision::of(*decision)?) });
    }
    let mut parts = value.split(|byte| *byte == b'-');
    let trace = TraceId::from_short_hex(parts.next()?)?;
    let span = SpanId::from_hex(parts.next()?)?;
    let decision = match parts.next() {
        None => None,
        Some([decision]) => Some(Decision::of(*decision)?),
        Some(_) => return None,
    };
    let parent = parts.next().is_none_or(|parent| SpanId::from_hex(parent).is_some());
    (parent && parts.next().is_none()).then_some(B3 { ids: Some((trace, span)), decision })
}

/// Reads `x-b3-*`. `field` is the only value of a field; a field that occurs twice has none.
pub fn parse_several<'a>(field: impl Fn(&HeaderName) -> Option<&'a [u8]>) -> Option<B3> {
    let decision = match (field(&FLAGS), field(&SAMPLED)) {
        (Some(b"1"), _) => Some(Decision::Debug),
        (_, Some(b"1" | b"true")) => Some(Decision::Accept),
        (_, Some(b"0" | b"false")) => Some(Decision::Deny),
        (_, Some(_)) => return None,
        (_, None) => None,
    };
    let ids = match (field(&TRACE), field(&SPAN)) {
        (Some(trace), Some(span)) => Some((TraceId::from_short_hex(trace)?, SpanId::from_hex(span)?)),
        (None, None) => None,
        _ => return None,
    };
    (ids.is_some() || decision.is_some()).then_some(B3 { ids, decision })
}

/// Writes `b3`.
pub fn write_single(headers: &mut HeaderMap, span: &Recorded) {
    let state = if span.debug { 'd' } else { '1' };
    let mut text = format!("{}-{}-{state}", span.trace, span.span);
    if let Some(parent) = span.parent {
        text.push_str(&format!("-{parent}"));
    }
    put(headers, SINGLE, text);
}

/// Writes `x-b3-*`.
pub fn write_several(headers: &mut HeaderMap, span: &Recorded) {
    put(headers, TRACE, span.trace.to_string());
    put(headers, SPAN, span.span.to_string());
    match span.parent {
        Some(parent) => put(headers, PARENT, parent.to_string()),
        None => drop(headers.remove(PARENT)),
    }
    if span.debug {
        headers.insert(FLAGS, HeaderValue::from_static("1"));
    } else {
        headers.remove(FLAGS);
        headers.insert(SAMPLED, HeaderValue::from_static("1"));
    }
}

fn put(headers: &mut HeaderMap, name: HeaderName, text: String) {
    if let Ok(mut value) = HeaderValue::try_from(text) {
        // It never repeats: a place in HPACK's table would be wasted on it.
        value.set_sensitive(true);
        headers.insert(name, value);
    }
}

impl Decision {
    fn of(state: u8) -> Option<Self> {
        match state {
            b'0' => Some(Self::Deny),
            b'1' => Some(Self::Accept),
            b'd' => Some(Self::Debug),
            _ => None,
        }
    }

    /// Whether the request is recorded.
    pub fn is_sampled(self) -> bool {
        self != Self::Deny
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE_ID: &str = "80f198ee56343ba864fe8b2a57d3eff7";
    const SPAN_ID: &str = "e457b5a2e4d86bd1";

    fn several(fields: &[(HeaderName, &'static str)]) -> Option<B3> {
        parse_several(|name| fields.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_bytes()))
    }

    #[test]
    fn one_field_says_all() {
        let parse = |text: &str| parse_single(text.as_bytes());
        let all = parse(&format!("{TRACE_ID}-{SPAN_ID}-1-05e3ac9a4f6e3b90")).unwrap();
        assert_eq!(all.ids.unwrap().0.to_string(), TRACE_ID);
        assert_eq!(all.decision, Some(Decision::Accept));
        assert_eq!(parse(&format!("{TRACE_ID}-{SPAN_ID}")).unwrap().decision, None);
        assert_eq!(
            parse(&format!("{}-{SPAN_ID}-d", &TRACE_ID[16..])).unwrap().decision,
            Some(Decision::Debug)
        );
        assert_eq!(parse("0"), Some(B3 { ids: None, decision: Some(Decision::Deny) }));
    }

    #[test]
    fn a_broken_field_says_nothing() {
        for wrong in [
            "".to_owned(),
            "2".into(),
            "-".into(),
            format!("{TRACE_ID}-{SPAN_ID}-"),
            format!("{TRACE_ID}-{SPAN_ID}-2"),
            format!("{TRACE_ID}-{SPAN_ID}-1-"),
            format!("{TRACE_ID}-{SPAN_ID}-1-{SPAN_ID}-1"),
            format!("{}-{SPAN_ID}-1", TRACE_ID.to_uppercase()),
            format!("{}-{SPAN_ID}-1", &TRACE_ID[1..]),
            format!("{TRACE_ID}-0000000000000000-1"),
            "a".repeat(1 << 20),
            "-".repeat(1 << 20),
        ] {
            assert_eq!(parse_single(wrong.as_bytes()), None, "{}", &wrong[..wrong.len().min(80)]);
        }
    }

    #[test]
    fn several_fields_say_the_same() {
        let ids = [(TRACE, TRACE_ID), (SPAN, SPAN_ID)];
        let with = |more: (HeaderName, &'static str)| several(&[ids[0].clone(), ids[1].clone(), more]);
        assert_eq!(several(&ids).unwrap().decision, None);
        assert_eq!(with((SAMPLED, "1")).unwrap().decision, Some(Decision::Accept));
        assert_eq!(with((SAMPLED, "false")).unwrap().decision, Some(Decision::Deny));
        assert_eq!(with((FLAGS, "1")).unwrap().decision, Some(Decision::Debug));
        assert_eq!(with((SAMPLED, "yes")), None);
        assert_eq!(several(&[(SAMPLED, "0")]).unwrap(), B3 { ids: None, decision: Some(Decision::Deny) });
        assert_eq!(several(&[(TRACE, TRACE_ID)]), None);
        assert_eq!(several(&[]), None);
    }

    #[test]
    fn what_is_written_is_read_again() {
        let (trace, span) = parse_single(format!("{TRACE_ID}-{SPAN_ID}").as_bytes()).unwrap().ids.unwrap();
        for (debug, parent) in [(false, None), (true, SpanId::from_hex(b"05e3ac9a4f6e3b90"))] {
            let mut headers = HeaderMap::new();
            let recorded = Recorded { trace, span, parent, debug };
            write_single(&mut headers, &recorded);
            write_several(&mut headers, &recorded);
            let decision = Some(if debug { Decision::Debug } else { Decision::Accept });
            let said = Some(B3 { ids: Some((trace, span)), decision });
            assert_eq!(parse_single(headers[SINGLE].as_bytes()), said);
            assert_eq!(parse_several(|name| headers.get(name).map(HeaderValue::as_bytes)), said);
            assert_eq!(headers.contains_key(PARENT), parent.is_some());
        }
    }
}
