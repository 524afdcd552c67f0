//! source -> validate -> world: takes what the sources say and publishes a new world for each batch that changed
//! anything. A single owner: nothing else writes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::analyse::analyse;
use crate::fragment::FragmentKey;
use crate::report::{Accounts, Report, Reports, Severity};
use crate::source::directory::Changes;
use crate::source::object::{Event, Object, ObjectId, Scope};
use crate::validate::mesh::NAME as SETTINGS;
use crate::validate::{key_of, validate};
use crate::world::World;
use crate::world::dirty::Dirty;
use crate::world::share::Shared;

/// How much longer the rest after a publication is than the publication took.
const REST: u32 = 4;
/// Changes that are taken before it is looked whether a publication is due.
const AT_ONCE: usize = 256;

/// What the rest of the controller sees of it.
#[derive(Clone, Debug, Default)]
pub struct Published {
    /// All that is known.
    pub world: Arc<World>,
    /// What may have changed since the world of the version before this one.
    pub dirty: Arc<Dirty>,
    /// What is wrong with what users wrote.
    pub reports: Arc<[Report]>,
    /// Whether the sources have said all they had to say at first.
    pub synced: bool,
    /// The source's version of the world; 0 where it has none.
    pub revision: u64,
    /// Every object of the mesh's own kinds, with all that is wrong with it.
    pub accounts: Arc<Accounts>,
}

/// The joined state and its reports.
pub struct Pipeline {
    world: World,
    reports: Reports,
    /// What many objects have in common.
    shared: Shared,
    /// Everything in force, so that a reset knows what is gone.
    held: BTreeSet<FragmentKey>,
    /// What a listing that is under way has not named yet.
    unnamed: BTreeMap<Scope, Unnamed>,
    /// Whether a source has said all there is.
    synced: bool,
    /// The highest version that the source has named.
    revision: u64,
    /// Not before this is it looked again at what objects mean to each other.
    rested_at: Instant,
}

/// What was known of a scope before it is listed anew.
#[derive(Default)]
struct Unnamed {
    held: BTreeSet<FragmentKey>,
    /// Objects with something wrong, in force or not.
    reported: BTreeSet<ObjectId>,
}

impl Default for Pipeline {
    fn default() -> Self {
        let (world, reports, held) = (World::default(), Reports::default(), BTreeSet::new());
        let (shared, unnamed) = (Shared::default(), BTreeMap::new());
        Self { world, reports, shared, held, unnamed, synced: false, revision: 0, rested_at: Instant::now() }
    }
}

impl Pipeline {
    /// Takes changes from a source and publishes until the source ends. A world is published as soon as anything changed,
    /// then not again before a rest in proportion to what that cost: a storm of changes makes few worlds. What objects
    /// mean to each other is looked at once all is quiet, or at most a twentieth of the time: nobody waits for it.
    pub async fn run(mut self, mut changes: mpsc::Receiver<Changes>, publish: watch::Sender<Published>) {
        let mut dirty = Dirty::default();
        let (mut publish_at, mut look_at) = (None, None);
        let mut awake_at = Instant::now();
        loop {
            tokio::select! {
                biased;
                () = until(publish_at) => {
                    let start = Instant::now();
                    self.publish(&publish, std::mem::take(&mut dirty));
                    awake_at = start + start.elapsed() * REST;
                    publish_at = None;
                    look_at = look_at.or(Some(self.rested_at));
                }
                batch = changes.recv() => {
                    let Some(batch) = batch else { return };
                    dirty.add(self.take(batch));
                    let more = std::iter::from_fn(|| changes.try_recv().ok()).take(AT_ONCE);
                    more.for_each(|batch| dirty.add(self.take(batch)));
                    if self.synced && (!dirty.is_empty() || !publish.borrow().synced) {
                        publish_at = publish_at.or(Some(awake_at));
                    } else {
                        self.publish_reports(&publish);
                    }
                }
                () = until(look_at) => {
                    self.look_across();
                    self.publish_reports(&publish);
                    look_at = None;
                }
            }
        }
    }

    fn publish(&mut self, publish: &watch::Sender<Published>, dirty: Dirty) {
        self.world.settle(&dirty);
        let reports: Arc<[Report]> = self.reports.all().into();
        log_new(&publish.borrow().reports, &reports);
        let (world, dirty) = (Arc::new(self.world.clone()), Arc::new(dirty));
        let (synced, revision, accounts) = (self.synced, self.revision, self.reports.accounts());
        publish.send_replace(Published { world, dirty, reports, synced, revision, accounts });
    }

