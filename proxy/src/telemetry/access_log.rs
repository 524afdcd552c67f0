//! The access log: Istio's default fields, and the reason and policy of what the mesh refused.
//!
//! Workers hand entries to a bounded queue and never wait; a thread of its own formats and writes them, so that a
//! blocked pipe or a full disk costs log lines, which are counted, and never traffic.

use std::fmt::Write as _;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, SystemTime};

use prometheus::IntCounter;
use serde_json::{Map, Value, json};
use weft_core::reason::Reason;

use super::labels::{AppProtocol, Outcome};
use crate::clock::rfc3339;
use crate::settings::AccessLogFormat;

/// Entries that may wait to be written.
const QUEUE: usize = 4096;
/// Longer values are cut here, in bytes.
const MAX_VALUE: usize = 1024;

/// Where entries go.
#[derive(Clone, Debug)]
pub struct AccessLog {
    queue: Option<SyncSender<Box<AccessEntry>>>,
    dropped: IntCounter,
}

/// What the log shows of one request or connection.
#[derive(Clone, Debug)]
pub struct AccessEntry {
    /// Wall time of the beginning.
    pub start_time: SystemTime,
    /// The request's method; empty for connections.
    pub method: String,
    /// The path with its query, as the client sent it.
    pub path: String,
    /// `HTTP/1.1`, `HTTP/2`; empty for connections.
    pub protocol: &'static str,
    /// `Host` or `:authority`.
    pub authority: String,
    /// `User-Agent`.
    pub user_agent: String,
    /// `X-Forwarded-For`.
    pub x_forwarded_for: String,
    /// `X-Request-Id`.
    pub request_id: String,
    /// The SNI of the client's handshake.
    pub requested_server_name: String,
    /// Name of the route rule.
    pub route_name: Arc<str>,
    /// Name of the cluster, as Envoy writes it.
    pub upstream_cluster: String,
    /// The endpoint.
    pub upstream_host: Option<SocketAddr>,
    /// Our end of the connection to it.
    pub upstream_local_address: Option<SocketAddr>,
    /// Time until the upstream's response head.
    pub upstream_service_time: Option<Duration>,
    /// What went wrong with the upstream's connection.
    pub upstream_transport_failure_reason: String,
    /// The address that the client dialled.
    pub downstream_local_address: Option<SocketAddr>,
    /// The client.
    pub downstream_remote_address: Option<SocketAddr>,
    /// The client's identity.
    pub source_principal: String,
    /// Bytes from the client.
    pub bytes_received: u64,
    /// Bytes to the client.
    pub bytes_sent: u64,
    outcome: Outcome,
    policy: Option<Arc<str>>,
    took: Duration,
}

// === impl AccessLog ===

impl AccessLog {
    /// A log on standard output; none for [`AccessLogFormat::Off`].
    pub fn to_stdout(format: AccessLogFormat, dropped: IntCounter) -> Self {
        Self::to_writer(format, dropped, std::io::stdout())
    }

    /// A log on any writer. Without a thread to write it, the log stays off.
    pub fn to_writer(format: AccessLogFormat, dropped: IntCounter, out: impl Write + Send + 'static) -> Self {
        if format == AccessLogFormat::Off {
            return Self { queue: None, dropped };
        }
        let (queue, entries) = sync_channel(QUEUE);
        let thread = std::thread::Builder::new().name("access-log".to_owned());
        match thread.spawn(move || write_all(&entries, format, out)) {
            Ok(_) => Self { queue: Some(queue), dropped },
            Err(_) => Self { queue: None, dropped },
        }
    }

    /// Whether entries are wanted: without it none need be made.
    pub fn is_on(&self) -> bool {
        self.queue.is_some()
    }

    /// Hands an entry to the writer; drops and counts it when the writer is behind.
    pub fn write(&self, entry: Box<AccessEntry>) {
        if let Some(queue) = &self.queue
            && queue.try_send(entry).is_err()
        {
            self.dropped.inc();
        }
    }
}

