//! Passing a request on to another service, as an API gateway does: same method and body, and of the headers those that
//! tell who the user is, what may be done, and which trace this is part of.
//!
//! `/forward?url=http://content-service/api/x` passes on to that URL (the rest of the query belongs to it, unless it is
//! percent-encoded); with `--forward-to http://content-service` every request keeps its path and query and goes there.

use std::cell::RefCell;
use std::collections::HashMap;

use http::header::{HOST, HeaderName};
use http::uri::{Authority, PathAndQuery, Uri};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use percent_encoding::percent_decode_str;
use serde_json::json;
use tokio::net::TcpStream;

use crate::echo::body::{Body, message};

/// Idle connections that are kept for one authority.
const MAX_IDLE: usize = 256;
/// Request headers that are passed on, besides those of [`PREFIXES`].
const PASSED: [&str; 10] = [
    "authorization",
    "end-user",
    "content-type",
    "content-length",
    "traceparent",
    "tracestate",
    "baggage",
    "b3",
    "x-request-id",
    "x-ot-span-context",
];
/// Beginnings of the names of request headers that are passed on.
const PREFIXES: [&str; 2] = ["x-b3-", "x-echo-"];
/// Response headers that concern one connection only.
const HOP_BY_HOP: [&str; 4] = ["connection", "keep-alive", "transfer-encoding", "upgrade"];

type Sender = SendRequest<Incoming>;

/// Idle connections by authority. Lives on one thread.
#[derive(Debug, Default)]
pub struct Pool(RefCell<HashMap<Authority, Vec<Sender>>>);

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    authority: Authority,
    path: PathAndQuery,
}

/// Where the request is to be forwarded, if it is.
///
/// # Errors
/// Why the URL cannot be used.
pub fn target(all_to: Option<&Uri>, uri: &Uri) -> Result<Option<Target>, String> {
    let query = uri.query().unwrap_or("");
    let named = uri.path() == "/forward";
    match (named.then(|| query.split_once("url=")).flatten(), all_to) {
        (Some((_, url)), _) => parse(url).map(Some),
        (None, Some(all_to)) => {
            let base = Target::try_from(all_to.clone())?;
            let path = uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
            Ok(Some(Target { path, ..base }))
        }
        (None, None) if named => Err("forward: needs url=http://HOST[:PORT]/PATH".into()),
        (None, None) => Ok(None),
    }
}

fn parse(url: &str) -> Result<Target, String> {
    let decoded;
    let url = if url.starts_with("http://") {
        url
    } else {
        decoded = percent_decode_str(url).decode_utf8_lossy();
        decoded.as_ref()
    };
    url.parse::<Uri>().map_err(|e| format!("url={url}: {e}")).and_then(Target::try_from)
}

impl TryFrom<Uri> for Target {
    type Error = String;

    fn try_from(uri: Uri) -> Result<Self, String> {
        match (uri.scheme_str(), uri.authority(), uri.path_and_query()) {
            (Some("http"), Some(authority), path) => Ok(Self {
                authority: authority.clone(),
                path: path.cloned().unwrap_or(PathAndQuery::from_static("/")),
            }),
            _ => Err(format!("{uri}: is not http://HOST[:PORT]/PATH")),
        }
    }
}

/// Passes a request on, and its answer back; a failure is a 502 that says what failed.
pub async fn forward(pool: &Pool, target: Target, request: Request<Incoming>) -> Response<Body> {
    let authority = target.authority.clone();
    let mut request = outgoing(target, request);
    loop {
        let (mut sender, reused) = match pool.take(&authority).await {
            Ok(taken) => taken,
            Err(e) => return failed("connect", &authority, &e),
        };
        match sender.try_send_request(request).await {
            Ok(response) => {
                pool.give_back(authority, sender);
                return back(response);
            }
            Err(mut e) => match e.take_message() {
                Some(unsent) if reused => request = unsent,
                _ => return failed("request", &authority, e.error()),
            },
        }
    }
}

