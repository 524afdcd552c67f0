//! One decision, so many times: for counting its instructions. The difference of two runs, by the difference of
//! their counts, is what one decision costs:
//!
//! ```sh
//! cargo build --release -p weft-core --example decisions
//! for n in 1000 2000; do valgrind --tool=callgrind --callgrind-out-file=/dev/null \
//!   target/release/examples/decisions find $n 2>&1 | grep Collected; done
//! ```
//!
//! Decisions: `find`, `authorize`, `pick`, `record`, `service`, `address`, `admit`; any other word does nothing but what
//! all of them begin with.

use std::hint::black_box;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use weft_core::authz::{HttpFacts, NormalAuthority, RequestFacts, authorize};
use weft_core::balance::{PickArgs, pick};
use weft_core::identity::SpiffeId;
use weft_core::matching::{StringMatch, Wildcard};
use weft_core::model::address::{Address, Meaning, ServicePortRef};
use weft_core::model::cluster::{Cluster, OutlierDetection};
use weft_core::model::endpoint::{Endpoint, EndpointSlice};
use weft_core::model::name::{AddressKey, ClusterName, ObjectName, ServiceName, SliceName};
use weft_core::model::policy::{Action, AuthorizationPolicy, Condition, Operation, Rule, Source, ValueMatch};
use weft_core::model::protocol::Protocol;
use weft_core::model::route::{
    Destination, Forward, HeaderOps, HttpAction, HttpMatch, HttpRoutes, HttpRule, RuleSource,
};
use weft_core::model::service::{Location, Service, ServicePort};
use weft_core::outlier::{Outcome, record};
use weft_core::route::{RequestView, find};
use weft_core::snapshot::{Resource, Resources, Snapshot};

fn main() {
    let mut args = std::env::args().skip(1);
    let decision = args.next().unwrap_or_default();
    let count: u64 = args.next().and_then(|n| n.parse().ok()).unwrap_or(1000);
    let world = World::new();
    (0..count).for_each(|n| world.decide(&decision, n));
}

/// The sample's routes, policy and clusters.
struct World {
    name: ServiceName,
    snapshot: Snapshot,
    policies: Vec<Arc<AuthorizationPolicy>>,
    peer: SpiffeId,
    headers: HeaderMap,
}

impl World {
    fn new() -> Self {
        let mut resources = Resources::default();
        resources.apply(Resource::Service(Arc::new(service())));
        resources.apply(Resource::Endpoints(Arc::new(slice())));
        let meaning = Meaning::Service(ServicePortRef { service: name(), port: 80 });
        resources.apply(Resource::Address(Arc::new(Address { key: key(), meaning })));
        let peer = SpiffeId::parse("spiffe://cluster.local/ns/default/sa/api-gateway").expect("an identity");
        let fields = ["host", "user-agent", "accept", "x-request-id", "traceparent", "x-forwarded-proto"];
        let field =
            |name: &&'static str| (HeaderName::from_static(name), HeaderValue::from_static("a value"));
        let headers = fields.iter().map(field).collect();
        let snapshot = Snapshot::build(&Snapshot::default(), &resources).snapshot;
        Self { name: name(), snapshot, policies: vec![policy()], peer, headers }
    }

    fn decide(&self, decision: &str, random: u64) {
        let service = self.snapshot.service(&self.name).expect("the service was built");
        let port = &service.ports[0];
        let cluster = port.cluster.as_ref().expect("the service has a cluster");
        match decision {
            "find" => {
                let matched = find(&port.rules, &self.view());
                black_box(matched.and_then(|matched| matched.rule.pick(random)));
            }
            "authorize" => _ = black_box(authorize(&self.policies, &self.facts())),
            "pick" => {
                let args = PickArgs { now: random, random, tried: &[], original: None };
                black_box(pick(cluster, &args));
            }
            "record" => {
                _ = black_box(record(cluster, &cluster.endpoints[0], Outcome::Status(200), random));
            }
            "service" => _ = black_box(self.snapshot.service(&self.name)),
            "address" => _ = black_box(self.snapshot.address(key())),
            "admit" => {
                let request = cluster.admission.request(&cluster.cluster);
                black_box((request, cluster.endpoints[0].begin()));
            }
            _ => {}
        }
    }

