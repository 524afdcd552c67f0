//! What a request may ask of the echo application, by query (`?status=503&delay=200ms`) or by headers
//! (`x-echo-status: 503`); the query wins. Names that are not listed here are the application's own and ignored.
//!
//! | Name | Meaning |
//! |---|---|
//! | `status` | answer with this status |
//! | `delay` | wait before the head of the answer |
//! | `bytes` | answer with this many bytes instead of JSON |
//! | `trickle` | `SIZE/INTERVAL`: send the body in pieces, or `INTERVAL` alone for pieces of 16 bytes |
//! | `reset` | `head` (or `1`): cut the connection instead of answering; `body`: in the middle of the body |
//! | `trailers` | send `x-echo-checksum` as a trailer |
//! | `echo` | stream the request's body back, as it arrives |
//! | `close` | close the connection after this answer |
//! | `header` | `NAME:VALUE`: a header of the answer; may be repeated |

use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode, request};
use percent_encoding::percent_decode_str;

use crate::units;

/// Prefix of the request headers that ask for a behaviour.
const PREFIX: &str = "x-echo-";

/// How to answer; nothing set is the plain answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Behaviour {
    /// The status of the answer.
    pub status: Option<StatusCode>,
    /// Wait before the head.
    pub delay: Option<Duration>,
    /// Length of a made-up body.
    pub bytes: Option<u64>,
    /// The body's pieces.
    pub trickle: Option<Pace>,
    /// Cut the connection.
    pub reset: Option<Reset>,
    /// Send a trailer.
    pub trailers: bool,
    /// Stream the request's body back.
    pub echo: bool,
    /// Close the connection afterwards.
    pub close: bool,
    /// Headers of the answer.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

/// The pieces in which a body is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Bytes of a piece, at least 1.
    pub size: u64,
    /// Time before each.
    pub interval: Duration,
}

/// Where a connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// Before the answer.
    Head,
    /// In the middle of its body.
    Body,
}

impl Behaviour {
    /// What the request asks for.
    ///
    /// # Errors
    /// The name whose value cannot be read.
    pub fn asked(head: &request::Parts) -> Result<Self, String> {
        let mut behaviour = Self::default();
        for (name, value) in &head.headers {
            let (Some(key), Ok(value)) = (name.as_str().strip_prefix(PREFIX), value.to_str()) else {
                continue;
            };
            behaviour.set(key, value)?;
        }
        for (key, value) in pairs(head.uri.query().unwrap_or("")) {
            behaviour.set(key, &value)?;
        }
        Ok(behaviour)
    }

    /// Sets one; tells whether it knows the name.
    ///
    /// # Errors
    /// Name and value, when the value cannot be read.
    pub fn set(&mut self, key: &str, value: &str) -> Result<bool, String> {
        self.try_set(key, value).map_err(|e| format!("{key}={value}: {e}"))
    }

    fn try_set(&mut self, key: &str, value: &str) -> Result<bool, String> {
        match key {
            "status" => self.status = Some(status(value)?),
            "delay" => self.delay = Some(units::duration(value)?),
            "bytes" => self.bytes = Some(units::bytes(value)?),
            "trickle" => self.trickle = Some(pace(value)?),
            "reset" => self.reset = reset(value)?,
            "trailers" => self.trailers = on(value),
            "echo" => self.echo = on(value),
            "close" => self.close = on(value),
            "header" => self.headers.push(header(value)?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// This, and what it leaves open from `base`.
    #[must_use]
    pub fn over(mut self, base: &Self) -> Self {
        self.status = self.status.or(base.status);
        self.delay = self.delay.or(base.delay);
        self.bytes = self.bytes.or(base.bytes);
        self.trickle = self.trickle.or(base.trickle);
        self.reset = self.reset.or(base.reset);
        self.trailers |= base.trailers;
        self.echo |= base.echo;
        self.close |= base.close;
        self.headers.extend_from_slice(&base.headers);
        self
    }
}

/// The pairs of a query, values decoded.
pub fn pairs(query: &str) -> impl Iterator<Item = (&str, String)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, "1"));
        (key, percent_decode_str(value).decode_utf8_lossy().into_owned())
    })
}

/// Whether a switch is on.
pub fn on(value: &str) -> bool {
    !matches!(value, "0" | "false" | "")
}

/// A final status.
///
/// # Errors
/// When it is none.
pub fn status(value: &str) -> Result<StatusCode, String> {
    let code = value.parse::<StatusCode>().ok().filter(|s| s.as_u16() >= 200);
    code.ok_or_else(|| "is not a status from 200 to 999".into())
}

fn pace(value: &str) -> Result<Pace, String> {
    let (size, interval) = value.split_once('/').unwrap_or(("16", value));
    Ok(Pace { size: units::bytes(size)?.max(1), interval: units::duration(interval)? })
}

fn reset(value: &str) -> Result<Option<Reset>, String> {
    match value {
        "head" | "1" | "true" => Ok(Some(Reset::Head)),
        "body" => Ok(Some(Reset::Body)),
        "" | "0" | "false" => Ok(None),
        _ => Err("is neither `head` nor `body`".into()),
    }
}

fn header(value: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, text) = value.split_once(':').ok_or("is not NAME:VALUE")?;
    let name = name.trim().parse().map_err(|_| "has no valid name")?;
    Ok((name, text.trim().parse().map_err(|_| "has no valid value")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(uri: &str, header: &str) -> Result<Behaviour, String> {
        let request = http::Request::get(uri).header("x-echo-status", header).body(()).unwrap();
        Behaviour::asked(&request.into_parts().0)
    }

    #[test]
    fn the_query_wins_over_headers_and_unknown_names_are_ignored() {
        let b = asked("/x?status=404&delay=20ms&page=7&header=a:b%3Bc&trailers", "503").unwrap();
        assert_eq!((b.status, b.delay), (Some(StatusCode::NOT_FOUND), Some(Duration::from_millis(20))));
        assert_eq!((b.headers[0].1.as_bytes(), b.trailers), (&b"b;c"[..], true));
        assert_eq!(asked("/", "503").unwrap().status, Some(StatusCode::SERVICE_UNAVAILABLE));
    }

    #[test]
    fn a_value_that_cannot_be_read_is_named() {
        assert!(asked("/?delay=soon", "200").unwrap_err().starts_with("delay=soon: "));
        assert!(asked("/", "100").is_err() && asked("/?reset=tail", "200").is_err());
    }

    #[test]
    fn what_is_left_open_comes_from_the_base() {
        let base = Behaviour { status: Some(StatusCode::BAD_GATEWAY), close: true, ..Behaviour::default() };
        let own = Behaviour { bytes: Some(3), ..Behaviour::default() }.over(&base);
        assert_eq!((own.status, own.bytes, own.close), (base.status, Some(3), true));
    }
}
