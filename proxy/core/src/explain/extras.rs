//! What few rules ask for, told before the rule's action.

use http::StatusCode;
use http::request::Parts;

use crate::http::grpc;
use crate::model::extras::{AbortWith, Extras, Fault, Share};
use crate::reason::Reason;
use crate::route::Matched;

use super::told::{ClientSide, OwnAnswer, Step};

/// Tells it. Where the rule aborts every request, there is an answer, and nothing comes after.
pub(super) fn tell(told: &mut ClientSide, matched: &Matched<'_>, parts: &Parts) {
    let Some(Extras { fault }) = matched.rule.rule.extras.as_deref() else { return };
    if let Some(fault) = fault {
        told.fault = Some(fault.to_string());
        told.steps.push(Step::client("fault", fault.to_string()));
        told.answer = aborted(fault, parts);
    }
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
