//! The writer: reads what statuses say, and writes what they should.
//!
//! A write names the version of the object that it read, and carries along what others have written into the status: lists
//! of conditions are one value in many a definition, so that a patch of ours alone would take theirs away. Whoever writes
//! meanwhile comes first, and the object is looked at again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use jiff::Timestamp;
use kube::api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};
use weft_crds::kind::Kind;

use super::condition::Standing;
use super::desk::Desk;
use super::peers::Peers;
use super::tally::{Tallies, tallies};
use crate::metrics::Metrics;
use crate::pipeline::Published;
use crate::push::publisher::Publisher;
use crate::push::registry::Registry;
use crate::report::{Account, Accounts};
use crate::source::object::ObjectId;

/// How often it is looked what is to be said.
const LOOK: Duration = Duration::from_millis(500);
/// How many looks there are between two questions to the other replicas.
const LOOKS_PER_ASK: u32 = 4;
/// How often all statuses are read again: somebody may have changed them.
const READ: Duration = Duration::from_secs(300);
/// Writes under way at a time.
const AT_A_TIME: usize = 8;
/// Objects in a page of a list.
const PAGE: u32 = 250;
/// Who we are to the API server.
const MANAGER: &str = "weft";

/// Writes the statuses of objects.
#[derive(Clone)]
pub struct StatusWriter {
    /// The API server.
    pub client: Client,
    /// The objects, and what is wrong with them.
    pub worlds: watch::Receiver<Published>,
    /// The sidecars, and what became of what they were told.
    pub counts: Counts,
    /// What is counted.
    pub metrics: Metrics,
}

/// How this replica counts its sidecars.
#[derive(Clone)]
pub struct Counts {
    /// The sidecars.
    pub registry: Registry,
    /// What they are told.
    pub publisher: Publisher,
}

/// What the last look was at.
#[derive(Default)]
struct Looked {
    accounts: Option<Arc<Accounts>>,
    world: u64,
    streams: u64,
}

impl Counts {
    /// On how many sidecars of this replica objects are in force.
    pub fn tallies(&self, published: &Published) -> Tallies {
        tallies(&published.world, &self.registry.holdings(self.publisher.generation()))
    }
}