fn write_all(entries: &Receiver<Box<AccessEntry>>, format: AccessLogFormat, mut out: impl Write) {
    let mut text = String::new();
    while let Ok(first) = entries.recv() {
        text.clear();
        let more = std::iter::once(first).chain(entries.try_iter().take(256));
        more.for_each(|entry| entry.format(format, &mut text));
        // There is nowhere to report a log that cannot be written.
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}

// === impl AccessEntry ===

impl AccessEntry {
    /// An entry about which only its beginning is known.
    pub fn begin(start_time: SystemTime) -> Self {
        Self {
            start_time,
            method: String::new(),
            path: String::new(),
            protocol: "",
            authority: String::new(),
            user_agent: String::new(),
            x_forwarded_for: String::new(),
            request_id: String::new(),
            requested_server_name: String::new(),
            route_name: "".into(),
            upstream_cluster: String::new(),
            upstream_host: None,
            upstream_local_address: None,
            upstream_service_time: None,
            upstream_transport_failure_reason: String::new(),
            downstream_local_address: None,
            downstream_remote_address: None,
            source_principal: String::new(),
            bytes_received: 0,
            bytes_sent: 0,
            outcome: Outcome::default(),
            policy: None,
            took: Duration::ZERO,
        }
    }

    pub(super) fn end(&mut self, outcome: Outcome, policy: Option<Arc<str>>, took: Duration) {
        (self.outcome, self.policy, self.took) = (outcome, policy, took);
    }

    fn format(&self, format: AccessLogFormat, text: &mut String) {
        match format {
            AccessLogFormat::Off => {}
            AccessLogFormat::Json => {
                let _ = writeln!(text, "{}", self.to_json());
            }
            AccessLogFormat::Text => self.format_text(text),
        }
    }

    fn to_json(&self) -> Value {
        let mut fields = Map::new();
        let mut put = |name: &str, value: Value| fields.insert(name.to_owned(), value);
        put("authority", text_or_null(&self.authority));
        put("bytes_received", json!(self.bytes_received));
        put("bytes_sent", json!(self.bytes_sent));
        put("connection_termination_details", Value::Null);
        put("downstream_local_address", address(self.downstream_local_address));
        put("downstream_remote_address", address(self.downstream_remote_address));
        put("duration", json!(self.took.as_millis() as u64));
        put("method", text_or_null(&self.method));
        put("path", text_or_null(&self.path));
        put("protocol", text_or_null(self.protocol));
        put("request_id", text_or_null(&self.request_id));
        put("requested_server_name", text_or_null(&self.requested_server_name));
        put("response_code", json!(self.outcome.status));
        put("response_code_details", json!(self.details()));
        put("response_flags", json!(self.outcome.reason.map_or("-", Reason::flag)));
        put("route_name", text_or_null(&self.route_name));
        put("start_time", json!(rfc3339(self.start_time)));
        put("upstream_cluster", text_or_null(&self.upstream_cluster));
        put("upstream_host", address(self.upstream_host));
        put("upstream_local_address", address(self.upstream_local_address));
        put("upstream_service_time", json!(self.upstream_service_time.map(|t| t.as_millis() as u64)));
        put("upstream_transport_failure_reason", text_or_null(&self.upstream_transport_failure_reason));
        put("user_agent", text_or_null(&self.user_agent));
        put("x_forwarded_for", text_or_null(&self.x_forwarded_for));
        put("grpc_status", json!(self.outcome.grpc_status));
        put("source_principal", text_or_null(&self.source_principal));
        put("reason", json!(self.outcome.reason.map(Reason::name)));
        put("policy", json!(self.policy));
        Value::Object(fields)
    }

    /// Istio's default line, with reason and policy at its end.
    fn format_text(&self, text: &mut String) {
        let _ = write!(text, "[{}] \"", rfc3339(self.start_time));
        quoted(text, &[&self.method, " ", &self.path, " ", self.protocol]);
        let _ = write!(text, "\" {} ", self.outcome.status);
        let _ = write!(text, "{} {} - \"", self.outcome.reason.map_or("-", Reason::flag), self.details());
        quoted(text, &[dash(&self.upstream_transport_failure_reason)]);
        let _ = write!(text, "\" {} {} ", self.bytes_received, self.bytes_sent);
        let service_time = self.upstream_service_time.map_or("-".to_owned(), |t| t.as_millis().to_string());
        let _ = write!(text, "{} {service_time}", self.took.as_millis());
        for value in [&self.x_forwarded_for, &self.user_agent, &self.request_id, &self.authority] {
            text.push_str(" \"");
            quoted(text, &[dash(value)]);
            text.push('"');
        }
        self.format_addresses(text);
    }

    fn format_addresses(&self, text: &mut String) {
        let show = |a: Option<SocketAddr>| a.map_or("-".to_owned(), |a| a.to_string());
        let _ = write!(text, " \"{}\" ", show(self.upstream_host));
        quoted(text, &[dash(&self.upstream_cluster)]);
        let ends =
            [self.upstream_local_address, self.downstream_local_address, self.downstream_remote_address];
        ends.into_iter().for_each(|end| {
            let _ = write!(text, " {}", show(end));
        });
        for value in [&self.requested_server_name, &*self.route_name] {
            text.push(' ');
            quoted(text, &[dash(value)]);
        }
        let reason = self.outcome.reason.map_or("-", Reason::name);
        let _ = writeln!(text, " {reason} {}", dash(self.policy.as_deref().unwrap_or_default()));
    }

    fn details(&self) -> &'static str {
        match self.outcome {
            Outcome { reason: Some(reason), .. } => reason.name(),
            Outcome { protocol: AppProtocol::Http | AppProtocol::Grpc, status: 1.., .. } => "via_upstream",
            _ => "-",
        }
    }
}

