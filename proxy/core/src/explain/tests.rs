use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::told::{EndpointTold, Sent, ServerSide, Verdict};
use super::*;
use crate::fixture::{endpoint, meshed, name, rule, service, slice};
use crate::identity::{SpiffeId, TrustDomain};
use crate::matching::{StringMatch, Wildcard};
use crate::model::address::{Address, HostBinding, Meaning, ServicePortRef};
use crate::model::endpoint::Endpoint;
use crate::model::extras::{Abort, AbortWith, Cors, Extras, Fault, Share};
use crate::model::name::{AddressKey, ObjectName, ResourceName};
use crate::model::policy::{Action, AuthorizationPolicy, Operation, Rule, Source, ValueMatch};
use crate::model::protocol::Protocol;
use crate::model::route::{DirectResponse, HttpAction, HttpMatch, HttpRule, PathRewrite, RuleSource};
use crate::model::workload::{
    EgressListener, Inbound, MtlsMode, Outbound, OutboundMode, TrustBundle, Workload,
};
use crate::outlier;
use crate::snapshot::{Resource, Resources, Snapshot};

const CLUSTER_IP: [u8; 4] = [10, 96, 0, 1];

fn identity(account: &str) -> SpiffeId {
    SpiffeId::parse(&format!("spiffe://cluster.local/ns/default/sa/{account}")).unwrap()
}

fn workload(account: &str, policies: Vec<AuthorizationPolicy>) -> Workload {
    let domain = TrustDomain::new("cluster.local").unwrap();
    Workload {
        identity: identity(account),
        metadata: Arc::default(),
        addresses: vec![[10, 0, 0, 200].into()],
        labels: Arc::new([]),
        locality: Default::default(),
        trust: vec![TrustBundle { domain, roots: vec![] }],
        inbound: Inbound {
            default_mtls: MtlsMode::Permissive,
            ports: vec![],
            policies: policies.into_iter().map(Arc::new).collect(),
            path_normalization: Default::default(),
        },
        outbound: Outbound { mode: OutboundMode::RegistryOnly, mesh_ranges: vec![], listeners: vec![] },
        telemetry: Arc::default(),
    }
}

fn snapshot(rules: Vec<HttpRule>, subsets: &[&str], endpoints: Vec<Endpoint>) -> Snapshot {
    let mut resources = Resources::default();
    let target = ServicePortRef { service: name("web"), port: 80 };
    let address = Address { key: AddressKey::new(CLUSTER_IP.into(), 80), meaning: Meaning::Service(target) };
    resources.apply(Resource::Workload(Arc::new(workload("client", vec![]))));
    resources.apply(Resource::Address(Arc::new(address)));
    resources.apply(Resource::Service(Arc::new(service("web", rules, subsets))));
    resources.apply(Resource::Endpoints(Arc::new(slice("web", 0, endpoints))));
    Snapshot::build(&Snapshot::default(), &resources).snapshot
}

fn get(target: &str, headers: &[(&str, &str)]) -> Asked {
    let own = [("host".to_owned(), "web".to_owned())];
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let request = Sent {
        method: "GET".into(),
        target: target.into(),
        headers: own.into_iter().chain(headers).collect(),
        http: true,
        tls: false,
        sni: None,
    };
    Asked { host: "web".into(), dialled: (CLUSTER_IP, 80).into(), request, now: 10 }
}

/// Asks both sides, every server's sidecar of which is told the same.
fn explained(snapshot: &Snapshot, asked: &Asked, server_is: &Workload) -> Explanation {
    let told = client(snapshot, asked).unwrap();
    let servers: Vec<Vec<ServerSide>> = told
        .branches
        .iter()
        .map(|branch| {
            let meshed = branch.endpoints.iter().filter(|e| e.takes && e.meshed);
            let sent = branch.sent.clone().unwrap();
            meshed.map(|e| server(server_is, &came(e.mtls, e.address, sent.clone()))).collect()
        })
        .collect();
    explanation(told, &servers)
}

