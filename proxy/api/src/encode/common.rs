//! What several resources say.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ipnet::IpNet;
use weft_core::matching::{StringMatch, Wildcard};
use weft_core::model::address::{HostBinding, ServicePortRef};
use weft_core::model::metadata::{Labels, Locality, WorkloadMetadata};
use weft_core::model::name::{ClusterName, ObjectName, ServiceName};
use weft_core::model::protocol::Protocol;

use crate::pb::config as pb;

pub(super) fn texts(list: &[Arc<str>]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

pub(super) fn optional_text(text: Option<&Arc<str>>) -> Option<String> {
    text.map(ToString::to_string)
}

pub(super) fn ip(ip: IpAddr) -> Bytes {
    match ip {
        IpAddr::V4(ip) => Bytes::copy_from_slice(&ip.octets()),
        IpAddr::V6(ip) => Bytes::copy_from_slice(&ip.octets()),
    }
}

pub(super) fn socket_address(address: SocketAddr) -> pb::SocketAddress {
    pb::SocketAddress { ip: ip(address.ip()), port: address.port().into() }
}

pub(super) fn network(network: &IpNet) -> pb::Network {
    pb::Network { ip: ip(network.network()), prefix_length: network.prefix_len().into() }
}

/// Nanoseconds; what does not fit is far beyond what a decoder takes.
pub(super) fn nanos(duration: Duration) -> u64 {
    duration.as_nanos().try_into().unwrap_or(u64::MAX)
}

pub(super) fn service_name(name: &ServiceName) -> pb::ServiceName {
    pb::ServiceName { namespace: name.namespace.to_string(), host: name.host.to_string() }
}

pub(super) fn port_ref(port: &ServicePortRef) -> pb::ServicePortRef {
    pb::ServicePortRef { service: Some(service_name(&port.service)), port: port.port.into() }
}

pub(super) fn cluster_name(name: &ClusterName) -> pb::ClusterName {
    let subset = optional_text(name.subset.as_ref());
    pb::ClusterName { service: Some(service_name(&name.service)), port: name.port.into(), subset }
}

pub(super) fn object_name(name: &ObjectName) -> pb::ObjectName {
    pb::ObjectName { namespace: name.namespace.to_string(), name: name.name.to_string() }
}

pub(super) fn labels(labels: &Labels) -> Vec<pb::Label> {
    labels.iter().map(|(key, value)| pb::Label { key: key.to_string(), value: value.to_string() }).collect()
}

pub(super) fn locality(locality: &Locality) -> Option<pb::Locality> {
    (*locality != Locality::default()).then(|| pb::Locality {
        region: locality.region.to_string(),
        zone: locality.zone.to_string(),
        subzone: locality.subzone.to_string(),
    })
}

pub(super) fn metadata(metadata: &WorkloadMetadata) -> Option<pb::WorkloadMetadata> {
    (*metadata != WorkloadMetadata::default()).then(|| pb::WorkloadMetadata {
        workload: metadata.workload.to_string(),
        namespace: metadata.namespace.to_string(),
        pod: metadata.pod.to_string(),
        canonical_service: metadata.canonical_service.to_string(),
        canonical_revision: metadata.canonical_revision.to_string(),
        app: metadata.app.to_string(),
        version: metadata.version.to_string(),
        cluster: metadata.cluster.to_string(),
    })
}

pub(super) fn protocol(protocol: Protocol) -> i32 {
    let protocol = match protocol {
        Protocol::Auto => pb::Protocol::Auto,
        Protocol::Http => pb::Protocol::Http,
        Protocol::Http2 => pb::Protocol::Http2,
        Protocol::Grpc => pb::Protocol::Grpc,
        Protocol::Tcp => pb::Protocol::Tcp,
        Protocol::Tls => pb::Protocol::Tls,
        Protocol::Udp => pb::Protocol::Udp,
    };
    protocol.into()
}

pub(super) fn bindings(bindings: &[HostBinding]) -> Vec<pb::HostBinding> {
    let binding = |binding: &HostBinding| pb::HostBinding {
        domains: texts(&binding.domains),
        target: Some(port_ref(&binding.target)),
    };
    bindings.iter().map(binding).collect()
}

pub(super) fn string_match(it: &StringMatch) -> pb::StringMatch {
    use pb::string_match::Kind;
    let kind = match it {
        StringMatch::Present => Kind::Present(true),
        StringMatch::Exact(text) => Kind::Exact(text.to_string()),
        StringMatch::Prefix(text) => Kind::Prefix(text.to_string()),
        StringMatch::Regex(pattern) => Kind::Regex(pattern.as_str().to_owned()),
    };
    pb::StringMatch { kind: Some(kind) }
}

pub(super) fn wildcard(it: &Wildcard) -> pb::Wildcard {
    use pb::wildcard::Kind;
    let kind = match it {
        Wildcard::Present => Kind::Present(true),
        Wildcard::Exact(text) => Kind::Exact(text.to_string()),
        Wildcard::Prefix(text) => Kind::Prefix(text.to_string()),
        Wildcard::Suffix(text) => Kind::Suffix(text.to_string()),
    };
    pb::Wildcard { kind: Some(kind) }
}
