//! Names, texts, numbers, times.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use ipnet::IpNet;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use weft_core::identity::SpiffeId;
use weft_core::matching::{Pattern, StringMatch, Wildcard};
use weft_core::model::address::{HostBinding, ServicePortRef};
use weft_core::model::metadata::{Labels, Locality, WorkloadMetadata};
use weft_core::model::name::{AddressKey, ClusterName, ObjectName, ResourceName, ServiceName, SliceName};
use weft_core::model::protocol::Protocol;

/// Any text, also an empty one.
pub fn text() -> impl Strategy<Value = Arc<str>> + Clone {
    "[ -~é]{0,8}".prop_map(Arc::from)
}

/// A text that is not empty.
pub fn word() -> impl Strategy<Value = Arc<str>> + Clone {
    "[a-zA-Z0-9./-]{1,8}".prop_map(Arc::from)
}

/// A namespace.
pub fn namespace() -> impl Strategy<Value = Arc<str>> + Clone {
    "[a-z]{1,5}".prop_map(Arc::from)
}

/// A host name, also a wildcard.
pub fn host() -> impl Strategy<Value = Arc<str>> + Clone {
    "(\\*\\.)?[a-z0-9]{1,5}(\\.[a-z_-]{1,4}){0,2}".prop_map(Arc::from)
}

/// A port.
pub fn port() -> impl Strategy<Value = u16> + Clone {
    1..=u16::MAX
}

/// An address of either family.
pub fn ip() -> impl Strategy<Value = IpAddr> + Clone {
    let v4 = any::<[u8; 4]>().prop_map(|it| IpAddr::V4(Ipv4Addr::from(it)));
    let v6 = any::<[u8; 15]>().prop_map(|it| {
        let mut octets = [0xfd; 16];
        octets[1..].copy_from_slice(&it);
        IpAddr::V6(Ipv6Addr::from(octets))
    });
    prop_oneof![v4, v6]
}

/// An address and a port.
pub fn socket_address() -> impl Strategy<Value = SocketAddr> + Clone {
    (ip(), port()).prop_map(SocketAddr::from)
}

/// A network without bits beyond its prefix.
pub fn network() -> impl Strategy<Value = IpNet> + Clone {
    (ip(), 0..=128u8).prop_map(|(ip, bits)| {
        let bits = if ip.is_ipv4() { bits.min(32) } else { bits };
        IpNet::new(ip, bits).expect("a prefix within the address").trunc()
    })
}

/// A time that is not zero, to the nanosecond, up to ten years.
pub fn span() -> impl Strategy<Value = Duration> + Clone {
    prop_oneof![1..5_000_000_000u64, 1..=315_360_000_000_000_000u64].prop_map(Duration::from_nanos)
}

/// A time.
pub fn duration() -> impl Strategy<Value = Duration> + Clone {
    prop_oneof![1 => Just(Duration::ZERO), 5 => span()]
}

/// A service's name.
pub fn service_name() -> impl Strategy<Value = ServiceName> + Clone {
    (namespace(), host()).prop_map(|(namespace, host)| ServiceName { namespace, host })
}

/// A port of a service.
pub fn port_ref() -> impl Strategy<Value = ServicePortRef> + Clone {
    (service_name(), port()).prop_map(|(service, port)| ServicePortRef { service, port })
}

/// A cluster's name.
pub fn cluster_name() -> impl Strategy<Value = ClusterName> + Clone {
    let parts = (service_name(), port(), option::of(word()));
    parts.prop_map(|(service, port, subset)| ClusterName { service, port, subset })
}

/// An object's name.
pub fn object_name() -> impl Strategy<Value = ObjectName> + Clone {
    (namespace(), word()).prop_map(|(namespace, name)| ObjectName { namespace, name })
}

/// A resource's name.
pub fn resource_name() -> impl Strategy<Value = ResourceName> + Clone {
    prop_oneof![
        Just(ResourceName::Workload),
        address_key().prop_map(ResourceName::Address),
        service_name().prop_map(ResourceName::Service),
        slice_name().prop_map(ResourceName::Endpoints),
    ]
}

