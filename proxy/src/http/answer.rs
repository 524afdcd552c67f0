//! Every answer that the sidecar itself makes, from one table: the reason decides the status, gRPC clients get
//! theirs as gRPC, and only those who may know are told the reason. Nothing of the request is ever echoed.

use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use weft_core::http::grpc;
use weft_core::reason::Reason;

use super::body::Body;

/// The header that says why the mesh answered in the application's stead; to mTLS peers and the own application only.
pub const REASON: HeaderName = HeaderName::from_static("x-weft-reason");
/// The policy that refused the request, `namespace/name`; to those who are told the reason.
pub const POLICY: HeaderName = HeaderName::from_static("x-weft-policy");
/// Envoy's word for [`Reason::Overflow`], which clients of Istio look for.
const OVERLOADED: HeaderName = HeaderName::from_static("x-envoy-overloaded");

/// Who is answered.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asker {
    /// The request was gRPC.
    pub grpc: bool,
    /// It is an mTLS peer or the own application, and may know the reason.
    pub trusted: bool,
}

/// The answer for a reason.
pub fn answer(reason: Reason, asker: Asker) -> Response<Body> {
    answer_with(reason, status_of(reason), asker)
}

/// The answer for a reason, with a status that says more (501, 505 for what [`Reason::BadRequest`] covers).
pub fn answer_with(reason: Reason, status: StatusCode, asker: Asker) -> Response<Body> {
    let response = match asker.grpc {
        true => in_grpc(reason, grpc::status_of(status)),
        false => in_http(reason, status),
    };
    told(response, reason, asker)
}

/// The answer for a reason to a gRPC client, with a gRPC status that is not its HTTP status's.
pub fn answer_in_grpc(reason: Reason, status: u8, asker: Asker) -> Response<Body> {
    told(in_grpc(reason, status), reason, asker)
}

fn told(mut response: Response<Body>, reason: Reason, asker: Asker) -> Response<Body> {
    let headers = response.headers_mut();
    if asker.trusted {
        headers.insert(REASON, HeaderValue::from_static(reason.name()));
    }
    match reason {
        Reason::Overflow => drop(headers.insert(OVERLOADED, HeaderValue::from_static("true"))),
        Reason::Overloaded => drop(headers.insert(RETRY_AFTER, HeaderValue::from_static("1"))),
        _ => {}
    }
    response
}

/// The status of a reason; 500 where a reason that closes connections asks for an answer.
pub fn status_of(reason: Reason) -> StatusCode {
    StatusCode::from_u16(reason.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

fn in_http(reason: Reason, status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::full(text(reason)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS"));
    }
    response
}

/// A response without messages, all of it in the headers ("Trailers-Only" of the gRPC protocol).
fn in_grpc(reason: Reason, status: u8) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", HeaderValue::from(u16::from(status)));
    headers.insert("grpc-message", HeaderValue::from_static(text(reason)));
    response
}

/// One line for people.
fn text(reason: Reason) -> &'static str {
    match reason {
        Reason::NoRoute => "no route for this request",
        Reason::NoCluster => "the route leads to no known destination",
        Reason::NoHealthyUpstream => "no healthy upstream",
        Reason::Overflow => "too many connections or requests to this destination",
        Reason::ConnectFailure => "the upstream cannot be reached",
        Reason::UpstreamReset => "the upstream closed the connection",
        Reason::UpstreamFraming => "the upstream sent a malformed response",
        Reason::Timeout | Reason::PerTryTimeout => "the upstream did not answer in time",
        Reason::BlackHole => "this destination is not in the mesh",
        Reason::ConfigUnavailable => "this destination is not known yet",
        Reason::PolicyDenied | Reason::PolicyNotAllowed => "RBAC: access denied",
        Reason::PlaintextDenied => "mTLS is required",
        Reason::PeerIdentity => "the upstream is not who it must be",
        Reason::TlsHandshake => "no secure connection to the upstream",
        Reason::BadRequest => "malformed request",
        Reason::BadPath => "malformed path",
        Reason::HeadTooLarge => "the head of the request is too large",
        Reason::UriTooLong => "the target of the request is too long",
        Reason::RequestTimeout => "the request did not come in time",
        Reason::MethodRefused => "this method is not passed on",
        Reason::Loop => "the request came back to where it was sent from",
        Reason::NoOriginalDestination => "the destination of the connection is not known",
        Reason::ApplicationUnreachable => "the application cannot be reached",
        Reason::NotSent => "the application no longer takes requests",
        Reason::Draining | Reason::Overloaded => "the sidecar takes no more requests",
        // Envoy's words, which people look for.
        Reason::FaultInjected => "fault filter abort",
        Reason::DirectResponse | Reason::Redirect | Reason::Preflight => "",
        _ => "internal error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header<'a>(response: &'a Response<Body>, name: &str) -> Option<&'a str> {
        response.headers().get(name).map(|value| value.to_str().unwrap())
    }

    #[test]
    fn e6_a_denied_request_is_told_so_in_its_own_protocol() {
        let http = answer(Reason::PolicyDenied, Asker::default());
        assert_eq!((http.status().as_u16(), header(&http, "x-weft-reason")), (403, None));
        let grpc = answer(Reason::PolicyDenied, Asker { grpc: true, trusted: true });
        assert_eq!(grpc.status(), StatusCode::OK);
        assert_eq!(header(&grpc, "grpc-status"), Some("7"));
        assert_eq!(header(&grpc, "x-weft-reason"), Some("policy_denied"));
    }

    #[test]
    fn overflow_says_so_as_envoy_does() {
        let overflow = answer(Reason::Overflow, Asker::default());
        assert_eq!(header(&overflow, "x-envoy-overloaded"), Some("true"));
    }

    #[test]
    fn every_reason_has_a_status_and_a_line() {
        for reason in Reason::ALL {
            let response = answer(reason, Asker::default());
            assert!(response.status().as_u16() >= 400, "{reason}");
        }
    }
}
