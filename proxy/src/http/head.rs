//! The head of a request: checked and brought into normal form once, before anything reads it; and made into what the
//! next hop is sent.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::{CONNECTION, HOST, HeaderName, HeaderValue, TE, UPGRADE};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, StatusCode, Uri, Version};
use weft_core::http::headers::{Hop, strip_hop_by_hop};
use weft_core::http::path::{PathRules, normalize};
use weft_core::http::{host, target};
use weft_core::reason::Reason;

use super::guard::Refused;
use super::version::HttpVersion;

/// Why a request is answered and not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The reason.
    pub reason: Reason,
    /// The status, where it says more than the reason's own.
    pub status: Option<StatusCode>,
}

/// How strictly a request is read.
#[derive(Clone, Copy, Debug)]
pub struct Strictness {
    /// How paths are normalised.
    pub paths: PathRules,
    /// Whether a `Host` that differs from the target's authority is refused.
    pub hosts: bool,
}

/// Checks a request and brings its path and its host into the form that is matched, authorised and forwarded. The
/// hop-by-hop fields are taken away; what they said is returned. `protected`: the fields that policies read.
pub fn check(
    parts: &mut Parts,
    strictness: Strictness,
    protected: impl Fn(&HeaderName) -> bool,
) -> Result<Hop, Refusal> {
    target::target(&parts.method, &parts.uri, false).map_err(Refusal::of_target)?;
    check_host(parts, strictness.hosts)?;
    check_path(parts, strictness.paths)?;
    strip_hop_by_hop(&mut parts.headers, parts.version, protected).map_err(|_| Reason::BadRequest.into())
}

fn check_host(parts: &mut Parts, strict: bool) -> Result<(), Refusal> {
    let effective = host::effective(parts.version, &parts.uri, &parts.headers, strict);
    let effective = effective.map_err(|_| Refusal::from(Reason::BadRequest))?;
    if effective.rewrite_host {
        let value = HeaderValue::from_str(effective.text).map_err(|_| Refusal::from(Reason::BadRequest))?;
        parts.headers.insert(HOST, value);
    }
    Ok(())
}

fn check_path(parts: &mut Parts, rules: PathRules) -> Result<(), Refusal> {
    let normal = match normalize(parts.uri.path(), rules) {
        Ok(Cow::Borrowed(_)) => return Ok(()),
        Ok(Cow::Owned(normal)) => normal,
        Err(_) => return Err(Reason::BadPath.into()),
    };
    set_path(parts, &normal).ok_or(Refusal::from(Reason::BadPath))
}

/// Replaces the path; the query stays.
pub fn set_path(parts: &mut Parts, path: &str) -> Option<()> {
    let whole = match parts.uri.query() {
        Some(query) if !path.contains('?') => format!("{path}?{query}"),
        _ => path.to_owned(),
    };
    let new = PathAndQuery::from_maybe_shared(Bytes::from(whole)).ok()?;
    let mut uri = std::mem::take(&mut parts.uri).into_parts();
    uri.path_and_query = Some(new);
    parts.uri = Uri::from_parts(uri).ok()?;
    Some(())
}

/// The authority as sent: of the target, else of `Host`; empty where an HTTP/1.0 request has none.
pub fn authority<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> &'a str {
    let field = || headers.get(HOST).and_then(|value| value.to_str().ok());
    uri.authority().map(Authority::as_str).or_else(field).unwrap_or("")
}

/// Sends the request to another authority.
pub fn set_authority(parts: &mut Parts, authority: &HeaderValue) {
    if parts.uri.authority().is_some() {
        parts.uri =
            with_authority(std::mem::take(&mut parts.uri), Bytes::copy_from_slice(authority.as_bytes()));
    }
    if parts.version < Version::HTTP_2 || parts.headers.contains_key(HOST) {
        parts.headers.insert(HOST, authority.clone());
    }
}

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

/// The target with this authority; with its old one where the new cannot stand in a target.
fn with_authority(uri: Uri, authority: Bytes) -> Uri {
    let mut parts = uri.into_parts();
    parts.scheme.get_or_insert(Scheme::HTTP);
    parts.path_and_query.get_or_insert(PathAndQuery::from_static("/"));
    if let Ok(authority) = Authority::from_maybe_shared(authority) {
        parts.authority = Some(authority);
    }
    Uri::from_parts(parts).unwrap_or_default()
}

impl Refusal {
    /// What the guard refused.
    pub fn of_guard(refused: Refused) -> Self {
        let Refused::Bytes(_, status) = refused else { return Reason::RequestTimeout.into() };
        let reason = match status {
            414 => Reason::UriTooLong,
            431 => Reason::HeadTooLarge,
            _ => Reason::BadRequest,
        };
        Self { reason, status: StatusCode::from_u16(status).ok() }
    }

    fn of_target(error: target::TargetError) -> Self {
        match error {
            target::TargetError::Form => Reason::BadRequest.into(),
            target::TargetError::Connect | target::TargetError::Trace => Reason::MethodRefused.into(),
        }
    }
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Self { reason, status: None }
    }
}
