//! Watches directories and sends what changes: the impure half of the directory source.
//!
//! Every change leads to a full look at the directory after a short quiet time: no event of the operating system
//! can be missed, misread or come in the wrong order. Events decide only when to look, and which files are not to be
//! read yet because someone is still writing them.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

use super::directory::{Changes, Directory};
use super::files::Tree;
use super::object::{Event, ObjectId, Problem};

/// How long a directory must be quiet before it is read: an editor's save is several events.
const QUIET: Duration = Duration::from_millis(10);
/// A look all the same, this often: some file systems tell nothing.
const SWEEP: Duration = Duration::from_secs(5);
/// How long a file that is being written is waited for, since the last that was written.
const PATIENCE: Duration = Duration::from_secs(1);

/// Several directories as one source; an object of a later one replaces that of an earlier one.
pub struct Directories {
    roots: Vec<Root>,
}

struct Root {
    tree: Tree,
    directory: Directory,
    problems: Vec<Problem>,
    /// Whether the directory itself could be read at least once.
    known: bool,
}

impl Directories {
    /// Sources for these directories (or single files), of which none was read yet.
    pub fn new(paths: Vec<PathBuf>) -> Self {
        let root = |path| Root {
            tree: Tree::new(path),
            directory: Directory::default(),
            problems: Vec::new(),
            known: false,
        };
        Self { roots: paths.into_iter().map(root).collect() }
    }

    /// Reads all directories once.
    pub fn read(&mut self) -> Changes {
        self.read_but(&BTreeSet::new())
    }

    /// Sends every change until the receiver is gone. The first message that holds events holds a single `Reset`, and
    /// comes once every directory could be read.
    pub async fn run(mut self, send: mpsc::Sender<Changes>) -> Result<(), notify::Error> {
        let mut watch = Watch::new(self.roots.iter().map(|root| root.tree.root()))?;
        let mut synced = false;
        let mut last = Vec::new();
        loop {
            watch.renew();
            let held = watch.written_now();
            let again = if held.is_empty() { SWEEP } else { PATIENCE };
            let read = tokio::task::spawn_blocking(move || {
                let changes = self.read_but(&held);
                (self, changes)
            });
            let mut changes;
            (self, changes) = read.await.map_err(|e| notify::Error::generic(&e.to_string()))?;
            match (synced, self.roots.iter().all(|root| root.known)) {
                (true, _) => {}
                (false, true) => changes.events = vec![Event::Reset(self.all().cloned().collect())],
                (false, false) => changes.events.clear(),
            }
            synced |= !changes.events.is_empty();
            let silent = changes.events.is_empty() && changes.moved.is_empty() && changes.problems == last;
            last.clone_from(&changes.problems);
            if !silent && send.send(changes).await.is_err() {
                return Ok(());
            }
            tokio::select! {
                () = watch.changed(again) => {}
                () = send.closed() => return Ok(()),
            }
        }
    }

    fn read_but(&mut self, held: &BTreeSet<PathBuf>) -> Changes {
        let mut touched = BTreeSet::new();
        let mut moved = Vec::new();
        for root in &mut self.roots {
            let changes = root.read(held);
            touched.extend(changes.events.iter().filter_map(id).cloned());
            moved.extend(changes.moved);
        }
        let events = touched.into_iter().map(|id| self.event(id)).collect();
        let problems = self.roots.iter().flat_map(|root| root.problems.clone()).collect();
        Changes { events, moved, problems, version: 0 }
    }

    fn all(&self) -> impl Iterator<Item = &super::object::Object> {
        let mut all = BTreeMap::new();
        for object in self.roots.iter().flat_map(|root| root.directory.objects()) {
            all.insert(&object.id, object);
        }
        all.into_values()
    }

    fn event(&self, id: ObjectId) -> Event {
        let found = self.roots.iter().rev().find_map(|root| root.directory.object(&id));
        found.map_or_else(|| Event::Delete(id.clone()), |object| Event::Apply(object.clone()))
    }
}

fn id(event: &Event) -> Option<&ObjectId> {
    match event {
        Event::Apply(object) => Some(&object.id),
        Event::Delete(id) => Some(id),
        _ => None,
    }
}

