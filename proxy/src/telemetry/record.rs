//! What is known of one request or connection when it ends. `finish` takes the record: it is counted exactly once.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use weft_core::reason::Reason;

use super::entry::AccessEntry;
use super::labels::Outcome;
use super::scope::{Scope, WorkerTelemetry};

/// One request, filled in while it is served and finished at the end of its response's body.
#[derive(Debug)]
pub struct RequestRecord {
    /// Between whom; `None` until it is known, and for requests that were refused before.
    pub scope: Option<Rc<Scope>>,
    /// When the head of the request was read.
    pub started: Instant,
    /// Protocol, status, gRPC status, reason.
    pub outcome: Outcome,
    /// The policy that refused it, `namespace/name`.
    pub policy: Option<Arc<str>>,
    /// Bytes of the request's body.
    pub request_bytes: u64,
    /// Bytes of the response's body.
    pub response_bytes: u64,
    /// Messages of a gRPC request and of its response.
    pub messages: (u64, u64),
    /// What only the access log and taps show; `None` while nobody wants it.
    pub log: Option<Box<AccessEntry>>,
    /// Whether somebody watches such requests.
    pub tapped: bool,
}

/// One opaque connection.
#[derive(Debug)]
pub struct TcpRecord {
    /// Between whom.
    pub scope: Option<Rc<Scope>>,
    /// When it was accepted.
    pub started: Instant,
    /// Why the mesh cut it.
    pub reason: Option<Reason>,
    /// The policy that refused it, `namespace/name`.
    pub policy: Option<Arc<str>>,
    /// Bytes from the client so far.
    pub received: u64,
    /// Bytes to the client so far.
    pub sent: u64,
    /// What of `sent` and `received` was counted.
    counted: (u64, u64),
    /// What only the access log shows; `None` while it is off.
    pub log: Option<Box<AccessEntry>>,
}

impl RequestRecord {
    /// A request that begins.
    pub fn begin(started: Instant) -> Self {
        Self {
            scope: None,
            started,
            outcome: Outcome::default(),
            policy: None,
            request_bytes: 0,
            response_bytes: 0,
            messages: (0, 0),
            log: None,
            tapped: false,
        }
    }

    /// Counts and logs the request, which took so long.
    pub fn finish(self, telemetry: &WorkerTelemetry, took: Duration) {
        if let Some(scope) = &self.scope {
            scope.request(self.outcome, took, self.request_bytes, self.response_bytes);
            if self.messages != (0, 0) {
                scope.messages(self.outcome, self.messages);
            }
        }
        count_rejection(telemetry, self.outcome.reason, self.policy.as_deref());
        let Some(mut entry) = self.log else { return };
        (entry.bytes_received, entry.bytes_sent) = (self.request_bytes, self.response_bytes);
        let logged = entry.end(self.outcome, self.policy, took);
        let shared = telemetry.shared();
        if self.tapped {
            shared.taps.show(&entry, self.scope.as_deref().map(Scope::labels));
        }
        if logged {
            shared.access_log.write(entry);
        }
    }
}

impl TcpRecord {
    /// A connection that begins.
    pub fn begin(started: Instant) -> Self {
        let (received, sent, counted) = (0, 0, (0, 0));
        Self { scope: None, started, reason: None, policy: None, received, sent, counted, log: None }
    }

    /// Between whom the connection is: counted as opened.
    pub fn opened(&mut self, scope: Rc<Scope>) {
        scope.tcp_opened();
        self.scope = Some(scope);
    }

    /// Counts what has moved on a connection that goes on; nothing before it is known between whom.
    pub fn moved(&mut self, sent: u64, received: u64) {
        let Some(scope) = self.scope.clone() else { return };
        (self.sent, self.received) = (sent, received);
        let (sent, received) = self.uncounted();
        if sent > 0 || received > 0 {
            scope.tcp_bytes(sent, received);
        }
    }

    fn uncounted(&mut self) -> (u64, u64) {
        let before = std::mem::replace(&mut self.counted, (self.sent, self.received));
        (self.sent.saturating_sub(before.0), self.received.saturating_sub(before.1))
    }

    /// Counts and logs the connection.
    pub fn finish(mut self, telemetry: &WorkerTelemetry, now: Instant) {
        let (sent, received) = self.uncounted();
        if let Some(scope) = &self.scope {
            scope.tcp_closed(self.reason, sent, received);
        }
        count_rejection(telemetry, self.reason, self.policy.as_deref());
        if let Some(mut entry) = self.log {
            let outcome = Outcome { reason: self.reason, ..Outcome::default() };
            entry.bytes_received += self.received;
            entry.bytes_sent += self.sent;
            if entry.end(outcome, self.policy, now.saturating_duration_since(self.started)) {
                telemetry.shared().access_log.write(entry);
            }
        }
    }
}

/// Answers that a user wrote into a route are none of the mesh's refusals.
fn count_rejection(telemetry: &WorkerTelemetry, reason: Option<Reason>, policy: Option<&str>) {
    match reason {
        None | Some(Reason::DirectResponse | Reason::Redirect | Reason::Preflight) => {}
        Some(reason) => telemetry.rejected(reason, policy),
    }
}
