//! A request that is not traced costs no allocation, whatever it says of traces.

use http::HeaderMap;
use weft_core::trace::begin;

fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(*name, value.parse().expect("a header's value"));
    }
    headers
}

/// What deciding on a request allocates, and whether it is traced.
fn cost(headers: &HeaderMap, percent: f64) -> (u64, bool) {
    let mut traced = false;
    let allocated = allocation_counter::measure(|| traced = begin(headers, percent, || 1 << 63).is_some());
    (allocated.count_total, traced)
}

#[test]
fn a_request_that_is_not_traced_allocates_nothing() {
    let unsampled = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
    let thousand: Vec<_> = (0..1000).map(|n| format!("vendor{n}=value")).collect();
    for fields in [
        &[][..],
        &[("x-request-id", "5f0c8a3e-7d2b-4f64-9f5e-2f3c1a9d7b60")],
        &[("traceparent", unsampled), ("tracestate", &thousand.join(","))],
        &[("traceparent", "00-XYZ"), ("baggage", &"k=v,".repeat(1 << 18))],
        &[("b3", "0")],
        &[("x-b3-traceid", "80f198ee56343ba864fe8b2a57d3eff7"), ("x-b3-sampled", "0")],
        &[("b3", &"-".repeat(1 << 20))],
    ] {
        assert_eq!(cost(&headers(fields), 1.0), (0, false), "{:?}", fields.first());
    }
}

#[test]
fn the_counter_counts() {
    let allocated = allocation_counter::measure(|| drop(std::hint::black_box(vec![1u8; 100])));
    assert_eq!(allocated.count_total, 1);
    assert!(cost(&headers(&[]), 100.0).1);
}
