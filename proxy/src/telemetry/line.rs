//! Lines of the access log, as bytes: nothing in them can end its quotes or its line.
//!
//! A line costs little more than to copy its bytes: its format is compiled, all values go straight to where the lines
//! gather, and the texts of a request are looked over together.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use weft_core::access_log::template::Simple;
use weft_core::model::name::ClusterName;
use weft_core::reason::Reason;

use super::entry::AccessEntry;
use super::format::{Format, Step, Style, Value, escape};
use super::text::cut;
use crate::clock::rfc3339;

/// Writes lines, and remembers what one line has in common with the next.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// The time of the last line, as it was written.
    stamp: Vec<u8>,
    second: u64,
}

/// A line while it is written.
struct Line<'a> {
    out: &'a mut Vec<u8>,
    /// Nothing that the entry keeps of what was sent has to be escaped.
    harmless: bool,
}

/// The value of an entry.
enum Shown<'a> {
    Absent,
    /// What was sent, and kept by the entry.
    Sent(&'a str),
    Text(&'a str),
    Number(u64),
    Address(SocketAddr),
    Ip(IpAddr),
    Cluster(&'a ClusterName),
    Trace(u128),
    Time(SystemTime),
}

// === impl Lines ===

impl Lines {
    /// Appends the line of an entry.
    pub(super) fn write(&mut self, out: &mut Vec<u8>, entry: &AccessEntry, format: &Format) {
        let mut line = Line { out, harmless: is_harmless(entry.texts()) };
        for step in &format.steps {
            step.before.write(line.out);
            match shown(entry, step) {
                Shown::Time(time) => line.quoted(step.style, self.stamp(time)),
                value => line.put(value, step),
            }
        }
        format.end.write(line.out);
    }

    /// A time as RFC 3339 writes it, in UTC, with milliseconds.
    fn stamp(&mut self, time: SystemTime) -> &[u8] {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        if self.stamp.is_empty() || self.second != since.as_secs() {
            self.second = since.as_secs();
            self.stamp = rfc3339(UNIX_EPOCH + Duration::from_secs(self.second)).into_bytes();
        }
        let mut left = since.subsec_millis();
        for digit in self.stamp.iter_mut().rev().skip(1).take(3) {
            *digit = b'0' + (left % 10) as u8;
            left /= 10;
        }
        &self.stamp
    }
}

// === impl Line ===

impl Line<'_> {
    fn put(&mut self, value: Shown<'_>, step: &Step) {
        match value {
            Shown::Absent if step.style == Style::Json => self.out.extend_from_slice(b"null"),
            Shown::Absent => self.out.push(b'-'),
            Shown::Sent(text) if self.harmless => self.quoted(step.style, cut(text, step.most).as_bytes()),
            Shown::Sent(text) | Shown::Text(text) => self.text(step.style, cut(text, step.most)),
            Shown::Number(number) => self.number(number),
            Shown::Address(address) => self.address(step.style, address),
            Shown::Cluster(name) => self.cluster(step.style, name),
            Shown::Ip(ip) => self.made(step.style, format_args!("{ip}")),
            Shown::Trace(id) => self.made(step.style, format_args!("{id:032x}")),
            Shown::Time(_) => {}
        }
    }

    /// What needs no care, in quotes where the style asks for them.
    fn quoted(&mut self, style: Style, bytes: &[u8]) {
        self.quote(style);
        self.out.extend_from_slice(bytes);
        self.quote(style);
    }

    fn quote(&mut self, style: Style) {
        if style == Style::Json {
            self.out.push(b'"');
        }
    }

    /// A text that can neither end its quotes nor its line.
    fn text(&mut self, style: Style, text: &str) {
        self.quote(style);
        match style {
            _ if is_harmless(text) => self.out.extend_from_slice(text.as_bytes()),
            Style::Text => escape_text(self.out, text),
            Style::Json | Style::Part => escape(self.out, text),
        }
        self.quote(style);
    }

    fn number(&mut self, mut number: u64) {
        let mut digits = [0; 20];
        let mut at = digits.len();
        while number >= 10 {
            at -= 1;
            digits[at] = b'0' + (number % 10) as u8;
            number /= 10;
        }
        self.out.push(b'0' + number as u8);
        self.out.extend_from_slice(&digits[at..]);
    }

    fn address(&mut self, style: Style, address: SocketAddr) {
        let SocketAddr::V4(v4) = address else { return self.made(style, format_args!("{address}")) };
        self.quote(style);
        for octet in v4.ip().octets() {
            let (text, length) = &OCTETS[usize::from(octet)];
            let end = self.out.len() + usize::from(*length);
            self.out.extend_from_slice(text);
            self.out.truncate(end);
        }
        self.out.pop();
        self.out.push(b':');
        self.number(v4.port().into());
        self.quote(style);
    }

    /// As its `Display` writes it.
    fn cluster(&mut self, style: Style, name: &ClusterName) {
        self.quote(style);
        self.out.extend_from_slice(b"outbound|");
        self.number(name.port.into());
        self.out.push(b'|');
        self.text(Style::Part, name.subset.as_deref().unwrap_or_default());
        self.out.push(b'|');
        self.text(Style::Part, &name.service.host);
        self.quote(style);
    }

    fn made(&mut self, style: Style, text: std::fmt::Arguments<'_>) {
        self.quote(style);
        // Into memory: it cannot fail.
        let _ = self.out.write_fmt(text);
        self.quote(style);
    }
}

// === values ===

fn shown<'a>(entry: &'a AccessEntry, step: &Step) -> Shown<'a> {
    match (value(entry, &step.value), &step.other) {
        (Shown::Absent, Some(other)) => other_value(entry, other),
        (shown, _) => shown,
    }
}

