//! What a proxy must know of gRPC (the "gRPC over HTTP/2" protocol): which requests it is, how a failure is told, and
//! how long the client waits.

use std::time::Duration;

use ::http::header::{CONTENT_TYPE, HeaderName};
use ::http::{HeaderMap, StatusCode};

/// Looked up in every response: a name that is known costs no parsing.
const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// Bytes before each message: whether it is compressed, and how long it is.
const PREFIX: u8 = 5;

/// Counts the messages of a body while its bytes go by, however they are cut.
#[derive(Clone, Copy, Debug, Default)]
pub struct Messages {
    count: u64,
    /// Bytes of the next prefix that have gone by.
    prefix: u8,
    /// The length of the next message, as far as it is known.
    length: u32,
    /// Bytes of the last message that are still to come.
    left: u32,
}

impl Messages {
    /// These bytes go by.
    pub fn pass(&mut self, mut data: &[u8]) {
        loop {
            let skipped = data.len().min(self.left as usize);
            self.left -= skipped as u32;
            let Some((byte, rest)) = data[skipped..].split_first() else { return };
            data = rest;
            self.begin(*byte);
        }
    }

    fn begin(&mut self, byte: u8) {
        if self.prefix > 0 {
            self.length = self.length << 8 | u32::from(byte);
        }
        self.prefix += 1;
        if self.prefix == PREFIX {
            *self = Self { count: self.count + 1, left: self.length, ..Self::default() };
        }
    }

    /// Messages whose prefix has gone by.
    pub fn count(&self) -> u64 {
        self.count
    }
}

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

/// The HTTP status that stands for a `grpc-status`, for a client that does not speak gRPC (as the API of Google Cloud
/// maps them).
pub fn http_status_of(grpc: u8) -> StatusCode {
    match grpc {
        0 => StatusCode::OK,
        3 | 9 | 11 => StatusCode::BAD_REQUEST,
        4 => StatusCode::GATEWAY_TIMEOUT,
        5 => StatusCode::NOT_FOUND,
        6 | 10 => StatusCode::CONFLICT,
        7 => StatusCode::FORBIDDEN,
        8 => StatusCode::TOO_MANY_REQUESTS,
        12 => StatusCode::NOT_IMPLEMENTED,
        14 => StatusCode::SERVICE_UNAVAILABLE,
        16 => StatusCode::UNAUTHORIZED,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
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

    #[test]
    fn messages_are_counted_however_they_are_cut() {
        let body = [&[0, 0, 0, 0, 3, 1, 2, 3][..], &[0; 5], &[1, 0, 0, 1, 0], &[9; 256], &[0, 0, 0]].concat();
        for size in [1, 2, 3, 5, 7, 64, body.len()] {
            let mut messages = Messages::default();
            body.chunks(size).for_each(|part| messages.pass(part));
            assert_eq!(messages.count(), 3, "in parts of {size}");
            messages.pass(&[255, 255]);
            assert_eq!(messages.count(), 4, "the prefix is whole now");
        }
    }

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
