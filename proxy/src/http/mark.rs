//! The headers by which Istio's sidecars tell of themselves, and which applications and dashboards read.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const ATTEMPT_COUNT: HeaderName = HeaderName::from_static("x-envoy-attempt-count");
const SERVICE_TIME: HeaderName = HeaderName::from_static("x-envoy-upstream-service-time");
/// So many service times, in milliseconds from 0 on, may take places in HPACK's table.
const FEW_TIMES: u64 = 10;
/// Where the two digits of each byte of a UUID stand.
const DIGITS_AT: [usize; 16] = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];
const HEX: &[u8; 16] = b"0123456789abcdef";

/// Marks a request: `x-request-id`, unless it has one, which is `told`, and `x-forwarded-proto`.
pub fn mark_request(headers: &mut HeaderMap, random: impl FnMut() -> u64, told: impl FnOnce(&HeaderValue)) {
    if let Some(id) = default_to(headers, REQUEST_ID, || request_id(random)) {
        keep_from_tables(id);
        told(id);
    }
    default_to(headers, FORWARDED_PROTO, || HeaderValue::from_static("http"));
}

/// Gives a header this value, unless it has one; a map that can hold no more stays as it is.
fn default_to(
    headers: &mut HeaderMap,
    name: HeaderName,
    value: impl FnOnce() -> HeaderValue,
) -> Option<&mut HeaderValue> {
    headers.try_entry(name).ok().map(|entry| entry.or_insert_with(value))
}

/// A value that is another with each request only drives others out of HPACK's table, and is searched for in vain
/// among its predecessors: it is sent as never indexed (RFC 7541 section 6.2.3).
fn keep_from_tables(value: &mut HeaderValue) {
    value.set_sensitive(true);
}

/// Says how often a request has been sent.
pub fn mark_try(headers: &mut HeaderMap, count: u32) {
    let value = if count == 1 { HeaderValue::from_static("1") } else { count.into() };
    headers.insert(ATTEMPT_COUNT, value);
}

/// Says how long the upstream took to answer, in milliseconds.
pub fn mark_response(headers: &mut HeaderMap, took: Duration) {
    let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    let mut value = match millis {
        0 => HeaderValue::from_static("0"),
        1 => HeaderValue::from_static("1"),
        millis => millis.into(),
    };
    if millis >= FEW_TIMES {
        keep_from_tables(&mut value);
    }
    headers.insert(SERVICE_TIME, value);
}

/// A random UUID (RFC 9562, version 4).
fn request_id(mut random: impl FnMut() -> u64) -> HeaderValue {
    let (high, low) = (random(), random());
    let high = high & !0xf000 | 0x4000;
    let low = low & !(0b11 << 62) | (0b10 << 62);
    let mut text = [b'-'; 36];
    let bytes = (u128::from(high) << 64 | u128::from(low)).to_be_bytes();
    for (byte, at) in bytes.into_iter().zip(DIGITS_AT) {
        text[at] = HEX[usize::from(byte >> 4)];
        text[at + 1] = HEX[usize::from(byte & 0xf)];
    }
    HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_id_is_a_uuid_of_version_4_and_an_old_one_stays() {
        let mut headers = HeaderMap::new();
        mark_request(&mut headers, || u64::MAX, |id| assert_eq!(id, "ffffffff-ffff-4fff-bfff-ffffffffffff"));
        assert_eq!(headers[REQUEST_ID], "ffffffff-ffff-4fff-bfff-ffffffffffff");
        mark_request(&mut headers, || 0, |id| assert_eq!(id, "ffffffff-ffff-4fff-bfff-ffffffffffff"));
        assert_eq!(headers[REQUEST_ID], "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(request_id(|| 0), "00000000-0000-4000-8000-000000000000");
    }
}
