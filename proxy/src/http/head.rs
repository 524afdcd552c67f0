//! The head of a request, made into what the next hop is sent. How it is checked is `weft_core::http::request`'s.

use bytes::Bytes;
use http::header::{CONNECTION, HOST, HeaderValue, TE, UPGRADE};
use http::request::Parts;
use http::{StatusCode, Uri, Version};
use weft_core::http::headers::Hop;
use weft_core::http::request::with_authority;
pub use weft_core::http::request::{Refusal, Strictness, authority, check, set_authority, set_path};
use weft_core::reason::Reason;

use super::guard::Refused;
use super::version::HttpVersion;

/// The head to send: a copy where it may be sent again, else itself.
pub fn give(head: &mut Parts, again: bool) -> Parts {
    if again { head.clone() } else { std::mem::replace(head, http::Request::new(()).into_parts().0) }
}

/// Writes the head as the next hop's HTTP has it: the form of the target, `Host`, and the hop-by-hop fields that are
/// ours to say.
pub fn address_to(parts: &mut Parts, version: HttpVersion, hop: &Hop) {
    match version {
        HttpVersion::Http1 => to_http1(parts, hop),
        HttpVersion::Http2 => to_http2(parts, hop),
    }
}

fn to_http1(parts: &mut Parts, hop: &Hop) {
    if let Some(authority) = parts.uri.authority() {
        if !parts.headers.contains_key(HOST)
            && let Ok(value) = HeaderValue::from_str(authority.as_str())
        {
            parts.headers.insert(HOST, value);
        }
        let mut uri = http::uri::Parts::default();
        uri.path_and_query = std::mem::take(&mut parts.uri).into_parts().path_and_query;
        parts.uri = Uri::from_parts(uri).unwrap_or_default();
    }
    parts.version = Version::HTTP_11;
    match (&hop.upgrade, hop.trailers) {
        (Some(upgrade), _) => {
            parts.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            parts.headers.insert(UPGRADE, upgrade.clone());
        }
        (None, true) => {
            parts.headers.insert(CONNECTION, HeaderValue::from_static("te"));
            parts.headers.insert(TE, HeaderValue::from_static("trailers"));
        }
        (None, false) => {}
    }
}

fn to_http2(parts: &mut Parts, hop: &Hop) {
    let host = parts.headers.remove(HOST);
    if parts.uri.authority().is_none()
        && let Some(host) = host
    {
        let authority = Bytes::copy_from_slice(host.as_bytes());
        parts.uri = with_authority(std::mem::take(&mut parts.uri), authority);
    }
    parts.version = Version::HTTP_2;
    if hop.trailers {
        parts.headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

/// What the guard refused.
impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        let Refused::Bytes(_, status) = refused else { return Reason::RequestTimeout.into() };
        let reason = match status {
            414 => Reason::UriTooLong,
            431 => Reason::HeadTooLarge,
            _ => Reason::BadRequest,
        };
        Self { reason, status: StatusCode::from_u16(status).ok() }
    }
}
