//! What a proxy must know of gRPC (the "gRPC over HTTP/2" protocol): which requests it is, how a failure is told, and
//! how long the client waits.

use std::time::Duration;

use ::http::header::{CONTENT_TYPE, HeaderName};
use ::http::{HeaderMap, StatusCode};

/// Looked up in every response: a name that is known costs no parsing.
const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// Whether a message is gRPC: content type `application/grpc`, with or without `+codec` or parameters.
/// gRPC-Web is not: its statuses travel in the body.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    const PREFIX: &[u8] = b"application/grpc";
    let Some(value) = headers.get(CONTENT_TYPE) else { return false };
    let Some((front, rest)) = value.as_bytes().split_at_checked(PREFIX.len()) else { return false };
    front.eq_ignore_ascii_case(PREFIX) && matches!(rest.first(), None | Some(b'+' | b';' | b' ' | b'\t'))
}

/// The `grpc-status` that stands for an HTTP status, in an answer of the proxy's own.
pub fn status_of(http: StatusCode) -> u8 {
    match http.as_u16() {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

/// The `grpc-status` in headers or trailers; `None` when absent or no number.
pub fn status(headers: &HeaderMap) -> Option<u32> {
    headers.get(STATUS)?.to_str().ok()?.trim().parse().ok()
}

/// How long the client waits, from `grpc-timeout`: one to eight digits and a unit (`H`, `M`, `S`, `m`, `u`, `n`).
/// `None` when absent or malformed, which then limits nothing.
pub fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let (unit, digits) = headers.get(TIMEOUT)?.as_bytes().split_last()?;
    if digits.is_empty() || digits.len() > 8 {
        return None;
    }
    let amount =
        digits.iter().try_fold(0, |n: u64, d| d.is_ascii_digit().then(|| n * 10 + u64::from(d - b'0')))?;
    match unit {
        b'H' => Some(Duration::from_secs(amount * 3600)),
        b'M' => Some(Duration::from_secs(amount * 60)),
        b'S' => Some(Duration::from_secs(amount)),
        b'm' => Some(Duration::from_millis(amount)),
        b'u' => Some(Duration::from_micros(amount)),
        b'n' => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &'static str, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        headers
    }

    #[test]
    fn content_types() {
        for value in [
            "application/grpc",
            "application/grpc+proto",
            "Application/GRPC; charset=x",
            "application/grpc;x",
        ] {
            assert!(is_grpc(&with("content-type", value)), "{value}");
        }
        for value in ["application/grpc-web", "application/grpcx", "application/json", "", "application/grp"]
        {
            assert!(!is_grpc(&with("content-type", value)), "{value}");
        }
        assert!(!is_grpc(&HeaderMap::new()));
    }

    #[test]
    fn statuses() {
        for (http, grpc) in
            [(503, 14), (403, 7), (401, 16), (404, 12), (429, 14), (400, 13), (500, 2), (504, 14)]
        {
            assert_eq!(status_of(StatusCode::from_u16(http).unwrap()), grpc, "{http}");
        }
        assert_eq!(status(&with("grpc-status", "14")), Some(14));
        assert_eq!(status(&with("grpc-status", "x")), None);
        assert_eq!(status(&HeaderMap::new()), None);
    }

    #[test]
    fn timeouts() {
        let timeout = |value| timeout(&with("grpc-timeout", value));
        assert_eq!(timeout("1H"), Some(Duration::from_secs(3600)));
        assert_eq!(timeout("2M"), Some(Duration::from_secs(120)));
        assert_eq!(timeout("3S"), Some(Duration::from_secs(3)));
        assert_eq!(timeout("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        assert_eq!(timeout("100m"), Some(Duration::from_millis(100)));
        assert_eq!(timeout("5u"), Some(Duration::from_micros(5)));
        assert_eq!(timeout("0n"), Some(Duration::ZERO));
        for value in ["", "S", "1", "100000000S", "-1S", "1 S", "1s", "1x"] {
            assert_eq!(timeout(value), None, "{value:?}");
        }
    }
}
