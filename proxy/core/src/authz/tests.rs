use http::{HeaderMap, HeaderName, HeaderValue, Method};
use proptest::prelude::*;

use super::*;
use crate::identity::SpiffeId;
use crate::matching::Wildcard;
use crate::model::policy::{PathPattern, ValueMatch};

const GATEWAY: &str = "cluster.local/ns/default/sa/api-gateway";

fn policy(name: &str, action: Action, rules: Vec<Rule>) -> Arc<AuthorizationPolicy> {
    let name = ObjectName { namespace: "default".into(), name: name.into() };
    Arc::new(AuthorizationPolicy { name, action, dry_run: false, rules })
}

fn any(values: &[&str]) -> ValueMatch<Wildcard> {
    ValueMatch { values: values.iter().map(|v| Wildcard::parse(v)).collect(), not_values: vec![] }
}

fn none_of(values: &[&str]) -> ValueMatch<Wildcard> {
    ValueMatch { not_values: any(values).values, values: vec![] }
}

fn from(source: Source) -> Rule {
    Rule { from: vec![source], ..Rule::default() }
}

fn to(operation: Operation) -> Rule {
    Rule { to: vec![operation], ..Rule::default() }
}

fn when(condition: Condition) -> Rule {
    Rule { when: vec![condition], ..Rule::default() }
}

fn principals(principals: ValueMatch<Wildcard>) -> Rule {
    from(Source { principals, ..Source::default() })
}

fn methods(methods: &[&str]) -> Rule {
    to(Operation { methods: any(methods), ..Operation::default() })
}

fn hosts(hosts: ValueMatch<Wildcard>) -> Rule {
    to(Operation { hosts, ..Operation::default() })
}

fn paths(paths: &[&str]) -> Rule {
    let values = any(paths).values.into_iter().map(PathPattern::Wildcard).collect();
    to(Operation { paths: ValueMatch { values, not_values: vec![] }, ..Operation::default() })
}

fn header(values: ValueMatch<Wildcard>) -> Rule {
    when(Condition::Header(HeaderName::from_static("x-role"), values))
}

/// Someone who asks; by default the gateway, with `GET http://api/a`, to port 8080.
struct Caller {
    peer: Option<SpiffeId>,
    method: Method,
    path: &'static str,
    authority: &'static str,
    headers: HeaderMap,
    opaque: bool,
}

impl Default for Caller {
    fn default() -> Self {
        Self {
            peer: Some(SpiffeId::parse(&format!("spiffe://{GATEWAY}")).unwrap()),
            method: Method::GET,
            path: "/a",
            authority: "api",
            headers: HeaderMap::new(),
            opaque: false,
        }
    }
}

impl Caller {
    fn plaintext() -> Self {
        Self { peer: None, ..Self::default() }
    }

    fn opaque() -> Self {
        Self { opaque: true, ..Self::default() }
    }

