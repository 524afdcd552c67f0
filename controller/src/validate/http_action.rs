//! What an `http[]` rule does: rewrite, redirect, answer, time limits, retries.

use std::time::Duration;

use http::{HeaderValue, StatusCode};
use weft_core::matching::Substitution;
use weft_core::model::route::{
    DirectResponse, PathRewrite, Redirect, RedirectPath, RedirectPort, RetryOn, RetryPolicy, Rewrite,
};
use weft_crds::scalar;
use weft_crds::virtual_service::matching::HttpMatch;
use weft_crds::virtual_service::{HttpRoute, action as written};

use super::common;
use super::findings::Findings;

/// The largest body of a `directResponse`, in bytes.
const BODY_LIMIT: usize = 1 << 20;
/// The most retries of one request.
const RETRY_LIMIT: i64 = 100;

/// `rewrite`.
pub fn rewrite(findings: &mut Findings, path: &str, written: Option<&written::HttpRewrite>) -> Rewrite {
    let Some(written) = written else { return Rewrite::default() };
    let regex = written.uri_regex_rewrite.as_ref();
    if written.uri.is_empty() && written.authority.is_empty() && regex.is_none() {
        findings.error(path, "says nothing; write uri, uriRegexRewrite or authority");
    }
    if !written.uri.is_empty() && regex.is_some() {
        findings.error(path, "says two things of the path; write one of uri, uriRegexRewrite");
    }
    let replaced = regex.and_then(|regex| {
        let made = Substitution::new(&regex.matches, &regex.rewrite);
        findings.take(&format!("{path}.uriRegexRewrite"), made).map(PathRewrite::Regex)
    });
    path_text(findings, &format!("{path}.uri"), &written.uri);
    let uri =
        Some(&written.uri).filter(|uri| !uri.is_empty()).map(|uri| PathRewrite::Uri(uri.as_str().into()));
    Rewrite { path: uri.or(replaced), authority: authority(findings, path, &written.authority) }
}

/// A path that is put in place of another: what cannot stand in a request's first line is an error.
fn path_text(findings: &mut Findings, path: &str, text: &str) {
    if let Some(bad) = text.chars().find(|c| !c.is_ascii_graphic() || matches!(c, '#' | '?')) {
        findings.error(path, format!("{bad:?} cannot stand in a path; write it percent-encoded"));
    } else if !text.is_empty() && !text.starts_with('/') {
        findings.warn(path, format!("`{text}` does not begin with `/`, as every path does"));
    }
}

/// `prefixRewrite` replaces the prefix that matched: every block must ask for one.
pub fn prefix_rewrite(
    findings: &mut Findings,
    path: &str,
    redirect: &written::Redirect,
    matches: &[HttpMatch],
) {
    let prefix = |block: &HttpMatch| block.uri.as_ref().is_some_and(|uri| uri.prefix.is_some());
    if !redirect.prefix_rewrite.is_empty() && (matches.is_empty() || !matches.iter().all(prefix)) {
        findings.error(
            format!("{path}.redirect.prefixRewrite"),
            "replaces the prefix that matched: every block of match needs uri.prefix",
        );
    }
}

fn authority(findings: &mut Findings, path: &str, text: &str) -> Option<HeaderValue> {
    let valid = HeaderValue::from_str(text).map_err(|_| format!("`{text}` is no authority"));
    Some(text)
        .filter(|text| !text.is_empty())
        .and_then(|_| findings.take(&format!("{path}.authority"), valid))
}

/// `redirect`.
pub fn redirect(findings: &mut Findings, path: &str, written: &written::Redirect) -> Option<Redirect> {
    let code = common::number(findings, &format!("{path}.redirectCode"), written.redirect_code, (300, 399));
    let code = code.unwrap_or(301);
    if !matches!(code, 301 | 302 | 303 | 307 | 308) {
        findings.error(format!("{path}.redirectCode"), format!("{code} is none of 301, 302, 303, 307, 308"));
    }
    let says_nothing =
        written.uri.is_empty() && written.prefix_rewrite.is_empty() && written.scheme.is_empty();
    if says_nothing && written.authority.is_empty() && written.port.is_none() && written.derive_port.is_none()
    {
        findings
            .error(path, "leads back to itself; write one of uri, prefixRewrite, authority, port, scheme");
    }
    for (name, text) in
        [("uri", &written.uri), ("prefixRewrite", &written.prefix_rewrite), ("authority", &written.authority)]
    {
        if let Some(bad) = text.chars().find(|c| !c.is_ascii_graphic()) {
            findings.error(format!("{path}.{name}"), format!("{bad:?} cannot stand in a location"));
        }
    }
    let target = match (written.uri.as_str(), written.prefix_rewrite.as_str()) {
        ("", "") => None,
        (uri, "") => Some(RedirectPath::Full(uri.into())),
        ("", prefix) => Some(RedirectPath::Prefix(prefix.into())),
        _ => {
            findings.error(path, "says two things of the path; write one of uri, prefixRewrite");
            None
        }
    };
    let text = |text: &String| Some(text.as_str()).filter(|t| !t.is_empty()).map(Into::into);
    if !matches!(written.scheme.as_str(), "" | "http" | "https") {
        findings.error(format!("{path}.scheme"), format!("`{}` is neither http nor https", written.scheme));
    }
    Some(Redirect {
        path: target,
        authority: text(&written.authority),
        port: redirect_port(findings, path, written),
        scheme: text(&written.scheme),
        status: StatusCode::from_u16(u16::try_from(code).ok()?).ok()?,
    })
}

