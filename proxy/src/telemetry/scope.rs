//! What a worker resolves once and counts on many times.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use smallvec::SmallVec;
use weft_core::authz::Decision;
use weft_core::reason::Reason;

use super::labels::{Outcome, ScopeAddresses, ScopeLabels, ScopeRef};
use super::series::{RequestShard, Store, TcpShard};
use super::shared::Telemetry;

/// The most scopes that a worker remembers; beyond it all are forgotten and found again.
const MAX_SCOPES: usize = 4096;
/// The most outcomes that a scope remembers.
const MAX_OUTCOMES: usize = 64;

/// Shards by what tells them apart: few, so that looking through them beats hashing.
type Known<K, S, const N: usize> = SmallVec<[(K, Arc<S>); N]>;

/// One worker's way to count; stays on its thread.
#[derive(Debug)]
pub struct WorkerTelemetry {
    shared: Telemetry,
    worker: usize,
    by_address: RefCell<HashMap<ScopeAddresses, Remembered, FixedState>>,
    by_value: RefCell<HashMap<Arc<ScopeLabels>, Rc<Scope>, FixedState>>,
}

/// A scope, and what keeps alive all that was found by its address.
#[derive(Debug)]
struct Remembered {
    scope: Rc<Scope>,
    _alive: Arc<ScopeLabels>,
}

/// Two workloads and a service, between which this worker counts.
#[derive(Debug)]
pub struct Scope {
    labels: Arc<ScopeLabels>,
    worker: usize,
    series: Arc<Store>,
    requests: RefCell<Known<Outcome, RequestShard, 2>>,
    tcp: RefCell<Known<Option<Reason>, TcpShard, 1>>,
}

impl Telemetry {
    /// What one worker counts on; `worker` is its number, used by one thread only.
    pub fn worker(&self, worker: usize) -> WorkerTelemetry {
        WorkerTelemetry::new(self.clone(), worker)
    }
}

impl WorkerTelemetry {
    fn new(shared: Telemetry, worker: usize) -> Self {
        Self { shared, worker, by_address: RefCell::default(), by_value: RefCell::default() }
    }

    /// What all threads share.
    pub fn shared(&self) -> &Telemetry {
        &self.shared
    }

    /// The scope of these labels. Costs one look-up by the addresses of what is borrowed when they were seen before.
    pub fn scope(&self, labels: ScopeRef<'_>) -> Rc<Scope> {
        let addresses = labels.addresses();
        if let Some(known) = self.by_address.borrow().get(&addresses) {
            return known.scope.clone();
        }
        self.remember(addresses, Arc::new(labels.to_owned()))
    }

    /// Counts one refusal (`weft_rejected_total`).
    pub fn rejected(&self, reason: Reason, policy: Option<&str>) {
        self.shared.metrics.rejected.with_label_values(&[reason.name(), policy.unwrap_or("")]).inc();
    }

    /// Counts what the policies on dry run would have decided (`weft_authorization_dry_run_total`).
    pub fn dry_run(&self, decision: &Decision<'_>) {
        let (result, by) = match decision {
            Decision::Allow { by } => ("allowed", by.map(|by| by.policy)),
            Decision::Deny { by, .. } => ("denied", Some(by.policy)),
        };
        let policy = by.map(ToString::to_string).unwrap_or_default();
        self.shared.metrics.dry_run.with_label_values(&[result, &policy]).inc();
    }

    fn remember(&self, addresses: ScopeAddresses, labels: Arc<ScopeLabels>) -> Rc<Scope> {
        self.forget_when_full();
        let known = self.by_value.borrow().get(&labels).cloned();
        let scope = known.unwrap_or_else(|| self.create(labels.clone()));
        let remembered = Remembered { scope: scope.clone(), _alive: labels };
        self.by_address.borrow_mut().insert(addresses, remembered);
        scope
    }

    fn create(&self, labels: Arc<ScopeLabels>) -> Rc<Scope> {
        let scope = Rc::new(Scope {
            labels: labels.clone(),
            worker: self.worker,
            series: self.shared.series.clone(),
            requests: RefCell::default(),
            tcp: RefCell::default(),
        });
        self.by_value.borrow_mut().insert(labels, scope.clone());
        scope
    }

    fn forget_when_full(&self) {
        if self.by_address.borrow().len() >= MAX_SCOPES {
            self.by_value.borrow_mut().clear();
            self.by_address.borrow_mut().clear();
        }
    }
}

impl Scope {
    /// Between whom it counts.
    pub fn labels(&self) -> &Arc<ScopeLabels> {
        &self.labels
    }

