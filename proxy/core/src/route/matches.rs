//! Whether a request or a connection fulfils a block of conditions (HTTPMatchRequest, L4MatchAttributes,
//! TLSMatchAttributes).

use http::HeaderName;
use http::header::HOST;

use super::{ConnectionView, RequestView};
use crate::http::query::{self, QueryValue};
use crate::matching::StringMatch;
use crate::model::route::{HttpMatch, TcpMatch};
use crate::text;

/// Whether all conditions hold for a request.
pub(super) fn http(block: &HttpMatch, request: &RequestView<'_>) -> bool {
    let holds = |condition: &Option<StringMatch>, value: &str| {
        condition.as_ref().is_none_or(|condition| condition.matches(value))
    };
    path(block, request.path)
        && holds(&block.method, request.method.as_str())
        && block.headers.iter().all(|(name, m)| header(request, name, |value| has(m, value)))
        && block.without_headers.iter().all(|(name, m)| header(request, name, |value| lacks(m, value)))
        && block.query.iter().all(|(name, m)| parameter(request, name).is_some_and(|value| fits(m, value)))
        && holds(&block.authority, request.authority)
        && holds(&block.scheme, request.scheme)
}

/// Whether all conditions hold for a connection.
pub(super) fn tcp(block: &TcpMatch, connection: &ConnectionView<'_>) -> bool {
    let destination = connection.destination.to_canonical();
    let subnets = &block.destination_subnets;
    (subnets.is_empty() || subnets.iter().any(|net| net.contains(&destination)))
        && (block.sni_hosts.is_empty() || connection.sni.is_some_and(|sni| names(&block.sni_hosts, sni)))
}

fn path(block: &HttpMatch, path: &str) -> bool {
    block.uri.as_ref().is_none_or(|condition| match block.ignore_uri_case {
        true => condition.matches_ignoring_case(path),
        false => condition.matches(path),
    })
}

/// Asks about a header as one text. HTTP/2 has the host in `:authority`.
fn header(request: &RequestView<'_>, name: &HeaderName, ask: impl FnOnce(Option<&str>) -> bool) -> bool {
    text::with_header(request.headers, name, |value| match value {
        None if name == HOST => ask(Some(request.authority)),
        value => ask(value),
    })
}

fn has(condition: &StringMatch, value: Option<&str>) -> bool {
    value.is_some_and(|value| condition.matches(value))
}

/// `withoutHeaders`: an absent header counts as empty, unless its presence is the condition.
fn lacks(condition: &StringMatch, value: Option<&str>) -> bool {
    match condition {
        StringMatch::Present => value.is_none(),
        condition => !condition.matches(value.unwrap_or("")),
    }
}

fn parameter<'a>(request: &RequestView<'a>, name: &str) -> Option<QueryValue<'a>> {
    query::parameter(request.query?, name)
}

fn fits(condition: &StringMatch, value: QueryValue<'_>) -> bool {
    match condition {
        StringMatch::Present => true,
        StringMatch::Exact(text) => value.is(text),
        StringMatch::Prefix(text) => value.starts_with(text),
        StringMatch::Regex(pattern) => pattern.matches(&value.decoded()),
    }
}

fn names(patterns: &[std::sync::Arc<str>], sni: &str) -> bool {
    patterns.iter().any(|pattern| text::host_matches(pattern, sni))
}
