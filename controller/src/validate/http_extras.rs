//! What few `http[]` rules ask for: faults, answers to browsers of other origins.

use http::{HeaderName, HeaderValue, Method, StatusCode};
use weft_core::matching::StringMatch;
use weft_core::model::extras::{Abort, AbortWith, Cors, Delay, Fault, GRPC_STATUSES, Share};
use weft_crds::scalar::{Duration, Int};
use weft_crds::shared::Percent;
use weft_crds::virtual_service::action as written;
use weft_crds::virtual_service::matching::StringMatch as Matching;

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

/// `corsPolicy`.
pub fn cors(findings: &mut Findings, path: &str, written: &written::CorsPolicy) -> Cors {
    Cors {
        origins: origins(findings, path, written),
        allow_methods: names(findings, &format!("{path}.allowMethods"), &written.allow_methods, METHOD),
        allow_headers: names(findings, &format!("{path}.allowHeaders"), &written.allow_headers, HEADER),
        expose_headers: names(findings, &format!("{path}.exposeHeaders"), &written.expose_headers, HEADER),
        max_age: max_age(findings, &format!("{path}.maxAge"), written.max_age.as_ref()),
        credentials: written.allow_credentials.unwrap_or(false),
        ignore_unmatched: written.unmatched_preflights == Some(written::UnmatchedPreflights::Ignore),
    }
}

/// `allowOrigins`, or what the deprecated `allowOrigin` says where there are none.
fn origins(findings: &mut Findings, path: &str, written: &written::CorsPolicy) -> Vec<StringMatch> {
    let (new, old) = (format!("{path}.allowOrigins"), format!("{path}.allowOrigin"));
    common::part(findings, &new, written.allow_origins.len());
    common::part(findings, &old, written.allow_origin.len());
    match (&written.allow_origins[..], &written.allow_origin[..]) {
        ([], []) => findings.warn(&new, "missing: no origin is allowed anything"),
        ([_, ..], [_, ..]) => findings.warn(&old, "has no effect beside allowOrigins"),
        _ => {}
    }
    let exact = |text: &String| Matching { exact: Some(text.clone()), ..Matching::default() };
    let (path, all) = match written.allow_origins.is_empty() {
        true => (old, written.allow_origin.iter().map(exact).collect()),
        false => (new, written.allow_origins.clone()),
    };
    let all = all.iter().enumerate();
    all.filter_map(|(i, one)| origin(findings, &format!("{path}[{i}]"), one)).collect()
}

/// An origin is never empty, and a condition that nothing stands in is a slip.
fn origin(findings: &mut Findings, path: &str, written: &Matching) -> Option<StringMatch> {
    if [&written.exact, &written.prefix, &written.regex].into_iter().flatten().any(String::is_empty) {
        findings.error(path, "is empty, and no origin is; write one, such as `https://example.com`");
        return None;
    }
    common::string_match(findings, path, written, false)
}

/// What a list names, and whether a text is one.
type Naming = (&'static str, fn(&str) -> bool);

const METHOD: Naming = ("method in capitals", |text| {
    Method::from_bytes(text.as_bytes()).is_ok() && !text.bytes().any(|byte| byte.is_ascii_lowercase())
});
const HEADER: Naming = ("header name", |text| HeaderName::from_bytes(text.as_bytes()).is_ok());

/// A list as one header's value; `None` for none.
fn names(findings: &mut Findings, path: &str, list: &[String], (what, valid): Naming) -> Option<HeaderValue> {
    common::part(findings, path, list.len());
    for (i, text) in list.iter().enumerate().filter(|(_, text)| !valid(text)) {
        let reason = format!("`{text}` is no {what}; an entry is one, without spaces and commas");
        findings.error(format!("{path}[{i}]"), reason);
    }
    let all = list.join(",");
    if all.len() > common::TEXT_LIMIT {
        let (has, most) = (all.len(), common::TEXT_LIMIT);
        findings.error(path, format!("has {has} bytes with the commas; the most is {most}"));
    }
    Some(all).filter(|all| !all.is_empty()).and_then(|all| HeaderValue::try_from(all).ok())
}

/// Whole seconds, as browsers are told them.
fn max_age(findings: &mut Findings, path: &str, written: Option<&Duration>) -> Option<u64> {
    let (text, time) = (written?, common::duration(findings, path, written?)?);
    if time.as_secs() == 0 {
        findings.error(path, format!("`{text}` is too short; the least is 1s"));
    } else if time.subsec_nanos() > 0 {
        findings.error(
            path,
            format!("`{text}` is not whole seconds, which browsers are told; leave the rest out"),
        );
    }
    Some(time.as_secs())
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