fn came(mtls: bool, to: SocketAddr, request: Sent) -> Came {
    let peer = mtls.then(|| identity("client"));
    Came { peer, sni: None, source: IpAddr::from([10, 0, 0, 200]), to, request }
}

fn premium() -> HttpMatch {
    let condition = (http::HeaderName::from_static("end-user"), StringMatch::Exact("premium".into()));
    HttpMatch { headers: vec![condition], ..HttpMatch::default() }
}

fn at(rule: HttpRule, path: &str) -> HttpRule {
    let object = Some(ObjectName { namespace: "default".into(), name: "web".into() });
    HttpRule { source: RuleSource { object, path: path.into(), name: "".into() }, ..rule }
}

fn split() -> Snapshot {
    let rules = vec![
        at(rule(vec![premium()], &[("web", Some("v2"), 1)]), "http[0]"),
        at(rule(vec![], &[("web", Some("v1"), 80), ("web", Some("v2"), 20)]), "http[1]"),
    ];
    let endpoints = vec![meshed(1, "v1", "web"), meshed(2, "v1", "web"), meshed(3, "v2", "web")];
    snapshot(rules, &["v1", "v2"], endpoints)
}

fn allow(principal: &str, methods: &[&str]) -> AuthorizationPolicy {
    let any = |all: &[&str]| ValueMatch {
        values: all.iter().map(|text| Wildcard::parse(text)).collect(),
        not_values: vec![],
    };
    let source = Source { principals: any(&[principal]), ..Source::default() };
    let operation = Operation { methods: any(methods), ..Operation::default() };
    let rules = vec![Rule { from: vec![source], to: vec![operation], when: vec![] }];
    let name = ObjectName { namespace: "default".into(), name: "web".into() };
    AuthorizationPolicy { name, action: Action::Allow, dry_run: false, rules }
}

#[test]
fn the_rule_that_is_taken_is_told_and_why_those_before_are_not() {
    let snapshot = split();
    let open = workload("web", vec![]);
    let plain = explained(&snapshot, &get("/a//b?q=1", &[]), &open);
    let route = plain.route.clone().unwrap();
    assert_eq!((route.object.as_deref(), route.rule.as_str()), (Some("default/web"), "http[1]"));
    assert_eq!((plain.verdict, plain.subset.as_deref()), (Verdict::Forwarded, Some("v1")));
    assert_eq!(plain.path.as_deref(), Some("/a//b?q=1"));
    let shares: Vec<_> = plain.destinations.iter().map(|d| (d.subset.clone().unwrap(), d.share)).collect();
    assert_eq!(shares, [("v1".to_owned(), 80.0), ("v2".to_owned(), 20.0)]);
    let over = plain.steps.iter().find(|step| step.step == "passed over").unwrap();
    assert!(over.says.contains("http[0], which asks for header end-user is \"premium\""), "{}", over.says);
    let paid = explained(&snapshot, &get("/", &[("end-user", "premium")]), &open);
    assert_eq!((paid.subset.as_deref(), paid.route.unwrap().rule.as_str()), (Some("v2"), "http[0]"));
    let out = paid.endpoints.iter().filter(|e| !e.takes).count();
    assert_eq!((paid.endpoints.len(), out), (3, 2));
}

#[test]
fn a_policy_that_denies_is_named_with_what_the_request_lacks() {
    let web = workload("web", vec![allow("cluster.local/ns/default/sa/client", &["POST"])]);
    let denied = explained(&split(), &get("/", &[]), &web);
    assert_eq!((denied.verdict, denied.status), (Verdict::Refused, Some(403)));
    assert_eq!(denied.reason.as_deref(), Some("policy_not_allowed"));
    assert_eq!(denied.policy.as_deref(), Some("default/web"));
    assert_eq!(denied.mend, ["AuthorizationPolicy default/web, spec.rules[0], asks for method POST"]);
    assert_eq!(denied.path, None);
    let web = workload("web", vec![allow("cluster.local/ns/default/sa/client", &["GET"])]);
    let allowed = explained(&split(), &get("/", &[]), &web);
    assert_eq!(
        (allowed.verdict, allowed.policy_rule.as_deref()),
        (Verdict::Forwarded, Some("spec.rules[0]"))
    );
}