fn outgoing(target: Target, request: Request<Incoming>) -> Request<Incoming> {
    let (head, body) = request.into_parts();
    let mut out = Request::new(body);
    *out.method_mut() = head.method;
    *out.uri_mut() = Uri::from(target.path);
    let passed = |name: &HeaderName| {
        PASSED.contains(&name.as_str()) || PREFIXES.iter().any(|prefix| name.as_str().starts_with(prefix))
    };
    let kept = head.headers.iter().filter(|(name, _)| passed(name));
    let mut headers: HeaderMap = kept.map(|(n, v)| (n.clone(), v.clone())).collect();
    if let Ok(host) = HeaderValue::from_str(target.authority.as_str()) {
        headers.insert(HOST, host);
    }
    *out.headers_mut() = headers;
    out
}

fn back(response: Response<Incoming>) -> Response<Body> {
    let (mut head, body) = response.into_parts();
    for name in HOP_BY_HOP {
        head.headers.remove(name);
    }
    head.version = http::Version::default();
    Response::from_parts(head, body.map_err(Into::into).boxed_unsync())
}

fn failed(what: &'static str, authority: &Authority, error: &dyn std::fmt::Display) -> Response<Body> {
    let text = format!("{what} to {authority}: {error}");
    let mut response = message(StatusCode::BAD_GATEWAY, json!({ "error": text }));
    response.headers_mut().insert("x-echo-error", HeaderValue::from_static(what));
    response
}

impl Pool {
    /// A connection that is ready, and whether it was used before.
    async fn take(&self, authority: &Authority) -> std::io::Result<(Sender, bool)> {
        while let Some(mut idle) = self.idle(authority) {
            if idle.ready().await.is_ok() {
                return Ok((idle, true));
            }
        }
        let address = (authority.host().trim_matches(['[', ']']), authority.port_u16().unwrap_or(80));
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(std::io::Error::other)?;
        // Its end is seen by the sender.
        tokio::task::spawn_local(connection);
        Ok((sender, false))
    }

    /// The idle connection used last that is still open, and not still busy with a body.
    fn idle(&self, authority: &Authority) -> Option<Sender> {
        let mut all = self.0.borrow_mut();
        let idle = all.get_mut(authority)?;
        idle.retain(|sender| !sender.is_closed());
        let at = idle.iter().rposition(Sender::is_ready)?;
        Some(idle.swap_remove(at))
    }

    fn give_back(&self, authority: Authority, sender: Sender) {
        let mut all = self.0.borrow_mut();
        let idle = all.entry(authority).or_default();
        if idle.len() < MAX_IDLE {
            idle.push(sender);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(all: Option<&'static str>, uri: &'static str) -> Result<Option<(String, String)>, String> {
        let all = all.map(Uri::from_static);
        let target = target(all.as_ref(), &Uri::from_static(uri))?;
        Ok(target.map(|t| (t.authority.to_string(), t.path.to_string())))
    }

    #[test]
    fn a_url_may_be_plain_or_encoded() {
        let expected = Ok(Some(("a:8080".to_owned(), "/x?b=1&c=2".to_owned())));
        assert_eq!(to(None, "/forward?url=http://a:8080/x?b=1&c=2"), expected);
        assert_eq!(to(None, "/forward?url=http%3A%2F%2Fa:8080/x%3Fb=1%26c=2"), expected);
        assert!(to(None, "/forward").is_err() && to(None, "/forward?url=ftp://a/").is_err());
        assert_eq!(to(None, "/other?url=http://a/"), Ok(None));
    }

    #[test]
    fn everything_keeps_its_path_when_everything_is_forwarded() {
        let gone = to(Some("http://content-service"), "/api/x?y=z");
        assert_eq!(gone, Ok(Some(("content-service".into(), "/api/x?y=z".into()))));
    }
}
