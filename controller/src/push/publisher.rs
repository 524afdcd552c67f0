//! What is compiled now, and what has changed since.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tokio::sync::watch;
use tokio::time::Instant;
use weft_api::encode;
use weft_api::encoded::Encoded;
use weft_core::model::name::{ObjectName, ResourceName};
use weft_core::model::workload::TrustBundle;

use crate::compile::{self, Resource};
use crate::fragment::kubernetes::uid_hash;
use crate::pipeline::Published;
use crate::push::epoch::Epoch;
use crate::world::World;
use crate::world::dirty::Dirty;

/// How many changes are remembered; who has missed more looks at everything.
const REMEMBERED: usize = 256;

/// A world that nobody changes any more, and what it means for each sidecar.
pub trait Compiler: Send + Sync {
    /// Whether the pod is known. Nothing is said to one that is not (yet, or any more): what it holds stays in force.
    /// A pod of the same name and another uid is another pod.
    fn knows(&self, pod: &ObjectName, uid: Option<&str>) -> bool;
    /// What a name stands for, for one sidecar; `None` for nothing.
    fn resource(&self, pod: &ObjectName, name: &ResourceName) -> Option<Encoded>;
    /// The world's resource version: above 0 as soon as the whole world is known, and never less than before.
    fn as_of(&self) -> u64;
    /// Takes note that the world is the same at a later version.
    fn advance(&self, _as_of: u64) {}
}

/// A world as the pipeline publishes it.
pub struct WorldCompiler {
    /// All that is known.
    pub world: Arc<World>,
    /// Whose certificates are believed.
    pub trust: Arc<[TrustBundle]>,
    /// The world's resource version. It grows while the world stays the same.
    pub as_of: AtomicU64,
}

/// Tells streams of new worlds.
#[derive(Clone)]
pub struct Publisher {
    current: Arc<watch::Sender<Current>>,
}

/// One stream's view of what is published.
pub struct Subscriber {
    current: watch::Receiver<Current>,
    seen: u64,
}

/// A world, and what a stream must look at again.
pub struct Update {
    /// The world; `None` while nothing is known.
    pub compiler: Option<Arc<dyn Compiler>>,
    /// What has changed since the update before this one.
    pub dirty: Vec<Arc<Dirty>>,
    /// When the world was published.
    pub at: Option<Instant>,
    /// How many worlds were published up to this one.
    pub generation: u64,
}

#[derive(Clone, Default)]
struct Current {
    compiler: Option<Arc<dyn Compiler>>,
    at: Option<Instant>,
    generation: u64,
    changes: VecDeque<(u64, Arc<Dirty>)>,
}

impl Compiler for WorldCompiler {
    fn knows(&self, pod: &ObjectName, uid: Option<&str>) -> bool {
        let same = |known: u64| known == 0 || uid.is_none_or(|uid| uid_hash(uid) == known);
        self.world.pods.get(pod).is_some_and(|pod| same(pod.uid))
    }

    fn resource(&self, pod: &ObjectName, name: &ResourceName) -> Option<Encoded> {
        Some(match compile::compile(&self.world, &self.trust, pod, name)? {
            Resource::Workload(it) => encode::workload(&it),
            Resource::Address(it) => encode::address(&it),
            Resource::Service(it) => encode::service(&it),
            Resource::Endpoints(it) => encode::endpoints(&it),
        })
    }

    fn as_of(&self) -> u64 {
        self.as_of.load(Relaxed)
    }

    fn advance(&self, as_of: u64) {
        self.as_of.fetch_max(as_of, Relaxed);
    }
}

impl Default for Publisher {
    fn default() -> Self {
        Self { current: Arc::new(watch::Sender::new(Current::default())) }
    }
}

impl Publisher {
    /// Replaces the world; `dirty` says what may differ from the one before.
    pub fn publish(&self, compiler: Arc<dyn Compiler>, dirty: Arc<Dirty>) {
        self.current.send_modify(|current| {
            current.compiler = Some(compiler);
            current.at = Some(Instant::now());
            current.generation += 1;
            current.changes.push_back((current.generation, dirty));
            if current.changes.len() > REMEMBERED {
                current.changes.pop_front();
            }
        });
    }

    /// Publishes what the pipeline does, until it ends. The versions of worlds are those of the source (the API server's
    /// are the same for all replicas, and outlive them), or counted in an epoch, where the source has none.
    pub async fn follow(
        &self,
        mut worlds: watch::Receiver<Published>,
        trust: Arc<[TrustBundle]>,
        epoch: Option<Epoch>,
    ) {
        let mut last = None;
        loop {
            let Published { world, dirty, synced, revision, .. } = worlds.borrow_and_update().clone();
            let version = world.version;
            if synced && last != Some(version) {
                // A world that was passed over took its changes with it.
                let next = last.is_some_and(|last| last + 1 == version);
                let dirty = if next { dirty } else { Arc::new(Dirty::all()) };
                let trust = trust.clone();
                let as_of = epoch.map_or(revision, |epoch| epoch.as_of(version));
                self.publish(Arc::new(WorldCompiler { world, trust, as_of: as_of.into() }), dirty);
                last = Some(version);
            } else if synced && epoch.is_none() {
                self.advance(revision);
            }
            if worlds.changed().await.is_err() {
                return;
            }
        }
    }

