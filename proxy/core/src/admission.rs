//! Limits of a cluster, exact over all workers: connections, requests that wait for one, requests under way,
//! retries under way (DestinationRule `connectionPool` and `retryBudget`).
//!
//! What is under way outlives configurations, so the counts do too: a new snapshot takes them over, and a permit
//! holds on to the counts, not to the cluster. A permit that is dropped gives itself back and does nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::model::cluster::{Cluster, RetryBudget};

/// What is under way in one cluster.
#[derive(Debug, Default)]
pub struct Admission {
    connections: AtomicU32,
    pending: AtomicU32,
    requests: AtomicU32,
    retries: AtomicU32,
    wanted: AtomicU32,
    retried: AtomicU64,
    unretried: AtomicU64,
}

/// A connection to the upstream may be open.
#[derive(Debug)]
pub struct ConnectionPermit(Arc<Admission>);

/// A request may wait for a connection.
#[derive(Debug)]
pub struct PendingPermit(Arc<Admission>);

/// A request may be under way.
#[derive(Debug)]
pub struct RequestPermit(Arc<Admission>);

/// A retry may be under way; one that is free holds no place.
#[derive(Debug)]
pub struct RetryPermit(Option<Arc<Admission>>);

/// What a retry takes of the budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cost {
    /// Nothing: the try before it was no load for anybody.
    Free,
    /// Its place among the retries under way.
    Counted,
}

impl Admission {
    /// Room for one more connection under `tcp.maxConnections`. Who is denied and waits says so with
    /// [`Self::want`].
    pub fn connection(self: &Arc<Self>, cluster: &Cluster) -> Option<ConnectionPermit> {
        take(&self.connections, cluster.connections.max_connections)
            .then(|| ConnectionPermit(Arc::clone(self)))
    }

    /// Room for one more waiting request under `http.http1MaxPendingRequests`.
    pub fn pending(self: &Arc<Self>, cluster: &Cluster) -> Option<PendingPermit> {
        take(&self.pending, cluster.connections.max_pending_requests).then(|| PendingPermit(Arc::clone(self)))
    }

    /// Room for one more request under way under `http.http2MaxRequests`.
    pub fn request(self: &Arc<Self>, cluster: &Cluster) -> Option<RequestPermit> {
        take(&self.requests, cluster.connections.max_requests).then(|| RequestPermit(Arc::clone(self)))
    }

    /// Room for one more retry under `http.maxRetries`, which counts every retry, or else the retry budget.
    pub fn retry(self: &Arc<Self>, cluster: &Cluster, cost: Cost) -> Option<RetryPermit> {
        let permit = self.retry_permit(cluster, cost);
        let counter = if permit.is_some() { &self.retried } else { &self.unretried };
        counter.fetch_add(1, Relaxed);
        permit
    }

    fn retry_permit(self: &Arc<Self>, cluster: &Cluster, cost: Cost) -> Option<RetryPermit> {
        let limit = match (cluster.connections.max_retries, cost) {
            (Some(limit), _) => limit,
            (None, Cost::Free) => return Some(RetryPermit(None)),
            (None, Cost::Counted) => self.budget(cluster.retry_budget),
        };
        take(&self.retries, Some(limit)).then(|| RetryPermit(Some(Arc::clone(self))))
    }

    /// Says that a worker waits for a connection it was denied: another may give up an idle one.
    pub fn want(&self) {
        self.wanted.fetch_add(1, Relaxed);
    }

    /// Takes the word back: the waiter has a connection, or waits no longer.
    pub fn unwant(&self) {
        self.answer_want();
    }

    /// Whether a worker waits. Cheap: to be asked whenever a connection falls idle.
    pub fn is_wanted(&self) -> bool {
        self.wanted.load(Relaxed) > 0
    }

    /// Whether the caller, who has an idle connection, is to close it: once for each waiter.
    pub fn answer_want(&self) -> bool {
        let less = |n: u32| n.checked_sub(1);
        self.is_wanted() && self.wanted.fetch_update(Relaxed, Relaxed, less).is_ok()
    }

    /// Connections open or being opened.
    pub fn connections(&self) -> u32 {
        self.connections.load(Relaxed)
    }

    /// Requests that wait for a connection.
    pub fn pending_requests(&self) -> u32 {
        self.pending.load(Relaxed)
    }

