//! Route rules.

use http::{HeaderName, HeaderValue, StatusCode};
use weft_core::matching::{StringMatch, Substitution};
use weft_core::model::route::{
    Destination, DirectResponse, Forward, HeaderOps, HttpAction, HttpMatch, HttpRule, PathRewrite, Redirect,
    RedirectPath, RedirectPort, RetryOn, RetryPolicy, Rewrite, RuleSource, TcpDestination, TcpMatch, TcpRule,
};

use super::common::{cluster_name, object_name, string_match};
use super::extras::extras;
use super::value::{
    At, Result, chosen, duration, fail, header_name, header_value, host, list, network, number, optional,
    port, required, span, status, text, word,
};
use crate::error::DecodeError;
use crate::limits::{MAX_BODY_BYTES, MAX_CONDITIONS, MAX_DESTINATIONS, MAX_HEADER_OPS, MAX_VALUES};
use crate::pb::config as pb;

pub(super) fn http_rule(rule: &pb::HttpRule) -> Result<HttpRule> {
    Ok(HttpRule {
        source: source(rule.source.as_ref()).at("source")?,
        matches: list("matches", &rule.matches, MAX_CONDITIONS, http_match)?,
        action: chosen(rule.action.as_ref()).and_then(action)?,
        request_headers: header_ops(rule.request_headers.as_ref()).at("request_headers")?,
        response_headers: header_ops(rule.response_headers.as_ref()).at("response_headers")?,
        extras: extras(rule)?,
    })
}

pub(super) fn tcp_rule(rule: &pb::TcpRule) -> Result<TcpRule> {
    let destinations = list("destinations", &rule.destinations, MAX_DESTINATIONS, tcp_destination)?;
    check_weights(destinations.iter().map(|it| it.weight)).at("destinations")?;
    Ok(TcpRule {
        source: source(rule.source.as_ref()).at("source")?,
        matches: list("matches", &rule.matches, MAX_CONDITIONS, tcp_match)?,
        destinations,
    })
}

fn source(source: Option<&pb::RuleSource>) -> Result<RuleSource> {
    let source = required(source)?;
    Ok(RuleSource {
        object: optional("object", source.object.as_ref(), object_name)?,
        path: text(&source.path).at("path")?,
        name: text(&source.name).at("name")?,
    })
}

fn http_match(it: &pb::HttpMatch) -> Result<HttpMatch> {
    Ok(HttpMatch {
        uri: optional("uri", it.uri.as_ref(), string_match)?,
        ignore_uri_case: it.ignore_uri_case,
        scheme: optional("scheme", it.scheme.as_ref(), string_match)?,
        method: optional("method", it.method.as_ref(), string_match)?,
        authority: optional("authority", it.authority.as_ref(), string_match)?,
        headers: list("headers", &it.headers, MAX_CONDITIONS, |it| named(it, header_name))?,
        without_headers: list("without_headers", &it.without_headers, MAX_CONDITIONS, |it| {
            named(it, header_name)
        })?,
        query: list("query", &it.query, MAX_CONDITIONS, |it| named(it, word))?,
    })
}

fn named<N>(it: &pb::NamedMatch, name: impl FnOnce(&str) -> Result<N>) -> Result<(N, StringMatch)> {
    Ok((name(&it.name).at("name")?, required(it.value.as_ref()).and_then(string_match).at("value")?))
}

fn action(action: &pb::http_rule::Action) -> Result<HttpAction> {
    use pb::http_rule::Action;
    Ok(match action {
        Action::Forward(it) => HttpAction::Forward(Box::new(forward(it).at("forward")?)),
        Action::Redirect(it) => HttpAction::Redirect(Box::new(redirect(it).at("redirect")?)),
        Action::Respond(it) => HttpAction::Respond(respond(it).at("respond")?),
    })
}

fn forward(forward: &pb::Forward) -> Result<Forward> {
    let destinations = list("destinations", &forward.destinations, MAX_DESTINATIONS, destination)?;
    check_weights(destinations.iter().map(|it| it.weight)).at("destinations")?;
    Ok(Forward {
        destinations,
        rewrite: rewrite(forward.rewrite.as_ref()).at("rewrite")?,
        timeout: optional("timeout_nanos", forward.timeout_nanos.as_ref(), |nanos| span(*nanos))?,
        retries: required(forward.retries.as_ref()).and_then(retries).at("retries")?,
    })
}

/// F3: at least one destination, and a sum of weights that is above zero and fits 32 bits.
fn check_weights(weights: impl ExactSizeIterator<Item = u32>) -> Result<()> {
    let (count, sum) = (weights.len(), weights.map(u64::from).sum::<u64>());
    match sum {
        _ if count == 0 => fail("empty"),
        0 => fail("all weights are 0"),
        sum if sum > u64::from(u32::MAX) => fail(format!("the weights' sum, {sum}, does not fit 32 bits")),
        _ => Ok(()),
    }
}

fn destination(destination: &pb::Destination) -> Result<Destination> {
    Ok(Destination {
        cluster: cluster_name(destination.cluster.as_ref()).at("cluster")?,
        weight: destination.weight,
        request_headers: header_ops(destination.request_headers.as_ref()).at("request_headers")?,
        response_headers: header_ops(destination.response_headers.as_ref()).at("response_headers")?,
    })
}

