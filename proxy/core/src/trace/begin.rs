//! Whether a request is traced, decided once: at the first sidecar that sees it, and honoured by all that follow.

use ::http::{HeaderMap, HeaderValue};
use xxhash_rust::xxh64::xxh64;

use super::arrived::{Arrived, Forms};
use super::b3::{self, Recorded};
use super::id::{SpanId, TraceId};
use super::w3c::{self, Traceparent};

/// A request that is traced: its span begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begun {
    /// The trace.
    pub trace: TraceId,
    /// The span that begins.
    pub span: SpanId,
    /// The span that it is part of; `None`: the trace begins here.
    pub parent: Option<SpanId>,
    arrived: Arrived,
}

/// The span of a request that is traced; `None` for all others, of which nothing is changed.
///
/// A decision that arrived is honoured. Where none did, `percent` of all requests are traced, by the request's
/// `x-request-id`: whoever sees the same one comes to the same decision (as Istio's `useRequestIdForTraceSampling`).
pub fn begin(headers: &HeaderMap, percent: f64, mut chance: impl FnMut() -> u64) -> Option<Begun> {
    let (arrived, id) = Arrived::read_named(headers);
    let sampled = arrived.sampled.unwrap_or_else(|| is_sampled(percent, of_request(id, &mut chance)));
    if !sampled {
        return None;
    }
    Some(Begun {
        trace: arrived.parent.map_or_else(|| TraceId::random(&mut chance), |(trace, _)| trace),
        span: SpanId::random(&mut chance),
        parent: arrived.parent.map(|(_, span)| span),
        arrived,
    })
}

/// Whether a number, uniform over `u64`, is among the lowest `percent` of all.
pub fn is_sampled(percent: f64, chance: u64) -> bool {
    // 53 bits are exact as a floating-point number.
    let share = (chance >> 11) as f64 / (1u64 << 53) as f64;
    share * 100.0 < percent
}

/// The chance that belongs to a request: equal wherever it has the same name.
fn of_request(id: Option<&HeaderValue>, chance: impl FnOnce() -> u64) -> u64 {
    id.map_or_else(chance, |id| xxh64(id.as_bytes(), 0))
}

impl Begun {
    /// Tells the next hop, in the forms in which the trace came; in W3C's and in B3's where it begins here, so that an
    /// application that hands on either keeps it together.
    pub fn write(&self, headers: &mut HeaderMap) {
        let Forms { w3c, b3_single, b3_several } = self.arrived.forms;
        if let Some(value) = w3c::format(&self.traceparent()) {
            headers.insert(w3c::TRACEPARENT, value);
        }
        if !w3c || !w3c::is_passable(headers) {
            headers.remove(w3c::TRACESTATE);
        }
        if b3_single {
            b3::write_single(headers, &self.recorded());
        }
        if b3_several || self.arrived.forms.none() {
            b3::write_several(headers, &self.recorded());
        }
    }

    fn traceparent(&self) -> Traceparent {
        let random = self.parent.is_none() || self.arrived.random;
        Traceparent { trace: self.trace, span: self.span, sampled: true, random }
    }

    fn recorded(&self) -> Recorded {
        Recorded { trace: self.trace, span: self.span, parent: self.parent, debug: self.arrived.debug }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chance::Chance;

    const W3C: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    fn next(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = headers(fields);
        let mut chance = Chance::new(7);
        begin(&headers, 100.0, || chance.draw()).unwrap().write(&mut headers);
        headers
    }

    #[test]
    fn a_decision_that_arrived_is_honoured() {
        let unsampled = W3C.replace("-01", "-00");
        assert!(begin(&headers(&[("traceparent", &unsampled)]), 100.0, || 0).is_none());
        assert!(begin(&headers(&[("b3", "0")]), 100.0, || 0).is_none());
        let begun = begin(&headers(&[("traceparent", W3C)]), 0.0, || 5).unwrap();
        assert_eq!(begun.trace.to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(begun.parent.unwrap().to_string(), "b7ad6b7169203331");
        assert_eq!(begun.span.get(), 5);
    }

    #[test]
    fn a_share_of_the_requests_is_traced() {
        let mut chance = Chance::new(3);
        let none = HeaderMap::new();
        let traced = (0..100_000).filter(|_| begin(&none, 1.0, || chance.draw()).is_some()).count();
        assert!((850..1150).contains(&traced), "{traced}");
        assert!(!is_sampled(0.0, 0));
        assert!(is_sampled(100.0, u64::MAX));
        assert!(is_sampled(0.001, 0));
        assert!(!is_sampled(f64::NAN, 0));
    }

    #[test]
    fn all_who_see_a_request_decide_alike() {
        let ids: Vec<_> = (0..1000).map(|n| headers(&[("x-request-id", &format!("id-{n}"))])).collect();
        let decide =
            |chance: u64| -> Vec<_> { ids.iter().map(|h| begin(h, 30.0, || chance).is_some()).collect() };
        assert_eq!(decide(0), decide(u64::MAX));
        let traced = decide(0).iter().filter(|traced| **traced).count();
        assert!((250..350).contains(&traced), "{traced}");
    }

    #[test]
    fn the_next_hop_is_told_in_the_forms_that_arrived() {
        let w3c = next(&[("traceparent", W3C), ("tracestate", "a=1"), ("baggage", "k=v")]);
        assert!(w3c["traceparent"].to_str().unwrap().starts_with("00-0af7651916cd43dd8448eb211c80319c-"));
        assert_ne!(w3c["traceparent"], W3C, "the span is ours");
        assert_eq!((&w3c["tracestate"], &w3c["baggage"]), (&"a=1".parse().unwrap(), &"k=v".parse().unwrap()));
        assert!(!w3c.contains_key("b3") && !w3c.contains_key("x-b3-traceid"));
        let single = next(&[("b3", "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-d")]);
        let b3 = single["b3"].to_str().unwrap();
        assert!(
            b3.starts_with("80f198ee56343ba864fe8b2a57d3eff7-") && b3.ends_with("-d-e457b5a2e4d86bd1"),
            "{b3}"
        );
        assert!(single.contains_key("traceparent") && !single.contains_key("x-b3-traceid"));
        let several = next(&[
            ("x-b3-traceid", "80f198ee56343ba864fe8b2a57d3eff7"),
            ("x-b3-spanid", "e457b5a2e4d86bd1"),
            ("x-b3-sampled", "1"),
        ]);
        assert_eq!(several["x-b3-parentspanid"], "e457b5a2e4d86bd1");
        assert!(!several.contains_key("b3"));
    }

    #[test]
    fn a_trace_that_begins_is_told_in_both() {
        let first = next(&[]);
        let trace = first["x-b3-traceid"].to_str().unwrap();
        assert_eq!(&first["traceparent"].to_str().unwrap()[3..35], trace);
        assert_eq!(first["x-b3-sampled"], "1");
        assert!(!first.contains_key("x-b3-parentspanid"));
        assert!(first["traceparent"].to_str().unwrap().ends_with("-03"), "its name is random");
    }

    #[test]
    fn a_malformed_context_ends_here() {
        let anew = next(&[
            ("traceparent", "00-00000000000000000000000000000000-b7ad6b7169203331-01"),
            ("tracestate", "a=1"),
        ]);
        assert!(!anew.contains_key("tracestate"));
        assert_eq!(Arrived::read(&anew).sampled, Some(true));
        let thousand: Vec<_> = (0..1000).map(|n| format!("v{n}=1")).collect();
        let full = next(&[("traceparent", W3C), ("tracestate", &thousand.join(","))]);
        assert!(!full.contains_key("tracestate"));
    }
}
