//! Services.

use weft_core::model::service::{Location, Service, ServicePort};

use super::cluster::cluster;
use super::common::{ip, protocol, service_name};
use super::route::{http_rule, tcp_rule};
use crate::encoded::Encoded;
use crate::feature;
use crate::pb::config as pb;

/// Encodes a service.
pub fn service(service: &Service) -> Encoded {
    Encoded::of(&pb::Service {
        requires: feature::of_service(service).into_iter().map(str::to_owned).collect(),
        name: Some(service_name(&service.name)),
        short_name: service.short_name.to_string(),
        addresses: service.addresses.iter().map(|address| ip(*address)).collect(),
        location: location(service.location).into(),
        ports: service.ports.iter().map(port).collect(),
        slices: service.slices,
        clusters: service.clusters.iter().map(|it| cluster(it)).collect(),
    })
}

fn location(location: Location) -> pb::Location {
    match location {
        Location::Internal => pb::Location::Internal,
        Location::External => pb::Location::External,
    }
}

fn port(port: &ServicePort) -> pb::ServicePort {
    pb::ServicePort {
        number: port.number.into(),
        name: port.name.to_string(),
        protocol: protocol(port.protocol),
        http: port.http.rules.iter().map(|rule| http_rule(rule)).collect(),
        tcp: port.tcp.iter().map(|rule| tcp_rule(rule)).collect(),
    }
}