#[test]
fn a_rule_without_source_is_told_to_let_everyone_in() {
    let mut open = allow("x", &["GET"]);
    open.rules[0].from.clear();
    let notes = explained(&split(), &get("/", &[]), &workload("web", vec![open])).notes;
    assert!(
        notes.iter().any(|note| note.contains("spec.rules[0], lets everyone in for method GET")),
        "{notes:?}"
    );
}

#[test]
fn a_subset_without_endpoints_and_one_that_does_not_exist_are_told_apart() {
    let rules = vec![at(rule(vec![], &[("web", Some("v3"), 1)]), "http[0]")];
    let empty = snapshot(rules.clone(), &["v3"], vec![endpoint(1, "v1")]);
    let told = explained(&empty, &get("/", &[]), &workload("web", vec![]));
    assert_eq!((told.reason.as_deref(), told.status), (Some("no_healthy_upstream"), Some(503)));
    assert!(told.notes.iter().any(|note| note.contains("subset v3")), "{:?}", told.notes);
    assert!(told.mend[0].contains("version=v3"), "{:?}", told.mend);
    let lost = explained(&snapshot(rules, &[], vec![]), &get("/", &[]), &workload("web", vec![]));
    assert_eq!((lost.reason.as_deref(), lost.status), (Some("no_cluster"), Some(503)));
}

#[test]
fn ejected_endpoints_are_out_and_told_for_how_long() {
    let mut web = service("web", vec![], &[]);
    let rules = crate::model::cluster::OutlierDetection { consecutive_5xx: 1, ..Default::default() };
    web.clusters = vec![Arc::new(crate::model::cluster::Cluster {
        outlier: Some(rules),
        ..crate::fixture::cluster("web")
    })];
    let mut resources = Resources::default();
    resources.apply(Resource::Workload(Arc::new(workload("client", vec![]))));
    let target = ServicePortRef { service: name("web"), port: 80 };
    let key = AddressKey::new(CLUSTER_IP.into(), 80);
    resources.apply(Resource::Address(Arc::new(Address { key, meaning: Meaning::Service(target) })));
    resources.apply(Resource::Service(Arc::new(web)));
    resources.apply(Resource::Endpoints(Arc::new(slice(
        "web",
        0,
        vec![endpoint(1, "v1"), endpoint(2, "v1")],
    ))));
    let snapshot = Snapshot::build(&Snapshot::default(), &resources).snapshot;
    let cluster = snapshot.all_clusters().next().unwrap();
    outlier::record(cluster, &cluster.endpoints[0], outlier::Outcome::Status(500), 5).unwrap();
    let told = client(&snapshot, &get("/", &[])).unwrap();
    let out: Vec<_> = told.branches[0].endpoints.iter().filter_map(|e| e.why.clone()).collect();
    assert_eq!(out, ["ejected by outlier detection for 30.0 s more"]);
}

#[test]
fn a_path_that_is_rewritten_is_told_as_the_application_gets_it() {
    let mut to = rule(
        vec![HttpMatch { uri: Some(StringMatch::Prefix("/api".into())), ..HttpMatch::default() }],
        &[("web", None, 1)],
    );
    let HttpAction::Forward(forward) = &mut to.action else { panic!("no forward") };
    forward.rewrite.path = Some(PathRewrite::Uri("/v2".into()));
    let snapshot = snapshot(vec![to], &[], vec![meshed(1, "v1", "web")]);
    let told = explained(&snapshot, &get("/api/./x?q", &[]), &workload("web", vec![]));
    assert_eq!(told.path.as_deref(), Some("/v2/x?q"));
    let none = explained(&snapshot, &get("/other", &[]), &workload("web", vec![]));
    assert_eq!(
        (none.reason.as_deref(), none.status, none.verdict),
        (Some("no_route"), Some(404), Verdict::Refused)
    );
    let bad = explained(&snapshot, &get("/%zz", &[]), &workload("web", vec![]));
    assert_eq!((bad.reason.as_deref(), bad.status), (Some("bad_path"), Some(400)));
}