    fn with_role(roles: &[&'static str]) -> Self {
        let mut caller = Self::default();
        for role in roles {
            caller.headers.append("x-role", HeaderValue::from_static(role));
        }
        caller
    }

    fn on<R>(&self, ask: impl FnOnce(&RequestFacts<'_>) -> R) -> R {
        let http = HttpFacts {
            method: &self.method,
            path: self.path,
            authority: NormalAuthority::of(self.authority),
            headers: &self.headers,
        };
        ask(&RequestFacts {
            peer: self.peer.as_ref(),
            source_ip: [10, 0, 0, 7].into(),
            remote_ip: [203, 0, 113, 9].into(),
            destination_ip: [10, 0, 0, 8].into(),
            destination_port: 8080,
            sni: Some("outbound_.80_._.api"),
            http: (!self.opaque).then_some(http),
        })
    }

    fn passes(&self, policies: &[Arc<AuthorizationPolicy>]) -> bool {
        self.on(|facts| authorize(policies, facts).decision.is_allow())
    }

    /// Whether one rule lets the caller in, and whether it keeps the caller out.
    fn under(&self, rule: &Rule) -> (bool, bool) {
        let alone = |action| [policy("p", action, vec![rule.clone()])];
        (self.passes(&alone(Action::Allow)), !self.passes(&alone(Action::Deny)))
    }
}

const BOTH: (bool, bool) = (true, true);
const NEITHER: (bool, bool) = (false, false);
const ONLY_DENIED: (bool, bool) = (false, true);
const ONLY_ALLOWED: (bool, bool) = (true, false);

#[test]
fn k2_deny_comes_before_allow_and_no_allow_lets_in() {
    let anyone = || vec![Rule::default()];
    let (allow, deny) = (policy("allow", Action::Allow, anyone()), policy("deny", Action::Deny, anyone()));
    let other = policy("other", Action::Allow, vec![methods(&["PUT"])]);
    let decision = |policies: &[Arc<AuthorizationPolicy>]| {
        Caller::default().on(|facts| match authorize(policies, facts).decision {
            Decision::Allow { by } => format!("allow {:?}", by.map(|by| (&*by.policy.name, by.rule))),
            Decision::Deny { reason, by } => format!("{reason} {} {:?}", by.policy, by.rule),
        })
    };
    assert_eq!(decision(&[]), "allow None");
    assert_eq!(decision(&[Arc::clone(&allow), Arc::clone(&deny)]), "policy_denied default/deny Some(0)");
    assert_eq!(decision(&[Arc::clone(&other), Arc::clone(&allow)]), r#"allow Some(("allow", Some(0)))"#);
    assert_eq!(decision(&[other]), "policy_not_allowed default/other None");
    assert_eq!(decision(&[policy("deny", Action::Deny, vec![])]), "allow None");
}

#[test]
fn k3_no_rules_match_nothing() {
    assert!(!Caller::default().passes(&[policy("p", Action::Allow, vec![])]));
}

#[test]
fn e5_a_policy_that_is_not_understood_denies_all() {
    let allow = policy("allow", Action::Allow, vec![Rule::default()]);
    let broken = policy("broken", Action::FailClosed, vec![]);
    assert!(!Caller::default().passes(&[Arc::clone(&allow), Arc::clone(&broken)]));
    assert!(!Caller::opaque().passes(&[allow, broken]));
}

#[test]
fn the_policy_of_the_sample() {
    let bearer = when(Condition::Header(HeaderName::from_static("authorization"), any(&["Bearer *"])));
    let rules = vec![principals(any(&[GATEWAY])), methods(&["GET", "POST"]), bearer];
    let policies = [policy("content-service-authz", Action::Allow, rules)];
    let other = || SpiffeId::parse("spiffe://cluster.local/ns/default/sa/other").ok();
    let delete = |peer| Caller { method: Method::DELETE, peer, ..Caller::default() };
    assert!(delete(Caller::default().peer).passes(&policies));
    assert!(!delete(other()).passes(&policies) && !delete(None).passes(&policies));
    assert!(Caller { peer: other(), ..Caller::default() }.passes(&policies));
    let mut token = delete(other());
    token.headers.insert("authorization", HeaderValue::from_static("Bearer x"));
    assert!(token.passes(&policies));
}

#[test]
fn k6_fields_are_anded_and_values_ored() {
    let source = Source {
        principals: any(&["x", "cluster.local/*"]),
        namespaces: none_of(&["kube-*"]),
        ..Source::default()
    };
    let rule = Rule { when: methods(&["PUT"]).when, ..from(source.clone()) };
    assert_eq!(Caller::default().under(&rule), BOTH);
    let other = Source { namespaces: none_of(&["def*"]), ..source };
    assert_eq!(Caller::default().under(&from(other)), NEITHER);
    let both = Rule { to: methods(&["PUT"]).to, ..rule };
    assert_eq!(Caller::default().under(&both), NEITHER);
}

#[test]
fn k8_namespaces_and_accounts_are_of_any_trust_domain() {
    let peer = SpiffeId::parse("spiffe://elsewhere.org/ns/default/sa/api-gateway").ok();
    let elsewhere = Caller { peer, ..Caller::default() };
    let accounts = ValueMatch { values: vec![("default".into(), "api-gateway".into())], not_values: vec![] };
    for rule in [
        from(Source { namespaces: any(&["default"]), ..Source::default() }),
        from(Source { service_accounts: accounts.clone(), ..Source::default() }),
        when(Condition::SourceServiceAccount(accounts)),
        when(Condition::SourceTrustDomain(any(&["elsewhere.org"]))),
    ] {
        assert_eq!(elsewhere.under(&rule), BOTH, "{rule:?}");
    }
    assert_eq!(elsewhere.under(&principals(any(&[GATEWAY]))), NEITHER);
}

#[test]
fn k9_a_plaintext_peer_is_nobody() {
    let account = || vec![("default".into(), "api-gateway".into())];
    let caller = Caller::plaintext();
    let source = |source: Source| caller.under(&from(source));
    assert_eq!(caller.under(&principals(any(&["*"]))), NEITHER);
    assert_eq!(caller.under(&principals(none_of(&["*"]))), BOTH);
    assert_eq!(source(Source { namespaces: any(&["*"]), ..Source::default() }), NEITHER);
    assert_eq!(source(Source { namespaces: none_of(&["default"]), ..Source::default() }), BOTH);
    assert_eq!(source(Source { trust_domains: none_of(&["*"]), ..Source::default() }), BOTH);
    let not = ValueMatch { values: vec![], not_values: account() };
    assert_eq!(source(Source { service_accounts: not, ..Source::default() }), BOTH);
    let is = ValueMatch { values: account(), not_values: vec![] };
    assert_eq!(source(Source { service_accounts: is, ..Source::default() }), NEITHER);
    assert_eq!(caller.under(&principals(any(&[""]))), NEITHER, "not even an empty name");
}

#[test]
fn k11_a_host_is_matched_with_its_port_and_a_deny_without_it_too() {
    let with_port = Caller { authority: "API:8080", ..Caller::default() };
    assert_eq!(with_port.under(&hosts(any(&["api"]))), ONLY_DENIED);
    assert_eq!(with_port.under(&hosts(any(&["api:*"]))), BOTH);
    assert_eq!(
        with_port.under(&hosts(none_of(&["api"]))),
        ONLY_DENIED,
        "an ALLOW for all but `api` excludes it"
    );
    assert_eq!(with_port.under(&hosts(any(&["*.api"]))), NEITHER);
    let dotted = Caller { authority: "api.", ..Caller::default() };
    assert_eq!(dotted.under(&hosts(any(&["api"]))), BOTH, "the root's dot is no part of a name");
    let default = Caller { authority: "api.:80", ..Caller::default() };
    assert_eq!(default.under(&hosts(any(&["api"]))), BOTH, "nor is HTTP's port");
}

#[test]
fn b14_methods_and_paths_heed_case() {
    assert_eq!(Caller::default().under(&methods(&["get"])), NEITHER);
    assert_eq!(Caller::default().under(&paths(&["/A"])), NEITHER);
    assert_eq!(Caller::default().under(&paths(&["/*"])), BOTH);
}

#[test]
fn b11_a_deny_on_a_path_is_not_passed_by_with_parameters() {
    for path in ["/admin;x=y", "/public/..;/admin"] {
        let caller = Caller { path, ..Caller::default() };
        assert_eq!(caller.under(&paths(&["/admin"])), ONLY_DENIED, "{path}");
    }
}

#[test]
fn b16_a_deny_tries_each_member_of_a_header_and_an_allow_the_whole() {
    let both = Caller::with_role(&["user, admin"]);
    let lines = Caller::with_role(&["user", "admin"]);
    for caller in [both, lines] {
        assert_eq!(caller.under(&header(any(&["admin"]))), ONLY_DENIED);
        assert_eq!(caller.under(&header(any(&["user*"]))), BOTH);
        assert_eq!(caller.under(&header(none_of(&["admin"]))), ONLY_DENIED);
    }
    assert_eq!(Caller::with_role(&["admin"]).under(&header(any(&["admin"]))), BOTH);
    let absent = Caller::default();
    assert_eq!((absent.under(&header(any(&["*"]))), absent.under(&header(none_of(&["a"])))), (NEITHER, BOTH));
    assert_eq!(Caller::with_role(&[""]).under(&header(any(&["*"]))), ONLY_DENIED);
}

#[test]
fn k13_ports_and_addresses() {
    let port = |n| {
        to(Operation { ports: ValueMatch { values: vec![n], not_values: vec![] }, ..Operation::default() })
    };
    assert_eq!((Caller::default().under(&port(8080)), Caller::default().under(&port(80))), (BOTH, NEITHER));
    let net = |text: &str| ValueMatch { values: vec![text.parse().unwrap()], not_values: vec![] };
    for (rule, expected) in [
        (from(Source { ip_blocks: net("10.0.0.7/32"), ..Source::default() }), BOTH),
        (from(Source { ip_blocks: net("203.0.113.0/24"), ..Source::default() }), NEITHER),
        (from(Source { remote_ip_blocks: net("203.0.113.0/24"), ..Source::default() }), BOTH),
        (when(Condition::SourceIp(net("10.0.0.0/8"))), BOTH),
        (when(Condition::RemoteIp(net("10.0.0.0/8"))), NEITHER),
        (when(Condition::DestinationIp(net("10.0.0.8/32"))), BOTH),
        (when(Condition::DestinationPort(ValueMatch { values: vec![8080], not_values: vec![] })), BOTH),
        (when(Condition::Sni(any(&["OUTBOUND_*"]))), BOTH),
        (when(Condition::SourcePrincipal(any(&["*/api-gateway"]))), BOTH),
        (when(Condition::SourceNamespace(any(&["kube-system"]))), NEITHER),
    ] {
        assert_eq!(Caller::default().under(&rule), expected, "{rule:?}");
    }
}

#[test]
fn e1_conditions_on_http_never_allow_and_always_deny_opaque_connections() {
    let block = ValueMatch { values: vec!["203.0.113.0/24".parse().unwrap()], not_values: vec![] };
    for rule in [
        methods(&["GET"]),
        paths(&["/x"]),
        hosts(none_of(&["api"])),
        header(any(&["admin"])),
        from(Source { remote_ip_blocks: block.clone(), ..Source::default() }),
        when(Condition::RemoteIp(block)),
    ] {
        assert_eq!(Caller::opaque().under(&rule), ONLY_DENIED, "{rule:?}");
    }
    let someone_else = Rule { to: methods(&["GET"]).to, ..principals(any(&["nobody"])) };
    assert_eq!(Caller::opaque().under(&someone_else), NEITHER, "the rest of the rule still counts");
    assert_eq!(Caller::opaque().under(&principals(any(&[GATEWAY]))), BOTH);
}

#[test]
fn k18_dry_run_is_told_aside_and_without_effect() {
    let dry = |action, rules| {
        let policy = policy("dry", action, rules);
        Arc::new(AuthorizationPolicy { dry_run: true, ..(*policy).clone() })
    };
    let verdict = |policies: &[Arc<AuthorizationPolicy>]| {
        Caller::default().on(|facts| {
            let verdict = authorize(policies, facts);
            (verdict.decision.is_allow(), verdict.dry_run.map(|dry| dry.is_allow()))
        })
    };
    let real = policy("real", Action::Allow, vec![Rule::default()]);
    assert_eq!(verdict(&[Arc::clone(&real)]), (true, None));
    assert_eq!(verdict(&[Arc::clone(&real), dry(Action::Deny, vec![Rule::default()])]), (true, Some(false)));
    assert_eq!(verdict(&[dry(Action::Allow, vec![])]), (true, Some(false)), "a dry ALLOW keeps nobody out");
    assert_eq!(verdict(&[real, dry(Action::FailClosed, vec![])]), (true, Some(false)));
}

#[test]
fn what_policies_read() {
    let of = |rule: Rule| [policy("p", Action::Deny, vec![rule])];
    assert!(requires_paths(&of(paths(&["/a"]))) && needs_http(&of(paths(&["/a"]))));
    assert!(!requires_paths(&of(methods(&["GET"]))) && needs_http(&of(methods(&["GET"]))));
    assert!(!needs_http(&of(principals(any(&["a"])))) && needs_http(&of(header(any(&["a"])))));
}

fn rules() -> impl Strategy<Value = Rule> {
    let names = prop::sample::select(vec!["*", GATEWAY, "cluster.local/*", "x"]);
    prop_oneof![
        (names, proptest::bool::ANY).prop_map(|(name, not)| principals(if not {
            none_of(&[name])
        } else {
            any(&[name])
        })),
        prop::sample::select(vec!["GET", "PUT", "*"]).prop_map(|method| methods(&[method])),
        prop::sample::select(vec!["/a", "/b*", "*"]).prop_map(|path| paths(&[path])),
        (prop::sample::select(vec!["admin", "user", "*"]), proptest::bool::ANY)
            .prop_map(|(v, not)| header(if not { none_of(&[v]) } else { any(&[v]) })),
        Just(Rule::default()),
    ]
}

fn paths_to_try() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["/a", "/b", "/a;b", "/b;/c", "/;/a", "/b/..;/a", "/"])
}

fn policies() -> impl Strategy<Value = Vec<Arc<AuthorizationPolicy>>> {
    let action = prop::sample::select(vec![Action::Allow, Action::Allow, Action::Deny]);
    let one = (action, prop::collection::vec(rules(), 0..3)).prop_map(|(a, rules)| policy("p", a, rules));
    prop::collection::vec(one, 0..4)
}

proptest! {
    /// Invariant 1: adding a DENY never widens access; nor does losing what is known of a caller under DENYs.
    #[test]
    fn invariant_1_a_deny_never_widens(
        policies in policies(),
        deny in prop::collection::vec(rules(), 0..3),
        kind in 0usize..4,
        role in prop::sample::select(vec!["admin", "user", "user,admin"]),
    ) {
        let caller = match kind {
            0 => Caller::default(),
            1 => Caller::plaintext(),
            2 => Caller::opaque(),
            _ => Caller::with_role(&[role]),
        };
        let before = caller.passes(&policies);
        let mut more = policies.clone();
        more.push(policy("more", Action::Deny, deny));
        prop_assert!(before || !caller.passes(&more));
        more.push(policy("broken", Action::FailClosed, vec![]));
        prop_assert!(!caller.passes(&more));
    }

    /// On a rule that both policies read, whoever an ALLOW lets in a DENY keeps out.
    #[test]
    fn a_deny_matches_whatever_an_allow_matches(rule in rules(), kind in 0usize..3, path in paths_to_try()) {
        let caller = match kind {
            0 => Caller { path, ..Caller::default() },
            1 => Caller { path, ..Caller::plaintext() },
            _ => Caller { path, ..Caller::opaque() },
        };
        prop_assert_ne!(caller.under(&rule), ONLY_ALLOWED);
    }
}
