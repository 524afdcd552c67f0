//! Route rules: what a request must look like and what is done with it (VirtualService, resolved for one client).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, StatusCode};
use ipnet::IpNet;

use super::extras::Extras;
use super::name::{ClusterName, ObjectName};
use crate::matching::{StringMatch, Substitution};

/// The rules of one port, in order: the first that matches decides.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HttpRoutes {
    /// Empty: no VirtualService speaks of this client and port, requests go to the service itself.
    pub rules: Vec<Arc<HttpRule>>,
}

/// One rule.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpRule {
    /// Where the rule was written.
    pub source: RuleSource,
    /// Any of these must match; empty matches all.
    pub matches: Vec<HttpMatch>,
    /// What is done.
    pub action: HttpAction,
    /// `headers.request` of the rule.
    pub request_headers: HeaderOps,
    /// `headers.response` of the rule.
    pub response_headers: HeaderOps,
    /// What few rules ask for; `None`: nothing of it.
    pub extras: Option<Box<Extras>>,
}

/// The VirtualService and the place in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RuleSource {
    /// The object; `None` for the route that a service has without one.
    pub object: Option<ObjectName>,
    /// `http[3]`, `tcp[0]`.
    pub path: Arc<str>,
    /// The rule's `name`, for the access log; empty where it has none.
    pub name: Arc<str>,
}

/// One block of conditions, all of which must hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HttpMatch {
    /// `uri`, on the normalised path without the query.
    pub uri: Option<StringMatch>,
    /// `ignoreUriCase`.
    pub ignore_uri_case: bool,
    /// `scheme`.
    pub scheme: Option<StringMatch>,
    /// `method`, case counts.
    pub method: Option<StringMatch>,
    /// `authority`, as sent, with its port.
    pub authority: Option<StringMatch>,
    /// `headers`: a header that is absent matches nothing.
    pub headers: Vec<(HeaderName, StringMatch)>,
    /// `withoutHeaders`: must not match; an absent header counts as empty text, except for `Present`.
    pub without_headers: Vec<(HeaderName, StringMatch)>,
    /// `queryParams`: the first value of each.
    pub query: Vec<(Arc<str>, StringMatch)>,
}

/// All conditions, as people read them: `uri prefix /api, header end-user exact premium`.
impl fmt::Display for HttpMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = if self.ignore_uri_case { "uri (any case)" } else { "uri" };
        let single = [
            (path, &self.uri),
            ("scheme", &self.scheme),
            ("method", &self.method),
            ("authority", &self.authority),
        ];
        let single = single.into_iter().filter_map(|(what, m)| Some((what, "", m.as_ref()?)));
        let headers = self.headers.iter().map(|(name, m)| ("header ", name.as_str(), m));
        let without = self.without_headers.iter().map(|(name, m)| ("without header ", name.as_str(), m));
        let query = self.query.iter().map(|(name, m)| ("query parameter ", &**name, m));
        let mut none = true;
        for (what, name, m) in single.chain(headers).chain(without).chain(query) {
            let comma = if std::mem::take(&mut none) { "" } else { ", " };
            write!(f, "{comma}{what}{name} {m}")?;
        }
        if none { f.write_str("anything") } else { Ok(()) }
    }
}

/// What a rule does.
#[derive(Clone, Debug, PartialEq)]
pub enum HttpAction {
    /// Sends the request to an upstream.
    Forward(Box<Forward>),
    /// Sends the client elsewhere.
    Redirect(Box<Redirect>),
    /// Answers by itself.
    Respond(DirectResponse),
}

/// `route`, `rewrite`, `timeout`, `retries`.
#[derive(Clone, Debug, PartialEq)]
pub struct Forward {
    /// Where to, by weight; at least one, with a weight above zero in sum.
    pub destinations: Vec<Destination>,
    /// `rewrite`.
    pub rewrite: Rewrite,
    /// `timeout`: of the whole request with its retries; `None` is none.
    pub timeout: Option<Duration>,
    /// `retries`.
    pub retries: RetryPolicy,
}

/// One weighted destination.
#[derive(Clone, Debug, PartialEq)]
pub struct Destination {
    /// The cluster.
    pub cluster: ClusterName,
    /// Its share of the sum of weights.
    pub weight: u32,
    /// `headers.request` of the destination.
    pub request_headers: HeaderOps,
    /// `headers.response` of the destination.
    pub response_headers: HeaderOps,
}

/// `rewrite`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rewrite {
    /// What becomes of the path.
    pub path: Option<PathRewrite>,
    /// The new authority.
    pub authority: Option<HeaderValue>,
}

/// What becomes of the path.
#[derive(Clone, Debug, PartialEq)]
pub enum PathRewrite {
    /// `uri`: the prefix that matched is replaced; the whole path where the match was exact or an expression;
    /// where there was no match on the path, the text is put before it in place of its first `/`.
    Uri(Arc<str>),
    /// `uriRegexRewrite`: every match is replaced; `\1` stands for a group.
    Regex(Substitution),
}

