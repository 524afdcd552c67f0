//! What a request brings of a trace. Reading it allocates nothing, whatever it is; what is malformed says nothing.

use ::http::{HeaderMap, HeaderName, HeaderValue};

use super::b3::{self, B3, Decision};
use super::id::{SpanId, TraceId};
use super::w3c;

/// What a request brings of a trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrived {
    /// The trace that it is part of, and the span of whoever sent it.
    pub parent: Option<(TraceId, SpanId)>,
    /// Whether it is recorded, where that is decided.
    pub sampled: Option<bool>,
    /// That is decided for everybody (B3's debug flag).
    pub debug: bool,
    /// The trace's name is known to be random.
    pub random: bool,
    /// The forms in which it says so: the next hop is told in the same.
    pub forms: Forms,
}

/// The forms in which a request may speak of its trace, well or badly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forms {
    /// `traceparent`, well formed.
    pub w3c: bool,
    /// `b3`.
    pub b3_single: bool,
    /// `x-b3-*`.
    pub b3_several: bool,
}

impl Arrived {
    /// Reads a request. `traceparent` is believed before `b3`, and `b3` before `x-b3-*`.
    pub fn read(headers: &HeaderMap) -> Self {
        Self::read_named(headers).0
    }

    /// Reads a request, with its own name (`x-request-id`).
    pub(super) fn read_named(headers: &HeaderMap) -> (Self, Option<&HeaderValue>) {
        // Most requests say nothing: one look over their names costs less than a search for each of ours.
        let (mut speaks, mut id) = (false, None);
        for (name, value) in headers {
            match name.as_str() {
                "x-request-id" => id = id.or(Some(value)),
                name => speaks |= is_of_a_trace(name),
            }
        }
        (if speaks { Self::of(headers) } else { Self::default() }, id)
    }

    fn of(headers: &HeaderMap) -> Self {
        let forms = Forms {
            w3c: false,
            b3_single: headers.contains_key(b3::SINGLE),
            b3_several: headers.contains_key(b3::TRACE) || headers.contains_key(b3::SAMPLED),
        };
        if let Some(said) = only(headers, &w3c::TRACEPARENT).and_then(w3c::parse) {
            return Self {
                parent: Some((said.trace, said.span)),
                sampled: Some(said.sampled),
                debug: false,
                random: said.random,
                forms: Forms { w3c: true, ..forms },
            };
        }
        let single = only(headers, &b3::SINGLE).and_then(b3::parse_single);
        let several = || forms.b3_several.then(|| b3::parse_several(|name| only(headers, name))).flatten();
        single.or_else(several).map_or(Self { forms, ..Self::default() }, |said| Self::of_b3(said, forms))
    }

    fn of_b3(said: B3, forms: Forms) -> Self {
        Self {
            parent: said.ids,
            sampled: said.decision.map(Decision::is_sampled),
            debug: said.decision == Some(Decision::Debug),
            random: false,
            forms,
        }
    }
}

impl Forms {
    /// Whether the request speaks of no trace.
    pub fn none(self) -> bool {
        self == Self::default()
    }
}

fn is_of_a_trace(name: &str) -> bool {
    name == "traceparent" || name == "b3" || name.starts_with("x-b3-")
}

/// The value of a field that occurs once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().map(HeaderValue::as_bytes)?;
    values.next().is_none().then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const W3C: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const B3: &str = "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-0";

    fn read(fields: &[(&'static str, &str)]) -> Arrived {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        Arrived::read(&headers)
    }

    #[test]
    fn each_form_is_read() {
        assert_eq!(read(&[]), Arrived::default());
        let w3c = read(&[("traceparent", W3C)]);
        assert_eq!((w3c.sampled, w3c.forms.w3c), (Some(true), true));
        let single = read(&[("b3", B3)]);
        assert_eq!((single.sampled, single.forms.b3_single), (Some(false), true));
        let ids = [("x-b3-traceid", "80f198ee56343ba864fe8b2a57d3eff7"), ("x-b3-spanid", "e457b5a2e4d86bd1")];
        let several = read(&ids);
        assert_eq!((several.sampled, several.parent.is_some()), (None, true));
        assert_eq!(read(&[("x-b3-sampled", "0")]).sampled, Some(false));
    }

    #[test]
    fn the_standard_is_believed_first() {
        let both = read(&[("b3", B3), ("traceparent", W3C)]);
        assert_eq!(both.sampled, Some(true));
        assert_eq!(both.forms, Forms { w3c: true, b3_single: true, b3_several: false });
        let broken = read(&[("b3", B3), ("traceparent", "00-xyz")]);
        assert_eq!((broken.sampled, broken.forms.w3c), (Some(false), false));
    }

    #[test]
    fn a_field_that_occurs_twice_says_nothing() {
        assert_eq!(read(&[("traceparent", W3C), ("traceparent", W3C)]), Arrived::default());
        assert_eq!(read(&[("b3", B3), ("b3", B3)]).parent, None);
    }
}
