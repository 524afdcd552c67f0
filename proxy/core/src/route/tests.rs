use http::{HeaderName, HeaderValue, StatusCode};

use super::headers::{apply_to_request, apply_to_response, new_authority};
use super::redirect::redirect_location;
use super::rewrite::rewrite_path;
use super::*;
use crate::fixture;
use crate::matching::{Pattern, StringMatch, Substitution};
use crate::model::route::{
    HeaderOps, PathRewrite, Redirect, RedirectPath, RedirectPort, Rewrite, RuleSource,
};
use proptest::prelude::*;

fn exact(text: &str) -> StringMatch {
    StringMatch::Exact(text.into())
}

fn prefix(text: &str) -> StringMatch {
    StringMatch::Prefix(text.into())
}

fn regex(text: &str) -> StringMatch {
    StringMatch::Regex(Pattern::new(text).unwrap())
}

fn uri(uri: StringMatch) -> HttpMatch {
    HttpMatch { uri: Some(uri), ..HttpMatch::default() }
}

fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    let pair = |(name, value): &(&'static str, &'static str)| {
        (HeaderName::from_static(name), HeaderValue::from_static(value))
    };
    pairs.iter().map(pair).collect()
}

fn state(rule: HttpRule) -> Arc<RuleState> {
    let HttpAction::Forward(forward) = &rule.action else { return RuleState::new(Arc::new(rule), vec![]) };
    let clusters = vec![None; forward.destinations.len()];
    RuleState::new(Arc::new(rule), clusters)
}

fn of(matches: Vec<HttpMatch>) -> Arc<RuleState> {
    state(fixture::rule(matches, &[("a", None, 1)]))
}

/// GET http://shop:8080PATH?QUERY with headers.
fn view<'a>(path: &'a str, query: Option<&'a str>, headers: &'a HeaderMap) -> RequestView<'a> {
    RequestView { method: &Method::GET, path, query, authority: "shop:8080", scheme: "http", headers }
}

fn holds(block: HttpMatch, path: &str, query: Option<&str>, headers: &HeaderMap) -> bool {
    find(&[of(vec![block])], &view(path, query, headers)).is_some()
}

fn on_path(block: HttpMatch, path: &str) -> bool {
    holds(block, path, None, &HeaderMap::new())
}

#[test]
fn a10_the_first_rule_that_matches_decides() {
    let rules = [of(vec![uri(exact("/a")), uri(prefix("/b"))]), of(vec![uri(prefix("/"))]), of(vec![])];
    let headers = HeaderMap::new();
    let found = |path| {
        let matched = find(&rules, &view(path, None, &headers)).unwrap();
        (rules.iter().position(|rule| Arc::ptr_eq(rule, matched.rule)).unwrap(), matched.by.cloned())
    };
    assert_eq!(found("/b/c"), (0, Some(uri(prefix("/b")))));
    assert_eq!(found("/c"), (1, Some(uri(prefix("/")))));
    assert_eq!(found("*"), (2, None));
    assert!(find(&rules[..1], &view("/c", None, &headers)).is_none(), "no_route");
    assert!(find(&[], &view("/c", None, &headers)).is_none());
}

#[test]
fn b1_a_prefix_is_no_segment() {
    assert!(on_path(uri(prefix("/foo")), "/foobar") && !on_path(uri(prefix("/foo/")), "/foo"));
    assert!(!on_path(uri(exact("/foo")), "/foo/") && on_path(uri(prefix("")), "/x"));
}

#[test]
fn b2_a_regex_matches_the_whole_path() {
    assert!(on_path(uri(regex("/a.c")), "/abc") && !on_path(uri(regex("/a.c")), "/abcd"));
}

#[test]
fn b3_ignoring_case_has_no_effect_on_a_regex() {
    let ignoring = |uri| HttpMatch { uri: Some(uri), ignore_uri_case: true, ..HttpMatch::default() };
    assert!(on_path(ignoring(exact("/Foo")), "/fOO") && on_path(ignoring(prefix("/Foo")), "/fooBAR"));
    assert!(!on_path(ignoring(regex("/Foo")), "/foo"));
}

fn with_header(name: &'static str, m: StringMatch) -> HttpMatch {
    HttpMatch { headers: vec![(HeaderName::from_static(name), m)], ..HttpMatch::default() }
}

