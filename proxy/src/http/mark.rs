//! The headers by which Istio's sidecars tell of themselves, and which applications and dashboards read.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const ATTEMPT_COUNT: HeaderName = HeaderName::from_static("x-envoy-attempt-count");
const SERVICE_TIME: HeaderName = HeaderName::from_static("x-envoy-upstream-service-time");

/// Marks a request: `x-request-id`, unless it has one, and `x-forwarded-proto`.
pub fn mark_request(headers: &mut HeaderMap, random: impl FnMut() -> u64) {
    if !headers.contains_key(REQUEST_ID) {
        headers.insert(REQUEST_ID, request_id(random));
    }
    if !headers.contains_key(FORWARDED_PROTO) {
        headers.insert(FORWARDED_PROTO, HeaderValue::from_static("http"));
    }
}

/// Says how often a request has been sent.
pub fn mark_try(headers: &mut HeaderMap, count: u32) {
    let value = if count == 1 { HeaderValue::from_static("1") } else { count.into() };
    headers.insert(ATTEMPT_COUNT, value);
}

/// Says how long the upstream took to answer, in milliseconds.
pub fn mark_response(headers: &mut HeaderMap, took: Duration) {
    let value = match took.as_millis() {
        0 => HeaderValue::from_static("0"),
        1 => HeaderValue::from_static("1"),
        millis => u64::try_from(millis).unwrap_or(u64::MAX).into(),
    };
    headers.insert(SERVICE_TIME, value);
}

/// A random UUID (RFC 9562, version 4).
fn request_id(mut random: impl FnMut() -> u64) -> HeaderValue {
    let (high, low) = (random(), random());
    let high = high & !0xf000 | 0x4000;
    let low = low & !(0b11 << 62) | (0b10 << 62);
    let mut text = [b'-'; 36];
    let digits = (0..32).map(|place| {
        let half = if place < 16 { high } else { low };
        b"0123456789abcdef"[(half >> (60 - 4 * (place % 16)) & 0xf) as usize]
    });
    let places = (0..36).filter(|place| !matches!(place, 8 | 13 | 18 | 23));
    places.zip(digits).for_each(|(place, digit)| text[place] = digit);
    HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_id_is_a_uuid_of_version_4_and_an_old_one_stays() {
        let mut headers = HeaderMap::new();
        mark_request(&mut headers, || u64::MAX);
        assert_eq!(headers[REQUEST_ID], "ffffffff-ffff-4fff-bfff-ffffffffffff");
        mark_request(&mut headers, || 0);
        assert_eq!(headers[REQUEST_ID], "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(request_id(|| 0), "00000000-0000-4000-8000-000000000000");
    }
}