#[cold]
fn other_value<'a>(entry: &'a AccessEntry, other: &Value) -> Shown<'a> {
    value(entry, other)
}

#[inline(always)]
fn value<'a>(entry: &'a AccessEntry, value: &Value) -> Shown<'a> {
    match value {
        Value::Simple(simple) => simple_value(entry, *simple),
        Value::Text(text) => sent(entry.get(*text)),
        Value::RequestHeader(name) => sent(entry.request_header(name)),
        Value::ResponseHeader(name) => sent(entry.response_header(name)),
        Value::Scheme => text(if entry.protocol.is_empty() { "" } else { "http" }),
        Value::ServiceTime => {
            entry.upstream_service_time.map_or(Shown::Absent, |took| Shown::Number(took.as_millis() as u64))
        }
        Value::Nothing => Shown::Absent,
    }
}

fn sent(text: &str) -> Shown<'_> {
    if text.is_empty() { Shown::Absent } else { Shown::Sent(text) }
}

fn text(text: &str) -> Shown<'_> {
    if text.is_empty() { Shown::Absent } else { Shown::Text(text) }
}

fn simple_value(entry: &AccessEntry, simple: Simple) -> Shown<'_> {
    let address = |address: Option<SocketAddr>| address.map_or(Shown::Absent, Shown::Address);
    match simple {
        Simple::StartTime => Shown::Time(entry.start_time),
        Simple::ResponseCode => Shown::Number(entry.outcome.status.into()),
        Simple::BytesReceived => Shown::Number(entry.bytes_received),
        Simple::BytesSent => Shown::Number(entry.bytes_sent),
        Simple::Duration => Shown::Number(entry.took.as_millis() as u64),
        Simple::GrpcStatus | Simple::GrpcStatusNumber => {
            entry.outcome.grpc_status.map_or(Shown::Absent, |status| Shown::Number(status.into()))
        }
        Simple::UpstreamHost | Simple::UpstreamRemoteAddress => address(entry.upstream_host),
        Simple::UpstreamLocalAddress => address(entry.upstream_local_address),
        Simple::DownstreamLocalAddress => address(entry.downstream_local_address),
        Simple::DownstreamRemoteAddress => address(entry.downstream_remote_address),
        Simple::DownstreamRemoteAddressWithoutPort => {
            entry.downstream_remote_address.map_or(Shown::Absent, |address| Shown::Ip(address.ip()))
        }
        Simple::UpstreamCluster | Simple::UpstreamClusterRaw => {
            entry.upstream_cluster.as_ref().map_or(Shown::Absent, |cluster| Shown::Cluster(&cluster.name))
        }
        Simple::TraceId => entry.trace_id.map_or(Shown::Absent, Shown::Trace),
        simple => text(simple_text(entry, simple)),
    }
}

fn simple_text(entry: &AccessEntry, simple: Simple) -> &str {
    match simple {
        Simple::Protocol => entry.protocol,
        Simple::ResponseCodeDetails => entry.details(),
        Simple::ResponseFlags => entry.outcome.reason.map_or("-", Reason::flag),
        Simple::DownstreamPeerUriSan => entry.source_principal.as_ref().map_or("", |id| id.as_str()),
        Simple::RouteName => &entry.route_name,
        Simple::Reason => entry.outcome.reason.map_or("", Reason::name),
        Simple::Policy => entry.policy.as_deref().unwrap_or_default(),
        _ => "",
    }
}

// === bytes ===

/// The numbers of an address, each with the dot behind it, and how long that is.
static OCTETS: [([u8; 4], u8); 256] = octets();

const fn octets() -> [([u8; 4], u8); 256] {
    let mut all = [([b'.'; 4], 0); 256];
    let mut octet = 0;
    while octet < all.len() {
        let digits = [b'0' + (octet / 100) as u8, b'0' + (octet / 10 % 10) as u8, b'0' + (octet % 10) as u8];
        let first = if octet < 10 {
            2
        } else if octet < 100 {
            1
        } else {
            0
        };
        let mut at = first;
        while at < 3 {
            all[octet].0[at - first] = digits[at];
            at += 1;
        }
        all[octet].1 = 4 - first as u8;
        octet += 1;
    }
    all
}

/// Appends a text so that it can neither end its quotes nor its line.
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

/// Whether nothing in a text has to be escaped. Every byte is looked at: without a way out, many are at a time.
fn is_harmless(text: &str) -> bool {
    let harmless = |byte: u8| (0x20..0x7f).contains(&byte) & (byte != b'"') & (byte != b'\\');
    text.bytes().fold(true, |all, byte| all & harmless(byte))
}