fn without_header(name: &'static str, m: StringMatch) -> HttpMatch {
    HttpMatch { without_headers: vec![(HeaderName::from_static(name), m)], ..HttpMatch::default() }
}

#[test]
fn b4_presence_is_not_emptiness() {
    let on = |m, headers: &HeaderMap| holds(with_header("x", m), "/", None, headers);
    let (none, empty, full) = (map(&[]), map(&[("x", "")]), map(&[("x", "1")]));
    assert!(!on(StringMatch::Present, &none) && on(StringMatch::Present, &empty));
    assert!(!on(exact(""), &none) && on(exact(""), &empty) && !on(exact(""), &full));
    assert!(!on(regex(".*"), &none), "a header that is absent matches nothing");
}

#[test]
fn b5_without_headers_takes_an_absent_header_as_empty() {
    let on = |m, headers: &HeaderMap| holds(without_header("x", m), "/", None, headers);
    let (none, jason) = (map(&[]), map(&[("x", "jason")]));
    assert!(on(exact("jason"), &none) && !on(exact("jason"), &jason));
    assert!(!on(regex(".*"), &none) && !on(regex(".*"), &jason));
    assert!(on(StringMatch::Present, &none) && !on(StringMatch::Present, &jason));
}

#[test]
fn b8_repeated_headers_are_joined_and_the_first_parameter_counts() {
    let headers = map(&[("x", "1"), ("x", "2")]);
    assert!(holds(with_header("x", exact("1,2")), "/", None, &headers));
    assert!(!holds(with_header("x", exact("1")), "/", None, &headers));
    let query = |m| HttpMatch { query: vec![("k".into(), m)], ..HttpMatch::default() };
    let on = |m, text| holds(query(m), "/", text, &headers);
    assert!(on(exact("1"), Some("a=0&k=1&k=2")) && !on(exact("2"), Some("k=1&k=2")));
    assert!(on(StringMatch::Present, Some("k")) && !on(StringMatch::Present, Some("kk=1")));
    assert!(!on(StringMatch::Present, None) && on(regex("[0-9]+"), Some("k=12")));
}

#[test]
fn all_conditions_of_a_block_must_hold() {
    let block = HttpMatch {
        uri: Some(prefix("/")),
        method: Some(exact("GET")),
        authority: Some(exact("shop:8080")),
        scheme: Some(exact("http")),
        headers: vec![(HeaderName::from_static("end-user"), exact("premium"))],
        ..HttpMatch::default()
    };
    let premium = map(&[("end-user", "premium")]);
    assert!(holds(block.clone(), "/", None, &premium) && !holds(block.clone(), "/", None, &map(&[])));
    for other in [
        HttpMatch { method: Some(exact("get")), ..block.clone() },
        HttpMatch { authority: Some(exact("shop")), ..block.clone() },
        HttpMatch { scheme: Some(exact("https")), ..block },
    ] {
        assert!(!holds(other, "/", None, &premium));
    }
}

#[test]
fn host_among_headers_is_the_authority_of_http2() {
    assert!(holds(with_header("host", prefix("shop")), "/", None, &map(&[])));
}

fn shares(weights: &[u32]) -> Vec<u32> {
    let names = ["a", "b", "c"];
    let to: Vec<_> = weights.iter().enumerate().map(|(i, w)| (names[i], None, *w)).collect();
    let rule = state(fixture::rule(vec![], &to));
    let mut seen = vec![0; weights.len()];
    for random in 0..10_000 {
        let drawn = rule.pick(random).unwrap().destination.cluster.clone();
        seen[names.iter().position(|n| drawn == fixture::cluster_name(n, None)).unwrap()] += 1;
    }
    seen
}

#[test]
fn c1_weights_are_relative_and_zero_is_never_drawn() {
    let seen = shares(&[80, 20]);
    assert!((7_800..8_200).contains(&seen[0]), "{seen:?}");
    let seen = shares(&[1, 0, 3]);
    assert!(seen[1] == 0 && (2_300..2_700).contains(&seen[0]), "{seen:?}");
    assert_eq!(shares(&[0]), [10_000], "the weight of a single destination does not count");
}

fn rewritten(rewrite: &str, by: Option<StringMatch>, path: &str) -> String {
    let by = by.map(uri);
    rewrite_path(&PathRewrite::Uri(rewrite.into()), by.as_ref(), path).into_owned()
}

