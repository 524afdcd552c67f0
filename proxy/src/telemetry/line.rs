//! Lines of the access log, as bytes: nothing in them can end its quotes or its line.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use weft_core::access_log::template::{Operator, Piece, Simple, Source, Template};
use weft_core::model::telemetry::LogFormat;
use weft_core::reason::Reason;

use super::entry::{AccessEntry, Text};
use super::text::cut;
use crate::clock::rfc3339;

/// Istio's line, with reason and policy at its end.
const TEXT: &str = concat!(
    r#"[%START_TIME%] "%REQ(:METHOD)% %REQ(:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% "#,
    r#"%RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "%UPSTREAM_TRANSPORT_FAILURE_REASON%" "#,
    r#"%BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "#,
    r#""%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER_RAW% "#,
    r#"%UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% "#,
    r#"%ROUTE_NAME% %REASON% %POLICY%"#,
);

/// Istio's fields, with the client's identity, the gRPC status, reason and policy.
const FIELDS: [(&str, &str); 28] = [
    ("authority", "%REQ(:AUTHORITY)%"),
    ("bytes_received", "%BYTES_RECEIVED%"),
    ("bytes_sent", "%BYTES_SENT%"),
    ("connection_termination_details", "%CONNECTION_TERMINATION_DETAILS%"),
    ("downstream_local_address", "%DOWNSTREAM_LOCAL_ADDRESS%"),
    ("downstream_remote_address", "%DOWNSTREAM_REMOTE_ADDRESS%"),
    ("duration", "%DURATION%"),
    ("grpc_status", "%GRPC_STATUS_NUMBER%"),
    ("method", "%REQ(:METHOD)%"),
    ("path", "%REQ(:PATH)%"),
    ("policy", "%POLICY%"),
    ("protocol", "%PROTOCOL%"),
    ("reason", "%REASON%"),
    ("request_id", "%REQ(X-REQUEST-ID)%"),
    ("requested_server_name", "%REQUESTED_SERVER_NAME%"),
    ("response_code", "%RESPONSE_CODE%"),
    ("response_code_details", "%RESPONSE_CODE_DETAILS%"),
    ("response_flags", "%RESPONSE_FLAGS%"),
    ("route_name", "%ROUTE_NAME%"),
    ("source_principal", "%DOWNSTREAM_PEER_URI_SAN%"),
    ("start_time", "%START_TIME%"),
    ("upstream_cluster", "%UPSTREAM_CLUSTER_RAW%"),
    ("upstream_host", "%UPSTREAM_HOST%"),
    ("upstream_local_address", "%UPSTREAM_LOCAL_ADDRESS%"),
    ("upstream_service_time", "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%"),
    ("upstream_transport_failure_reason", "%UPSTREAM_TRANSPORT_FAILURE_REASON%"),
    ("user_agent", "%REQ(USER-AGENT)%"),
    ("x_forwarded_for", "%REQ(X-FORWARDED-FOR)%"),
];

static DEFAULT_TEXT: LazyLock<Template> = LazyLock::new(|| constant(TEXT));
static DEFAULT_JSON: LazyLock<Vec<(&str, Template)>> =
    LazyLock::new(|| FIELDS.iter().map(|(name, source)| (*name, constant(source))).collect());

fn constant(source: &str) -> Template {
    Template::parse(source).expect("a constant that a test reads")
}

/// Writes lines, and remembers what one line has in common with the next.
#[derive(Debug, Default)]
pub(super) struct Lines {
    second: u64,
    /// The time of that second, up to its milliseconds.
    stamp: String,
    scratch: Vec<u8>,
}

/// The value of an operator.
enum Shown<'a> {
    Absent,
    Text(&'a str),
    Number(u64),
    Address(SocketAddr),
    /// A text that was made for the purpose.
    Made(String),
    Time(SystemTime),
}

