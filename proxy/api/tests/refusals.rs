//! Each thing that a decoder refuses, by the path and the reason that a user reads.

use prost::Message;
use weft_api::error::{DecodeError, ErrorKind};
use weft_api::limits::{MAX_REGEXES, MAX_RESOURCE_BYTES};
use weft_api::pb::config as pb;
use weft_api::{decode, encode};
use weft_core::identity::SpiffeId;
use weft_core::model::cluster::Cluster;
use weft_core::model::name::{AddressKey, ClusterName, ObjectName, ServiceName};
use weft_core::model::policy::{Action, AuthorizationPolicy};
use weft_core::model::route::{
    Forward, HeaderOps, HttpAction, HttpMatch, HttpRoutes, HttpRule, RuleSource, TcpRule,
};
use weft_core::model::service::{Location, Service, ServicePort};
use weft_core::model::workload::{Inbound, InboundPort, MtlsMode, Outbound, Workload};

fn cluster_name() -> ClusterName {
    ClusterName { service: ServiceName::new("default", "a.default"), port: 80, subset: None }
}

fn source() -> RuleSource {
    RuleSource { object: None, path: "http[0]".into(), name: "".into() }
}

/// A service with one rule of each kind.
#[cfg(test)]
fn service() -> pb::Service {
    let rule = HttpRule {
        source: source(),
        matches: vec![HttpMatch::default()],
        action: HttpAction::Forward(Box::new(Forward::to(cluster_name()))),
        request_headers: HeaderOps::default(),
        response_headers: HeaderOps::default(),
        extras: None,
    };
    let destination = weft_core::model::route::TcpDestination { cluster: cluster_name(), weight: 1 };
    let tcp = TcpRule { source: source(), matches: Vec::new(), destinations: vec![destination] };
    let port = ServicePort {
        number: 80,
        name: "http".into(),
        protocol: Default::default(),
        http: HttpRoutes { rules: vec![rule.into()] },
        tcp: vec![tcp.into()],
    };
    let service = Service {
        name: cluster_name().service,
        short_name: "a".into(),
        addresses: Vec::new(),
        location: Location::Internal,
        ports: vec![port],
        slices: 1,
        clusters: vec![Cluster::plain(cluster_name()).into()],
    };
    pb::Service::decode(encode::service(&service).body().clone()).unwrap()
}

#[cfg(test)]
fn workload() -> pb::Workload {
    let policy = AuthorizationPolicy {
        name: ObjectName { namespace: "default".into(), name: "p".into() },
        action: Action::Deny,
        dry_run: false,
        rules: vec![Default::default()],
    };
    let port = InboundPort {
        number: 80,
        protocol: Default::default(),
        mtls: MtlsMode::Strict,
        service: None,
        application: None,
        listener: None,
    };
    let workload = Workload {
        identity: SpiffeId::parse("spiffe://cluster.local/ns/default/sa/a").unwrap(),
        metadata: Default::default(),
        addresses: Vec::new(),
        labels: Default::default(),
        locality: Default::default(),
        trust: Vec::new(),
        inbound: Inbound {
            default_mtls: MtlsMode::Permissive,
            ports: vec![port],
            policies: vec![policy.into()],
            path_normalization: Default::default(),
        },
        outbound: Outbound { mode: Default::default(), mesh_ranges: Vec::new(), listeners: Vec::new() },
        telemetry: Default::default(),
    };
    pb::Workload::decode(encode::workload(&workload).body().clone()).unwrap()
}

#[cfg(test)]
fn refused_service(change: impl FnOnce(&mut pb::Service)) -> DecodeError {
    let mut message = service();
    change(&mut message);
    decode::service(&message.encode_to_vec()).unwrap_err()
}

#[cfg(test)]
fn refused_rule(change: impl FnOnce(&mut pb::HttpRule)) -> String {
    refused_service(|service| change(&mut service.ports[0].http[0])).to_string()
}

#[cfg(test)]
fn refused_forward(change: impl FnOnce(&mut pb::Forward)) -> String {
    refused_rule(|rule| match rule.action.as_mut().unwrap() {
        pb::http_rule::Action::Forward(forward) => change(forward),
        other => panic!("{other:?}"),
    })
}

#[cfg(test)]
fn refused_workload(change: impl FnOnce(&mut pb::Workload)) -> DecodeError {
    let mut message = workload();
    change(&mut message);
    decode::workload(&message.encode_to_vec()).unwrap_err()
}

