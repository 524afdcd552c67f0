//! What addresses mean.

use std::net::SocketAddr;

use weft_core::model::address::{Address, AddressedWorkload, Meaning};

use super::common::{bindings, metadata, network, port_ref, protocol, socket_address};
use crate::encoded::Encoded;
use crate::pb::config as pb;

/// Encodes the answer for an address.
pub fn address(address: &Address) -> Encoded {
    let key = socket_address(SocketAddr::new(address.key.ip, address.key.port));
    Encoded::of(&pb::Address { key: Some(key), meaning: Some(meaning(&address.meaning)) })
}

fn meaning(meaning: &Meaning) -> pb::address::Meaning {
    use pb::address::Meaning as Out;
    match meaning {
        Meaning::Service(port) => Out::Service(port_ref(port)),
        Meaning::Workload(workload) => Out::Workload(Box::new(addressed(workload))),
        Meaning::Shared(list) => Out::Shared(pb::SharedAddress { bindings: bindings(list) }),
        Meaning::Nothing { prefix } => Out::Nothing(network(prefix)),
    }
}

fn addressed(workload: &AddressedWorkload) -> pb::AddressedWorkload {
    pb::AddressedWorkload {
        identity: workload.identity.as_ref().map(ToString::to_string),
        meshed: workload.meshed,
        metadata: metadata(&workload.metadata),
        services: bindings(&workload.services),
        headless: workload.headless.as_ref().map(port_ref),
        protocol: protocol(workload.protocol),
    }
}