impl Lines {
    /// Appends the line of an entry.
    pub(super) fn write(&mut self, out: &mut Vec<u8>, entry: &AccessEntry, format: &LogFormat) {
        match format {
            LogFormat::DefaultText => self.text(out, entry, &DEFAULT_TEXT),
            LogFormat::Text(template) => self.text(out, entry, template),
            LogFormat::DefaultJson => self.json(out, entry, DEFAULT_JSON.iter().map(|(name, t)| (*name, t))),
            LogFormat::Json(fields) => self.json(out, entry, fields.iter().map(|(name, t)| (&**name, t))),
        }
        out.push(b'\n');
    }

    fn text(&mut self, out: &mut Vec<u8>, entry: &AccessEntry, template: &Template) {
        for piece in template.pieces() {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
                Piece::Value(operator, limit) => match (shown(entry, operator), limit) {
                    (Shown::Absent, _) => out.push(b'-'),
                    (Shown::Text(text), limit) => quoted(out, cut(text, limit.unwrap_or(usize::MAX))),
                    (value, _) => self.plain(out, value),
                },
            }
        }
    }

    fn json<'a>(
        &mut self,
        out: &mut Vec<u8>,
        entry: &AccessEntry,
        fields: impl Iterator<Item = (&'a str, &'a Template)>,
    ) {
        let mut before = b'{';
        for (name, template) in fields {
            out.push(before);
            before = b',';
            json_text(out, name);
            out.push(b':');
            match template.single().map(|operator| shown(entry, operator)) {
                Some(Shown::Absent) => out.extend_from_slice(b"null"),
                Some(Shown::Text(text)) => json_text(out, text),
                Some(Shown::Number(number)) => self.plain(out, Shown::Number(number)),
                Some(value) => self.in_quotes(out, value),
                None => self.composed(out, entry, template),
            }
        }
        if before == b'{' {
            out.push(b'{');
        }
        out.push(b'}');
    }

    fn in_quotes(&mut self, out: &mut Vec<u8>, value: Shown<'_>) {
        out.push(b'"');
        self.plain(out, value);
        out.push(b'"');
    }

    fn composed(&mut self, out: &mut Vec<u8>, entry: &AccessEntry, template: &Template) {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        for piece in template.pieces() {
            match piece {
                Piece::Text(text) => scratch.extend_from_slice(text.as_bytes()),
                Piece::Value(operator, limit) => match shown(entry, operator) {
                    Shown::Absent => scratch.push(b'-'),
                    Shown::Text(text) => {
                        scratch.extend_from_slice(cut(text, limit.unwrap_or(usize::MAX)).as_bytes());
                    }
                    value => self.plain(&mut scratch, value),
                },
            }
        }
        json_text(out, &String::from_utf8_lossy(&scratch));
        self.scratch = scratch;
    }

    /// What needs no care: numbers, addresses, times.
    fn plain(&mut self, out: &mut Vec<u8>, value: Shown<'_>) {
        match value {
            Shown::Absent => out.push(b'-'),
            Shown::Text(text) => quoted(out, text),
            Shown::Made(text) => out.extend_from_slice(text.as_bytes()),
            Shown::Number(number) => digits(out, number),
            Shown::Address(address) => socket_address(out, address),
            Shown::Time(time) => self.time(out, time),
        }
    }

    /// A time as RFC 3339 writes it, in UTC, with milliseconds.
    fn time(&mut self, out: &mut Vec<u8>, time: SystemTime) {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        if self.stamp.is_empty() || self.second != since.as_secs() {
            self.second = since.as_secs();
            let whole = rfc3339(UNIX_EPOCH + Duration::from_secs(since.as_secs()));
            self.stamp = whole.trim_end_matches("000Z").to_owned();
        }
        let millis = since.subsec_millis();
        let digit = |of: u32| b'0' + (millis / of % 10) as u8;
        out.extend_from_slice(self.stamp.as_bytes());
        out.extend_from_slice(&[digit(100), digit(10), digit(1), b'Z']);
    }
}

fn shown<'a>(entry: &'a AccessEntry, operator: &Operator) -> Shown<'a> {
    match operator {
        Operator::Simple(simple) => shown_simple(entry, *simple),
        Operator::Request(first, other) => first_of(first, other.as_ref(), |source| request(entry, source)),
        Operator::Response(first, other) => first_of(first, other.as_ref(), |source| response(entry, source)),
    }
}

