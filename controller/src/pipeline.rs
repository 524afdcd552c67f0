//! source -> validate -> world: takes what the sources say and publishes a new world for each batch that changed
//! anything. A single owner: nothing else writes.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};

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
#[derive(Default)]
pub struct Pipeline {
    world: World,
    reports: Reports,
    /// Everything in force, so that a reset knows what is gone.
    held: BTreeSet<FragmentKey>,
}

impl Pipeline {
    /// Takes changes from a source and publishes until the source ends.
    pub async fn run(mut self, mut changes: mpsc::Receiver<Changes>, publish: watch::Sender<Published>) {
        while let Some(batch) = changes.recv().await {
            let mut dirty = self.take(batch);
            while let Ok(batch) = changes.try_recv() {
                dirty.add(self.take(batch));
            }
            self.world.settle(&dirty);
            let reports: Arc<[Report]> = self.reports.all().into();
            log_new(&publish.borrow().reports, &reports);
            let world = Arc::new(self.world.clone());
            publish.send_replace(Published { world, dirty: Arc::new(dirty), reports, synced: true });
        }
    }

    /// Takes one batch of changes in; says what it touched.
    pub fn take(&mut self, batch: Changes) -> Dirty {
        self.reports.set_files(&batch.problems);
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

fn log_new(old: &[Report], new: &[Report]) {
    for report in new.iter().filter(|report| !old.contains(report)) {
        match report.severity {
            Severity::Warning => tracing::warn!("{report}"),
            Severity::Error | Severity::Unhonoured => tracing::error!("{report}"),
        }
    }
    for report in old.iter().filter(|report| !new.contains(report) && report.severity != Severity::Warning) {
        tracing::info!("mended: {report}");
    }
}