#[test]
fn cors() {
    let refused = |it| refused_rule(|rule| rule.cors = Some(it));
    let path = "ports[0].http[0].cors";
    let origin = refused(pb::Cors { origins: vec![regex("(").unwrap()], ..Default::default() });
    assert!(origin.starts_with(&format!("{path}.origins[0].regex: ")), "{origin}");
    let methods = pb::Cors { allow_methods: Some("GET\r\n".into()), ..Default::default() };
    assert!(refused(methods).starts_with(&format!("{path}.allow_methods: ")));
    let many = pb::Cors { origins: vec![regex("(").unwrap(); MAX_REGEXES + 1], ..Default::default() };
    assert_eq!(
        refused(many),
        "ports: 1001 regular expressions, more than 1000",
        "counted before any is compiled"
    );
}

fn regex(text: &str) -> Option<pb::StringMatch> {
    Some(pb::StringMatch { kind: Some(pb::string_match::Kind::Regex(text.into())) })
}

#[test]
fn the_examples_decode_as_they_stand() {
    assert!(decode::service(&service().encode_to_vec()).is_ok());
    assert!(decode::workload(&workload().encode_to_vec()).is_ok());
    assert_eq!(workload().requires, ["authorization", "peer-authentication"]);
}

#[test]
fn f2_expressions_are_refused_with_their_path() {
    let path = "ports[0].http[0].matches[0].uri.regex: ";
    for bad in ["(", "a)|(b", &"a".repeat(2000), "(a{1000}){1000}"] {
        let error = refused_rule(|rule| rule.matches[0].uri = regex(bad));
        assert!(error.starts_with(path), "{error}");
    }
}

#[test]
fn f2_more_expressions_than_memory_allows_are_refused_before_any_is_compiled() {
    let many = |rule: &mut pb::HttpRule| {
        rule.matches = vec![pb::HttpMatch { uri: regex("("), ..Default::default() }; MAX_REGEXES + 1];
    };
    assert_eq!(refused_rule(many), "ports: 1001 regular expressions, more than 1000");
}

#[test]
fn f3_weights() {
    let path = "ports[0].http[0].forward.destinations: ";
    let refused = |weights: &[u32]| {
        refused_forward(|forward| {
            let one = forward.destinations[0].clone();
            let weighted = |weight: &u32| pb::Destination { weight: *weight, ..one.clone() };
            forward.destinations = weights.iter().map(weighted).collect();
        })
    };
    assert_eq!(refused(&[]), format!("{path}empty"));
    assert_eq!(refused(&[0, 0]), format!("{path}all weights are 0"));
    assert_eq!(refused(&[u32::MAX, 1]), format!("{path}the weights' sum, 4294967296, does not fit 32 bits"));
    let error = refused_service(|service| service.ports[0].tcp[0].destinations[0].weight = 0);
    assert_eq!(error.to_string(), "ports[0].tcp[0].destinations: all weights are 0");
}

#[test]
fn faults() {
    let refused = |delay, abort| refused_rule(|rule| rule.fault = Some(pb::Fault { delay, abort }));
    let path = "ports[0].http[0].fault";
    assert_eq!(refused(None, None), format!("{path}: empty"));
    let delay = |share, nanos| refused(Some(pb::Delay { share, nanos }), None);
    assert_eq!(delay(1_000_001, 1), format!("{path}.delay.share: 1000001 is more than a million"));
    assert_eq!(delay(1, 0), format!("{path}.delay.nanos: zero"));
    let abort = |with| refused(None, Some(pb::Abort { share: 1, with }));
    assert_eq!(abort(None), format!("{path}.abort: says nothing that this version knows"));
    let http = abort(Some(pb::abort::With::HttpStatus(600)));
    assert!(http.starts_with(&format!("{path}.abort.http_status: ")), "{http}");
    let grpc = abort(Some(pb::abort::With::GrpcStatus(17)));
    assert_eq!(grpc, format!("{path}.abort.grpc_status: 17 is more than 16"));
}