fn dash(value: &str) -> &str {
    if value.is_empty() { "-" } else { value }
}

fn text_or_null(value: &str) -> Value {
    if value.is_empty() { Value::Null } else { json!(cut(value)) }
}

fn address(value: Option<SocketAddr>) -> Value {
    json!(value.map(|a| a.to_string()))
}

/// The longest head of `value` that is not too long.
pub(super) fn cut(value: &str) -> &str {
    let mut end = value.len().min(MAX_VALUE);
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    &value[..end]
}

/// Appends values so that they can neither end their quotes nor their line.
fn quoted(text: &mut String, values: &[&str]) {
    for c in values.iter().flat_map(|value| cut(value).chars()) {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(text, "\\u{:04x}", c as u32);
            }
            c => text.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    fn entry() -> AccessEntry {
        let mut entry = AccessEntry::begin(UNIX_EPOCH + Duration::from_millis(1_700_000_000_123));
        entry.method = "GET".to_owned();
        entry.path = "/a".to_owned();
        entry
    }

    fn line(entry: &AccessEntry, format: AccessLogFormat) -> String {
        let mut text = String::new();
        entry.format(format, &mut text);
        text
    }

    #[test]
    fn json_has_the_reason_and_the_policy() {
        let mut e = entry();
        let outcome = Outcome { status: 403, reason: Some(Reason::PolicyDenied), ..Outcome::default() };
        e.end(outcome, Some("default/deny".into()), Duration::from_millis(7));
        let v: Value = serde_json::from_str(&line(&e, AccessLogFormat::Json)).unwrap();
        assert_eq!(v["reason"], "policy_denied");
        assert_eq!(v["policy"], "default/deny");
        assert_eq!(v["response_code"], 403);
        assert_eq!(v["duration"], 7);
        assert_eq!(v["start_time"], "2023-11-14T22:13:20.123Z");
        assert_eq!(v["user_agent"], Value::Null);
    }

    #[test]
    fn g24_nothing_ends_its_line_and_long_values_are_cut() {
        let mut e = entry();
        e.path = "/x\r\n[fake] \"GET".to_owned();
        e.user_agent = "é".repeat(1_000_000);
        for format in [AccessLogFormat::Json, AccessLogFormat::Text] {
            let text = line(&e, format);
            assert_eq!(text.matches('\n').count(), 1, "{format:?}");
            assert!(text.ends_with('\n') && text.len() < 4096);
        }
        assert!(line(&e, AccessLogFormat::Text).contains(r#"\u000d\u000a[fake] \"GET"#));
    }

    /// A writer that never returns, as a pipe that nobody reads.
    struct Blocked(std::sync::mpsc::Receiver<()>);

    impl Write for Blocked {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            let _ = self.0.recv();
            Err(std::io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn g5_a_blocked_log_drops_lines_and_counts_them() {
        let dropped = IntCounter::new("dropped", "dropped").unwrap();
        let (release, blocked) = std::sync::mpsc::channel();
        let log = AccessLog::to_writer(AccessLogFormat::Json, dropped.clone(), Blocked(blocked));
        for _ in 0..QUEUE + 1000 {
            log.write(Box::new(entry()));
        }
        assert!((1000 - 257..=1000).contains(&dropped.get()), "{}", dropped.get());
        drop(release);
    }
}
