//! source -> validate -> world: takes what the sources say and publishes a new world for each batch that changed
//! anything. A single owner: nothing else writes.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::analyse::analyse;
use crate::fragment::FragmentKey;
use crate::report::{Report, Reports, Severity};
use crate::source::directory::Changes;
use crate::source::object::{Event, Object};
use crate::validate::{key_of, validate};
use crate::world::World;
use crate::world::dirty::Dirty;

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
}

/// The joined state and its reports.
pub struct Pipeline {
    world: World,
    reports: Reports,
    /// Everything in force, so that a reset knows what is gone.
    held: BTreeSet<FragmentKey>,
    /// Whether a source has said all there is.
    synced: bool,
    /// Not before this is it looked again at what objects mean to each other.
    rested_at: Instant,
}

impl Default for Pipeline {
    fn default() -> Self {
        let (world, reports, held) = (World::default(), Reports::default(), BTreeSet::new());
        Self { world, reports, held, synced: false, rested_at: Instant::now() }
    }
}

impl Pipeline {
    /// Takes changes from a source and publishes until the source ends. What objects mean to each other is looked at
    /// once all is quiet, or at most a twentieth of the time: nobody waits for it.
    pub async fn run(mut self, mut changes: mpsc::Receiver<Changes>, publish: watch::Sender<Published>) {
        let mut look_at: Option<Instant> = None;
        loop {
            tokio::select! {
                biased;
                batch = changes.recv() => {
                    let Some(batch) = batch else { return };
                    let mut dirty = self.take(batch);
                    while let Ok(batch) = changes.try_recv() {
                        dirty.add(self.take(batch));
                    }
                    self.publish(&publish, dirty);
                    look_at = look_at.or(Some(self.rested_at));
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
        let world = Arc::new(self.world.clone());
        publish.send_replace(Published { world, dirty: Arc::new(dirty), reports, synced: self.synced });
    }

    /// The same world with other reports: who has seen its version has seen it.
    fn publish_reports(&mut self, publish: &watch::Sender<Published>) {
        let reports: Arc<[Report]> = self.reports.all().into();
        if publish.borrow().reports != reports {
            log_new(&publish.borrow().reports, &reports);
            publish.send_modify(|published| published.reports = reports);
        }
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
            dirty.add(match event {
                Event::Apply(object) => self.apply(&object),
                Event::Delete(id) => {
                    self.reports.forget(&id);
                    key_of(&id).map(|key| self.delete(&key)).unwrap_or_default()
                }
                Event::Reset(objects) => self.reset(&objects),
            });
        }
        dirty
    }

    /// The world as it is now, after [`World::settle`].
    pub fn settled(&mut self, dirty: &Dirty) -> &World {
        self.world.settle(dirty);
        &self.world
    }

    fn apply(&mut self, object: &Object) -> Dirty {
        let verdict = validate(object);
        self.reports.set_object(object, &verdict.findings);
        // What is refused leaves its last good version in force.
        let Some(fragment) = verdict.fragment else { return Dirty::default() };
        self.held.extend(key_of(&object.id));
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
