//! Route rules.

use http::StatusCode;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use weft_core::matching::Substitution;
use weft_core::model::route::{
    Destination, DirectResponse, Forward, HeaderOps, HttpAction, HttpMatch, HttpRule, PathRewrite, Redirect,
    RedirectPath, RedirectPort, RetryOn, RetryPolicy, Rewrite, RuleSource, TcpDestination, TcpMatch, TcpRule,
};

use super::extras::extras;
use super::value::{
    cluster_name, duration, header_name, header_value, host, network, object_name, pattern, port, span,
    string_match, text, word,
};

/// A rule for HTTP requests.
pub fn http_rule() -> impl Strategy<Value = HttpRule> {
    let parts = (source(), vec(http_match(), 0..3), action(), header_ops(), header_ops(), extras());
    parts.prop_map(|(source, matches, action, request_headers, response_headers, extras)| HttpRule {
        source,
        matches,
        action,
        request_headers,
        response_headers,
        extras,
    })
}

/// A rule for opaque connections.
pub fn tcp_rule() -> impl Strategy<Value = TcpRule> {
    let matches = (vec(network(), 0..2), vec(host(), 0..2))
        .prop_map(|(destination_subnets, sni_hosts)| TcpMatch { destination_subnets, sni_hosts });
    let destination =
        (cluster_name(), 0..1000u32).prop_map(|(cluster, weight)| TcpDestination { cluster, weight });
    (source(), vec(matches, 0..2), vec(destination, 1..3)).prop_map(|(source, matches, mut destinations)| {
        destinations[0].weight += 1;
        TcpRule { source, matches, destinations }
    })
}

fn source() -> impl Strategy<Value = RuleSource> {
    (option::of(object_name()), text(), text()).prop_map(|(object, path, name)| RuleSource {
        object,
        path,
        name,
    })
}

fn http_match() -> impl Strategy<Value = HttpMatch> {
    let single = [(); 4].map(|()| option::of(string_match()));
    let headers = || vec((header_name(), string_match()), 0..2);
    let query = vec((word(), string_match()), 0..2);
    (single, any::<bool>(), headers(), headers(), query).prop_map(
        |(single, ignore, headers, without, query)| {
            let [uri, scheme, method, authority] = single;
            let (ignore_uri_case, without_headers) = (ignore, without);
            HttpMatch { uri, ignore_uri_case, scheme, method, authority, headers, without_headers, query }
        },
    )
}

fn action() -> impl Strategy<Value = HttpAction> {
    let body = vec(any::<u8>(), 0..8);
    let respond = (200..600u16, body).prop_map(|(status, body)| DirectResponse {
        status: StatusCode::from_u16(status).expect("a valid status"),
        body: body.into(),
    });
    prop_oneof![
        4 => forward().prop_map(|it| HttpAction::Forward(Box::new(it))),
        1 => redirect().prop_map(|it| HttpAction::Redirect(Box::new(it))),
        1 => respond.prop_map(HttpAction::Respond),
    ]
}

fn forward() -> impl Strategy<Value = Forward> {
    let parts = (vec(destination(), 1..4), rewrite(), option::of(span()), retries());
    parts.prop_map(|(mut destinations, rewrite, timeout, retries)| {
        destinations[0].weight += 1;
        Forward { destinations, rewrite, timeout, retries }
    })
}

fn destination() -> impl Strategy<Value = Destination> {
    (cluster_name(), 0..1000u32, header_ops(), header_ops()).prop_map(
        |(cluster, weight, request_headers, response_headers)| Destination {
            cluster,
            weight,
            request_headers,
            response_headers,
        },
    )
}

fn rewrite() -> impl Strategy<Value = Rewrite> {
    let regex = (pattern(), "[/a-z]{0,4}").prop_map(|(pattern, replacement)| {
        PathRewrite::Regex(Substitution::new(pattern, &replacement).expect("a valid expression"))
    });
    let path = prop_oneof![text().prop_map(PathRewrite::Uri), regex];
    (option::of(path), option::of(header_value())).prop_map(|(path, authority)| Rewrite { path, authority })
}

fn redirect() -> impl Strategy<Value = Redirect> {
    let path = prop_oneof![text().prop_map(RedirectPath::Full), text().prop_map(RedirectPath::Prefix)];
    let port = prop_oneof![
        Just(RedirectPort::Keep),
        port().prop_map(RedirectPort::Number),
        Just(RedirectPort::FromProtocolDefault),
        Just(RedirectPort::FromRequest),
    ];
    let status = prop::sample::select(vec![301, 302, 303, 307, 308]);
    (option::of(path), option::of(word()), port, option::of(word()), status).prop_map(
        |(path, authority, port, scheme, status)| Redirect {
            path,
            authority,
            port,
            scheme,
            status: StatusCode::from_u16(status).expect("a valid status"),
        },
    )
}

fn header_ops() -> impl Strategy<Value = HeaderOps> {
    let fields = || vec((header_name(), header_value()), 0..2);
    (vec(header_name(), 0..2), fields(), fields()).prop_map(|(remove, set, add)| HeaderOps {
        remove,
        set,
        add,
    })
}

fn retries() -> impl Strategy<Value = RetryPolicy> {
    let parts = (any::<u32>(), option::of(span()), retry_on(), duration(), any::<bool>());
    parts.prop_map(|(attempts, per_try_timeout, on, backoff, ignore_previous_hosts)| RetryPolicy {
        attempts,
        per_try_timeout,
        on,
        backoff,
        ignore_previous_hosts,
    })
}

fn retry_on() -> impl Strategy<Value = RetryOn> {
    let numbers = (vec(100..=999u16, 0..3), vec(any::<u8>(), 0..3));
    (any::<[bool; 8]>(), numbers).prop_map(|(on, (statuses, grpc_statuses))| RetryOn {
        safe_default: on[0],
        server_error: on[1],
        gateway_error: on[2],
        reset: on[3],
        reset_before_request: on[4],
        connect_failure: on[5],
        refused_stream: on[6],
        retriable_4xx: on[7],
        statuses,
        grpc_statuses,
    })
}
