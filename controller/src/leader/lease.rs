//! The Lease in the API server: read, written with the version that was read, given back at the end.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client, Error};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Leadership;
use super::election::{Act, Election, Seen, Timing};

/// How long the work of a leader may take to stop before its term is given back.
const STOPPING: Duration = Duration::from_millis(1500);

/// A candidate for one Lease.
pub struct Candidate {
    leases: Api<Lease>,
    name: String,
    election: Election,
    /// The Lease as this replica wrote it last.
    held: Option<Lease>,
    until: watch::Sender<Option<Instant>>,
    working: TaskTracker,
}

impl Candidate {
    /// A candidate for a Lease; `pod` names the replica to people.
    pub fn new(client: Client, namespace: &str, lease: &str, pod: &str) -> Self {
        let me = format!("{pod}_{:08x}", rand::random::<u32>());
        Self {
            leases: Api::namespaced(client, namespace),
            name: lease.to_owned(),
            election: Election::new(me, Timing::default()),
            held: None,
            until: watch::Sender::new(None),
            working: TaskTracker::new(),
        }
    }

    /// Whether this replica leads, to be asked at any time.
    pub fn leadership(&self) -> Leadership {
        Leadership { until: self.until.subscribe(), working: self.working.clone() }
    }

    /// Stands for election until told to stop; then what the leader does is ended, and the term given back.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut wait = Duration::ZERO;
        let ended = |wait| shutdown.run_until_cancelled(tokio::time::sleep(wait));
        while ended(wait).await.is_some() {
            wait = shutdown.run_until_cancelled(self.step()).await.unwrap_or_default();
        }
        self.give_back().await;
    }

    /// One look at the Lease; how long to wait for the next.
    async fn step(&mut self) -> Duration {
        let asked = Instant::now();
        let limit = self.election.timing().answer;
        let stood = timeout(limit, self.stand(asked)).await;
        let failure = match stood {
            Ok(Ok(wait)) => return wait,
            Ok(Err(Error::Api(status))) if status.is_conflict() || status.is_already_exists() => {
                tracing::debug!("lease {}: another was first", self.name);
                return self.election.timing().look;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {limit:?}"),
        };
        tracing::warn!("lease {}: {failure}", self.name);
        self.election.timing().look
    }

    async fn stand(&mut self, asked: Instant) -> Result<Duration, Error> {
        // Whatever fails from here on, the Lease is read before it is written again.
        let found = match self.held.take() {
            Some(held) => Some(held),
            None => self.leases.get_opt(&self.name).await?,
        };
        let act = self.election.judge(found.as_ref().map(seen).as_ref(), Instant::now());
        let written = match (act, found) {
            (Act::Wait(wait), _) => {
                self.tell();
                return Ok(wait);
            }
            (Act::Take | Act::Renew, Some(lease)) => {
                let next = self.claim(lease, act == Act::Take);
                self.leases.replace(&self.name, &PostParams::default(), &next).await
            }
            (_, _) => {
                let first = self.claim(Lease::default(), true);
                self.leases.create(&PostParams::default(), &first).await
            }
        };
        Ok(self.wrote(written?, asked))
    }

    fn wrote(&mut self, lease: Lease, asked: Instant) -> Duration {
        self.held = Some(lease);
        self.election.won(asked);
        self.tell();
        (asked + self.election.timing().renew).saturating_duration_since(Instant::now())
    }

    /// Tells everybody how it stands.
    fn tell(&self) {
        let now = self.election.leads_until();
        let before = self.until.send_replace(now);
        let lapsed = before.is_some_and(|until| until < Instant::now());
        match (before.filter(|_| !lapsed), now) {
            (None, Some(_)) => tracing::info!("{} leads ({})", self.election.me(), self.name),
            (Some(_), None) => tracing::warn!("{} leads no more ({})", self.election.me(), self.name),
            _ => {}
        }
    }

    fn claim(&self, lease: Lease, anew: bool) -> Lease {
        let now = MicroTime(Timestamp::now());
        let before = lease.spec.unwrap_or_default();
        let term = i32::try_from(self.election.timing().term.as_secs()).unwrap_or(i32::MAX);
        let transitions = before.lease_transitions.unwrap_or_default();
        let spec = LeaseSpec {
            holder_identity: Some(self.election.me().to_owned()),
            lease_duration_seconds: Some(term),
            acquire_time: before.acquire_time.filter(|_| !anew).or_else(|| Some(now.clone())),
            renew_time: Some(now),
            lease_transitions: Some(if anew { transitions.saturating_add(1) } else { transitions }),
            ..before
        };
        let metadata = ObjectMeta { name: Some(self.name.clone()), ..lease.metadata };
        Lease { metadata, spec: Some(spec) }
    }

    /// Ends what the leader does, then lets the next one lead at once.
    async fn give_back(mut self) {
        self.election.lost();
        self.tell();
        self.working.close();
        if timeout(STOPPING, self.working.wait()).await.is_err() {
            tracing::warn!("what a leader does has not stopped in time: the term is left to lapse");
            return;
        }
        // The version on record may be old if a renewal was cut short: it is read again.
        let back = async {
            let Some(mut lease) = self.leases.get_opt(&self.name).await? else { return Ok(()) };
            if seen(&lease).holder != self.election.me() {
                return Ok(());
            }
            if let Some(spec) = &mut lease.spec {
                spec.holder_identity = None;
            }
            self.leases.replace(&self.name, &PostParams::default(), &lease).await.map(drop)
        };
        match timeout(STOPPING, back).await {
            Ok(Ok(())) => tracing::info!("{} has given its term back", self.election.me()),
            Ok(Err(error)) => tracing::warn!("lease {}: not given back: {error}", self.name),
            Err(_) => tracing::warn!("lease {}: not given back: no answer", self.name),
        }
    }
}

fn seen(lease: &Lease) -> Seen {
    let spec = lease.spec.as_ref();
    let seconds = spec.and_then(|spec| spec.lease_duration_seconds).unwrap_or_default();
    Seen {
        holder: spec.and_then(|spec| spec.holder_identity.clone()).unwrap_or_default(),
        version: lease.metadata.resource_version.clone().unwrap_or_default(),
        term: Duration::from_secs(u64::try_from(seconds).unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_that_somebody_filled_with_nonsense_is_nobodys() {
        assert_eq!(seen(&Lease::default()).holder, "");
        let spec = LeaseSpec { lease_duration_seconds: Some(-5), ..LeaseSpec::default() };
        let lease = Lease { spec: Some(spec), ..Lease::default() };
        assert_eq!(seen(&lease).term, Duration::ZERO);
    }
}