#[test]
fn what_a_route_answers_is_no_refusal() {
    let direct = DirectResponse { status: http::StatusCode::IM_A_TEAPOT, body: ::bytes::Bytes::new() };
    let answer = HttpRule { action: HttpAction::Respond(direct), ..rule(vec![], &[]) };
    let told = explained(&snapshot(vec![answer], &[], vec![]), &get("/", &[]), &workload("web", vec![]));
    assert_eq!((told.verdict, told.status), (Verdict::Answered, Some(418)));
    assert_eq!(told.reason.as_deref(), Some("direct_response"));
}

#[test]
fn f2_faults_are_told_and_one_for_everybody_is_the_answer() {
    let fault = |millionths| {
        let share = Share::of_millionths(millionths).unwrap();
        let abort = Some(Abort { share, with: AbortWith::Grpc(14) });
        let extras = Extras { fault: Some(Fault { delay: None, abort }), cors: None };
        let rule = HttpRule { extras: extras.boxed(), ..rule(vec![], &[("web", None, 1)]) };
        snapshot(vec![rule], &[], vec![meshed(1, "v1", "web")])
    };
    let some = explained(&fault(100_000), &get("/", &[]), &workload("web", vec![]));
    assert_eq!((some.verdict, some.reason.as_deref()), (Verdict::Forwarded, None));
    assert_eq!(some.fault.as_deref(), Some("abort UNAVAILABLE for 10%"));
    let all = explained(&fault(1_000_000), &get("/", &[]), &workload("web", vec![]));
    assert_eq!((all.verdict, all.status), (Verdict::Answered, Some(503)));
    assert_eq!(all.reason.as_deref(), Some("fault_injected"));
    assert!(all.destinations.is_empty());
    let grpc = get("/", &[("content-type", "application/grpc")]);
    assert_eq!(explained(&fault(1_000_000), &grpc, &workload("web", vec![])).status, Some(200));
}

#[test]
fn f3_a_preflight_is_answered_and_other_origins_are_told() {
    let cors = Cors { origins: vec![StringMatch::Exact("https://shop".into())], ..Cors::default() };
    let extras = Extras { fault: None, cors: Some(cors) };
    let rule = HttpRule { extras: extras.boxed(), ..rule(vec![], &[("web", None, 1)]) };
    let snapshot = snapshot(vec![rule], &[], vec![meshed(1, "v1", "web")]);
    let open = workload("web", vec![]);
    let mut asks = get("/", &[("origin", "https://shop"), ("access-control-request-method", "PUT")]);
    asks.request.method = "OPTIONS".to_owned();
    let answered = explained(&snapshot, &asks, &open);
    assert_eq!((answered.verdict, answered.status), (Verdict::Answered, Some(200)));
    assert_eq!(answered.reason.as_deref(), Some("preflight"));
    let told = |origin| {
        let told = explained(&snapshot, &get("/", &[("origin", origin)]), &open);
        assert_eq!(told.verdict, Verdict::Forwarded);
        told.steps.into_iter().find(|step| step.step == "origin").expect("a step").says
    };
    assert!(
        told("https://x").starts_with("https://x is not allowed (origins exact https://shop): it goes on")
    );
    assert!(told("https://shop").starts_with("https://shop is allowed "));
}

#[test]
fn plaintext_to_strict_is_told_as_each_side_sees_it() {
    let mut strict = workload("web", vec![]);
    strict.inbound.default_mtls = MtlsMode::Strict;
    let request = get("/", &[]).request;
    let told = server(&strict, &came(false, ([10, 0, 0, 1], 8080).into(), request.clone()));
    assert!(told.closed && told.refused.as_ref().unwrap().reason == "plaintext_denied");
    assert!(server(&strict, &came(true, ([10, 0, 0, 1], 8080).into(), request)).refused.is_none());
    let snapshot =
        snapshot(vec![], &[], vec![Endpoint { plaintext_ports: vec![80], ..meshed(1, "v1", "web") }]);
    let seen = explained(&snapshot, &get("/", &[]), &strict);
    assert_eq!((seen.reason.as_deref(), seen.status), (Some("upstream_reset"), Some(503)));
    assert_eq!(seen.server_reason.as_deref(), Some("plaintext_denied"));
}