impl StatusWriter {
    /// Writes for ever.
    pub async fn keep(mut self, mut peers: Peers) {
        if self.worlds.wait_for(|published| published.synced).await.is_err() {
            return;
        }
        let mut desk = Desk::new(Instant::now());
        let (mut ticks, mut readings) = (interval(LOOK), interval(READ));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut looked, mut count, mut writes) = (Looked::default(), 0u32, FuturesUnordered::new());
        loop {
            tokio::select! {
                biased;
                Some((id, there)) = writes.next() => desk.written(&id, there, Instant::now()),
                _ = readings.tick() => {
                    self.look(&mut desk, &mut looked, &peers, true);
                    self.read_all(&mut desk).await;
                }
                _ = ticks.tick() => {
                    let world = self.worlds.borrow().world.clone();
                    let news = count.is_multiple_of(LOOKS_PER_ASK) && peers.ask(&world).await;
                    count = count.wrapping_add(1);
                    self.look(&mut desk, &mut looked, &peers, news);
                }
            }
            while writes.len() < AT_A_TIME
                && let Some((id, standing)) = desk.next(Instant::now())
            {
                writes.push(self.write(id, standing));
            }
        }
    }

    /// Finds out what is to be said, if anything happened.
    fn look(&self, desk: &mut Desk, looked: &mut Looked, peers: &Peers, news: bool) {
        let published = self.worlds.borrow().clone();
        let now = Looked {
            accounts: Some(published.accounts.clone()),
            world: self.counts.publisher.generation(),
            streams: self.counts.registry.changes(),
        };
        if !news && now.is_same(looked) {
            return;
        }
        *looked = now;
        let mut sum = self.counts.tallies(&published);
        peers.add_to(&mut sum);
        let of = |(id, account): (&ObjectId, &Account)| {
            let tally = sum.get(id).cloned().unwrap_or_default();
            let reports: Vec<_> = account.reports.iter().collect();
            (id.clone(), Standing::of(account.generation, &reports, &tally))
        };
        desk.want(published.accounts.iter().map(of).collect(), Instant::now());
    }

    /// Reads every status there is.
    async fn read_all(&self, desk: &mut Desk) {
        let accounts = self.worlds.borrow().accounts.clone();
        let kinds: BTreeMap<_, _> = accounts
            .iter()
            .map(|(id, it)| ((id.group.clone(), id.kind.clone()), it.api_version.clone()))
            .collect();
        for ((group, kind), api_version) in kinds {
            let Some(resource) = resource(&kind, &api_version) else { continue };
            if let Err(error) = self.read(desk, &group, &resource).await {
                tracing::warn!("statuses of {kind}.{group} cannot be read: {error}");
            }
        }
    }

    async fn read(
        &self,
        desk: &mut Desk,
        group: &Arc<str>,
        resource: &ApiResource,
    ) -> Result<(), kube::Error> {
        let api: Api<DynamicObject> = Api::all_with(self.client.clone(), resource);
        let mut parameters = ListParams::default().limit(PAGE);
        loop {
            let list = api.list(&parameters).await?;
            for object in &list.items {
                let id = ObjectId {
                    group: group.clone(),
                    kind: resource.kind.as_str().into(),
                    namespace: object.metadata.namespace.as_deref().unwrap_or_default().into(),
                    name: object.metadata.name.as_deref().unwrap_or_default().into(),
                };
                desk.found(&id, Standing::read(&object.data["status"]));
            }
            parameters.continue_token = list.metadata.continue_.filter(|token| !token.is_empty());
            if parameters.continue_token.is_none() {
                return Ok(());
            }
        }
    }

    /// Writes one status; yields what it says then, or nothing where that failed.
    fn write(
        &self,
        id: ObjectId,
        standing: Standing,
    ) -> impl Future<Output = (ObjectId, Option<Standing>)> + use<> {
        let api_version = self.worlds.borrow().accounts.get(&id).map(|it| it.api_version.clone());
        let (client, metrics) = (self.client.clone(), self.metrics.clone());
        async move {
            let resource = api_version.and_then(|version| resource(&id.kind, &version));
            let Some(resource) = resource else { return (id, None) };
            let api = Api::namespaced_with(client, &id.namespace, &resource);
            let written = write(&api, &id, &standing).await;
            let result = match &written {
                Ok(()) => "written",
                Err(kube::Error::Api(status)) if status.is_conflict() => "conflict",
                Err(kube::Error::Api(status)) if status.is_not_found() => "gone",
                Err(error) => {
                    tracing::warn!("status of {id} cannot be written: {error}");
                    "failed"
                }
            };
            metrics.status_writes.with_label_values(&[result]).inc();
            (id, written.is_ok().then_some(standing))
        }
    }
}

impl Looked {
    fn is_same(&self, other: &Self) -> bool {
        let same = match (&self.accounts, &other.accounts) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            _ => false,
        };
        same && self.world == other.world && self.streams == other.streams
    }
}

async fn write(api: &Api<DynamicObject>, id: &ObjectId, standing: &Standing) -> Result<(), kube::Error> {
    let object = api.get(&id.name).await?;
    let generation = object.metadata.generation.unwrap_or_default();
    if generation > standing.generation {
        // What is to be said of this one is not known yet; it will be in a moment.
        return Ok(());
    }
    let Some(status) = standing.merged(&object.data["status"], Timestamp::now()) else { return Ok(()) };
    let patch = json!({"metadata": {"resourceVersion": object.metadata.resource_version}, "status": status});
    let parameters = PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() };
    api.patch_status(&id.name, &parameters, &Patch::Merge(&patch)).await.map(drop)
}

fn resource(kind: &str, api_version: &str) -> Option<ApiResource> {
    let known = Kind::ALL.into_iter().find(|known| known.name() == kind)?;
    let (group, version) = api_version.split_once('/')?;
    Some(ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        plural: known.plural().to_owned(),
    })
}
