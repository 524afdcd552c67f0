//! Where a redirect leads (`redirect`).

use std::fmt::Write;

use super::rewrite::replace_matched;
use super::{Matched, RequestView};
use crate::model::route::{Redirect, RedirectPath, RedirectPort};
use crate::text::{split_port, without_port};

/// The `location` of the answer.
///
/// The query stays unless the new path brings one. A port that is written is always shown. A new authority replaces
/// the old one with its port; else the request's port stays, unless it is the old scheme's default and the scheme
/// changes.
pub fn redirect_location(redirect: &Redirect, matched: &Matched<'_>, request: &RequestView<'_>) -> String {
    let scheme = redirect.scheme.as_deref().unwrap_or(request.scheme);
    let authority = redirect.authority.as_deref().unwrap_or(request.authority);
    let mut location = String::with_capacity(64 + request.path.len());
    location.push_str(scheme);
    location.push_str("://");
    location.push_str(without_port(authority));
    if let Some(port) = shown_port(redirect, request, scheme) {
        // Writing into a String cannot fail.
        let _ = write!(location, ":{port}");
    }
    push_path(&mut location, redirect, matched, request);
    location
}

fn shown_port(redirect: &Redirect, request: &RequestView<'_>, scheme: &str) -> Option<u16> {
    let sent = split_port(request.authority).1;
    match redirect.port {
        RedirectPort::Number(port) => Some(port),
        RedirectPort::FromProtocolDefault => None,
        RedirectPort::FromRequest => {
            let port = sent.unwrap_or(default_port(request.scheme));
            (port != default_port(scheme)).then_some(port)
        }
        RedirectPort::Keep => match &redirect.authority {
            Some(authority) => split_port(authority).1,
            None => sent.filter(|port| scheme == request.scheme || *port != default_port(request.scheme)),
        },
    }
}

fn push_path(location: &mut String, redirect: &Redirect, matched: &Matched<'_>, request: &RequestView<'_>) {
    let replaced;
    let path = match &redirect.path {
        None => request.path,
        Some(RedirectPath::Full(path)) => path,
        Some(RedirectPath::Prefix(text)) => {
            replaced = replace_matched(text, matched.by, request.path);
            &replaced
        }
    };
    if !path.starts_with('/') {
        location.push('/');
    }
    location.push_str(path);
    if let Some(query) = request.query.filter(|_| !path.contains('?')) {
        location.push('?');
        location.push_str(query);
    }
}

fn default_port(scheme: &str) -> u16 {
    if scheme.eq_ignore_ascii_case("https") { 443 } else { 80 }
}
