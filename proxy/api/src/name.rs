//! Names of resources as texts: what `ResourceName` displays, read back strictly.
//!
//! A name has one spelling only, so that two names that differ never mean one resource.

use std::net::SocketAddr;

use weft_core::model::name::{AddressKey, ResourceName, ServiceName, SliceName};

use crate::limits::{MAX_HOST_BYTES, MAX_NAMESPACE_BYTES};
use crate::pb::config::ResourceType;

/// The types of resources, in the order in which a sidecar needs them.
pub const TYPES: [ResourceType; 4] =
    [ResourceType::Workload, ResourceType::Address, ResourceType::Service, ResourceType::Endpoints];

/// A text that names no resource of the type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no name of {}: it is written as {}", kind.as_str_name(), form(*kind))]
pub struct NameError {
    kind: ResourceType,
    text: String,
}

/// The type of the resource that a name names.
pub fn type_of(name: &ResourceName) -> ResourceType {
    match name {
        ResourceName::Workload => ResourceType::Workload,
        ResourceName::Address(_) => ResourceType::Address,
        ResourceName::Service(_) => ResourceType::Service,
        ResourceName::Endpoints(_) => ResourceType::Endpoints,
    }
}

/// The type of a number on the wire.
pub fn known_type(number: i32) -> Option<ResourceType> {
    TYPES.into_iter().find(|kind| *kind as i32 == number)
}

/// A type's place in [`TYPES`].
pub fn index_of(kind: ResourceType) -> usize {
    TYPES.iter().position(|known| *known == kind).unwrap_or(0)
}

/// Reads a name of one type.
pub fn parse(kind: ResourceType, text: &str) -> Result<ResourceName, NameError> {
    let parsed = match kind {
        ResourceType::Workload => (text == "self").then_some(ResourceName::Workload),
        ResourceType::Address => address(text).map(ResourceName::Address),
        ResourceType::Service => service(text).map(ResourceName::Service),
        ResourceType::Endpoints => slice(text).map(ResourceName::Endpoints),
        ResourceType::Unspecified => None,
    };
    let canonical = parsed.filter(|name| name.to_string() == text);
    canonical.ok_or_else(|| NameError { kind, text: text.chars().take(300).collect() })
}

/// Whether a namespace may stand in a name: lower-case letters, digits, `-` and `.`.
pub fn is_namespace(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.');
    (1..=MAX_NAMESPACE_BYTES).contains(&text.len()) && text.bytes().all(allowed)
}

/// Whether a host may stand in a name: what a namespace may, and `_` and `*`.
pub fn is_host(text: &str) -> bool {
    let allowed =
        |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.' | b'_' | b'*');
    (1..=MAX_HOST_BYTES).contains(&text.len()) && text.bytes().all(allowed)
}

fn address(text: &str) -> Option<AddressKey> {
    let address: SocketAddr = text.parse().ok()?;
    Some(AddressKey::new(address.ip(), address.port()))
}

fn service(text: &str) -> Option<ServiceName> {
    let (namespace, host) = text.split_once('/')?;
    (is_namespace(namespace) && is_host(host)).then(|| ServiceName::new(namespace, host))
}

fn slice(text: &str) -> Option<SliceName> {
    let (name, number) = text.split_once('#')?;
    Some(SliceName { service: service(name)?, slice: number.parse().ok()? })
}

fn form(kind: ResourceType) -> &'static str {
    match kind {
        ResourceType::Workload => "`self`",
        ResourceType::Address => "`10.96.0.10:80` or `[fd00::1]:80`",
        ResourceType::Service => "`namespace/host`",
        ResourceType::Endpoints => "`namespace/host#0`",
        ResourceType::Unspecified => "nothing",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_shown() {
        let service = ServiceName::new("default", "*.example.com");
        for name in [
            ResourceName::Workload,
            ResourceName::Address(AddressKey::new([10, 0, 0, 1].into(), 0)),
            ResourceName::Address(AddressKey::new("fd00::1".parse().unwrap(), 8080)),
            ResourceName::Service(service.clone()),
            ResourceName::Endpoints(SliceName { service, slice: 7 }),
        ] {
            assert_eq!(parse(type_of(&name), &name.to_string()), Ok(name));
        }
    }

    #[test]
    fn a_name_has_one_spelling() {
        for (kind, text) in [
            (ResourceType::Workload, ""),
            (ResourceType::Workload, "other"),
            (ResourceType::Address, "10.0.0.1"),
            (ResourceType::Address, "10.0.0.1:080"),
            (ResourceType::Address, "[::ffff:10.0.0.1]:80"),
            (ResourceType::Address, "[fe80::1%2]:80"),
            (ResourceType::Address, "[FD00::1]:80"),
            (ResourceType::Service, "default"),
            (ResourceType::Service, "/a"),
            (ResourceType::Service, "default/"),
            (ResourceType::Service, "default/a/b"),
            (ResourceType::Service, "default/A"),
            (ResourceType::Service, "default/a#0"),
            (ResourceType::Service, "default/a\n"),
            (ResourceType::Endpoints, "default/a"),
            (ResourceType::Endpoints, "default/a#+1"),
            (ResourceType::Endpoints, "default/a#01"),
            (ResourceType::Endpoints, "default/a#4294967296"),
            (ResourceType::Unspecified, "self"),
        ] {
            assert!(parse(kind, text).is_err(), "{text:?}");
        }
        let error = parse(ResourceType::Service, "x").unwrap_err();
        let text = "\"x\" is no name of RESOURCE_TYPE_SERVICE: it is written as `namespace/host`";
        assert_eq!(error.to_string(), text);
    }
}