fn redirect_port(findings: &mut Findings, path: &str, written: &written::Redirect) -> RedirectPort {
    let number = common::port(findings, &format!("{path}.port"), written.port);
    match (number, written.derive_port) {
        (Some(_), Some(_)) => {
            findings.error(path, "says two things of the port; write one of port, derivePort");
            RedirectPort::Keep
        }
        (Some(number), None) => RedirectPort::Number(number),
        (None, Some(written::RedirectPort::FromProtocolDefault)) => RedirectPort::FromProtocolDefault,
        (None, Some(written::RedirectPort::FromRequestPort)) => RedirectPort::FromRequest,
        (None, None) => RedirectPort::Keep,
    }
}

/// `directResponse`.
pub fn direct_response(
    findings: &mut Findings,
    path: &str,
    written: &written::DirectResponse,
) -> Option<DirectResponse> {
    if written.status.is_none() {
        findings.error(format!("{path}.status"), "missing; write the status of the answer, 200 to 599");
    }
    let status = common::number(findings, &format!("{path}.status"), written.status, (200, 599))?;
    let body = body(findings, &format!("{path}.body"), written.body.as_ref())?;
    if body.len() > BODY_LIMIT {
        findings.error(format!("{path}.body"), format!("has {} bytes; the most is {BODY_LIMIT}", body.len()));
    }
    Some(DirectResponse {
        status: StatusCode::from_u16(u16::try_from(status).ok()?).ok()?,
        body: body.into(),
    })
}

fn body(findings: &mut Findings, path: &str, written: Option<&written::ResponseBody>) -> Option<Vec<u8>> {
    use base64::Engine;
    let Some(written) = written else { return Some(Vec::new()) };
    match (&written.string, &written.bytes) {
        (Some(text), None) => Some(text.clone().into_bytes()),
        (None, Some(text)) => {
            let decoded = base64::engine::general_purpose::STANDARD.decode(text);
            findings.take(&format!("{path}.bytes"), decoded.map_err(|e| format!("no base64: {e}")))
        }
        (None, None) => Some(Vec::new()),
        _ => {
            findings.error(path, "says two things; write one of string, bytes");
            None
        }
    }
}

/// `timeout`; `0s` is none.
pub fn timeout(findings: &mut Findings, path: &str, written: Option<&scalar::Duration>) -> Option<Duration> {
    let value = common::duration(findings, path, written?)?;
    match value.is_zero() {
        true => None,
        false => common::positive(findings, path, written),
    }
}

/// `retries`; Weft's own defaults where nothing is written, none where `attempts` is not.
pub fn retries(findings: &mut Findings, rule_path: &str, rule: &HttpRoute) -> RetryPolicy {
    let Some(written) = &rule.retries else { return RetryPolicy::default() };
    let (path, default) = (&format!("{rule_path}.retries"), RetryPolicy::default());
    let attempts = common::number(findings, &format!("{path}.attempts"), written.attempts, (0, RETRY_LIMIT));
    if written.attempts.is_none() {
        findings.warn(format!("{path}.attempts"), "missing, which turns retries off; write how many");
    } else if attempts == Some(0) && (!written.retry_on.is_empty() || written.per_try_timeout.is_some()) {
        findings.warn(format!("{path}.attempts"), "0 turns retries off: the other fields have no effect");
    }
    let on = match written.retry_on.trim() {
        "" => default.on,
        text => retry_on(findings, &format!("{path}.retryOn"), text),
    };
    let backoff = common::positive(findings, &format!("{path}.backoff"), written.backoff.as_ref());
    let per_try =
        common::positive(findings, &format!("{path}.perTryTimeout"), written.per_try_timeout.as_ref());
    let timeout = rule.timeout.as_ref().and_then(|timeout| timeout.parse().ok()).filter(|t| !t.is_zero());
    if per_try.zip(timeout).is_some_and(|(per_try, whole)| per_try >= whole) {
        findings.warn(
            format!("{path}.perTryTimeout"),
            "has no effect: it is not shorter than the rule's timeout",
        );
    }
    RetryPolicy {
        attempts: attempts.unwrap_or(0),
        per_try_timeout: per_try,
        on,
        backoff: backoff.unwrap_or(default.backoff),
        ignore_previous_hosts: written.retry_ignore_previous_hosts.unwrap_or(true),
    }
}

fn retry_on(findings: &mut Findings, path: &str, text: &str) -> RetryOn {
    let mut on = RetryOn::default();
    for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        match word {
            "5xx" => on.server_error = true,
            "gateway-error" => on.gateway_error = true,
            "reset" => on.reset = true,
            "reset-before-request" => on.reset_before_request = true,
            "connect-failure" => on.connect_failure = true,
            "refused-stream" => on.refused_stream = true,
            "retriable-4xx" => on.retriable_4xx = true,
            "retriable-status-codes" => {}
            "cancelled" => on.grpc_statuses.push(1),
            "deadline-exceeded" => on.grpc_statuses.push(4),
            "resource-exhausted" => on.grpc_statuses.push(8),
            "internal" => on.grpc_statuses.push(13),
            "unavailable" => on.grpc_statuses.push(14),
            "retriable-headers" | "envoy-ratelimited" | "http3-post-connect-failure" => {
                findings.unhonoured(path, format!("`{word}` is not honoured yet"));
            }
            _ => match word.parse::<u16>() {
                Ok(status) if (100..600).contains(&status) => on.statuses.push(status),
                _ => findings.error(path, format!("`{word}` is no condition; {RETRY_WORDS}")),
            },
        }
    }
    on
}

const RETRY_WORDS: &str = "they are 5xx, gateway-error, reset, reset-before-request, connect-failure, refused-stream, \
    retriable-4xx, retriable-status-codes, cancelled, deadline-exceeded, internal, resource-exhausted, unavailable, \
    and statuses such as 503";
