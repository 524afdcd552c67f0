//! Small parts of the model, for tests.

use std::sync::Arc;

use crate::identity::SpiffeId;
use crate::model::cluster::Cluster;
use crate::model::endpoint::{Endpoint, EndpointSlice};
use crate::model::name::{ClusterName, ServiceName, SliceName};
use crate::model::protocol::Protocol;
use crate::model::route::{
    Destination, Forward, HeaderOps, HttpAction, HttpMatch, HttpRoutes, HttpRule, RuleSource,
};
use crate::model::service::{Location, Service, ServicePort};
use crate::transport::Transport;
use crate::upstream::{ClusterState, EndpointId, EndpointState};

/// `default/NAME.default.svc.cluster.local`.
pub(crate) fn name(short: &str) -> ServiceName {
    ServiceName::new("default", &format!("{short}.default.svc.cluster.local"))
}

/// Port 80 of a service, or of its subset.
pub(crate) fn cluster_name(short: &str, subset: Option<&str>) -> ClusterName {
    ClusterName { service: name(short), port: 80, subset: subset.map(Into::into) }
}

/// A plain cluster.
pub(crate) fn cluster(short: &str) -> Cluster {
    Cluster::plain(cluster_name(short, None))
}

/// A pod at 10.0.0.N, port 8080, unmeshed, labelled `version: VERSION`.
pub(crate) fn endpoint(n: u8, version: &str) -> Endpoint {
    Endpoint {
        ip: [10, 0, 0, n].into(),
        ports: vec![(80, 8080)],
        weight: 1,
        identity: None,
        meshed: false,
        plaintext_ports: Vec::new(),
        labels: Arc::new([("version".into(), version.into())]),
        metadata: Arc::default(),
        locality: Default::default(),
    }
}

/// The same pod with a sidecar.
pub(crate) fn meshed(n: u8, version: &str, account: &str) -> Endpoint {
    let id = SpiffeId::parse(&format!("spiffe://cluster.local/ns/default/sa/{account}")).unwrap();
    Endpoint { identity: Some(id), meshed: true, ..endpoint(n, version) }
}

/// The slice of this number.
pub(crate) fn slice(short: &str, number: u32, endpoints: Vec<Endpoint>) -> EndpointSlice {
    let endpoints = endpoints.into_iter().map(Arc::new).collect();
    EndpointSlice { name: SliceName { service: name(short), slice: number }, endpoints }
}

/// A service with port 80, one slice, these rules, and clusters for these subsets beside its own.
pub(crate) fn service(short: &str, rules: Vec<HttpRule>, subsets: &[&str]) -> Service {
    let port = ServicePort {
        number: 80,
        name: "http".into(),
        protocol: Protocol::Http,
        http: HttpRoutes { rules: rules.into_iter().map(Arc::new).collect() },
        tcp: Vec::new(),
    };
    let subset = |version: &&str| Cluster {
        labels: Arc::new([("version".into(), (*version).into())]),
        ..Cluster::plain(cluster_name(short, Some(version)))
    };
    Service {
        name: name(short),
        short_name: short.into(),
        addresses: Vec::new(),
        location: Location::Internal,
        ports: vec![port],
        slices: 1,
        clusters: std::iter::once(cluster(short)).chain(subsets.iter().map(subset)).map(Arc::new).collect(),
    }
}

/// A rule that forwards.
pub(crate) fn rule(matches: Vec<HttpMatch>, to: &[(&str, Option<&str>, u32)]) -> HttpRule {
    let destination = |(short, subset, weight): &(&str, Option<&str>, u32)| Destination {
        cluster: cluster_name(short, *subset),
        weight: *weight,
        request_headers: HeaderOps::default(),
        response_headers: HeaderOps::default(),
    };
    let forward = Forward {
        destinations: to.iter().map(destination).collect(),
        ..Forward::to(cluster_name("unused", None))
    };
    HttpRule {
        source: RuleSource { object: None, path: "http[0]".into(), name: "".into() },
        matches,
        action: HttpAction::Forward(Box::new(forward)),
        request_headers: HeaderOps::default(),
        response_headers: HeaderOps::default(),
        extras: None,
    }
}

/// A cluster as it runs, with endpoints 10.0.0.1, 10.0.0.2, ... of these weights.
pub(crate) fn running(cluster: Cluster, weights: &[u32]) -> ClusterState {
    let state = |(n, weight): (usize, &u32)| {
        let address = ([10, 0, (n / 256) as u8, (n % 256) as u8], 8080).into();
        Arc::new(EndpointState {
            id: EndpointId::Listed(n as u64),
            address,
            transport: Ok(Transport::Plain),
            weight: *weight,
            metadata: Arc::default(),
            identity: None,
            endpoint: None,
            shared: Arc::default(),
        })
    };
    let endpoints = weights.iter().enumerate().map(state).collect();
    ClusterState::assemble(Arc::new(cluster), endpoints, None, 0)
}
