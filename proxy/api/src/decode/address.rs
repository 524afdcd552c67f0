//! What addresses mean.

use weft_core::model::address::{Address, AddressedWorkload, Meaning};
use weft_core::model::name::AddressKey;

use super::common::{binding, identity, metadata, port_ref, protocol};
use super::value::{self, At, Result, chosen, fail, list, message, network, optional, required};
use crate::limits::MAX_VALUES;
use crate::pb::config as pb;

/// Decodes the answer for an address.
pub fn address(body: &[u8]) -> Result<Address> {
    let message: pb::Address = message(body)?;
    let key = required(message.key.as_ref()).and_then(key).at("key")?;
    Ok(Address { key, meaning: chosen(message.meaning.as_ref()).and_then(|it| meaning(key, it))? })
}

fn key(key: &pb::SocketAddress) -> Result<AddressKey> {
    let address = value::address(key)?;
    let key = AddressKey::new(address.ip(), address.port());
    if key.ip == address.ip() { Ok(key) } else { fail("an IPv4 address written as IPv6").at("ip") }
}

fn meaning(key: AddressKey, meaning: &pb::address::Meaning) -> Result<Meaning> {
    use pb::address::Meaning as In;
    Ok(match meaning {
        In::Service(port) => Meaning::Service(port_ref(port).at("service")?),
        In::Workload(workload) => Meaning::Workload(Box::new(addressed(workload).at("workload")?)),
        In::Shared(shared) => Meaning::Shared(bindings(shared).at("shared")?),
        In::Nothing(prefix) => nothing(key, prefix).at("nothing")?,
    })
}

fn bindings(shared: &pb::SharedAddress) -> Result<Vec<weft_core::model::address::HostBinding>> {
    if shared.bindings.is_empty() {
        return fail("empty").at("bindings");
    }
    list("bindings", &shared.bindings, MAX_VALUES, binding)
}

fn nothing(key: AddressKey, prefix: &pb::Network) -> Result<Meaning> {
    let prefix = network(prefix)?;
    if prefix.contains(&key.ip) {
        return Ok(Meaning::Nothing { prefix });
    }
    fail(format!("{prefix} does not hold {}", key.ip))
}

fn addressed(workload: &pb::AddressedWorkload) -> Result<AddressedWorkload> {
    Ok(AddressedWorkload {
        identity: optional("identity", workload.identity.as_ref(), |uri| identity(uri))?,
        meshed: workload.meshed,
        metadata: metadata(workload.metadata.as_ref()).at("metadata")?,
        services: list("services", &workload.services, MAX_VALUES, binding)?,
        headless: optional("headless", workload.headless.as_ref(), port_ref)?,
        protocol: protocol(workload.protocol).at("protocol")?,
    })
}
