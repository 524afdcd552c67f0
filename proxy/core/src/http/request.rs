//! The head of a request, checked and brought into normal form once, before anything reads it: routing, authorization
//! and the next hop see the same path and the same host.

use std::borrow::Cow;

use ::http::header::{HOST, HeaderName, HeaderValue};
use ::http::request::Parts;
use ::http::uri::{Authority, PathAndQuery, Scheme};
use ::http::{HeaderMap, StatusCode, Uri, Version};
use bytes::Bytes;

use crate::http::headers::{Hop, strip_hop_by_hop};
use crate::http::path::{PathRules, normalize};
use crate::http::{host, target};
use crate::reason::Reason;

/// Why a request is answered and not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The reason.
    pub reason: Reason,
    /// The status, where it says more than the reason's own.
    pub status: Option<StatusCode>,
}

/// How strictly a request is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strictness {
    /// How paths are normalised.
    pub paths: PathRules,
    /// Whether a `Host` that differs from the target's authority is refused.
    pub hosts: bool,
}

/// Checks a request and brings its path and its host into the form that is matched, authorised and forwarded. The
/// hop-by-hop fields are taken away; what they said is returned. `protected`: the fields that policies read.
///
/// # Errors
/// What is wrong with the target, the host, the path or the hop-by-hop fields.
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

/// Replaces the path; the query stays, behind the one that the new path may bring. `None`: it can stand in no target.
pub fn set_path(parts: &mut Parts, path: &str) -> Option<()> {
    let whole = match parts.uri.query() {
        Some(query) if path.contains('?') => format!("{path}&{query}"),
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
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

/// The target with this authority; with its old one where the new cannot stand in a target.
pub fn with_authority(uri: Uri, authority: Bytes) -> Uri {
    let mut parts = uri.into_parts();
    parts.scheme.get_or_insert(Scheme::HTTP);
    parts.path_and_query.get_or_insert(PathAndQuery::from_static("/"));
    if let Ok(authority) = Authority::from_maybe_shared(authority) {
        parts.authority = Some(authority);
    }
    Uri::from_parts(parts).unwrap_or_default()
}

impl Refusal {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::workload::PathNormalization;

    fn checked(uri: &str, host: &str) -> Result<(String, String), Reason> {
        let request = ::http::Request::get(uri).header(HOST, host);
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        let paths = PathRules::new(PathNormalization::Base, true);
        check(&mut parts, Strictness { paths, hosts: false }, |_| false).map_err(|refusal| refusal.reason)?;
        Ok((parts.uri.to_string(), authority(&parts.uri, &parts.headers).to_owned()))
    }

    #[test]
    fn a_request_is_read_in_one_way_only() {
        assert_eq!(checked("/a/./b/..//c?x=/../y", "web"), Ok(("/a/c?x=/../y".into(), "web".into())));
        assert_eq!(checked("/a%2fb", "web"), Err(Reason::BadPath));
        assert_eq!(checked("/", "a b"), Err(Reason::BadRequest));
        let (_, authority) = checked("http://target/", "field").unwrap();
        assert_eq!(authority, "target");
    }

    #[test]
    fn another_authority_and_another_path_leave_the_rest() {
        let (mut parts, ()) = ::http::Request::get("/a?q").header(HOST, "old").body(()).unwrap().into_parts();
        set_path(&mut parts, "/b").unwrap();
        set_authority(&mut parts, &HeaderValue::from_static("new:81"));
        assert_eq!(
            (parts.uri.to_string().as_str(), &parts.headers[HOST]),
            ("/b?q", &"new:81".parse().unwrap())
        );
        set_path(&mut parts, "/c?p").unwrap();
        assert_eq!(parts.uri, "/c?p&q", "what the client asked for is not lost");
        assert_eq!(set_path(&mut parts, "/ \u{7f}"), None);
    }
}