    fn view(&self) -> RequestView<'_> {
        RequestView {
            method: &Method::GET,
            path: "/api/v1/content/42",
            query: None,
            authority: "content-service",
            scheme: "http",
            headers: &self.headers,
        }
    }

    fn facts(&self) -> RequestFacts<'_> {
        let RequestView { method, path, authority, headers, .. } = self.view();
        RequestFacts {
            peer: Some(&self.peer),
            source_ip: [10, 0, 0, 7].into(),
            remote_ip: [10, 0, 0, 7].into(),
            destination_ip: [10, 0, 0, 8].into(),
            destination_port: 8080,
            sni: None,
            http: Some(HttpFacts { method, path, authority: NormalAuthority::of(authority), headers }),
        }
    }
}

fn name() -> ServiceName {
    ServiceName::new("default", "content-service.default.svc.cluster.local")
}

fn key() -> AddressKey {
    AddressKey::new([10, 96, 0, 10].into(), 80)
}

fn cluster(subset: Option<&str>) -> Cluster {
    let name = ClusterName { service: name(), port: 80, subset: subset.map(Into::into) };
    let labels = subset.map(|version| ("version".into(), version.into())).into_iter().collect();
    Cluster { outlier: Some(OutlierDetection::default()), labels, ..Cluster::plain(name) }
}

fn service() -> Service {
    let premium = (HeaderName::from_static("end-user"), StringMatch::Exact("premium".into()));
    let conditional = HttpMatch { headers: vec![premium], ..HttpMatch::default() };
    let rules = vec![rule(vec![conditional], &[("v2", 100)]), rule(vec![], &[("v1", 80), ("v2", 20)])];
    let port = ServicePort {
        number: 80,
        name: "http".into(),
        protocol: Protocol::Http,
        http: HttpRoutes { rules: rules.into_iter().map(Arc::new).collect() },
        tcp: vec![],
    };
    Service {
        name: name(),
        short_name: "content-service".into(),
        addresses: vec![],
        location: Location::Internal,
        ports: vec![port],
        slices: 1,
        clusters: [None, Some("v1"), Some("v2")].map(|subset| Arc::new(cluster(subset))).into(),
    }
}

fn rule(matches: Vec<HttpMatch>, to: &[(&str, u32)]) -> HttpRule {
    let destination = |(subset, weight): &(&str, u32)| Destination {
        cluster: cluster(Some(subset)).name,
        weight: *weight,
        request_headers: HeaderOps::default(),
        response_headers: HeaderOps::default(),
    };
    let destinations = to.iter().map(destination).collect();
    HttpRule {
        source: RuleSource { object: None, path: "http[0]".into(), name: "".into() },
        matches,
        action: HttpAction::Forward(Box::new(Forward { destinations, ..Forward::to(cluster(None).name) })),
        request_headers: HeaderOps::default(),
        response_headers: HeaderOps::default(),
        extras: None,
    }
}

fn slice() -> EndpointSlice {
    let endpoint = |n: u8| Endpoint {
        ip: [10, 0, 0, n].into(),
        ports: vec![(80, 8080)],
        weight: 1,
        identity: None,
        meshed: false,
        plaintext_ports: vec![],
        labels: Arc::new([("version".into(), if n < 3 { "v1" } else { "v2" }.into())]),
        metadata: Arc::default(),
        locality: Default::default(),
    };
    let endpoints = (1..5).map(|n| Arc::new(endpoint(n))).collect();
    EndpointSlice { name: SliceName { service: name(), slice: 0 }, endpoints }
}

/// The sample's policy; the last of its rules is the one that decides on a GET from another account.
fn policy() -> Arc<AuthorizationPolicy> {
    let any = |values: &[&str]| ValueMatch {
        values: values.iter().map(|value| Wildcard::parse(value)).collect(),
        not_values: vec![],
    };
    let source = Source { principals: any(&["cluster.local/ns/default/sa/other"]), ..Source::default() };
    let operation = Operation { methods: any(&["PUT", "POST", "GET"]), ..Operation::default() };
    let header = Condition::Header(HeaderName::from_static("authorization"), any(&["Bearer *"]));
    Arc::new(AuthorizationPolicy {
        name: ObjectName { namespace: "default".into(), name: "content-service-authz".into() },
        action: Action::Allow,
        dry_run: false,
        rules: vec![
            Rule { from: vec![source], ..Rule::default() },
            Rule { when: vec![header], ..Rule::default() },
            Rule { to: vec![operation], ..Rule::default() },
        ],
    })
}
