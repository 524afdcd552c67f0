//! One request that has ended, as a tap shows it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::Serialize;
use weft_core::reason::Reason;

use crate::clock::rfc3339;
use crate::telemetry::entry::{AccessEntry, Text};
use crate::telemetry::labels::{Outcome, Reporter, ScopeLabels};
use crate::telemetry::text::known;

/// A request that has ended, borrowed.
#[derive(Debug)]
pub struct Ended<'a> {
    /// What the access log would show.
    pub entry: &'a AccessEntry,
    /// Between whom; `None` for what was refused before that was known.
    pub labels: Option<&'a Arc<ScopeLabels>>,
    /// Protocol, status, gRPC status, reason.
    pub outcome: Outcome,
    /// The policy that refused it, `namespace/name`.
    pub policy: Option<&'a Arc<str>>,
    /// From its head to the end of its response.
    pub took: Duration,
    /// Bytes of the request's and the response's body.
    pub bytes: (u64, u64),
}

/// The same, kept; its texts are cut to a bounded length.
#[derive(Debug)]
pub(super) struct Event {
    start: SystemTime,
    method: String,
    path: String,
    authority: String,
    request_id: String,
    protocol: &'static str,
    route: Arc<str>,
    cluster: String,
    client: Option<SocketAddr>,
    upstream: Option<SocketAddr>,
    labels: Option<Arc<ScopeLabels>>,
    outcome: Outcome,
    policy: Option<Arc<str>>,
    took: Duration,
    bytes: (u64, u64),
}

/// A line of JSON.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    time: String,
    side: Option<&'static str>,
    method: &'a str,
    path: &'a str,
    authority: &'a str,
    protocol: &'static str,
    /// 0: none was sent, the client had gone.
    status: u16,
    grpc_status: Option<u8>,
    duration_millis: f64,
    request_bytes: u64,
    response_bytes: u64,
    reason: Option<&'static str>,
    flags: &'static str,
    policy: Option<&'a str>,
    route: Option<&'a str>,
    cluster: Option<&'a str>,
    request_id: Option<&'a str>,
    source: End<'a>,
    destination: End<'a>,
    service: Option<&'a str>,
}

#[derive(Serialize)]
struct End<'a> {
    namespace: Option<&'a str>,
    workload: Option<&'a str>,
    principal: Option<&'a str>,
    address: Option<SocketAddr>,
}

impl Event {
    pub(super) fn of(ended: &Ended<'_>) -> Self {
        let entry = ended.entry;
        Self {
            start: entry.start_time,
            method: entry.get(Text::Method).to_owned(),
            path: entry.get(Text::Path).to_owned(),
            authority: entry.get(Text::Authority).to_owned(),
            request_id: entry.get(Text::RequestId).to_owned(),
            protocol: entry.protocol,
            route: Arc::clone(&entry.route_name),
            cluster: entry
                .upstream_cluster
                .as_ref()
                .map_or_else(String::new, |cluster| cluster.name.to_string()),
            client: entry.downstream_remote_address,
            upstream: entry.upstream_host,
            labels: ended.labels.cloned(),
            outcome: ended.outcome,
            policy: ended.policy.cloned(),
            took: ended.took,
            bytes: ended.bytes,
        }
    }

    /// Appends its line.
    pub(super) fn write(&self, text: &mut Vec<u8>) {
        let before = text.len();
        match serde_json::to_writer(&mut *text, &self.line()) {
            Ok(()) => text.push(b'\n'),
            Err(_) => text.truncate(before),
        }
    }