    /// Counts one request that ended.
    pub fn request(&self, outcome: Outcome, took: Duration, request_bytes: u64, response_bytes: u64) {
        let micros = took.as_micros() as u64;
        self.with_requests(outcome, |shard| shard.add(micros, request_bytes, response_bytes));
    }

    /// Counts the messages of a gRPC request, and of its response.
    pub fn messages(&self, outcome: Outcome, messages: (u64, u64)) {
        self.with_requests(outcome, |shard| shard.add_messages(messages));
    }

    fn with_requests(&self, outcome: Outcome, count: impl Fn(&RequestShard)) {
        let resolve = || self.series.request(&self.labels, outcome, self.worker);
        let mut known = self.requests.borrow_mut();
        count(find_or_resolve(&mut known, outcome, RequestShard::has_ended, resolve));
    }

    /// Counts a connection that was opened.
    pub fn tcp_opened(&self) {
        self.with_tcp(None, TcpShard::opened);
    }

    /// Counts bytes of a live connection: `received` from the client, `sent` to it.
    pub fn tcp_bytes(&self, sent: u64, received: u64) {
        self.with_tcp(None, |shard| shard.bytes(sent, received));
    }

    /// Counts a connection that was closed, and bytes not counted yet.
    pub fn tcp_closed(&self, reason: Option<Reason>, sent: u64, received: u64) {
        self.with_tcp(reason, |shard| {
            shard.bytes(sent, received);
            shard.closed();
        });
    }

    fn with_tcp(&self, reason: Option<Reason>, count: impl Fn(&TcpShard)) {
        let resolve = || self.series.tcp(&self.labels, reason, self.worker);
        let mut known = self.tcp.borrow_mut();
        count(find_or_resolve(&mut known, reason, TcpShard::has_ended, resolve));
    }
}

