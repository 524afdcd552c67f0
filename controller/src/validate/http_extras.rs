//! What few `http[]` rules ask for: faults.

use http::StatusCode;
use weft_core::model::extras::{Abort, AbortWith, Delay, Fault, GRPC_STATUSES, Share};
use weft_crds::scalar::Int;
use weft_crds::shared::Percent;
use weft_crds::virtual_service::action as written;

use super::common;
use super::findings::Findings;

/// The least share that is told apart from none, in percent.
const LEAST_PERCENT: f64 = 0.0001;

/// `fault`.
pub fn fault(findings: &mut Findings, path: &str, fault: &written::FaultInjection) -> Option<Fault> {
    if fault.delay.is_none() && fault.abort.is_none() {
        findings.error(path, "says nothing; write delay or abort");
    }
    let made = Fault {
        delay: fault.delay.as_ref().and_then(|it| delay(findings, &format!("{path}.delay"), it)),
        abort: fault.abort.as_ref().and_then(|it| abort(findings, &format!("{path}.abort"), it)),
    };
    (made != Fault::default()).then_some(made)
}

fn delay(findings: &mut Findings, path: &str, delay: &written::FaultDelay) -> Option<Delay> {
    if delay.exponential_delay.is_some() {
        let reason = "is reserved by the API and does nothing anywhere; write fixedDelay";
        findings.error(format!("{path}.exponentialDelay"), reason);
    } else if delay.fixed_delay.is_none() {
        findings.error(format!("{path}.fixedDelay"), "missing; write how long, such as `2s`");
    }
    let share = match (&delay.percentage, delay.percent) {
        (None, Some(percent)) => whole_percent(findings, &format!("{path}.percent"), percent),
        (percentage, _) => share_or_none(findings, path, percentage.as_ref()),
    };
    let time = common::positive(findings, &format!("{path}.fixedDelay"), delay.fixed_delay.as_ref());
    Some(Delay { share: share?, time: time? })
}

fn abort(findings: &mut Findings, path: &str, abort: &written::FaultAbort) -> Option<Abort> {
    let share = share_or_none(findings, path, abort.percentage.as_ref());
    let with = match (abort.http_status, &abort.grpc_status, &abort.http2_error) {
        (Some(status), None, None) => {
            let path = format!("{path}.httpStatus");
            let status = common::number(findings, &path, Some(status), (200, 599));
            status
                .and_then(|status| StatusCode::from_u16(u16::try_from(status).ok()?).ok())
                .map(AbortWith::Http)
        }
        (None, Some(name), None) => grpc_status(findings, &format!("{path}.grpcStatus"), name),
        (None, None, Some(_)) => {
            let reason = "is reserved by the API and does nothing anywhere; write httpStatus or grpcStatus";
            findings.error(format!("{path}.http2Error"), reason);
            None
        }
        (None, None, None) => {
            findings.error(path, "does nothing; write httpStatus or grpcStatus");
            None
        }
        _ => {
            findings.error(path, "says two things; write one of httpStatus, grpcStatus");
            None
        }
    };
    Some(Abort { share: share?, with: with? })
}

fn grpc_status(findings: &mut Findings, path: &str, name: &str) -> Option<AbortWith> {
    let number = GRPC_STATUSES.iter().position(|known| *known == name);
    if number.is_none() {
        let known = GRPC_STATUSES.join(", ");
        findings.error(path, format!("`{name}` is no status of gRPC; they are {known}"));
    }
    number.and_then(|number| u8::try_from(number).ok()).map(AbortWith::Grpc)
}

/// The share of a fault: nobody's where none is written, as Istio has it.
fn share_or_none(findings: &mut Findings, path: &str, percentage: Option<&Percent>) -> Option<Share> {
    let path = format!("{path}.percentage");
    if percentage.is_none_or(|percentage| percentage.value.is_none()) {
        findings.warn(&path, "missing, which is 0%: nothing is done; write the share of requests");
    }
    share(findings, &path, percentage).map(Option::unwrap_or_default)
}

/// A share in percent, where there is one; the outer `None`: it is wrong.
pub fn share(findings: &mut Findings, path: &str, written: Option<&Percent>) -> Option<Option<Share>> {
    let Some(value) = written.and_then(|percent| percent.value) else { return Some(None) };
    let path = format!("{path}.value");
    if !(0.0..=100.0).contains(&value) {
        findings.error(path, format!("{value} is no share; write a number from 0 to 100"));
        return None;
    }
    if value > 0.0 && value < LEAST_PERCENT {
        findings.error(path, format!("{value} is too small; the least is {LEAST_PERCENT}"));
        return None;
    }
    // From 0 to a million, as was looked at.
    Share::of_millionths((value * 10_000.0).round() as u32).map(Some)
}

/// A share in whole percents, as deprecated fields have it.
pub fn whole_percent(findings: &mut Findings, path: &str, percent: Int) -> Option<Share> {
    let percent = common::number(findings, path, Some(percent), (0, 100))?;
    Share::of_millionths(percent * 10_000)
}
