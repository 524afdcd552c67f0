//! What a worker resolves once and counts on many times.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use smallvec::SmallVec;
use weft_core::reason::Reason;

use super::Telemetry;
use super::labels::{Outcome, ScopeAddresses, ScopeLabels, ScopeRef};
use super::series::{RequestShard, TcpShard};

/// The most scopes that a worker remembers; beyond it all are forgotten and found again.
const MAX_SCOPES: usize = 4096;
/// The most outcomes that a scope remembers.
const MAX_OUTCOMES: usize = 64;

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
    series: Arc<super::series::Store>,
    requests: RefCell<SmallVec<[(Outcome, Arc<RequestShard>); 2]>>,
    tcp: RefCell<SmallVec<[(Option<Reason>, Arc<TcpShard>); 1]>>,
}

impl WorkerTelemetry {
    pub(super) fn new(shared: Telemetry, worker: usize) -> Self {
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
    /// Counts one request that ended.
    pub fn request(&self, outcome: Outcome, took: Duration, request_bytes: u64, response_bytes: u64) {
        let micros = took.as_micros() as u64;
        let resolve = || self.series.request(&self.labels, outcome, self.worker);
        let mut known = self.requests.borrow_mut();
        let shard = find_or_resolve(&mut known, outcome, RequestShard::has_ended, resolve);
        shard.add(micros, request_bytes, response_bytes);
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
    known: &mut SmallVec<[(K, Arc<S>); N]>,
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