/// The shard of `key`, asked for when it is not known or has ended.
fn find_or_resolve<K: PartialEq, S, const N: usize>(
    known: &mut Known<K, S, N>,
    key: K,
    has_ended: impl Fn(&S) -> bool,
    resolve: impl Fn() -> Arc<S>,
) -> &S
where
    [(K, Arc<S>); N]: smallvec::Array<Item = (K, Arc<S>)>,
{
    if known.len() > MAX_OUTCOMES {
        known.clear();
    }
    let at = known.iter().position(|(k, _)| *k == key).unwrap_or_else(|| {
        known.push((key, resolve()));
        known.len() - 1
    });
    let entry = &mut known[at].1;
    if has_ended(entry) {
        *entry = resolve();
    }
    entry
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::settings::AccessLogFormat;
    use crate::telemetry::labels::{AppProtocol, PeerRef, Reporter, Security, ServiceLabels};
    use weft_core::identity::SpiffeId;
    use weft_core::model::metadata::WorkloadMetadata;

    /// The labels of Istio's request metrics, sorted.
    const REQUEST_LABELS: [&str; 26] = [
        "connection_security_policy",
        "destination_app",
        "destination_canonical_revision",
        "destination_canonical_service",
        "destination_cluster",
        "destination_principal",
        "destination_service",
        "destination_service_name",
        "destination_service_namespace",
        "destination_version",
        "destination_workload",
        "destination_workload_namespace",
        "grpc_response_status",
        "reporter",
        "request_protocol",
        "response_code",
        "response_flags",
        "source_app",
        "source_canonical_revision",
        "source_canonical_service",
        "source_cluster",
        "source_principal",
        "source_version",
        "source_workload",
        "source_workload_namespace",
        "",
    ];

    struct Ends {
        client: Arc<WorkloadMetadata>,
        server: Arc<WorkloadMetadata>,
        principal: SpiffeId,
        service: ServiceLabels,
    }

    impl Ends {
        fn new(client: &str) -> Self {
            let metadata = |name: &str| WorkloadMetadata {
                workload: name.into(),
                namespace: "default".into(),
                ..WorkloadMetadata::default()
            };
            let server = WorkloadMetadata { version: "v\"1\n".into(), ..metadata("web") };
            let host = "web.default.svc.cluster.local".into();
            Self {
                client: Arc::new(metadata(client)),
                server: Arc::new(server),
                principal: SpiffeId::parse("spiffe://cluster.local/ns/default/sa/web").unwrap(),
                service: ServiceLabels { host, name: "web".into(), namespace: "default".into() },
            }
        }

        fn labels(&self) -> ScopeRef<'_> {
            ScopeRef {
                reporter: Reporter::Source,
                security: Security::Unknown,
                source: PeerRef { metadata: &self.client, principal: None },
                destination: PeerRef { metadata: &self.server, principal: Some(&self.principal) },
                service: &self.service,
            }
        }
    }

    fn telemetry() -> Telemetry {
        Telemetry::new(AccessLogFormat::Off, Clock::system())
    }

    fn ok() -> Outcome {
        Outcome { status: 200, ..Outcome::default() }
    }

    fn line<'a>(text: &'a str, start: &str) -> &'a str {
        text.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("no {start} in {text}"))
    }

    fn label_names(line: &str) -> Vec<&str> {
        let labels = line.split_once('{').unwrap().1.rsplit_once('}').unwrap().0;
        let mut names: Vec<_> =
            labels.split("\",").map(|pair| pair.split_once('=').unwrap().0).chain([""]).collect();
        names.sort_unstable_by_key(|name| (name.is_empty(), *name));
        names
    }

    #[test]
    fn requests_have_exactly_the_labels_of_istio() {
        let shared = telemetry();
        let ends = Ends::new("client");
        shared.worker(0).scope(ends.labels()).request(ok(), Duration::from_millis(3), 10, 20_000);
        let text = shared.render();
        let total = line(&text, "istio_requests_total{");
        assert_eq!(label_names(total), REQUEST_LABELS);
        assert!(total.ends_with("} 1"), "{total}");
        for label in [
            "reporter=\"source\"",
            "source_workload=\"client\"",
            "source_principal=\"unknown\"",
            "destination_principal=\"spiffe://cluster.local/ns/default/sa/web\"",
            "destination_service_name=\"web\"",
            "destination_version=\"v\\\"1\\n\"",
            "response_flags=\"-\"",
            "grpc_response_status=\"\"",
            "request_protocol=\"http\"",
        ] {
            assert!(total.contains(label), "{label} in {total}");
        }
        let bucket =
            |le: &str| text.lines().find(|l| l.contains("duration_milliseconds_bucket") && l.contains(le));
        assert!(bucket("le=\"1\"").unwrap().ends_with(" 0"));
        assert!(bucket("le=\"5\"").unwrap().ends_with(" 1"));
        assert!(line(&text, "istio_request_duration_milliseconds_sum").ends_with(" 3"));
        assert!(line(&text, "istio_response_bytes_sum").ends_with(" 20000"));
    }

    #[test]
    fn messages_of_grpc_have_the_labels_of_the_two_ends_alone() {
        let shared = telemetry();
        let ends = Ends::new("client");
        let scope = shared.worker(0).scope(ends.labels());
        scope.request(ok(), Duration::ZERO, 0, 0);
        for grpc_status in [Some(0), Some(14)] {
            let outcome = Outcome { protocol: AppProtocol::Grpc, grpc_status, ..ok() };
            scope.request(outcome, Duration::ZERO, 0, 0);
            scope.messages(outcome, (2, 3));
        }
        let text = shared.render();
        let series: Vec<_> =
            text.lines().filter(|l| l.starts_with("istio_request_messages_total{")).collect();
        assert_eq!(series.len(), 1, "{series:?}");
        assert!(series[0].ends_with("} 4"));
        assert!(line(&text, "istio_response_messages_total{").ends_with("} 6"));
        let of_a_request = [
            "connection_security_policy",
            "grpc_response_status",
            "request_protocol",
            "response_code",
            "response_flags",
        ];
        let expected: Vec<_> =
            REQUEST_LABELS.into_iter().filter(|name| !of_a_request.contains(name)).collect();
        assert_eq!(label_names(series[0]), expected);
    }

    #[test]
    fn connections_are_counted_by_their_end() {
        let shared = telemetry();
        let ends = Ends::new("client");
        let scope = shared.worker(0).scope(ends.labels());
        scope.tcp_opened();
        scope.tcp_bytes(5, 7);
        scope.tcp_closed(None, 1, 1);
        let text = shared.render();
        assert!(line(&text, "istio_tcp_connections_opened_total{").ends_with(" 1"));
        assert!(line(&text, "istio_tcp_connections_closed_total{").ends_with(" 1"));
        assert!(line(&text, "istio_tcp_sent_bytes_total{").ends_with(" 6"));
        let received = line(&text, "istio_tcp_received_bytes_total{");
        assert!(received.ends_with(" 8") && received.contains("request_protocol=\"tcp\""));
        assert!(!received.contains("response_code=") && !received.contains("grpc_response_status"));
    }

    #[test]
    fn what_is_shown_alike_is_one_series() {
        let shared = telemetry();
        let ends = Ends::new("client");
        let scope = shared.worker(0).scope(ends.labels());
        for reason in Reason::ALL {
            let outcome = Outcome { status: 503, reason: Some(reason), ..Outcome::default() };
            scope.request(outcome, Duration::ZERO, 0, 0);
            scope.tcp_closed(Some(reason), 0, 0);
        }
        let text = shared.render();
        let shown =
            text.lines().filter(|line| line.starts_with("istio_")).map(|l| l.rsplit_once(' ').unwrap().0);
        let mut seen = std::collections::HashSet::new();
        assert_eq!(shown.filter(|series| !seen.insert(*series)).collect::<Vec<_>>(), [""; 0]);
        let counted = text.lines().filter(|line| line.starts_with("istio_requests_total{"));
        let counted: usize = counted.map(|l| l.rsplit_once(' ').unwrap().1.parse::<usize>().unwrap()).sum();
        assert_eq!(counted, Reason::ALL.len());
    }

    #[test]
    fn long_connections_are_counted_while_they_last() {
        let shared = telemetry();
        let (ends, worker) = (Ends::new("client"), shared.worker(0));
        let mut record = crate::telemetry::TcpRecord::begin(tokio::time::Instant::now());
        record.moved(1, 1);
        record.opened(worker.scope(ends.labels()));
        record.moved(100, 10);
        assert!(line(&shared.render(), "istio_tcp_sent_bytes_total{").ends_with(" 100"));
        record.moved(150, 10);
        (record.sent, record.received) = (160, 11);
        record.finish(&worker, tokio::time::Instant::now());
        let text = shared.render();
        assert!(line(&text, "istio_tcp_sent_bytes_total{").ends_with(" 160"));
        assert!(line(&text, "istio_tcp_received_bytes_total{").ends_with(" 11"));
    }

    #[test]
    fn workers_add_up_and_find_a_scope_again() {
        let shared = telemetry();
        let ends = Ends::new("client");
        let (a, b) = (shared.worker(0), shared.worker(1));
        a.scope(ends.labels()).request(ok(), Duration::ZERO, 0, 0);
        b.scope(ends.labels()).request(ok(), Duration::ZERO, 0, 0);
        assert!(Rc::ptr_eq(&a.scope(ends.labels()), &a.scope(ends.labels())));
        let told_anew = Ends::new("client");
        assert!(Rc::ptr_eq(&a.scope(ends.labels()), &a.scope(told_anew.labels())), "equal labels, one scope");
        assert!(line(&shared.render(), "istio_requests_total{").ends_with(" 2"));
    }

    #[test]
    fn g24_the_number_of_series_is_bounded_and_nothing_is_lost() {
        let mut shared = telemetry();
        shared.series = Arc::new(Store::new(50));
        let worker = shared.worker(0);
        for n in 0..500 {
            let ends = Ends::new(&format!("client-{n}"));
            worker.scope(ends.labels()).request(ok(), Duration::ZERO, 0, 0);
        }
        assert!(shared.series.len() <= 51, "{}", shared.series.len());
        let text = shared.render();
        let counted: u64 = text
            .lines()
            .filter(|line| line.starts_with("istio_requests_total{"))
            .map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap())
            .sum();
        assert_eq!(counted, 500);
        assert!(text.contains("destination_service_name=\"OverflowSeries\""));
    }

    #[test]
    fn a_series_that_nobody_adds_to_ends_and_begins_anew() {
        let shared = telemetry();
        let ends = Ends::new("client");
        let worker = shared.worker(0);
        let scope = worker.scope(ends.labels());
        scope.request(ok(), Duration::ZERO, 0, 0);
        (0..100).for_each(|_| shared.series.sweep());
        assert!(shared.series.is_empty());
        scope.request(Outcome { protocol: AppProtocol::Http, ..ok() }, Duration::ZERO, 0, 0);
        assert!(line(&shared.render(), "istio_requests_total{").ends_with(" 1"));
    }

    #[test]
    fn every_status_is_counted_though_few_are_remembered() {
        let shared = telemetry();
        let ends = Ends::new("client");
        let scope = shared.worker(0).scope(ends.labels());
        for status in (100..300).chain(100..300) {
            scope.request(Outcome { status, ..Outcome::default() }, Duration::ZERO, 0, 0);
        }
        let text = shared.render();
        let twice =
            text.lines().filter(|l| l.starts_with("istio_requests_total{") && l.ends_with(" 2")).count();
        assert_eq!(twice, 200);
    }
}