    /// The same world with other reports: who has seen its version has seen it.
    fn publish_reports(&mut self, publish: &watch::Sender<Published>) {
        let reports: Arc<[Report]> = self.reports.all().into();
        let (revision, accounts) = (self.revision, self.reports.accounts());
        publish.send_if_modified(|published| {
            let newer = published.revision < revision || !Arc::ptr_eq(&published.accounts, &accounts);
            published.accounts = accounts;
            let other = published.reports != reports;
            if other {
                log_new(&published.reports, &reports);
                published.reports = reports;
            }
            published.revision = revision;
            newer || other
        });
    }

    /// Looks at what objects mean to each other, and rests accordingly.
    pub fn look_across(&mut self) {
        let start = Instant::now();
        self.reports.set_crossing(analyse(&self.world));
        self.rested_at = start + start.elapsed() * 20;
    }

    /// All that is wrong now.
    pub fn reports(&self) -> Vec<Report> {
        self.reports.all()
    }

    /// Takes one batch of changes in; says what it touched.
    pub fn take(&mut self, batch: Changes) -> Dirty {
        self.reports.set_files(&batch.problems);
        batch.moved.iter().for_each(|object| self.reports.move_object(object));
        let mut dirty = Dirty::default();
        for event in batch.events {
            dirty.add(self.take_event(event));
        }
        self.revision = self.revision.max(batch.version);
        dirty
    }

    fn take_event(&mut self, event: Event) -> Dirty {
        match event {
            Event::Apply(object) => return self.apply(&object),
            Event::Delete(id) => {
                self.reports.forget(&id);
                return key_of(&id).map(|key| self.delete(&key)).unwrap_or_default();
            }
            Event::Reset(objects) => return self.reset(&objects),
            Event::Listing(scope) => self.listing(scope),
            Event::Listed(scope) => return self.listed(&scope),
            Event::Synced => self.synced = true,
        }
        Dirty::default()
    }

    /// The world as it is now, after [`World::settle`].
    pub fn settled(&mut self, dirty: &Dirty) -> &World {
        self.world.settle(dirty);
        &self.world
    }

    fn listing(&mut self, scope: Scope) {
        let held = self.held.iter().filter(|key| is_within(key, &scope)).cloned().collect();
        let reported = self.reports.ids().filter(|id| scope.includes(id)).cloned().collect();
        self.unnamed.insert(scope, Unnamed { held, reported });
    }

    /// What was not named in a listing is gone.
    fn listed(&mut self, scope: &Scope) -> Dirty {
        let gone = self.unnamed.remove(scope).unwrap_or_default();
        gone.reported.iter().for_each(|id| self.reports.forget(id));
        let mut dirty = Dirty::default();
        for key in gone.held {
            dirty.add(self.delete(&key));
        }
        dirty
    }

    /// An object that a listing under way names, or that changes meanwhile.
    fn named(&mut self, id: &ObjectId, key: Option<&FragmentKey>) {
        for (_, unnamed) in self.unnamed.iter_mut().filter(|(scope, _)| scope.includes(id)) {
            unnamed.reported.remove(id);
            key.map(|key| unnamed.held.remove(key));
        }
    }

    fn apply(&mut self, object: &Object) -> Dirty {
        let key = key_of(&object.id);
        self.named(&object.id, key.as_ref());
        let verdict = validate(object);
        self.reports.set_object(object, &verdict.findings);
        // What is refused leaves its last good version in force.
        let Some(mut fragment) = verdict.fragment else { return Dirty::default() };
        self.shared.share(&mut fragment);
        self.held.extend(key);
        self.world.apply(fragment)
    }

    fn delete(&mut self, key: &FragmentKey) -> Dirty {
        self.held.remove(key);
        self.world.delete(key)
    }

    fn reset(&mut self, objects: &[Object]) -> Dirty {
        self.synced = true;
        self.reports.retain(&objects.iter().map(|object| &object.id).collect());
        let named: BTreeSet<_> = objects.iter().filter_map(|object| key_of(&object.id)).collect();
        let gone: Vec<_> = self.held.difference(&named).cloned().collect();
        let mut dirty = Dirty::default();
        for key in gone {
            dirty.add(self.delete(&key));
        }
        for object in objects {
            dirty.add(self.apply(object));
        }
        dirty
    }
}