#[test]
fn c3_a_rewrite_replaces_what_matched() {
    let cases = [
        ("/", Some(prefix("/foo")), "/foo/x", "//x"),
        ("/", Some(prefix("/foo/")), "/foo/x", "/x"),
        ("/new", Some(exact("/old/path")), "/old/path", "/new"),
        ("/new", Some(regex("/o.*")), "/old/path", "/new"),
        ("/bar", None, "/foo", "/barfoo"),
        ("/bar", Some(StringMatch::Present), "/foo", "/barfoo"),
        ("", Some(prefix("/foo/")), "/foo/x", "/x"),
        ("/v2", Some(prefix("")), "/x", "/v2/x"),
        ("/x", None, "*", "*"),
    ];
    for (rewrite, by, path, expected) in cases {
        assert_eq!(rewritten(rewrite, by.clone(), path), expected, "{rewrite} {by:?} {path}");
    }
    let groups = PathRewrite::Regex(Substitution::new("^/service/([^/]+)(/.*)$", r"\2/instance/\1").unwrap());
    assert_eq!(rewrite_path(&groups, None, "/service/foo/v1/api"), "/v1/api/instance/foo");
}

/// The location of a redirect of `http://shop:8080/old/x?q=1`, where `/old` matched as a prefix.
fn location(redirect: Redirect) -> String {
    location_of(redirect, "shop:8080")
}

fn location_of(redirect: Redirect, authority: &str) -> String {
    let rule = of(vec![uri(prefix("/old"))]);
    let headers = HeaderMap::new();
    let request = RequestView { authority, ..view("/old/x", Some("q=1"), &headers) };
    let matched = Matched { rule: &rule, by: rule.rule.matches.first() };
    redirect_location(&redirect, &matched, &request)
}

fn redirect() -> Redirect {
    let status = StatusCode::MOVED_PERMANENTLY;
    Redirect { path: None, authority: None, port: RedirectPort::Keep, scheme: None, status }
}

#[test]
fn c5_a_redirect_keeps_what_it_does_not_replace() {
    let full = |path: &str| Redirect { path: Some(RedirectPath::Full(path.into())), ..redirect() };
    assert_eq!(location(full("/new")), "http://shop:8080/new?q=1");
    assert_eq!(location(full("/new?z=2")), "http://shop:8080/new?z=2");
    let by_prefix = Redirect { path: Some(RedirectPath::Prefix("/new".into())), ..redirect() };
    assert_eq!(location(by_prefix), "http://shop:8080/new/x?q=1");
    let elsewhere = Redirect { authority: Some("b:80".into()), ..redirect() };
    assert_eq!(location(elsewhere), "http://b:80/old/x?q=1");
}

#[test]
fn c5_the_port_of_a_redirect() {
    let https = |port| Redirect { scheme: Some("https".into()), port, ..redirect() };
    assert_eq!(location(https(RedirectPort::Keep)), "https://shop:8080/old/x?q=1");
    assert_eq!(location_of(https(RedirectPort::Keep), "shop:80"), "https://shop/old/x?q=1");
    assert_eq!(location(https(RedirectPort::Number(80))), "https://shop:80/old/x?q=1");
    assert_eq!(location(https(RedirectPort::FromProtocolDefault)), "https://shop/old/x?q=1");
    assert_eq!(location_of(https(RedirectPort::FromRequest), "shop"), "https://shop:80/old/x?q=1");
    assert_eq!(location_of(https(RedirectPort::FromRequest), "shop:443"), "https://shop/old/x?q=1");
    assert_eq!(location_of(redirect(), "[::1]:9"), "http://[::1]:9/old/x?q=1");
}

fn ops(set: &[(&'static str, &'static str)], add: &[(&'static str, &'static str)]) -> HeaderOps {
    let pairs = |pairs| map(pairs).into_iter().map(|(name, value)| (name.unwrap(), value)).collect();
    HeaderOps { remove: vec![], set: pairs(set), add: pairs(add) }
}

#[test]
fn d1_remove_then_set_then_add() {
    let mut rule = fixture::rule(vec![], &[]);
    let remove = vec![HeaderName::from_static("a"), HeaderName::from_static("b")];
    rule.request_headers = HeaderOps { remove, ..ops(&[("a", "set")], &[("a", "added")]) };
    let mut headers = map(&[("a", "0"), ("b", "0"), ("c", "0")]);
    apply_to_request(&mut headers, &state(rule), None);
    assert_eq!(headers, map(&[("a", "set"), ("a", "added"), ("c", "0")]));
}