    /// Requests under way.
    pub fn requests(&self) -> u32 {
        self.requests.load(Relaxed)
    }

    /// Retries under way.
    pub fn retries(&self) -> u32 {
        self.retries.load(Relaxed)
    }

    /// Retries that there were, and those that there was no room for.
    pub fn retried(&self) -> (u64, u64) {
        (self.retried.load(Relaxed), self.unretried.load(Relaxed))
    }

    fn budget(&self, budget: RetryBudget) -> u32 {
        let busy = u64::from(self.requests()) + u64::from(self.pending_requests());
        let share = busy * u64::from(budget.basis_points) / 10_000;
        u32::try_from(share).unwrap_or(u32::MAX).max(budget.min_concurrency)
    }
}

/// Counts one more unless the limit is reached.
fn take(count: &AtomicU32, limit: Option<u32>) -> bool {
    let limit = limit.unwrap_or(u32::MAX);
    let more = |n: u32| (n < limit).then(|| n + 1);
    count.fetch_update(Relaxed, Relaxed, more).is_ok()
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Relaxed);
    }
}

impl Drop for PendingPermit {
    fn drop(&mut self) {
        self.0.pending.fetch_sub(1, Relaxed);
    }
}

impl Drop for RequestPermit {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Relaxed);
    }
}

impl Drop for RetryPermit {
    fn drop(&mut self) {
        if let Some(admission) = &self.0 {
            admission.retries.fetch_sub(1, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::cluster::ConnectionPolicy;
    use crate::model::name::{ClusterName, ServiceName};

    fn cluster(connections: ConnectionPolicy) -> Cluster {
        let service = ServiceName::new("default", "a.default.svc.cluster.local");
        Cluster { connections, ..Cluster::plain(ClusterName { service, port: 80, subset: None }) }
    }

    #[test]
    fn h1_a_limit_is_exact_over_threads() {
        let cluster = cluster(ConnectionPolicy { max_connections: Some(10), ..Default::default() });
        let admission = Arc::new(Admission::default());
        let grab = || (0..1000).filter_map(|_| admission.connection(&cluster)).collect::<Vec<_>>();
        let held: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(grab)).collect();
            threads.into_iter().flat_map(|t| t.join().unwrap()).collect()
        });
        assert_eq!((held.len(), admission.connections()), (10, 10));
        drop(held);
        assert_eq!(admission.connections(), 0);
    }

    #[test]
    fn zero_means_none_and_absent_means_no_limit() {
        let limits = ConnectionPolicy { max_pending_requests: Some(0), ..Default::default() };
        let cluster = cluster(limits);
        let admission = Arc::new(Admission::default());
        assert!(admission.pending(&cluster).is_none());
        assert!(admission.request(&cluster).is_some());
    }

    #[test]
    fn g12_retries_keep_to_the_budget() {
        let cluster = cluster(ConnectionPolicy::default());
        let admission = Arc::new(Admission::default());
        let few: Vec<_> = (0..9).filter_map(|_| admission.retry(&cluster, Cost::Counted)).collect();
        assert_eq!(few.len(), 3, "always three");
        let _requests: Vec<_> = (0..100).filter_map(|_| admission.request(&cluster)).collect();
        let more: Vec<_> = (0..99).filter_map(|_| admission.retry(&cluster, Cost::Counted)).collect();
        assert_eq!(few.len() + more.len(), 20, "a fifth of the requests under way");
        let free: Vec<_> = (0..99).filter_map(|_| admission.retry(&cluster, Cost::Free)).collect();
        assert_eq!((free.len(), admission.retries()), (99, 20), "what cost nobody anything");
        drop((few, more, free));
        assert_eq!(admission.retries(), 0);
    }

    #[test]
    fn max_retries_replaces_the_budget() {
        let cluster = cluster(ConnectionPolicy { max_retries: Some(1), ..Default::default() });
        let admission = Arc::new(Admission::default());
        let _one = admission.retry(&cluster, Cost::Counted).unwrap();
        assert!(admission.retry(&cluster, Cost::Counted).is_none());
        assert!(admission.retry(&cluster, Cost::Free).is_none());
    }

    #[test]
    fn each_waiter_costs_one_idle_connection() {
        let admission = Admission::default();
        assert!(!admission.answer_want());
        admission.want();
        admission.want();
        admission.unwant();
        assert!(admission.is_wanted() && admission.answer_want() && !admission.answer_want());
    }
}
