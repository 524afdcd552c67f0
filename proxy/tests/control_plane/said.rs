//! What the controller says.

use std::sync::Arc;

use weft_api::encoded::Encoded;
use weft_api::{encode, pb};
use weft_core::identity::{SpiffeId, TrustDomain};
use weft_core::model::address::{Address, Meaning, ServicePortRef};
use weft_core::model::cluster::Cluster;
use weft_core::model::endpoint::{Endpoint, EndpointSlice};
use weft_core::model::metadata::{Locality, WorkloadMetadata};
use weft_core::model::name::{AddressKey, ClusterName, ServiceName, SliceName};
use weft_core::model::protocol::Protocol;
use weft_core::model::route::{Forward, HeaderOps, HttpAction, HttpRoutes, HttpRule, RuleSource};
use weft_core::model::service::{Location, Service, ServicePort};
use weft_core::model::workload::{
    Inbound, MtlsMode, Outbound, OutboundMode, PathNormalization, TrustBundle, Workload,
};
use weft_core::snapshot::Resource;
use weft_testkit::controller::FakeController;

pub(super) fn workload(controller: &FakeController) -> Workload {
    let identity = SpiffeId::parse("spiffe://cluster.local/ns/default/sa/api").unwrap();
    let roots = vec![controller.ca().root_der().to_vec().into()];
    Workload {
        identity,
        metadata: Arc::new(WorkloadMetadata {
            namespace: "default".into(),
            pod: "a".into(),
            ..Default::default()
        }),
        addresses: vec!["10.0.0.1".parse().unwrap()],
        labels: Arc::new([]),
        locality: Locality::default(),
        trust: vec![TrustBundle { domain: TrustDomain::new("cluster.local").unwrap(), roots }],
        inbound: Inbound {
            default_mtls: MtlsMode::Strict,
            ports: Vec::new(),
            policies: Vec::new(),
            path_normalization: PathNormalization::Base,
        },
        outbound: Outbound {
            mode: OutboundMode::AllowAny,
            mesh_ranges: vec!["10.0.0.0/8".parse().unwrap()],
            listeners: Vec::new(),
        },
        telemetry: Default::default(),
    }
}

pub(super) fn service_name(name: &str) -> ServiceName {
    ServiceName::new("default", &format!("{name}.default.svc.cluster.local"))
}

pub(super) fn cluster_name(name: &str) -> ClusterName {
    ClusterName { service: service_name(name), port: 80, subset: None }
}

/// A service whose requests go to the clusters of `to`.
pub(super) fn service(name: &str, to: &[&str]) -> Service {
    let rule = |to: &&str| {
        Arc::new(HttpRule {
            source: RuleSource { object: None, path: "http[0]".into(), name: "".into() },
            matches: Vec::new(),
            action: HttpAction::Forward(Box::new(Forward::to(cluster_name(to)))),
            request_headers: HeaderOps::default(),
            response_headers: HeaderOps::default(),
            extras: None,
        })
    };
    let port = ServicePort {
        number: 80,
        name: "http".into(),
        protocol: Protocol::Http,
        http: HttpRoutes { rules: to.iter().map(rule).collect() },
        tcp: Vec::new(),
    };
    Service {
        name: service_name(name),
        short_name: name.into(),
        addresses: vec!["10.96.0.1".parse().unwrap()],
        location: Location::Internal,
        ports: vec![port],
        slices: 1,
        clusters: vec![Arc::new(Cluster::plain(cluster_name(name)))],
    }
}

pub(super) fn slice(name: &str, ips: &[[u8; 4]]) -> EndpointSlice {
    let endpoint = |ip: &[u8; 4]| {
        Arc::new(Endpoint {
            ip: (*ip).into(),
            ports: vec![(80, 8080)],
            weight: 1,
            identity: None,
            meshed: false,
            plaintext_ports: Vec::new(),
            labels: Arc::new([]),
            metadata: Arc::default(),
            locality: Locality::default(),
        })
    };
    EndpointSlice {
        name: SliceName { service: service_name(name), slice: 0 },
        endpoints: ips.iter().map(endpoint).collect(),
    }
}

pub(super) fn vip() -> AddressKey {
    AddressKey::new([10, 96, 0, 1].into(), 80)
}

pub(super) fn say_service(controller: &FakeController, name: &str, to: &[&str]) {
    controller.set(Resource::Service(Arc::new(service(name, to))));
    controller.set(Resource::Endpoints(Arc::new(slice(name, &[[10, 0, 0, 9]]))));
}

pub(super) fn say_workload(controller: &FakeController) {
    controller.set(Resource::Workload(Arc::new(workload(controller))));
}

pub(super) fn say_all(controller: &FakeController) {
    say_workload(controller);
    let target = ServicePortRef { service: service_name("web"), port: 80 };
    controller.set(Resource::Address(Arc::new(Address { key: vip(), meaning: Meaning::Service(target) })));
    say_service(controller, "web", &["web"]);
}

/// A workload that requires a feature which no version knows.
pub(super) fn from_the_future(controller: &FakeController) -> Encoded {
    use weft_api::pb::Message;
    let known = encode::workload(&workload(controller));
    let mut message = pb::config::Workload::decode(known.body().clone()).unwrap();
    message.requires.push("a-condition-of-tomorrow".to_owned());
    Encoded::of(&message)
}
