//! VirtualServices.

use super::Add::{
    AtMostOne, Between, Duration, Entries, Items, Length, NotEmpty, OneOf, Positive, Range, Required, Rule,
    Text, Without, Words,
};
use super::{Add, Table};

const PORT: &[Add] = &[Range(1, 65_535)];
const WEIGHT: &[Add] = &[Range(0, 4_294_967_295)];
const PERCENT: &[Add] = &[Range(0, 100)];
const FINE_PERCENT: &[Add] = &[Rule("self == 0.0 || self >= 0.0001", "is too small; the least is 0.0001")];
const LABELS: &[Add] = &[Entries(64)];
const CHANGES: &[Add] = &[Entries(128)];
const DESTINATION: &[Add] = &[Required(&["host"])];
const HOST: &[Add] = &[Text(254)];

/// One of `exact`, `prefix`, `regex` is written.
const ONE_TEXT: &[Add] = &[
    Without("oneOf"),
    Rule(
        "(has(self.exact) ? 1 : 0) + (has(self.prefix) ? 1 : 0) + (has(self.regex) ? 1 : 0) <= 1",
        "says several things; write one of exact, prefix, regex",
    ),
    Rule(
        "has(self.exact) || has(self.prefix) || has(self.regex)",
        "says nothing; write one of exact, prefix, regex",
    ),
];
const AT_MOST_ONE_TEXT: &[Add] = &[AtMostOne(&["exact", "prefix", "regex"])];
const REGEX: &[Add] = &[Length(1024)];

/// Weights that make sense together.
const WEIGHTS: &[Add] = &[
    Items(64),
    Rule(
        "self.size() < 2 || self.exists(d, has(d.weight) && d.weight > 0)",
        "all weights are zero: no destination would take anything",
    ),
    Rule(
        "self.map(d, has(d.weight) ? d.weight : 0).sum() <= 4294967295",
        "the weights add up to more than 4294967295",
    ),
];

/// Under both groups.
pub(super) const SHARED: Table = &[
    ("http[].route[]", &[Required(&["destination"])]),
    ("http[].route[].destination", DESTINATION),
    ("http[].route[].destination.port.number", PORT),
    ("http[].route[].weight", WEIGHT),
    ("http[].match[].port", PORT),
    ("http[].match[].uri", AT_MOST_ONE_TEXT),
    ("http[].match[].scheme", AT_MOST_ONE_TEXT),
    ("http[].match[].method", AT_MOST_ONE_TEXT),
    ("http[].match[].authority", AT_MOST_ONE_TEXT),
    ("http[].match[].headers.*", AT_MOST_ONE_TEXT),
    ("http[].match[].queryParams.*", AT_MOST_ONE_TEXT),
    ("http[].match[].withoutHeaders.*", AT_MOST_ONE_TEXT),
    ("http[].directResponse", &[Required(&["status"])]),
    ("http[].directResponse.status", &[Range(200, 599)]),
    ("http[].directResponse.body", &[AtMostOne(&["string", "bytes"])]),
    ("http[].corsPolicy.allowOrigins[]", AT_MOST_ONE_TEXT),
    ("http[].redirect", &[AtMostOne(&["port", "derivePort"])]),
    ("http[].redirect.port", PORT),
    ("http[].redirect.redirectCode", &[OneOf(&[301, 302, 303, 307, 308])]),
    ("http[].retries.attempts", &[Range(0, 2_147_483_647)]),
    ("http[].mirror", DESTINATION),
    ("http[].mirrors[]", &[Required(&["destination"])]),
    ("http[].mirrors[].destination", DESTINATION),
    ("http[].mirrorPercent", PERCENT),
    ("http[].mirrorPercentage.value", PERCENT),
    ("http[].mirrors[].percentage.value", PERCENT),
    ("http[].fault.delay", &[AtMostOne(&["fixedDelay", "exponentialDelay"])]),
    ("http[].fault.delay.percentage.value", PERCENT),
    ("http[].fault.abort", &[AtMostOne(&["httpStatus", "grpcStatus", "http2Error"])]),
    ("http[].fault.abort.httpStatus", &[Range(200, 600)]),
    ("http[].fault.abort.percentage.value", PERCENT),
    ("tls[]", &[Required(&["match"])]),
    ("tls[].match[]", &[Required(&["sniHosts"])]),
    ("tls[].match[].port", PORT),
    ("tls[].route[]", &[Required(&["destination"])]),
    ("tls[].route[].destination", DESTINATION),
    ("tls[].route[].destination.port.number", PORT),
    ("tls[].route[].weight", WEIGHT),
    ("tcp[].match[].port", PORT),
    ("tcp[].route[]", &[Required(&["destination"])]),
    ("tcp[].route[].destination", DESTINATION),
    ("tcp[].route[].destination.port.number", PORT),
    ("tcp[].route[].weight", WEIGHT),
];

