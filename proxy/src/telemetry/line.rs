//! Lines of the access log, as bytes: nothing in them can end its quotes or its line.
//!
//! A line costs little more than to copy its bytes: its format is compiled, all values go straight to where the lines
//! gather, the texts of a request are looked over together, and what many lines have in common is written once.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use weft_core::access_log::template::Simple;
use weft_core::model::cluster::Cluster;
use weft_core::reason::Reason;

use super::entry::AccessEntry;
use super::format::{Format, Known, Step, Style, Value, escape};
use super::kept::Span;
use super::room::{BLOCK, Rest, Room};
use super::text::cut;
use crate::clock::rfc3339;

/// Addresses that are remembered, found by their ports: clients' differ by them, and so do our own ends. The kernel
/// takes every other port, one after the other; with room for several such runs they seldom meet.
const ADDRESSES: usize = 1024;
/// The longest address: IPv6 with a scope and a port.
const LONGEST: usize = 64;
/// Bytes of a time.
const STAMP: usize = "1970-01-01T00:00:00.000Z".len();

/// Writes lines, and remembers what one line has in common with others.
#[derive(Debug)]
pub(super) struct Lines {
    /// The time of the last line, as it was written.
    stamp: [u8; BLOCK],
    second: u64,
    addresses: Vec<Written>,
    /// The last cluster, its name, and whether nothing in that has to be escaped.
    cluster: Option<(Arc<Cluster>, String, bool)>,
    /// The last route's name in which nothing has to be escaped.
    route: Arc<str>,
    /// What few lines show.
    rare: String,
}

/// An address, as it is written.
#[derive(Clone, Debug)]
struct Written {
    address: SocketAddr,
    text: [u8; LONGEST],
    used: usize,
}

/// What a step shows of an entry.
enum Shown<'a> {
    Absent,
    Number(u64),
    /// The head of these bytes, so many of them; nothing in it has to be escaped. Where more stands behind it, it is
    /// copied as a block.
    Plain(&'a [u8], usize),
    /// Has to be looked over.
    Text(&'a str),
}

/// An entry, looked over.
#[derive(Clone, Copy)]
struct Looked<'a> {
    entry: &'a AccessEntry,
    /// Nothing that it keeps of what was sent has to be escaped.
    harmless: bool,
}

// === impl Lines ===

impl Default for Lines {
    fn default() -> Self {
        let nowhere = Written::of(([0, 0, 0, 0], 0).into());
        Self {
            stamp: [0; BLOCK],
            second: u64::MAX,
            addresses: vec![nowhere; ADDRESSES],
            cluster: None,
            route: Arc::default(),
            rare: String::new(),
        }
    }
}

impl Lines {
    /// Appends the line of an entry.
    pub(super) fn write(&mut self, room: &mut Room, entry: &AccessEntry, format: &Format) {
        let looked = Looked { entry, harmless: is_harmless(entry.texts()) };
        room.write(|rest| {
            for step in &format.steps {
                self.step(rest, looked, step)?;
            }
            rest.constant(&format.end)
        });
    }

    /// The format of all entries of the kind of this one: those in which the same values are present, and which have
    /// [what is of a kind](Value::is_of_the_kind) in common.
    #[cold]
    pub(super) fn format_of_kind(&mut self, entry: &AccessEntry, format: &Format) -> Format {
        let looked = Looked { entry, harmless: is_harmless(entry.texts()) };
        format.knowing(|step| self.known(looked, step))
    }

    fn known(&mut self, looked: Looked<'_>, step: &Step) -> Known {
        if step.value.is_chosen() || step.other.is_some() {
            return Known::Nothing;
        }
        if !step.value.is_of_the_kind() && !matches!(self.shown(looked, &step.value), Shown::Absent) {
            return Known::Present;
        }
        let mut room = Room::default();
        room.write(|rest| self.other(rest, looked, step));
        Known::Value(room.written().to_vec())
    }

    #[inline(always)]
    fn step(&mut self, rest: &mut Rest<'_>, looked: Looked<'_>, step: &Step) -> Option<()> {
        match self.shown(looked, &step.value) {
            Shown::Plain(bytes, length) => {
                rest.constant(&step.before)?;
                rest.head(bytes, length.min(step.most))?;
                if step.quoted { rest.push(b'"') } else { Some(()) }
            }
            Shown::Number(number) => {
                rest.constant(&step.before)?;
                rest.number(number)
            }
            Shown::Text(text) => put_text(rest, step, text),
            Shown::Absent => match &step.other {
                None => rest.constant(&step.absent),
                Some(other) => self.other(rest, looked, other),
            },
        }
    }