/// Whether a listing of a scope names what this is made of.
fn is_within(key: &FragmentKey, scope: &Scope) -> bool {
    let (group, kind) = (scope.group.clone(), scope.kind.clone());
    let namespace = scope.namespace.clone().unwrap_or_default();
    let probe = ObjectId { group, kind, namespace, name: SETTINGS.into() };
    key_of(&probe).is_some_and(|probe| probe.same_kind(key))
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Logs what is new and what is mended; both lists are in order.
fn log_new(old: &[Report], new: &[Report]) {
    for report in new.iter().filter(|report| old.binary_search(report).is_err()) {
        match report.severity {
            Severity::Warning => tracing::warn!("{report}"),
            Severity::Error | Severity::Unhonoured => tracing::error!("{report}"),
        }
    }
    for report in old.iter().filter(|report| report.severity != Severity::Warning) {
        if new.binary_search(report).is_err() {
            tracing::info!("mended: {report}");
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::source::object::Place;

    fn id(kind: &str, name: &str) -> ObjectId {
        let group = if kind == "VirtualService" { "networking.weft.dev" } else { "" };
        ObjectId { group: group.into(), kind: kind.into(), namespace: "n".into(), name: name.into() }
    }

    fn apply(kind: &str, name: &str) -> Event {
        let api = if kind == "VirtualService" { "networking.weft.dev/v1" } else { "v1" };
        let spec = if kind == "VirtualService" { json!({"hosts": ["a"], "typo": 1}) } else { json!({}) };
        let metadata = json!({"name": name, "namespace": "n"});
        let value = json!({"apiVersion": api, "kind": kind, "metadata": metadata, "spec": spec});
        Event::Apply(Object { id: id(kind, name), value: Arc::new(value), place: Place::Cluster })
    }

    fn scope(kind: &str) -> Scope {
        let ObjectId { group, kind, .. } = id(kind, "");
        Scope { group, kind, namespace: None }
    }

    fn listing(kind: &str, names: &[&str]) -> Vec<Event> {
        let first = std::iter::once(Event::Listing(scope(kind)));
        let named = names.iter().map(|name| apply(kind, name));
        first.chain(named).chain([Event::Listed(scope(kind))]).collect()
    }

    fn take(pipeline: &mut Pipeline, events: Vec<Event>, version: u64) -> Dirty {
        let dirty = pipeline.take(Changes { events, version, ..Changes::default() });
        pipeline.world.settle(&dirty);
        dirty
    }

    fn pods(pipeline: &Pipeline) -> Vec<String> {
        pipeline.world.pods.keys().map(|name| name.name.to_string()).collect()
    }

    #[test]
    fn f12_a_listing_takes_away_what_it_does_not_name_and_touches_nothing_else() {
        let mut pipeline = Pipeline::default();
        take(&mut pipeline, listing("Pod", &["a", "b"]), 5);
        take(&mut pipeline, listing("Service", &["s"]), 6);
        assert!(take(&mut pipeline, listing("Pod", &["a", "b"]), 7).is_empty(), "nothing flaps");
        assert!(!take(&mut pipeline, listing("Pod", &["b"]), 8).is_empty());
        assert_eq!(pods(&pipeline), ["b"]);
        assert_eq!(pipeline.world.services.len(), 1);
        assert_eq!(pipeline.revision, 8);
    }

    #[test]
    fn f12_a_listing_that_begins_again_counts_from_its_last_beginning() {
        let mut pipeline = Pipeline::default();
        take(&mut pipeline, listing("Pod", &["a", "b", "c"]), 1);
        take(&mut pipeline, vec![Event::Listing(scope("Pod")), apply("Pod", "a")], 0);
        assert_eq!(pods(&pipeline), ["a", "b", "c"], "half a listing takes nothing away");
        take(&mut pipeline, listing("Pod", &["b", "d"]), 2);
        assert_eq!(pods(&pipeline), ["b", "d"]);
    }

    #[test]
    fn a_refused_object_that_a_listing_does_not_name_is_no_trouble_any_more() {
        let mut pipeline = Pipeline::default();
        take(&mut pipeline, listing("VirtualService", &["v"]), 1);
        let trouble = pipeline.reports();
        assert!(!trouble.is_empty());
        take(&mut pipeline, listing("VirtualService", &["v"]), 2);
        assert_eq!(pipeline.reports(), trouble);
        take(&mut pipeline, listing("VirtualService", &[]), 3);
        assert!(pipeline.reports().is_empty());
    }

    #[tokio::test]
    async fn f10_nothing_is_published_before_all_is_known() {
        let (send, changes) = mpsc::channel(4);
        let (publish, mut worlds) = watch::channel(Published::default());
        tokio::spawn(Pipeline::default().run(changes, publish));
        let changes = |events, version| Changes { events, version, ..Changes::default() };
        send.send(changes(listing("Pod", &["a"]), 4)).await.unwrap();
        send.send(changes(vec![Event::Synced], 0)).await.unwrap();
        let published = worlds.wait_for(|published| published.synced).await.unwrap().clone();
        assert_eq!((published.world.version, published.revision), (1, 4), "the first world is whole");
        send.send(changes(Vec::new(), 9)).await.unwrap();
        let published = worlds.wait_for(|published| published.revision == 9).await.unwrap();
        assert_eq!(published.world.version, 1, "a bookmark is no new world");
    }
}
