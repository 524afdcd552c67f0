//! Services.

use weft_core::model::name::ServiceName;
use weft_core::model::service::{Location, Service, ServicePort};

use super::{Context, cluster, endpoint, route, scope};
use crate::fragment::kubernetes::Service as Fragment;

/// A service as a client sees it. One that it does not see, or that does not exist, has no ports and no clusters:
/// routes that name it answer `no_cluster`.
pub fn service(context: Context<'_>, name: &ServiceName) -> Service {
    match scope::seen_service(context, &name.host).filter(|s| s.meta.name.namespace == name.namespace) {
        Some(fragment) => known(context, name, fragment),
        None => unknown(name),
    }
}

fn known(context: Context<'_>, name: &ServiceName, fragment: &Fragment) -> Service {
    let objects = route::applicable(context, name, fragment);
    let ports = fragment.ports.iter().map(|port| ServicePort {
        number: port.number,
        name: port.name.clone(),
        protocol: port.protocol,
        http: route::http(context, &objects, port.number),
        tcp: route::tcp(context, &objects, port.number),
    });
    Service {
        name: name.clone(),
        short_name: fragment.meta.name.name.clone(),
        addresses: fragment.addresses.clone(),
        location: Location::Internal,
        ports: ports.collect(),
        slices: endpoint::slices(endpoint::count(context.world, fragment)),
        clusters: cluster::clusters(context, name, fragment),
    }
}

fn unknown(name: &ServiceName) -> Service {
    Service {
        name: name.clone(),
        short_name: name.host.split('.').next().unwrap_or_default().into(),
        addresses: Vec::new(),
        location: Location::Internal,
        ports: Vec::new(),
        slices: 1,
        clusters: Vec::new(),
    }
}