/// `redirect`.
#[derive(Clone, Debug, PartialEq)]
pub struct Redirect {
    /// The new path, whole or in place of the prefix that matched.
    pub path: Option<RedirectPath>,
    /// The new authority.
    pub authority: Option<Arc<str>>,
    /// The new port.
    pub port: RedirectPort,
    /// The new scheme.
    pub scheme: Option<Arc<str>>,
    /// 301, 302, 303, 307 or 308.
    pub status: StatusCode,
}

/// The path of a redirect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedirectPath {
    /// `uri`: the whole path.
    Full(Arc<str>),
    /// `prefixRewrite`.
    Prefix(Arc<str>),
}

/// The port of a redirect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RedirectPort {
    /// The request's port stays, unless it is the old scheme's default and the scheme changes.
    #[default]
    Keep,
    /// This one.
    Number(u16),
    /// 80 or 443, by the scheme; so it is left out.
    FromProtocolDefault,
    /// The request's, left out when it is the scheme's default.
    FromRequest,
}

/// `directResponse`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectResponse {
    /// 200 to 599.
    pub status: StatusCode,
    /// The body; empty for none.
    pub body: bytes::Bytes,
}

/// `headers.request` or `headers.response`, in the order they are applied: remove, set, add.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HeaderOps {
    /// Names that are taken away.
    pub remove: Vec<HeaderName>,
    /// Values that replace.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Values that are appended.
    pub add: Vec<(HeaderName, HeaderValue)>,
}

/// `retries`, with defaults filled in (DESIGN: "Default retries").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Tries beyond the first.
    pub attempts: u32,
    /// Of one try; `None` is none.
    pub per_try_timeout: Option<Duration>,
    /// What is tried again.
    pub on: RetryOn,
    /// The base of the backoff, full jitter, at most ten times itself.
    pub backoff: Duration,
    /// Whether hosts already tried are passed over.
    pub ignore_previous_hosts: bool,
}

/// `retryOn`: Envoy's conditions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetryOn {
    /// Weft's default: what is safe for any method, and for idempotent methods also resets and 503.
    pub safe_default: bool,
    /// `5xx`: any 5xx, reset, connect failure or timeout of a try.
    pub server_error: bool,
    /// `gateway-error`: 502, 503, 504.
    pub gateway_error: bool,
    /// `reset`: no response at all.
    pub reset: bool,
    /// `reset-before-request`: reset before the request was sent whole.
    pub reset_before_request: bool,
    /// `connect-failure`.
    pub connect_failure: bool,
    /// `refused-stream`.
    pub refused_stream: bool,
    /// `retriable-4xx`: 409.
    pub retriable_4xx: bool,
    /// `retriable-status-codes`, and bare numbers.
    pub statuses: Vec<u16>,
    /// gRPC statuses by number: `cancelled` 1, `deadline-exceeded` 4, `resource-exhausted` 8, `internal` 13, `unavailable` 14.
    pub grpc_statuses: Vec<u8>,
}

/// One rule for opaque connections (`tcp[]`, `tls[]`).
#[derive(Clone, Debug, PartialEq)]
pub struct TcpRule {
    /// Where the rule was written.
    pub source: RuleSource,
    /// Any of these must match; empty matches all.
    pub matches: Vec<TcpMatch>,
    /// Where to, by weight, chosen once a connection.
    pub destinations: Vec<TcpDestination>,
}

/// Conditions on a connection, all of which must hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TcpMatch {
    /// `destinationSubnets`, any of them; empty is all.
    pub destination_subnets: Vec<IpNet>,
    /// `sniHosts`, any of them; empty is all.
    pub sni_hosts: Vec<Arc<str>>,
}

/// One weighted destination of connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpDestination {
    /// The cluster.
    pub cluster: ClusterName,
    /// Its share of the sum of weights.
    pub weight: u32,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 2,
            per_try_timeout: None,
            on: RetryOn { safe_default: true, ..RetryOn::default() },
            backoff: Duration::from_millis(25),
            ignore_previous_hosts: true,
        }
    }
}

impl HeaderOps {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }
}

impl Forward {
    /// To one cluster, with every default.
    pub fn to(cluster: ClusterName) -> Self {
        let destination = Destination {
            cluster,
            weight: 1,
            request_headers: HeaderOps::default(),
            response_headers: HeaderOps::default(),
        };
        Self {
            destinations: vec![destination],
            rewrite: Rewrite::default(),
            timeout: None,
            retries: RetryPolicy::default(),
        }
    }
}

/// Whether a method may be sent twice without a second effect (RFC 9110, section 9.2.2).
pub fn is_idempotent(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_match_reads_as_it_is_written() {
        let exact = |text: &str| StringMatch::Exact(text.into());
        let all = HttpMatch {
            uri: Some(StringMatch::Prefix("/api".into())),
            method: Some(exact("GET")),
            headers: vec![(HeaderName::from_static("end-user"), exact("premium"))],
            without_headers: vec![(HeaderName::from_static("x-old"), StringMatch::Present)],
            query: vec![("beta".into(), exact("yes"))],
            ..HttpMatch::default()
        };
        let words = "uri prefix /api, method exact GET, header end-user exact premium, without header x-old present, \
                     query parameter beta exact yes";
        assert_eq!(all.to_string(), words);
        assert_eq!(HttpMatch::default().to_string(), "anything");
    }
}
