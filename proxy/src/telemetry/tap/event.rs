//! One request that has ended, as a tap shows it.

use std::net::SocketAddr;
use std::sync::Arc;

use serde::Serialize;
use weft_core::reason::Reason;

use crate::clock::rfc3339;
use crate::telemetry::entry::AccessEntry;
use crate::telemetry::kept::Text;
use crate::telemetry::labels::{Outcome, Reporter, ScopeLabels};
use crate::telemetry::text::known;

/// A request that has ended: what the access log would show, and between whom it was.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) entry: AccessEntry,
    /// `None` for what was refused before that was known.
    pub(super) labels: Option<Arc<ScopeLabels>>,
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
    cluster: Option<String>,
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
    /// Appends its line.
    pub(super) fn write(&self, text: &mut Vec<u8>) {
        let before = text.len();
        match serde_json::to_writer(&mut *text, &self.line()) {
            Ok(()) => text.push(b'\n'),
            Err(_) => text.truncate(before),
        }
    }

    fn line(&self) -> Line<'_> {
        let Self { entry, labels } = self;
        let labels = labels.as_deref();
        let Outcome { status, grpc_status, reason, .. } = entry.outcome;
        Line {
            time: rfc3339(entry.start_time),
            side: labels.map(|labels| match labels.reporter() {
                Reporter::Source => "outbound",
                Reporter::Destination => "inbound",
            }),
            method: entry.get(Text::Method),
            path: entry.get(Text::Path),
            authority: entry.get(Text::Authority),
            protocol: entry.protocol,
            status,
            grpc_status,
            duration_millis: entry.took.as_micros() as f64 / 1000.0,
            request_bytes: entry.bytes_received,
            response_bytes: entry.bytes_sent,
            reason: reason.map(Reason::name),
            flags: entry.outcome.flags(),
            policy: entry.policy.as_deref(),
            route: known(&entry.route_name),
            cluster: entry.upstream_cluster.as_ref().map(|cluster| cluster.name.to_string()),
            request_id: known(entry.get(Text::RequestId)),
            source: end(
                labels.map(|l| (l.source_workload(), l.source_principal())),
                entry.downstream_remote_address,
            ),
            destination: end(
                labels.map(|l| (l.destination_workload(), l.destination_principal())),
                entry.upstream_host,
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
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::telemetry::entry::Logs;
    use crate::telemetry::labels::{PeerRef, ScopeRef, Security, ServiceLabels};
    use weft_core::identity::SpiffeId;
    use weft_core::model::metadata::WorkloadMetadata;

    fn entry(path: &str) -> AccessEntry {
        let mut entry = AccessEntry::begin(SystemTime::UNIX_EPOCH, Logs::none(Reporter::Source));
        entry.put(Text::Method, "GET");
        entry.put(Text::Path, path);
        entry
    }

    pub(in crate::telemetry::tap) fn ended(path: &str, status: u16) -> AccessEntry {
        let mut entry = entry(path);
        entry.end(Outcome { status, ..Outcome::default() }, None, Duration::from_micros(1500));
        entry
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
        let mut entry = entry("/x");
        entry.route_name = "canary".into();
        let outcome = Outcome { status: 403, reason: Some(Reason::PolicyDenied), ..Outcome::default() };
        entry.end(outcome, Some("shop/deny".into()), Duration::from_micros(1500));
        let mut text = Vec::new();
        Event { entry, labels: Some(labelled()) }.write(&mut text);
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
        Event { entry, labels: None }.write(&mut text);
        assert_eq!(text.iter().filter(|byte| **byte == b'\n').count(), 1);
        assert!(text.len() < 8192, "{}", text.len());
    }
}