fn first_of<'a>(first: &Source, other: Option<&Source>, value: impl Fn(&Source) -> Shown<'a>) -> Shown<'a> {
    match (value(first), other) {
        (Shown::Absent, Some(other)) => value(other),
        (shown, _) => shown,
    }
}

fn text(text: &str) -> Shown<'_> {
    if text.is_empty() { Shown::Absent } else { Shown::Text(text) }
}

fn request<'a>(entry: &'a AccessEntry, source: &Source) -> Shown<'a> {
    text(match source {
        Source::Method => entry.get(Text::Method),
        Source::Path => entry.get(Text::Path),
        Source::Authority => entry.get(Text::Authority),
        Source::Scheme if entry.protocol.is_empty() => "",
        Source::Scheme => "http",
        Source::Status => "",
        Source::Header(name) => entry.request_header(name),
    })
}

fn response<'a>(entry: &'a AccessEntry, source: &Source) -> Shown<'a> {
    match source {
        Source::Status => Shown::Number(entry.outcome.status.into()),
        Source::Header(name) if name == "x-envoy-upstream-service-time" => {
            entry.upstream_service_time.map_or(Shown::Absent, |took| Shown::Number(took.as_millis() as u64))
        }
        Source::Header(name) => text(entry.response_header(name)),
        _ => Shown::Absent,
    }
}

fn shown_simple(entry: &AccessEntry, simple: Simple) -> Shown<'_> {
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
            entry.downstream_remote_address.map_or(Shown::Absent, |a| Shown::Made(a.ip().to_string()))
        }
        Simple::UpstreamCluster | Simple::UpstreamClusterRaw => {
            entry.upstream_cluster.as_ref().map_or(Shown::Absent, |c| Shown::Made(c.name.to_string()))
        }
        Simple::TraceId => entry.trace_id.map_or(Shown::Absent, |id| Shown::Made(format!("{id:032x}"))),
        simple => text(simple_text(entry, simple)),
    }
}

fn simple_text(entry: &AccessEntry, simple: Simple) -> &str {
    match simple {
        Simple::Protocol => entry.protocol,
        Simple::ResponseCodeDetails => entry.details(),
        Simple::ResponseFlags => entry.outcome.reason.map_or("-", Reason::flag),
        Simple::UpstreamTransportFailureReason => entry.get(Text::TransportFailure),
        Simple::DownstreamPeerUriSan => entry.source_principal.as_ref().map_or("", |id| id.as_str()),
        Simple::RequestedServerName => entry.get(Text::ServerName),
        Simple::RouteName => &entry.route_name,
        Simple::Reason => entry.outcome.reason.map_or("", Reason::name),
        Simple::Policy => entry.policy.as_deref().unwrap_or_default(),
        _ => "",
    }
}

fn digits(out: &mut Vec<u8>, mut number: u64) {
    let mut buffer = [0; 20];
    let mut at = buffer.len();
    loop {
        at -= 1;
        buffer[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&buffer[at..]);
}

fn socket_address(out: &mut Vec<u8>, address: SocketAddr) {
    match address {
        SocketAddr::V4(v4) => {
            for (i, octet) in v4.ip().octets().into_iter().enumerate() {
                if i > 0 {
                    out.push(b'.');
                }
                digits(out, octet.into());
            }
            out.push(b':');
            digits(out, v4.port().into());
        }
        SocketAddr::V6(_) => {
            // Into memory: it cannot fail.
            let _ = write!(out, "{address}");
        }
    }
}

/// Appends a text so that it can neither end its quotes nor its line.
fn quoted(out: &mut Vec<u8>, text: &str) {
    if is_harmless(text) {
        return out.extend_from_slice(text.as_bytes());
    }
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend_from_slice(&[b'\\', c as u8]),
            c if c.is_control() => {
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

fn json_text(out: &mut Vec<u8>, text: &str) {
    if is_harmless(text) {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        return out.push(b'"');
    }
    // Into memory: it cannot fail.
    let _ = serde_json::to_writer(out, text);
}