impl Root {
    fn read(&mut self, held: &BTreeSet<PathBuf>) -> Changes {
        let (files, unreadable) = self.tree.read(held);
        self.known |= !unreadable.iter().any(|problem| *problem.path == *self.tree.root());
        let changes = self.directory.update(files);
        self.problems = unreadable.into_iter().chain(changes.problems.iter().cloned()).collect();
        changes
    }
}

/// Tells when to look.
struct Watch {
    watcher: RecommendedWatcher,
    /// Watches what the roots lie in: a root that is gone may come back.
    _above: RecommendedWatcher,
    /// The roots, and which directory each was when it was last watched (device and inode).
    roots: Vec<(PathBuf, Option<(u64, u64)>)>,
    woken: mpsc::Receiver<()>,
    written: Arc<Mutex<BTreeMap<PathBuf, Instant>>>,
}

impl Watch {
    fn new<'a>(roots: impl Iterator<Item = &'a Path>) -> Result<Self, notify::Error> {
        let roots: Vec<_> = roots.map(|path| (path.to_owned(), None)).collect();
        let (wake, woken) = mpsc::channel::<()>(1);
        let written: Arc<Mutex<BTreeMap<PathBuf, Instant>>> = Arc::default();
        let (notes, again) = (written.clone(), wake.clone());
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event
                .is_ok_and(|event| !note(&event, &mut notes.lock().unwrap_or_else(PoisonError::into_inner)))
            {
                return;
            }
            // One that waits to be seen is enough.
            let _ = again.try_send(());
        })?;
        let names: Vec<PathBuf> = roots.iter().map(|(path, _)| path.clone()).collect();
        let mut above = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let concerns = |event: notify::Event| event.paths.iter().any(|path| names.contains(path));
            if event.is_ok_and(concerns) {
                let _ = wake.try_send(());
            }
        })?;
        for (root, _) in &roots {
            let parent = root.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            watched(&mut above, parent, RecursiveMode::NonRecursive);
        }
        Ok(Self { watcher, _above: above, roots, woken, written })
    }

    /// Watches each root that is another directory than before, or is back.
    fn renew(&mut self) {
        for (path, known) in &mut self.roots {
            let now = std::fs::metadata(&*path).ok().map(|m| (m.dev(), m.ino()));
            if now == *known {
                continue;
            }
            // It may have been unwatched by being removed.
            let _ = self.watcher.unwatch(path);
            let on = now.is_some() && watched(&mut self.watcher, path, RecursiveMode::Recursive);
            *known = now.filter(|_| on);
        }
    }

    /// The files that someone writes and has not closed.
    fn written_now(&self) -> BTreeSet<PathBuf> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        written.retain(|_, last| last.elapsed() < PATIENCE);
        written.keys().cloned().collect()
    }

    /// Returns when something has changed and all is quiet, or after `at_most`.
    async fn changed(&mut self, at_most: Duration) {
        if tokio::time::timeout(at_most, self.woken.recv()).await.is_ok() {
            tokio::time::sleep(QUIET).await;
            while self.woken.try_recv().is_ok() {}
        }
    }
}

/// Watches a directory; where that fails, the sweep is left.
fn watched(watcher: &mut RecommendedWatcher, path: &Path, mode: RecursiveMode) -> bool {
    let result = watcher.watch(path, mode);
    if let Err(error) = &result {
        tracing::debug!("{} is not watched, and looked at every {SWEEP:?}: {error}", path.display());
    }
    result.is_ok()
}

/// Notes which files are being written; whether there is a reason to look. Reading is none: we read ourselves.
fn note(event: &notify::Event, written: &mut BTreeMap<PathBuf, Instant>) -> bool {
    match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => {}
        EventKind::Access(_) => return false,
        EventKind::Modify(ModifyKind::Data(_)) => {
            written.extend(event.paths.iter().map(|path| (path.clone(), Instant::now())));
            return true;
        }
        _ => {}
    }
    for path in &event.paths {
        written.remove(path);
    }
    true
}
