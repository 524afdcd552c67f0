//! VirtualServices.

use std::sync::Arc;
use std::time::Duration;

use weft_core::matching::StringMatch;
use weft_core::model::extras::Extras;
use weft_core::model::route::{
    DirectResponse, HeaderOps, HttpMatch, Redirect, RetryPolicy, Rewrite, RuleSource, TcpMatch,
};

use super::meta::{Meta, Visibility};

/// A VirtualService that is understood.
#[derive(Clone, Debug, PartialEq)]
pub struct VirtualService {
    /// Name, age, origin.
    pub meta: Meta,
    /// `hosts`, fully qualified, lower case; `*.x` stands for every name under `x`.
    pub hosts: Vec<Arc<str>>,
    /// `exportTo`.
    pub visibility: Visibility,
    /// Whether it speaks to sidecars at all (`gateways` names `mesh` or nothing).
    pub mesh: bool,
    /// `http`, in order.
    pub http: Vec<HttpRule>,
    /// `tcp` and `tls`, in order.
    pub tcp: Vec<TcpRule>,
}

/// One rule of `http`.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpRule {
    /// Its place.
    pub source: RuleSource,
    /// The blocks of `match`; empty matches everything.
    pub matches: Vec<HttpBlock>,
    /// What is done.
    pub action: HttpAction,
    /// `headers.request`.
    pub request_headers: HeaderOps,
    /// `headers.response`.
    pub response_headers: HeaderOps,
    /// What few rules ask for.
    pub extras: Option<Box<Extras>>,
}

/// One block of `match`: for which clients, and what the request must look like.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HttpBlock {
    /// For which clients.
    pub client: ClientScope,
    /// What the request must look like.
    pub request: HttpMatch,
}

/// The conditions of a block that are decided when the client is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientScope {
    /// `port`: of the service.
    pub port: Option<u16>,
    /// `sourceLabels`.
    pub labels: super::meta::Selector,
    /// `sourceNamespace`.
    pub namespace: Option<Arc<str>>,
}

/// What a rule does.
#[derive(Clone, Debug, PartialEq)]
pub enum HttpAction {
    /// `route`.
    Forward(Forward),
    /// `redirect`.
    Redirect(Redirect),
    /// `directResponse`.
    Respond(DirectResponse),
}

/// `route`, `rewrite`, `timeout`, `retries`.
#[derive(Clone, Debug, PartialEq)]
pub struct Forward {
    /// At least one, with a weight above zero in sum.
    pub destinations: Vec<Destination>,
    /// `rewrite`.
    pub rewrite: Rewrite,
    /// `timeout`.
    pub timeout: Option<Duration>,
    /// `retries`.
    pub retries: RetryPolicy,
}

/// One weighted destination of requests.
#[derive(Clone, Debug, PartialEq)]
pub struct Destination {
    /// Where to.
    pub target: Target,
    /// Its share; above zero.
    pub weight: u32,
    /// `headers.request`.
    pub request_headers: HeaderOps,
    /// `headers.response`.
    pub response_headers: HeaderOps,
}

/// `destination`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// `host`, fully qualified, lower case.
    pub host: Arc<str>,
    /// `subset`.
    pub subset: Option<Arc<str>>,
    /// `port.number`.
    pub port: Option<u16>,
    /// Where it stands in the list `route`.
    pub index: usize,
}

impl VirtualService {
    /// Every destination of its routes.
    pub fn targets(&self) -> impl Iterator<Item = &Target> {
        let of_http = self.http.iter().filter_map(|rule| match &rule.action {
            HttpAction::Forward(forward) => Some(forward.destinations.iter().map(|d| &d.target)),
            HttpAction::Redirect(_) | HttpAction::Respond(_) => None,
        });
        let of_tcp = self.tcp.iter().flat_map(|rule| rule.destinations.iter().map(|(target, _)| target));
        of_http.flatten().chain(of_tcp)
    }
}

/// Whether a block takes every request, of whatever path, and asks for nothing else.
pub fn takes_every_path(request: &HttpMatch) -> bool {
    let any_path = match &request.uri {
        None => true,
        Some(StringMatch::Prefix(prefix)) => matches!(&**prefix, "" | "/"),
        Some(StringMatch::Regex(pattern)) => matches!(pattern.as_str(), ".*" | "/.*"),
        Some(_) => false,
    };
    let rest = HttpMatch {
        uri: request.uri.clone(),
        ignore_uri_case: request.ignore_uri_case,
        ..HttpMatch::default()
    };
    any_path && *request == rest
}

/// One rule of `tcp` or `tls`.
#[derive(Clone, Debug, PartialEq)]
pub struct TcpRule {
    /// Its place.
    pub source: RuleSource,
    /// The blocks of `match`; empty matches everything.
    pub matches: Vec<(ClientScope, TcpMatch)>,
    /// At least one, with a weight above zero in sum.
    pub destinations: Vec<(Target, u32)>,
}