    #[inline(never)]
    fn other(&mut self, rest: &mut Rest<'_>, looked: Looked<'_>, step: &Step) -> Option<()> {
        self.step(rest, looked, step)
    }

    #[inline(always)]
    fn shown<'a>(&'a mut self, looked: Looked<'a>, value: &Value) -> Shown<'a> {
        let entry = looked.entry;
        match value {
            Value::Simple(simple) => self.simple(entry, *simple),
            Value::Text(text) => looked.sent(entry.span(*text)),
            Value::RequestHeader(name) => looked.sent(entry.request_header(name)),
            Value::ResponseHeader(name) => looked.sent(entry.response_header(name)),
            Value::Scheme => plain(if entry.protocol.is_empty() { "" } else { "http" }),
            Value::ServiceTime => number(entry.upstream_service_time.map(millis)),
            Value::Nothing => Shown::Absent,
        }
    }

    #[inline(always)]
    fn simple<'a>(&'a mut self, entry: &'a AccessEntry, simple: Simple) -> Shown<'a> {
        match simple {
            Simple::StartTime => self.stamp(entry.start_time),
            Simple::ResponseCode => Shown::Number(entry.outcome.status.into()),
            Simple::BytesReceived => Shown::Number(entry.bytes_received),
            Simple::BytesSent => Shown::Number(entry.bytes_sent),
            Simple::Duration => Shown::Number(millis(entry.took)),
            Simple::GrpcStatus | Simple::GrpcStatusNumber => number(entry.outcome.grpc_status.map(u64::from)),
            Simple::UpstreamHost | Simple::UpstreamRemoteAddress => self.address(entry.upstream_host),
            Simple::UpstreamLocalAddress => self.address(entry.upstream_local_address),
            Simple::DownstreamLocalAddress => self.address(entry.downstream_local_address),
            Simple::DownstreamRemoteAddress => self.address(entry.downstream_remote_address),
            Simple::DownstreamRemoteAddressWithoutPort => {
                self.rare(entry.downstream_remote_address.map(|address| address.ip().to_string()))
            }
            Simple::UpstreamCluster | Simple::UpstreamClusterRaw => {
                self.cluster(entry.upstream_cluster.as_ref())
            }
            Simple::RouteName => self.route(&entry.route_name),
            Simple::TraceId => {
                self.rare(entry.trace_id.map(|id| format!("{:032x}", u128::from_be_bytes(id))))
            }
            simple => simple_text(entry, simple),
        }
    }

    /// A time as RFC 3339 writes it, in UTC, with milliseconds.
    fn stamp(&mut self, time: SystemTime) -> Shown<'_> {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        if self.second != since.as_secs() {
            self.second = since.as_secs();
            let text = rfc3339(UNIX_EPOCH + Duration::from_secs(self.second));
            self.stamp[..STAMP].copy_from_slice(text.as_bytes().get(..STAMP).unwrap_or(&[b'-'; STAMP]));
        }
        let millis = since.subsec_millis();
        for (at, unit) in [(20, 100), (21, 10), (22, 1)] {
            self.stamp[at] = b'0' + (millis / unit % 10) as u8;
        }
        Shown::Plain(&self.stamp, STAMP)
    }

    fn address(&mut self, address: Option<SocketAddr>) -> Shown<'_> {
        let Some(address) = address else { return Shown::Absent };
        let written = &mut self.addresses[usize::from(address.port()) % ADDRESSES];
        if written.address != address {
            *written = Written::of(address);
        }
        Shown::Plain(&written.text, written.used)
    }

    /// A cluster's name: requests for the same one often follow each other.
    fn cluster(&mut self, cluster: Option<&Arc<Cluster>>) -> Shown<'_> {
        let Some(cluster) = cluster else { return Shown::Absent };
        if !self.cluster.as_ref().is_some_and(|(known, ..)| Arc::ptr_eq(known, cluster)) {
            let name = cluster.name.to_string();
            let harmless = is_harmless(name.as_bytes());
            self.cluster = Some((Arc::clone(cluster), name, harmless));
        }
        match &self.cluster {
            Some((_, name, true)) => plain(name),
            Some((_, name, false)) => text(name),
            None => Shown::Absent,
        }
    }

    /// A route's name, likewise.
    fn route<'a>(&mut self, route: &'a Arc<str>) -> Shown<'a> {
        if Arc::ptr_eq(&self.route, route) {
            return plain(route);
        }
        if is_harmless(route.as_bytes()) {
            self.route = Arc::clone(route);
        }
        text(route)
    }

    #[cold]
    fn rare(&mut self, text: Option<String>) -> Shown<'_> {
        self.rare = text.unwrap_or_default();
        plain(&self.rare)
    }
}

