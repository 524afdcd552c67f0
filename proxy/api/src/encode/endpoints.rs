//! Endpoints of services.

use weft_core::model::endpoint::{Endpoint, EndpointSlice};

use super::common::{ip, labels, locality, metadata, service_name};
use crate::encoded::Encoded;
use crate::pb::config as pb;

/// Encodes a slice of a service's endpoints.
pub fn endpoints(slice: &EndpointSlice) -> Encoded {
    Encoded::of(&pb::EndpointSlice {
        service: Some(service_name(&slice.name.service)),
        slice: slice.name.slice,
        endpoints: slice.endpoints.iter().map(|it| endpoint(it)).collect(),
    })
}

fn endpoint(endpoint: &Endpoint) -> pb::Endpoint {
    pb::Endpoint {
        ip: ip(endpoint.ip),
        ports: endpoint.ports.iter().map(|(service, target)| mapping(*service, *target)).collect(),
        weight: endpoint.weight,
        identity: endpoint.identity.as_ref().map(ToString::to_string),
        meshed: endpoint.meshed,
        plaintext_ports: endpoint.plaintext_ports.iter().map(|port| u32::from(*port)).collect(),
        labels: labels(&endpoint.labels),
        metadata: metadata(&endpoint.metadata),
        locality: locality(&endpoint.locality),
    }
}

fn mapping(service: u16, target: u16) -> pb::PortMapping {
    pb::PortMapping { service_port: service.into(), target_port: target.into() }
}