#[test]
fn d2_the_destination_comes_after_the_rule() {
    let mut rule = fixture::rule(vec![], &[("a", None, 1), ("b", None, 1)]);
    rule.response_headers = ops(&[("x", "rule")], &[("y", "rule")]);
    if let HttpAction::Forward(forward) = &mut rule.action {
        forward.destinations[0].response_headers = ops(&[("x", "destination")], &[("y", "destination")]);
    }
    let rule = state(rule);
    let HttpAction::Forward(forward) = &rule.rule.action else { panic!() };
    let mut headers = HeaderMap::new();
    apply_to_response(&mut headers, &rule, Some(&forward.destinations[0]));
    assert_eq!(headers, map(&[("x", "destination"), ("y", "rule"), ("y", "destination")]));
}

#[test]
fn d3_host_is_the_authority_and_no_header() {
    let mut rule = fixture::rule(vec![], &[("a", None, 1)]);
    rule.request_headers = ops(&[("host", "by-rule")], &[("host", "added")]);
    rule.response_headers = ops(&[("host", "never")], &[]);
    let HttpAction::Forward(forward) = &mut rule.action else { panic!() };
    forward.destinations[0].request_headers = ops(&[("host", "by-destination")], &[]);
    let mut rewriting = rule.clone();
    let authority = |rule: HttpRule| {
        let rule = state(rule);
        new_authority(&rule, &rule.pick(0).unwrap()).cloned().unwrap()
    };
    let HttpAction::Forward(forward) = &mut rewriting.action else { panic!() };
    forward.rewrite = Rewrite { path: None, authority: Some(HeaderValue::from_static("written")) };
    let mut headers = HeaderMap::new();
    apply_to_request(&mut headers, &state(rule.clone()), None);
    apply_to_response(&mut headers, &state(rule.clone()), None);
    assert!(headers.is_empty());
    assert_eq!(
        (authority(rule), authority(rewriting)),
        (HeaderValue::from_static("by-rule"), HeaderValue::from_static("written"))
    );
}

#[test]
fn connections_are_matched_by_address_and_server_name() {
    let rule = |matches| {
        let source = RuleSource { object: None, path: "tls[0]".into(), name: "".into() };
        let destination = TcpDestination { cluster: fixture::cluster_name("a", None), weight: 1 };
        TcpRuleState::new(Arc::new(TcpRule { source, matches, destinations: vec![destination] }), vec![None])
    };
    let by_name =
        rule(vec![TcpMatch { sni_hosts: vec!["*.shop.com".into(), "b".into()], ..TcpMatch::default() }]);
    let by_address = rule(vec![TcpMatch {
        destination_subnets: vec!["10.0.0.0/8".parse().unwrap()],
        ..TcpMatch::default()
    }]);
    let rules = [by_name, by_address];
    let found = |ip: &str, sni| {
        let view = ConnectionView { destination: ip.parse().unwrap(), sni };
        find_tcp(&rules, &view).map(|rule| rules.iter().position(|r| Arc::ptr_eq(r, rule)).unwrap())
    };
    assert_eq!(found("10.0.0.1", Some("A.shop.com")), Some(0));
    assert_eq!((found("10.0.0.1", Some("shop.com")), found("::ffff:10.0.0.1", None)), (Some(1), Some(1)));
    assert_eq!(found("192.0.2.1", None), None);
    assert!(rules[0].pick(7).unwrap().cluster.is_none());
}

proptest! {
    #[test]
    fn rewrites_and_redirects_keep_a_path_a_path(
        rewrite in "[/a-z]{0,6}",
        matched in "(/[a-z]{0,3}){0,3}",
        rest in "[/a-z;%é]{0,6}",
        ignoring in any::<bool>(),
    ) {
        let path = format!("/{}", format!("{matched}{rest}").trim_start_matches('/'));
        let by = HttpMatch { ignore_uri_case: ignoring, ..uri(prefix(&matched)) };
        let new = rewrite_path(&PathRewrite::Uri(rewrite.as_str().into()), Some(&by), &path);
        prop_assert!(new.starts_with('/'));
    }
}