    /// The world that is published is still the same at a later version. Nobody is told: streams find out in time.
    fn advance(&self, as_of: u64) {
        if let Some(compiler) = &self.current.borrow().compiler {
            compiler.advance(as_of);
        }
    }

    /// The version of the world that is published; 0 while there is none.
    pub fn as_of(&self) -> u64 {
        self.current.borrow().compiler.as_ref().map_or(0, |compiler| compiler.as_of())
    }

    /// What is published; `None` while nothing is known.
    pub fn compiler(&self) -> Option<Arc<dyn Compiler>> {
        self.current.borrow().compiler.clone()
    }

    /// How many worlds were published.
    pub fn generation(&self) -> u64 {
        self.current.borrow().generation
    }

    /// A view that has seen nothing yet.
    pub fn subscribe(&self) -> Subscriber {
        let mut current = self.current.subscribe();
        current.mark_changed();
        Subscriber { current, seen: 0 }
    }
}

impl Subscriber {
    /// Waits for a world that was not taken yet; for ever once nothing publishes any more.
    pub async fn changed(&mut self) {
        if self.current.changed().await.is_err() {
            std::future::pending().await
        }
    }

    /// Takes the present world.
    pub fn take(&mut self) -> Update {
        let current = self.current.borrow_and_update();
        let missed = current.changes.front().is_some_and(|(first, _)| *first > self.seen + 1);
        let dirty = if missed {
            vec![Arc::new(Dirty::all())]
        } else {
            let new = current.changes.iter().filter(|(generation, _)| *generation > self.seen);
            new.map(|(_, dirty)| dirty.clone()).collect()
        };
        self.seen = current.generation;
        let (compiler, at, generation) = (current.compiler.clone(), current.at, current.generation);
        Update { compiler, dirty, at, generation }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn world_at(version: u64) -> World {
        let mut world = World::default();
        world.version = version;
        world
    }

    struct Nothing;

    impl Compiler for Nothing {
        fn knows(&self, _: &ObjectName, _: Option<&str>) -> bool {
            true
        }

        fn resource(&self, _: &ObjectName, _: &ResourceName) -> Option<Encoded> {
            None
        }

        fn as_of(&self) -> u64 {
            7
        }
    }

    #[tokio::test]
    async fn a_subscriber_gets_every_change_once_or_all_of_them_in_one() {
        let publisher = Publisher::default();
        let mut subscriber = publisher.subscribe();
        subscriber.changed().await;
        assert!(subscriber.take().compiler.is_none());
        assert_eq!(publisher.as_of(), 0);
        for _ in 0..3 {
            publisher.publish(Arc::new(Nothing), Arc::new(Dirty::workloads()));
        }
        subscriber.changed().await;
        assert_eq!(subscriber.take().dirty.len(), 3);
        assert_eq!(subscriber.take().dirty.len(), 0);
        for _ in 0..=REMEMBERED {
            publisher.publish(Arc::new(Nothing), Arc::new(Dirty::workloads()));
        }
        let missed = subscriber.take().dirty;
        assert_eq!(missed, [Arc::new(Dirty::all())]);
        assert_eq!(publisher.as_of(), 7);
    }

    #[tokio::test]
    async fn worlds_that_were_passed_over_dirty_everything_and_an_unsynced_one_is_not_published() {
        let epoch = Epoch::next(tempfile::TempDir::new().unwrap().path()).unwrap();
        let world = |version, synced| Published {
            world: Arc::new(world_at(version)),
            dirty: Arc::new(Dirty::workloads()),
            synced,
            ..Published::default()
        };
        let (worlds, receiver) = watch::channel(world(0, false));
        let publisher = Publisher::default();
        let mut subscriber = publisher.subscribe();
        let follow = publisher.follow(receiver, Arc::new([]), Some(epoch));
        let check = async {
            let mut steps =
                vec![(0, Dirty::all()), (1, Dirty::workloads()), (3, Dirty::all()), (4, Dirty::workloads())];
            subscriber.changed().await;
            assert!(subscriber.take().compiler.is_none());
            for (version, dirty) in steps.drain(..) {
                worlds.send_replace(world(version, true));
                subscriber.changed().await;
                let update = subscriber.take();
                assert_eq!(update.dirty, [Arc::new(dirty)], "version {version}");
                assert_eq!(update.compiler.unwrap().as_of(), epoch.as_of(version));
            }
            drop(worlds);
        };
        tokio::join!(follow, check);
    }
}