impl Written {
    #[cold]
    fn of(address: SocketAddr) -> Self {
        let mut text = [0; LONGEST];
        let mut left = &mut text[..];
        // The longest one fits.
        let _ = write!(left, "{address}");
        let used = LONGEST - left.len();
        Self { address, text, used }
    }
}

// === values ===

impl<'a> Looked<'a> {
    /// What was sent, and is kept by the entry.
    #[inline(always)]
    fn sent(self, span: Span) -> Shown<'a> {
        let (texts, length) = (self.entry.texts(), span.length());
        match texts.get(span.start as usize..) {
            Some(_) if length == 0 => Shown::Absent,
            Some(bytes) if self.harmless => Shown::Plain(bytes, length),
            _ => text(self.entry.at(span)),
        }
    }
}

#[inline(always)]
fn simple_text(entry: &AccessEntry, simple: Simple) -> Shown<'_> {
    match simple {
        Simple::Protocol => plain(entry.protocol),
        Simple::ResponseCodeDetails => plain(entry.details()),
        Simple::ResponseFlags => plain(entry.outcome.flags()),
        Simple::Reason => plain(entry.outcome.reason.map_or("", Reason::name)),
        // An identity has letters, digits and a few signs that need no care.
        Simple::DownstreamPeerUriSan => plain(entry.source_principal.as_ref().map_or("", |id| id.as_str())),
        Simple::Policy => text(entry.policy.as_deref().unwrap_or_default()),
        _ => Shown::Absent,
    }
}

#[inline(always)]
fn plain(text: &str) -> Shown<'_> {
    if text.is_empty() { Shown::Absent } else { Shown::Plain(text.as_bytes(), text.len()) }
}

#[inline(always)]
fn text(text: &str) -> Shown<'_> {
    if text.is_empty() { Shown::Absent } else { Shown::Text(text) }
}

#[inline(always)]
fn number(number: Option<u64>) -> Shown<'static> {
    number.map_or(Shown::Absent, Shown::Number)
}

fn millis(time: Duration) -> u64 {
    time.as_secs().saturating_mul(1000).saturating_add(time.subsec_millis().into())
}

// === bytes ===

/// A text that is not known to be harmless.
#[inline(never)]
fn put_text(rest: &mut Rest<'_>, step: &Step, text: &str) -> Option<()> {
    let text = cut(text, step.most);
    rest.constant(&step.before)?;
    if is_harmless(text.as_bytes()) {
        rest.copy(text.as_bytes())?
    } else {
        rest.copy(&escaped(step.style, text))?
    }
    if step.quoted { rest.push(b'"') } else { Some(()) }
}

/// A text so that it can neither end its quotes nor its line.
#[cold]
fn escaped(style: Style, text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(2 * text.len());
    match style {
        Style::Text => escape_text(&mut out, text),
        Style::Json | Style::Part => escape(&mut out, text),
    }
    out
}

fn escape_text(out: &mut Vec<u8>, text: &str) {
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend_from_slice(&[b'\\', c as u8]),
            c if c.is_control() => {
                // Into memory: it cannot fail.
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

/// Whether nothing in a text has to be escaped. It is looked at by blocks, the last of which may begin within another.
fn is_harmless(text: &[u8]) -> bool {
    let Some(last) = text.last_chunk() else { return text.iter().copied().all(is_harmless_byte) };
    is_harmless_block(last) && text.as_chunks().0.iter().all(is_harmless_block)
}

/// Every byte is looked at: without a way out, all are at a time.
fn is_harmless_block(block: &[u8; 16]) -> bool {
    block.iter().fold(true, |all, byte| all & is_harmless_byte(*byte))
}

fn is_harmless_byte(byte: u8) -> bool {
    (0x20..0x7f).contains(&byte) & (byte != b'"') & (byte != b'\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_byte_anywhere_is_found() {
        for length in 0..70 {
            let harmless = vec![b'x'; length];
            assert!(is_harmless(&harmless));
            for (at, byte) in (0..length).flat_map(|at| b"\"\\\n\x7f\x80\xff".map(|byte| (at, byte))) {
                let mut text = harmless.clone();
                text[at] = byte;
                assert!(!is_harmless(&text), "{byte} at {at} of {length}");
            }
        }
    }
}
