//! Addresses.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use weft_core::model::address::{Address, AddressedWorkload, Meaning};

use super::value::{address_key, binding, identity, metadata, port_ref, protocol};

/// The answer for an address.
pub fn address() -> impl Strategy<Value = Address> {
    (address_key(), meaning(), 0..=32u8).prop_map(|(key, meaning, bits)| Address {
        key,
        meaning: meaning.unwrap_or_else(|| Meaning::Nothing {
            prefix: ipnet::IpNet::new(key.ip, bits).expect("a prefix within any address").trunc(),
        }),
    })
}

/// What it means, if it means something.
fn meaning() -> impl Strategy<Value = Option<Meaning>> {
    option::weighted(
        0.8,
        prop_oneof![
            port_ref().prop_map(Meaning::Service),
            addressed().prop_map(|it| Meaning::Workload(Box::new(it))),
            vec(binding(), 1..3).prop_map(Meaning::Shared),
        ],
    )
}

fn addressed() -> impl Strategy<Value = AddressedWorkload> {
    let parts = (
        option::of(identity()),
        any::<bool>(),
        metadata(),
        vec(binding(), 0..3),
        option::of(port_ref()),
        protocol(),
    );
    parts.prop_map(|(identity, meshed, metadata, services, headless, protocol)| AddressedWorkload {
        identity,
        meshed,
        metadata,
        services,
        headless,
        protocol,
    })
}
