//! Single values: numbers, texts, addresses, times, lists of things.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode};
use ipnet::IpNet;
use prost::Message;

use crate::error::DecodeError;
use crate::limits::{MAX_DURATION, MAX_RESOURCE_BYTES, MAX_TEXT_BYTES};
use crate::name::{is_host, is_namespace};
use crate::pb::config as pb;

pub(super) type Result<T> = std::result::Result<T, DecodeError>;

/// Adds a field's name to an error's path.
pub(super) trait At<T> {
    fn at(self, field: &str) -> Result<T>;
}

impl<T> At<T> for Result<T> {
    fn at(self, field: &str) -> Result<T> {
        self.map_err(|error| error.in_field(field))
    }
}

/// Reads a whole message.
pub(super) fn message<M: Message + Default>(body: &[u8]) -> Result<M> {
    if body.len() > MAX_RESOURCE_BYTES {
        return fail(format!("{} bytes, more than {MAX_RESOURCE_BYTES}", body.len()));
    }
    M::decode(body).map_err(|error| DecodeError::invalid(format!("not encoded as it should be: {error}")))
}

pub(super) fn fail<T>(reason: impl std::fmt::Display) -> Result<T> {
    Err(DecodeError::invalid(reason))
}

/// A message that must be there.
pub(super) fn required<T>(value: Option<&T>) -> Result<&T> {
    value.ok_or_else(|| DecodeError::invalid("missing"))
}

/// A choice that must be made; one that is missing may be one that this version does not know.
pub(super) fn chosen<T>(value: Option<&T>) -> Result<&T> {
    value.ok_or_else(|| DecodeError::not_understood("says nothing that this version knows"))
}

/// A number that stands for one of a few things; 0 never does.
pub(super) fn variant<E: TryFrom<i32> + Default + PartialEq>(number: i32) -> Result<E> {
    let known =
        E::try_from(number).map_err(|_| DecodeError::not_understood(format!("{number} is unknown")))?;
    if known == E::default() { fail("missing") } else { Ok(known) }
}

/// A field that is a list, each item decoded, at most so many.
pub(super) fn list<M, T>(
    field: &str,
    items: &[M],
    most: usize,
    one: impl Fn(&M) -> Result<T>,
) -> Result<Vec<T>> {
    if items.len() > most {
        return fail(format!("{} items, more than {most}", items.len())).at(field);
    }
    let decoded = items.iter().enumerate().map(|(i, item)| one(item).map_err(|error| error.in_item(i)));
    decoded.collect::<Result<_>>().at(field)
}

/// A field that may be missing.
pub(super) fn optional<M, T>(
    field: &str,
    item: Option<&M>,
    one: impl FnOnce(&M) -> Result<T>,
) -> Result<Option<T>> {
    item.map(one).transpose().at(field)
}

/// Any text within the limit.
pub(super) fn text(text: &str) -> Result<Arc<str>> {
    match text.len() {
        0 => Ok(Arc::default()),
        long if long > MAX_TEXT_BYTES => fail(format!("{long} bytes, more than {MAX_TEXT_BYTES}")),
        _ => Ok(text.into()),
    }
}

/// A text that is not empty and fit to be shown.
pub(super) fn word(value: &str) -> Result<Arc<str>> {
    if value.is_empty() {
        return fail("empty");
    }
    if value.contains(char::is_control) {
        return fail(format!("{value:?} has control characters"));
    }
    text(value)
}

pub(super) fn namespace(value: &str) -> Result<Arc<str>> {
    if is_namespace(value) { Ok(value.into()) } else { fail(format!("{value:?} is no namespace")) }
}

pub(super) fn host(value: &str) -> Result<Arc<str>> {
    if is_host(value) { Ok(value.into()) } else { fail(format!("{value:?} is no host name in lower case")) }
}

/// A host name, or an IPv6 address in brackets.
pub(super) fn domain(value: &str) -> Result<Arc<str>> {
    let inner = value.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if inner.is_some_and(|ip| ip.parse::<std::net::Ipv6Addr>().is_ok()) {
        Ok(value.into())
    } else {
        host(value)
    }
}

pub(super) fn number<T: TryFrom<u32>>(value: u32) -> Result<T> {
    T::try_from(value).map_err(|_| DecodeError::invalid(format!("{value} is too large")))
}

pub(super) fn port(value: u32) -> Result<u16> {
    if value == 0 { fail("0 is no port") } else { number(value) }
}

pub(super) fn at_least(least: u32, value: u32) -> Result<u32> {
    if value < least { fail(format!("{value} is less than {least}")) } else { Ok(value) }
}

pub(super) fn at_most(most: u32, value: u32) -> Result<u32> {
    if value > most { fail(format!("{value} is more than {most}")) } else { Ok(value) }
}

/// A status of HTTP within a range.
pub(super) fn status(value: u32, range: std::ops::RangeInclusive<u32>) -> Result<StatusCode> {
    let known = u16::try_from(value).ok().filter(|_| range.contains(&value));
    let status = known.and_then(|value| StatusCode::from_u16(value).ok());
    status.ok_or_else(|| {
        DecodeError::invalid(format!("{value} is no status from {} to {}", range.start(), range.end()))
    })
}

pub(super) fn duration(nanos: u64) -> Result<Duration> {
    let duration = Duration::from_nanos(nanos);
    if duration > MAX_DURATION {
        fail(format!("{}s is more than ten years", duration.as_secs()))
    } else {
        Ok(duration)
    }
}

/// A duration that is not zero.
pub(super) fn span(nanos: u64) -> Result<Duration> {
    if nanos == 0 { fail("zero") } else { duration(nanos) }
}

pub(super) fn ip(bytes: &[u8]) -> Result<IpAddr> {
    let v4 = || <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    let v6 = || <[u8; 16]>::try_from(bytes).map(IpAddr::from);
    let ip = v4().or_else(|_| v6());
    ip.map_err(|_| DecodeError::invalid(format!("{} bytes are no IP address", bytes.len())))
}

/// An address with any port, 0 too.
pub(super) fn address(it: &pb::SocketAddress) -> Result<SocketAddr> {
    Ok(SocketAddr::new(ip(&it.ip).at("ip")?, number(it.port).at("port")?))
}

/// An address with a port that is not 0.
pub(super) fn socket_address(it: &pb::SocketAddress) -> Result<SocketAddr> {
    port(it.port).at("port")?;
    address(it)
}

pub(super) fn network(it: &pb::Network) -> Result<IpNet> {
    let ip = ip(&it.ip).at("ip")?;
    let prefix = number(it.prefix_length).at("prefix_length")?;
    let network = IpNet::new(ip, prefix).map_err(|_| {
        DecodeError::invalid(format!("{prefix} bits are more than {ip} has")).in_field("prefix_length")
    })?;
    if network.network() == ip { Ok(network) } else { fail(format!("{network} has bits beyond its prefix")) }
}

pub(super) fn header_name(name: &str) -> Result<HeaderName> {
    text(name)?;
    HeaderName::from_lowercase(name.as_bytes())
        .map_err(|_| DecodeError::invalid(format!("{name:?} is no header name in lower case")))
}

pub(super) fn header_value(value: &[u8]) -> Result<HeaderValue> {
    if value.len() > MAX_TEXT_BYTES {
        return fail(format!("{} bytes, more than {MAX_TEXT_BYTES}", value.len()));
    }
    HeaderValue::from_bytes(value)
        .map_err(|_| DecodeError::invalid("no header value: it has control characters"))
}