fn rewrite(rewrite: Option<&pb::Rewrite>) -> Result<Rewrite> {
    use pb::rewrite::Path;
    let Some(rewrite) = rewrite else { return Ok(Rewrite::default()) };
    let path = rewrite.path.as_ref().map(|path| match path {
        Path::Uri(uri) => text(uri).at("uri").map(PathRewrite::Uri),
        Path::Regex(it) => substitution(it).at("regex").map(PathRewrite::Regex),
    });
    let authority = optional("authority", rewrite.authority.as_ref(), |value| header_value(value))?;
    Ok(Rewrite { path: path.transpose()?, authority })
}

fn substitution(it: &pb::RegexRewrite) -> Result<Substitution> {
    text(&it.replacement).at("replacement")?;
    Substitution::new(&it.pattern, &it.replacement).map_err(DecodeError::invalid)
}

fn redirect(redirect: &pb::Redirect) -> Result<Redirect> {
    use pb::redirect::{Path, Port};
    let path = redirect.path.as_ref().map(|path| match path {
        Path::Full(full) => text(full).at("full").map(RedirectPath::Full),
        Path::Prefix(prefix) => text(prefix).at("prefix").map(RedirectPath::Prefix),
    });
    Ok(Redirect {
        path: path.transpose()?,
        authority: optional("authority", redirect.authority.as_ref(), |it| word(it))?,
        port: match redirect.port {
            None => RedirectPort::Keep,
            Some(Port::PortNumber(number)) => RedirectPort::Number(port(number).at("port_number")?),
            Some(Port::PortFromProtocolDefault(_)) => RedirectPort::FromProtocolDefault,
            Some(Port::PortFromRequest(_)) => RedirectPort::FromRequest,
        },
        scheme: optional("scheme", redirect.scheme.as_ref(), |it| word(it))?,
        status: redirect_status(redirect.status).at("status")?,
    })
}

fn redirect_status(value: u32) -> Result<StatusCode> {
    match value {
        301 | 302 | 303 | 307 | 308 => status(value, 301..=308),
        other => fail(format!("{other} is none of 301, 302, 303, 307, 308")),
    }
}

fn respond(response: &pb::DirectResponse) -> Result<DirectResponse> {
    if response.body.len() > MAX_BODY_BYTES {
        return fail(format!("{} bytes, more than {MAX_BODY_BYTES}", response.body.len())).at("body");
    }
    // A copy of its own: the bytes are a part of the whole message otherwise, and would keep it in memory.
    let body = bytes::Bytes::copy_from_slice(&response.body);
    Ok(DirectResponse { status: status(response.status, 200..=599).at("status")?, body })
}

fn header_ops(ops: Option<&pb::HeaderOps>) -> Result<HeaderOps> {
    let Some(ops) = ops else { return Ok(HeaderOps::default()) };
    Ok(HeaderOps {
        remove: list("remove", &ops.remove, MAX_HEADER_OPS, |name| header_name(name))?,
        set: list("set", &ops.set, MAX_HEADER_OPS, field)?,
        add: list("add", &ops.add, MAX_HEADER_OPS, field)?,
    })
}

fn field(field: &pb::HeaderField) -> Result<(HeaderName, HeaderValue)> {
    Ok((header_name(&field.name).at("name")?, header_value(&field.value).at("value")?))
}

fn retries(policy: &pb::RetryPolicy) -> Result<RetryPolicy> {
    let per_try = policy.per_try_timeout_nanos.as_ref();
    Ok(RetryPolicy {
        attempts: policy.attempts,
        per_try_timeout: optional("per_try_timeout_nanos", per_try, |nanos| span(*nanos))?,
        on: required(policy.on.as_ref()).and_then(retry_on).at("on")?,
        backoff: duration(policy.backoff_nanos).at("backoff_nanos")?,
        ignore_previous_hosts: policy.ignore_previous_hosts,
    })
}

fn retry_on(on: &pb::RetryOn) -> Result<RetryOn> {
    let code = |code: &u32| status(*code, 100..=999).map(|status| status.as_u16());
    Ok(RetryOn {
        safe_default: on.safe_default,
        server_error: on.server_error,
        gateway_error: on.gateway_error,
        reset: on.reset,
        reset_before_request: on.reset_before_request,
        connect_failure: on.connect_failure,
        refused_stream: on.refused_stream,
        retriable_4xx: on.retriable_4xx,
        statuses: list("statuses", &on.statuses, MAX_VALUES, code)?,
        grpc_statuses: list("grpc_statuses", &on.grpc_statuses, MAX_VALUES, |code| number(*code))?,
    })
}

fn tcp_match(it: &pb::TcpMatch) -> Result<TcpMatch> {
    Ok(TcpMatch {
        destination_subnets: list("destination_subnets", &it.destination_subnets, MAX_VALUES, network)?,
        sni_hosts: list("sni_hosts", &it.sni_hosts, MAX_VALUES, |it| host(it))?,
    })
}

fn tcp_destination(destination: &pb::TcpDestination) -> Result<TcpDestination> {
    let cluster = cluster_name(destination.cluster.as_ref()).at("cluster")?;
    Ok(TcpDestination { cluster, weight: destination.weight })
}