    fn line(&self) -> Line<'_> {
        let labels = self.labels.as_deref();
        Line {
            time: rfc3339(self.start),
            side: labels.map(|labels| match labels.reporter() {
                Reporter::Source => "outbound",
                Reporter::Destination => "inbound",
            }),
            method: &self.method,
            path: &self.path,
            authority: &self.authority,
            protocol: self.protocol,
            status: self.outcome.status,
            grpc_status: self.outcome.grpc_status,
            duration_millis: self.took.as_micros() as f64 / 1000.0,
            request_bytes: self.bytes.0,
            response_bytes: self.bytes.1,
            reason: self.outcome.reason.map(Reason::name),
            flags: self.outcome.reason.map_or("-", Reason::flag),
            policy: self.policy.as_deref(),
            route: known(&self.route),
            cluster: known(&self.cluster),
            request_id: known(&self.request_id),
            source: end(labels.map(|l| (l.source_workload(), l.source_principal())), self.client),
            destination: end(
                labels.map(|l| (l.destination_workload(), l.destination_principal())),
                self.upstream,
            ),
            service: labels.and_then(|labels| known(labels.service_host())),
        }
    }
}

type Who<'a> = ((&'a str, &'a str), Option<&'a str>);

fn end(who: Option<Who<'_>>, address: Option<SocketAddr>) -> End<'_> {
    let ((namespace, workload), principal) = who.unwrap_or_default();
    End { namespace: known(namespace), workload: known(workload), principal, address }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::telemetry::entry::Logs;
    use crate::telemetry::labels::{PeerRef, ScopeRef, Security, ServiceLabels};
    use weft_core::identity::SpiffeId;
    use weft_core::model::metadata::WorkloadMetadata;

    pub(in crate::telemetry::tap) fn entry(path: &str) -> AccessEntry {
        let mut entry = AccessEntry::begin(SystemTime::UNIX_EPOCH, Logs::none(Reporter::Source));
        entry.put(Text::Method, "GET");
        entry.put(Text::Path, path);
        entry
    }

    pub(in crate::telemetry::tap) fn ended(entry: &AccessEntry, status: u16) -> Ended<'_> {
        let outcome = Outcome { status, ..Outcome::default() };
        let took = Duration::from_micros(1500);
        Ended { entry, labels: None, outcome, policy: None, took, bytes: (1, 2) }
    }

    /// A request of shop/client at web.
    pub(in crate::telemetry::tap) fn labelled() -> Arc<ScopeLabels> {
        let workload = |name: &str| {
            Arc::new(WorkloadMetadata {
                workload: name.into(),
                namespace: "shop".into(),
                ..WorkloadMetadata::default()
            })
        };
        let principal = SpiffeId::parse("spiffe://cluster.local/ns/shop/sa/client").unwrap();
        let service = ServiceLabels { host: "web.shop".into(), ..ServiceLabels::default() };
        let labels = ScopeRef {
            reporter: Reporter::Destination,
            security: Security::MutualTls,
            source: PeerRef { metadata: &workload("client"), principal: Some(&principal) },
            destination: PeerRef { metadata: &workload("web"), principal: None },
            service: &service,
        };
        Arc::new(labels.to_owned())
    }

    #[test]
    fn a_line_says_who_what_and_why() {
        let (mut entry, labels) = (entry("/x"), labelled());
        entry.route_name = "canary".into();
        let mut ended = ended(&entry, 403);
        (ended.labels, ended.outcome.reason) = (Some(&labels), Some(Reason::PolicyDenied));
        let policy = "shop/deny".into();
        ended.policy = Some(&policy);
        let mut text = Vec::new();
        Event::of(&ended).write(&mut text);
        let line: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(line["side"], "inbound");
        assert_eq!((&line["reason"], &line["policy"]), (&"policy_denied".into(), &"shop/deny".into()));
        assert_eq!(line["source"]["principal"], "spiffe://cluster.local/ns/shop/sa/client");
        assert_eq!(line["destination"]["workload"], "web");
        assert_eq!((&line["service"], &line["route"]), (&"web.shop".into(), &"canary".into()));
        assert_eq!(line["durationMillis"], 1.5);
    }

    #[test]
    fn g24_a_line_stays_one_line_and_is_bounded() {
        let mut entry = entry(&"/x\r\n\"".repeat(100_000));
        entry.put(Text::Authority, &"é".repeat(1_000_000));
        let mut text = Vec::new();
        Event::of(&ended(&entry, 200)).write(&mut text);
        assert_eq!(text.iter().filter(|byte| **byte == b'\n').count(), 1);
        assert!(text.len() < 8192, "{}", text.len());
    }
}