/// Under our own group.
pub(super) const OURS: Table = &[
    (
        "",
        &[Rule(
            "has(self.http) && size(self.http) > 0 || has(self.tcp) && size(self.tcp) > 0 || has(self.tls) && size(self.tls) > 0",
            "has no rule; write at least one of http, tcp, tls",
        )],
    ),
    ("hosts", &[Items(256), Rule("self.all(h, self.exists_one(o, o == h))", "a host is written twice")]),
    ("hosts[]", HOST),
    ("gateways", &[Items(64)]),
    ("gateways[]", &[Text(507)]),
    (
        "exportTo",
        &[Items(64), Rule("size(self) < 2 || !('*' in self)", "`*` stands alone: it is every namespace")],
    ),
    ("exportTo[]", &[Text(63)]),
    ("http", &[Items(1024)]),
    ("http[]", ONE_ACTION),
    ("http[].timeout", &[Duration]),
    ("http[].match", &[Items(64)]),
    ("http[].match[].uri", ONE_TEXT),
    ("http[].match[].scheme", ONE_TEXT),
    ("http[].match[].method", ONE_TEXT),
    ("http[].match[].authority", ONE_TEXT),
    ("http[].match[].headers", &[Entries(64)]),
    ("http[].match[].queryParams", &[Entries(64)]),
    ("http[].match[].withoutHeaders", &[Entries(64)]),
    ("http[].match[].sourceLabels", LABELS),
    ("http[].match[].gateways", &[Items(64)]),
    ("http[].match[].uri.regex", REGEX),
    ("http[].match[].scheme.regex", REGEX),
    ("http[].match[].method.regex", REGEX),
    ("http[].match[].authority.regex", REGEX),
    ("http[].match[].headers.*.regex", REGEX),
    ("http[].match[].queryParams.*.regex", REGEX),
    ("http[].match[].withoutHeaders.*.regex", REGEX),
    ("http[].route", WEIGHTS),
    ("http[].route[].destination.host", HOST),
    ("http[].redirect", REDIRECT),
    ("http[].redirect.scheme", &[Words(&["http", "https", ""])]),
    ("http[].directResponse.body.string", &[Length(1 << 20)]),
    ("http[].directResponse.body.bytes", &[Length(1_398_104)]),
    ("http[].rewrite", REWRITE),
    ("http[].rewrite.uriRegexRewrite", &[Required(&["match"])]),
    ("http[].rewrite.uriRegexRewrite.match", REGEX),
    ("http[].retries.attempts", &[Range(0, 100)]),
    ("http[].retries.perTryTimeout", &[Positive]),
    ("http[].retries.backoff", &[Positive]),
    ("http[].headers.request.set", CHANGES),
    ("http[].headers.request.add", CHANGES),
    ("http[].headers.request.remove", &[Items(128)]),
    ("http[].headers.response.set", CHANGES),
    ("http[].headers.response.add", CHANGES),
    ("http[].headers.response.remove", &[Items(128)]),
    ("http[].corsPolicy.allowOrigin", &[Items(64)]),
    ("http[].corsPolicy.allowOrigins", &[Items(64)]),
    ("http[].corsPolicy.allowOrigins[].regex", REGEX),
    ("http[].corsPolicy.allowMethods", &[Items(64)]),
    ("http[].corsPolicy.allowHeaders", &[Items(64)]),
    ("http[].corsPolicy.exposeHeaders", &[Items(64)]),
    (
        "http[].corsPolicy.maxAge",
        &[Rule("self >= duration('1s')", "is too short; the least is 1s"), Duration],
    ),
    ("http[].mirrors", &[Items(16)]),
    ("http[].fault", &[NotEmpty]),
    ("http[].fault.delay", &[Required(&["fixedDelay"])]),
    ("http[].fault.delay.percent", PERCENT),
    ("http[].fault.delay.fixedDelay", &[Positive]),
    ("http[].fault.delay.percentage.value", FINE_PERCENT),
    (
        "http[].fault.abort",
        &[Rule(
            "has(self.httpStatus) || has(self.grpcStatus) || has(self.http2Error)",
            "does nothing; write httpStatus or grpcStatus",
        )],
    ),
    ("http[].fault.abort.httpStatus", &[Range(200, 599)]),
    ("http[].fault.abort.percentage.value", FINE_PERCENT),
    ("tls", &[Items(1024)]),
    ("tls[].match", &[Between(1, 64)]),
    ("tls[].match[].sniHosts", &[Between(1, 256)]),
    ("tls[].route", WEIGHTS),
    ("tcp", &[Items(1024)]),
    ("tcp[]", &[Rule("has(self.route) && size(self.route) > 0", "does nothing; write route")]),
    ("tcp[].match", &[Items(64)]),
    ("tcp[].match[].sourceLabels", LABELS),
    ("tcp[].route", WEIGHTS),
    ("tcp[].route[].destination.host", HOST),
];