#[test]
fn f5_what_is_unknown_is_told_from_what_is_wrong() {
    let error = refused_workload(|workload| workload.requires.push("telepathy".into()));
    assert_eq!(error.to_string(), "requires[2]: this sidecar does not know the feature \"telepathy\"");
    assert_eq!(error.kind(), ErrorKind::NotUnderstood);
    let inbound = |workload: &mut pb::Workload| workload.inbound.clone().unwrap();
    let error = refused_workload(|workload| {
        let mut inbound = inbound(workload);
        inbound.policies[0].action = 9;
        workload.inbound = Some(inbound);
    });
    assert_eq!(error.to_string(), "inbound.policies[0].action: 9 is unknown");
    assert_eq!(error.kind(), ErrorKind::NotUnderstood);
    let error = refused_workload(|workload| {
        let mut inbound = inbound(workload);
        inbound.policies[0].rules[0].when.push(pb::Condition { key: None });
        workload.inbound = Some(inbound);
    });
    assert_eq!(error.path(), "inbound.policies[0].rules[0].when[0]");
    assert_eq!(error.kind(), ErrorKind::NotUnderstood);
    let error = refused_workload(|workload| workload.inbound.as_mut().unwrap().ports[0].mtls = 0);
    assert_eq!(error.to_string(), "inbound.ports[0].mtls: missing");
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

#[test]
fn parts_that_must_be_there() {
    assert_eq!(refused_workload(|it| it.inbound = None).to_string(), "inbound: missing");
    assert_eq!(refused_workload(|it| it.outbound = None).to_string(), "outbound: missing");
    assert!(refused_workload(|it| it.identity.clear()).to_string().starts_with("identity: "));
    assert_eq!(refused_service(|it| it.name = None).to_string(), "name: missing");
    assert_eq!(refused_service(|it| it.slices = 0).to_string(), "slices: 0 is less than 1");
    assert_eq!(
        refused_service(|it| it.slices = u32::MAX).to_string(),
        "slices: 4294967295 is more than 1000"
    );
    assert_eq!(refused_service(|it| it.clusters[0].tls = None).to_string(), "clusters[0].tls: missing");
    assert_eq!(refused_rule(|it| it.source = None), "ports[0].http[0].source: missing");
}

#[test]
fn absurd_times_and_numbers() {
    let error = refused_forward(|it| it.timeout_nanos = Some(u64::MAX));
    assert_eq!(error, "ports[0].http[0].forward.timeout_nanos: 18446744073s is more than ten years");
    let error = refused_forward(|it| it.timeout_nanos = Some(0));
    assert_eq!(error, "ports[0].http[0].forward.timeout_nanos: zero");
    let connections =
        |it: &mut pb::Service| it.clusters[0].connections.as_mut().unwrap().connect_timeout_nanos = 0;
    assert_eq!(
        refused_service(connections).to_string(),
        "clusters[0].connections.connect_timeout_nanos: zero"
    );
    assert_eq!(refused_service(|it| it.ports[0].number = 0).to_string(), "ports[0].number: 0 is no port");
    assert_eq!(
        refused_service(|it| it.ports[0].number = 65_536).to_string(),
        "ports[0].number: 65536 is too large"
    );
    let respond = pb::http_rule::Action::Respond(pb::DirectResponse { status: 99, ..Default::default() });
    let error = refused_rule(|it| it.action = Some(respond));
    assert_eq!(error, "ports[0].http[0].respond.status: 99 is no status from 200 to 599");
}

#[test]
fn names_addresses_and_headers() {
    let host = |it: &mut pb::Service| it.name.as_mut().unwrap().host = "A".into();
    assert_eq!(refused_service(host).to_string(), "name.host: \"A\" is no host name in lower case");
    let addresses = |it: &mut pb::Service| it.addresses.push(vec![1, 2, 3].into());
    assert_eq!(refused_service(addresses).to_string(), "addresses[0]: 3 bytes are no IP address");
    let ops = |name: &str, value: &'static [u8]| pb::HeaderOps {
        set: vec![pb::HeaderField { name: name.into(), value: value.into() }],
        ..Default::default()
    };
    let error = refused_rule(|it| it.request_headers = Some(ops("X-A", b"")));
    assert_eq!(
        error,
        "ports[0].http[0].request_headers.set[0].name: \"X-A\" is no header name in lower case"
    );
    let error = refused_rule(|it| it.request_headers = Some(ops("x-a", b"a\r\nb")));
    assert_eq!(
        error,
        "ports[0].http[0].request_headers.set[0].value: no header value: it has control characters"
    );
    let label = |key: &str| pb::Label { key: key.into(), value: String::new() };
    let error = refused_workload(|it| it.labels = vec![label("b"), label("a")]);
    assert_eq!(error.to_string(), "labels[1]: labels are not in order, or one stands twice");
    let network = |it: &mut pb::Workload| {
        let network = pb::Network { ip: vec![10, 0, 0, 1].into(), prefix_length: 8 };
        it.outbound.as_mut().unwrap().mesh_ranges.push(network);
    };
    let error = refused_workload(network).to_string();
    assert_eq!(error, "outbound.mesh_ranges[0]: 10.0.0.1/8 has bits beyond its prefix");
}

#[test]
fn an_answer_nothing_must_cover_what_was_asked() {
    let key = AddressKey::new([10, 0, 0, 1].into(), 80);
    let prefix = "10.1.0.0/16".parse().unwrap();
    let meaning = weft_core::model::address::Meaning::Nothing { prefix };
    let encoded = encode::address(&weft_core::model::address::Address { key, meaning });
    let error = decode::address(encoded.body()).unwrap_err();
    assert_eq!(error.to_string(), "nothing: 10.1.0.0/16 does not hold 10.0.0.1");
}

#[test]
fn f9_a_resource_beyond_the_limit_is_not_even_read() {
    let error = decode::service(&vec![0; MAX_RESOURCE_BYTES + 1]).unwrap_err();
    assert_eq!(error.to_string(), "3145729 bytes, more than 3145728");
}