/// An address that may be asked for.
pub fn address_key() -> impl Strategy<Value = AddressKey> + Clone {
    (ip(), any::<u16>()).prop_map(|(ip, port)| AddressKey::new(ip, port))
}

/// A slice's name.
pub fn slice_name() -> impl Strategy<Value = SliceName> + Clone {
    (service_name(), 0..1000u32).prop_map(|(service, slice)| SliceName { service, slice })
}

/// Labels, sorted.
pub fn labels() -> impl Strategy<Value = Labels> + Clone {
    btree_map(word(), text(), 0..3).prop_map(|labels| labels.into_iter().collect())
}

/// A locality, often empty.
pub fn locality() -> impl Strategy<Value = Locality> + Clone {
    let full =
        (text(), text(), text()).prop_map(|(region, zone, subzone)| Locality { region, zone, subzone });
    prop_oneof![Just(Locality::default()), full]
}

/// Metadata, often empty.
pub fn metadata() -> impl Strategy<Value = Arc<WorkloadMetadata>> + Clone {
    let full = [(); 8].map(|()| text()).prop_map(|it| {
        let [workload, namespace, pod, canonical_service, canonical_revision, app, version, cluster] = it;
        WorkloadMetadata {
            workload,
            namespace,
            pod,
            canonical_service,
            canonical_revision,
            app,
            version,
            cluster,
        }
    });
    prop_oneof![Just(WorkloadMetadata::default()), full].prop_map(Arc::new)
}

/// A SPIFFE identity.
pub fn identity() -> impl Strategy<Value = SpiffeId> + Clone {
    let uri = "spiffe://[a-z][a-z.]{0,6}/ns/[a-z]{1,4}/sa/[a-z]{1,4}";
    uri.prop_map(|uri| SpiffeId::parse(&uri).expect("a URI of this form is an identity"))
}

/// A protocol.
pub fn protocol() -> impl Strategy<Value = Protocol> + Clone {
    use Protocol::{Auto, Grpc, Http, Http2, Tcp, Tls, Udp};
    prop::sample::select(vec![Auto, Http, Http2, Grpc, Tcp, Tls, Udp])
}

/// A binding of host names.
pub fn binding() -> impl Strategy<Value = HostBinding> + Clone {
    let domain = prop_oneof![5 => host(), 1 => Just(Arc::from("[fd00::1]"))];
    (vec(domain, 0..3), port_ref()).prop_map(|(domains, target)| HostBinding { domains, target })
}

/// A regular expression.
pub fn pattern() -> impl Strategy<Value = &'static str> + Clone {
    prop::sample::select(vec!["", "/api/.*", "a|b", "[0-9]+", "(?i)x(y)"])
}

/// A match on a text.
pub fn string_match() -> impl Strategy<Value = StringMatch> + Clone {
    prop_oneof![
        Just(StringMatch::Present),
        text().prop_map(StringMatch::Exact),
        text().prop_map(StringMatch::Prefix),
        pattern().prop_map(|text| StringMatch::Regex(Pattern::new(text).expect("a valid expression"))),
    ]
}

/// A policy's pattern.
pub fn wildcard() -> impl Strategy<Value = Wildcard> + Clone {
    prop_oneof![
        Just(Wildcard::Present),
        text().prop_map(Wildcard::Exact),
        text().prop_map(Wildcard::Prefix),
        text().prop_map(Wildcard::Suffix),
    ]
}

/// A header's name.
pub fn header_name() -> impl Strategy<Value = HeaderName> + Clone {
    "[a-z][a-z0-9-]{0,6}".prop_map(|name| HeaderName::try_from(name).expect("a valid name"))
}

/// A header's value, with bytes beyond ASCII.
pub fn header_value() -> impl Strategy<Value = HeaderValue> + Clone {
    let byte = prop_oneof![0x20..0x7fu8, 0x80..=0xffu8];
    vec(byte, 0..6).prop_map(|bytes| HeaderValue::from_bytes(&bytes).expect("a valid value"))
}
