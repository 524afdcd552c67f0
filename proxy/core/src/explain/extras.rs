//! What few rules ask for, told before the rule's action.

use http::StatusCode;
use http::header::ORIGIN;
use http::request::Parts;

use crate::http::grpc;
use crate::model::extras::{AbortWith, Cors, Extras, Fault, Share};
use crate::model::route::HttpAction;
use crate::reason::Reason;
use crate::route::Matched;
use crate::route::cors::{self, CrossOrigin};

use super::told::{ClientSide, OwnAnswer, Step};

/// Tells it. Where the rule answers every such request, there is an answer, and nothing comes after.
pub(super) fn tell(told: &mut ClientSide, matched: &Matched<'_>, parts: &Parts) {
    let rule = &matched.rule.rule;
    let Some(Extras { fault, cors }) = rule.extras.as_deref() else { return };
    if let Some(fault) = fault {
        told.fault = Some(fault.to_string());
        told.steps.push(Step::client("fault", fault.to_string()));
        told.answer = aborted(fault, parts);
    }
    let forwards = matches!(rule.action, HttpAction::Forward(_));
    if let Some(policy) = cors.as_ref().filter(|_| forwards && told.answer.is_none()) {
        tell_of_origin(told, policy, parts);
    }
}

/// What browsers are told, where the request says where it comes from.
fn tell_of_origin(told: &mut ClientSide, policy: &Cors, parts: &Parts) {
    let Some(origin) = parts.headers.get(ORIGIN) else { return };
    let origin = origin.to_str().unwrap_or("an origin beyond ASCII");
    let says = match cors::decide(policy, &parts.method, &parts.headers) {
        CrossOrigin::Untold => {
            format!(
                "{origin} is not allowed ({policy}): it goes on, and the response does not say that it may be read"
            )
        }
        CrossOrigin::Allowed(_) => format!("{origin} is allowed ({policy}): the response says so"),
        CrossOrigin::Preflight(headers) => {
            let reason = Reason::Preflight.name().to_owned();
            told.answer = Some(OwnAnswer { reason, status: 200, location: None });
            let allowed = if headers.is_empty() { "not allowed" } else { "allowed" };
            format!("a preflight of {origin}, which is {allowed} ({policy}): answered here")
        }
    };
    told.steps.push(Step::client("origin", says));
}

/// What every request is answered.
fn aborted(fault: &Fault, parts: &Parts) -> Option<OwnAnswer> {
    let abort = fault.abort.as_ref().filter(|abort| abort.share == Share::ALL)?;
    let status = match abort.with {
        _ if grpc::is_grpc(&parts.headers) => StatusCode::OK,
        AbortWith::Http(status) => status,
        AbortWith::Grpc(status) => grpc::http_status_of(status),
    };
    let reason = Reason::FaultInjected.name().to_owned();
    Some(OwnAnswer { reason, status: status.as_u16(), location: None })
}
