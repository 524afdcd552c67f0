//! Route rules.

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use weft_core::matching::StringMatch;
use weft_core::model::route::{
    Destination, DirectResponse, Forward, HeaderOps, HttpAction, HttpMatch, HttpRule, PathRewrite, Redirect,
    RedirectPath, RedirectPort, RetryOn, RetryPolicy, Rewrite, RuleSource, TcpDestination, TcpMatch, TcpRule,
};

use super::common::{cluster_name, nanos, network, object_name, optional_text, string_match, texts};
use super::extras;
use crate::pb::config as pb;

pub(super) fn http_rule(rule: &HttpRule) -> pb::HttpRule {
    let asked = rule.extras.as_deref();
    pb::HttpRule {
        source: Some(source(&rule.source)),
        matches: rule.matches.iter().map(http_match).collect(),
        action: Some(action(&rule.action)),
        request_headers: header_ops(&rule.request_headers),
        response_headers: header_ops(&rule.response_headers),
        fault: asked.and_then(|extras| extras.fault.as_ref()).map(extras::fault),
        cors: asked.and_then(|extras| extras.cors.as_ref()).map(extras::cors),
    }
}

pub(super) fn tcp_rule(rule: &TcpRule) -> pb::TcpRule {
    pb::TcpRule {
        source: Some(source(&rule.source)),
        matches: rule.matches.iter().map(tcp_match).collect(),
        destinations: rule.destinations.iter().map(tcp_destination).collect(),
    }
}

fn source(source: &RuleSource) -> pb::RuleSource {
    pb::RuleSource {
        object: source.object.as_ref().map(object_name),
        path: source.path.to_string(),
        name: source.name.to_string(),
    }
}

fn http_match(it: &HttpMatch) -> pb::HttpMatch {
    let header = |(name, value): &(HeaderName, StringMatch)| named(name.as_str(), value);
    pb::HttpMatch {
        uri: it.uri.as_ref().map(string_match),
        ignore_uri_case: it.ignore_uri_case,
        scheme: it.scheme.as_ref().map(string_match),
        method: it.method.as_ref().map(string_match),
        authority: it.authority.as_ref().map(string_match),
        headers: it.headers.iter().map(header).collect(),
        without_headers: it.without_headers.iter().map(header).collect(),
        query: it.query.iter().map(|(name, value)| named(name, value)).collect(),
    }
}

fn named(name: &str, value: &StringMatch) -> pb::NamedMatch {
    pb::NamedMatch { name: name.to_owned(), value: Some(string_match(value)) }
}

fn action(action: &HttpAction) -> pb::http_rule::Action {
    use pb::http_rule::Action;
    match action {
        HttpAction::Forward(it) => Action::Forward(forward(it)),
        HttpAction::Redirect(it) => Action::Redirect(redirect(it)),
        HttpAction::Respond(it) => Action::Respond(respond(it)),
    }
}

fn forward(forward: &Forward) -> pb::Forward {
    pb::Forward {
        destinations: forward.destinations.iter().map(destination).collect(),
        rewrite: rewrite(&forward.rewrite),
        timeout_nanos: forward.timeout.map(nanos),
        retries: Some(retries(&forward.retries)),
    }
}

fn destination(destination: &Destination) -> pb::Destination {
    pb::Destination {
        cluster: Some(cluster_name(&destination.cluster)),
        weight: destination.weight,
        request_headers: header_ops(&destination.request_headers),
        response_headers: header_ops(&destination.response_headers),
    }
}

fn rewrite(rewrite: &Rewrite) -> Option<pb::Rewrite> {
    use pb::rewrite::Path;
    let path = rewrite.path.as_ref().map(|path| match path {
        PathRewrite::Uri(text) => Path::Uri(text.to_string()),
        PathRewrite::Regex(it) => Path::Regex(pb::RegexRewrite {
            pattern: it.pattern().to_owned(),
            replacement: it.replacement().to_owned(),
        }),
    });
    let authority = rewrite.authority.as_ref().map(header_value);
    (*rewrite != Rewrite::default()).then_some(pb::Rewrite { path, authority })
}

fn redirect(redirect: &Redirect) -> pb::Redirect {
    use pb::redirect::{Path, Port};
    pb::Redirect {
        path: redirect.path.as_ref().map(|path| match path {
            RedirectPath::Full(text) => Path::Full(text.to_string()),
            RedirectPath::Prefix(text) => Path::Prefix(text.to_string()),
        }),
        authority: optional_text(redirect.authority.as_ref()),
        port: match redirect.port {
            RedirectPort::Keep => None,
            RedirectPort::Number(number) => Some(Port::PortNumber(number.into())),
            RedirectPort::FromProtocolDefault => Some(Port::PortFromProtocolDefault(true)),
            RedirectPort::FromRequest => Some(Port::PortFromRequest(true)),
        },
        scheme: optional_text(redirect.scheme.as_ref()),
        status: redirect.status.as_u16().into(),
    }
}

fn respond(response: &DirectResponse) -> pb::DirectResponse {
    pb::DirectResponse { status: response.status.as_u16().into(), body: response.body.clone() }
}

fn header_ops(ops: &HeaderOps) -> Option<pb::HeaderOps> {
    let field = |(name, value): &(HeaderName, HeaderValue)| pb::HeaderField {
        name: name.as_str().to_owned(),
        value: header_value(value),
    };
    (!ops.is_empty()).then(|| pb::HeaderOps {
        remove: ops.remove.iter().map(|name| name.as_str().to_owned()).collect(),
        set: ops.set.iter().map(field).collect(),
        add: ops.add.iter().map(field).collect(),
    })
}

fn header_value(value: &HeaderValue) -> Bytes {
    Bytes::copy_from_slice(value.as_bytes())
}

fn retries(policy: &RetryPolicy) -> pb::RetryPolicy {
    pb::RetryPolicy {
        attempts: policy.attempts,
        per_try_timeout_nanos: policy.per_try_timeout.map(nanos),
        on: Some(retry_on(&policy.on)),
        backoff_nanos: nanos(policy.backoff),
        ignore_previous_hosts: policy.ignore_previous_hosts,
    }
}

fn retry_on(on: &RetryOn) -> pb::RetryOn {
    pb::RetryOn {
        safe_default: on.safe_default,
        server_error: on.server_error,
        gateway_error: on.gateway_error,
        reset: on.reset,
        reset_before_request: on.reset_before_request,
        connect_failure: on.connect_failure,
        refused_stream: on.refused_stream,
        retriable_4xx: on.retriable_4xx,
        statuses: on.statuses.iter().map(|status| u32::from(*status)).collect(),
        grpc_statuses: on.grpc_statuses.iter().map(|status| u32::from(*status)).collect(),
    }
}

fn tcp_match(it: &TcpMatch) -> pb::TcpMatch {
    let destination_subnets = it.destination_subnets.iter().map(network).collect();
    pb::TcpMatch { destination_subnets, sni_hosts: texts(&it.sni_hosts) }
}

fn tcp_destination(destination: &TcpDestination) -> pb::TcpDestination {
    pb::TcpDestination { cluster: Some(cluster_name(&destination.cluster)), weight: destination.weight }
}
