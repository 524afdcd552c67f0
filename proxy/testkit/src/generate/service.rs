//! Services.

use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use weft_core::model::route::HttpRoutes;
use weft_core::model::service::{Location, Service, ServicePort};

use super::cluster::cluster;
use super::route::{http_rule, tcp_rule};
use super::value::{ip, port, protocol, service_name, text};

/// A service.
pub fn service() -> impl Strategy<Value = Service> {
    let what = (service_name(), text(), vec(ip(), 0..3), location());
    let how = (vec(service_port(), 0..3), 1..=1000u32, vec(cluster().prop_map(Arc::new), 0..3));
    (what, how).prop_map(|((name, short_name, addresses, location), (ports, slices, clusters))| Service {
        name,
        short_name,
        addresses,
        location,
        ports,
        slices,
        clusters,
    })
}

fn location() -> impl Strategy<Value = Location> {
    prop_oneof![Just(Location::Internal), Just(Location::External)]
}

fn service_port() -> impl Strategy<Value = ServicePort> {
    let rules = vec(http_rule().prop_map(Arc::new), 0..3).prop_map(|rules| HttpRoutes { rules });
    let parts = (port(), text(), protocol(), rules, vec(tcp_rule().prop_map(Arc::new), 0..2));
    parts.prop_map(|(number, name, protocol, http, tcp)| ServicePort { number, name, protocol, http, tcp })
}
