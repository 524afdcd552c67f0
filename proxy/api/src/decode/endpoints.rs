//! Endpoints of services.

use std::sync::Arc;

use weft_core::model::endpoint::{Endpoint, EndpointSlice};
use weft_core::model::name::SliceName;

use super::common::{identity, labels, locality, metadata, service_name};
use super::value::{At, Result, at_least, at_most, fail, ip, list, message, optional, port};
use crate::limits::{MAX_ENDPOINTS, MAX_PORTS, MAX_SLICES};
use crate::pb::config as pb;

/// Decodes a slice of a service's endpoints.
pub fn endpoints(body: &[u8]) -> Result<EndpointSlice> {
    let message: pb::EndpointSlice = message(body)?;
    let service = service_name(message.service.as_ref()).at("service")?;
    let slice = at_most(MAX_SLICES - 1, message.slice).at("slice")?;
    let one = |it: &pb::Endpoint| endpoint(it).map(Arc::new);
    let endpoints = list("endpoints", &message.endpoints, MAX_ENDPOINTS, one)?;
    Ok(EndpointSlice { name: SliceName { service, slice }, endpoints })
}

fn endpoint(endpoint: &pb::Endpoint) -> Result<Endpoint> {
    let ip = ip(&endpoint.ip).at("ip")?;
    if ip.is_unspecified() || ip.is_multicast() {
        return fail(format!("{ip} is no endpoint's address")).at("ip");
    }
    Ok(Endpoint {
        ip,
        ports: list("ports", &endpoint.ports, MAX_PORTS, mapping)?,
        weight: at_least(1, endpoint.weight).at("weight")?,
        identity: optional("identity", endpoint.identity.as_ref(), |uri| identity(uri))?,
        meshed: endpoint.meshed,
        plaintext_ports: list("plaintext_ports", &endpoint.plaintext_ports, MAX_PORTS, |it| port(*it))?,
        labels: labels(&endpoint.labels)?,
        metadata: metadata(endpoint.metadata.as_ref()).at("metadata")?,
        locality: locality(endpoint.locality.as_ref()).at("locality")?,
    })
}

fn mapping(mapping: &pb::PortMapping) -> Result<(u16, u16)> {
    Ok((port(mapping.service_port).at("service_port")?, port(mapping.target_port).at("target_port")?))
}