#[test]
fn what_is_not_known_is_asked_for() {
    let mut asked = get("/", &[]);
    asked.dialled = ([192, 0, 2, 1], 80).into();
    let key = AddressKey::new([192, 0, 2, 1].into(), 80);
    assert_eq!(client(&split(), &asked), Err(ResourceName::Address(key)));
    assert_eq!(client(&Snapshot::default(), &asked), Err(ResourceName::Workload));
}

#[test]
fn a_port_kept_from_its_sidecar_takes_no_mtls() {
    let told = client(&split(), &get("/", &[])).unwrap();
    let (to, sent) = (&told.branches[0].endpoints[0], told.branches[0].sent.as_ref().unwrap());
    let clear = EndpointTold { mtls: false, ..to.clone() };
    assert_eq!((passed_by(&clear, sent).refused, passed_by(&clear, sent).path.as_deref()), (None, Some("/")));
    let refused = passed_by(to, sent);
    assert!(refused.closed && refused.refused.unwrap().mend[0].contains("portLevelMtls"));
}

#[test]
fn a_client_without_sidecar_takes_no_route() {
    let told = without_sidecar(&split(), &get("/", &[]), "it has none").unwrap();
    assert_eq!((told.identity, told.route, told.branches[0].endpoints.len()), (None, None, 3));
    assert!(told.branches[0].endpoints.iter().all(|e| e.takes && !e.mtls && e.meshed));
}

fn listener(services: &[&str]) -> EgressListener {
    let binding = |host: &&str| HostBinding {
        domains: vec![format!("{host}.default.svc.cluster.local").as_str().into(), (*host).into()],
        target: ServicePortRef { service: name(host), port: 80 },
    };
    let bind = ([127, 0, 0, 1], 9080).into();
    EgressListener { bind, protocol: Protocol::Http, services: services.iter().map(binding).collect() }
}

/// A client whose only way out is a listener for these services.
fn listening(services: &[&str]) -> (Snapshot, Asked) {
    let mut own = workload("client", vec![]);
    own.outbound =
        Outbound { listeners: vec![listener(services)], mode: OutboundMode::AllowAny, ..own.outbound };
    let mut resources = Resources::default();
    resources.apply(Resource::Workload(Arc::new(own)));
    for host in services {
        resources.apply(Resource::Service(Arc::new(service(host, vec![], &[]))));
        resources.apply(Resource::Endpoints(Arc::new(slice(host, 0, vec![meshed(1, "v1", host)]))));
    }
    let asked = Asked { host: "127.0.0.1".into(), dialled: ([127, 0, 0, 1], 9080).into(), ..get("/", &[]) };
    (Snapshot::build(&Snapshot::default(), &resources).snapshot, asked)
}

#[test]
fn an_explicit_listener_leads_to_its_one_service_whatever_the_host() {
    let (snapshot, mut asked) = listening(&["web"]);
    asked.request.headers = vec![("host".into(), "127.0.0.1:9080".into())];
    let told = explained(&snapshot, &asked, &workload("web", vec![]));
    assert_eq!((told.verdict, told.endpoints.len()), (Verdict::Forwarded, 1), "{told:#?}");
    assert!(told.steps[0].says.contains("a listener of the pod's Sidecar (egress), for web"), "{told:#?}");
}

#[test]
fn an_explicit_listener_for_several_services_goes_by_the_host_and_nowhere_else() {
    let (snapshot, mut asked) = listening(&["web", "shop"]);
    let told = explained(&snapshot, &asked, &workload("web", vec![]));
    assert_eq!(told.service.as_deref(), Some(name("web").to_string().as_str()), "{told:#?}");
    asked.request.headers = vec![("host".into(), "elsewhere.example.com".into())];
    let lost = client(&snapshot, &asked).unwrap().refused.unwrap();
    assert_eq!(lost.reason, "no_route");
    assert!(lost.mend[0].contains("egress.hosts"), "{lost:?}");
}