/// A rule does one thing.
const ONE_ACTION: &[Add] = &[
    Rule(
        "has(self.route) && size(self.route) > 0 || has(self.redirect) || has(self.directResponse) || has(self.delegate)",
        "does nothing; write one of route, redirect, directResponse",
    ),
    Rule(
        "(has(self.route) && size(self.route) > 0 ? 1 : 0) + (has(self.redirect) ? 1 : 0) + (has(self.directResponse) ? 1 : 0) <= 1",
        "does several things; write one of route, redirect, directResponse",
    ),
    Rule(
        "!has(self.rewrite) || !has(self.redirect) && !has(self.directResponse)",
        "rewrite has no meaning beside redirect and directResponse",
    ),
    Rule(
        "!has(self.redirect) || !has(self.redirect.prefixRewrite) || self.redirect.prefixRewrite == '' \
         || has(self.match) && size(self.match) > 0 && self.match.all(m, has(m.uri) && has(m.uri.prefix))",
        "redirect.prefixRewrite replaces the prefix that matched: every block of match needs uri.prefix",
    ),
    Rule(
        "!has(self.mirror) || !has(self.mirrors) || size(self.mirrors) == 0",
        "says two things; write one of mirror, mirrors",
    ),
];

const REDIRECT: &[Add] = &[
    Without("oneOf"),
    Rule(
        "!(has(self.port) && has(self.derivePort))",
        "says two things of the port; write one of port, derivePort",
    ),
    Rule(
        "!(has(self.uri) && self.uri != '' && has(self.prefixRewrite) && self.prefixRewrite != '')",
        "says two things of the path; write one of uri, prefixRewrite",
    ),
    Rule(
        "has(self.uri) || has(self.prefixRewrite) || has(self.authority) || has(self.port) || has(self.derivePort) || has(self.scheme)",
        "leads back to itself; write one of uri, prefixRewrite, authority, port, scheme",
    ),
];

const REWRITE: &[Add] = &[
    Rule(
        "!(has(self.uri) && self.uri != '' && has(self.uriRegexRewrite))",
        "says two things of the path; write one of uri, uriRegexRewrite",
    ),
    Rule(
        "has(self.uri) || has(self.authority) || has(self.uriRegexRewrite)",
        "says nothing; write uri, uriRegexRewrite or authority",
    ),
];
