//! Watches directories and sends what changes: the impure half of the directory source.
//!
//! Every change leads to a full look at the directory after a short quiet time: no event of the operating system
//! can be missed, misread or come in the wrong order.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use notify::{RecursiveMode, Watcher};
use tokio::sync::mpsc;

use super::directory::{Changes, Directory, Files};
use super::object::{Event, ObjectId, Problem};

/// How long a directory must be quiet before it is read: an editor's save is several events.
const QUIET: Duration = Duration::from_millis(10);
/// A look all the same, this often: some file systems tell nothing.
const SWEEP: Duration = Duration::from_secs(5);

/// Several directories as one source; an object of a later one replaces that of an earlier one.
pub struct Directories {
    roots: Vec<Root>,
}

struct Root {
    path: PathBuf,
    directory: Directory,
    seen: BTreeMap<Arc<Path>, Seen>,
    problems: Vec<Problem>,
}

/// A file as it was last read: unchanged times and size mean unchanged text.
struct Seen {
    modified: Option<SystemTime>,
    length: u64,
    text: Result<Arc<str>, String>,
}

impl Directories {
    /// Sources for these directories, of which none was read yet.
    pub fn new(paths: Vec<PathBuf>) -> Self {
        let root = |path| Root {
            path,
            directory: Directory::default(),
            seen: BTreeMap::new(),
            problems: Vec::new(),
        };
        Self { roots: paths.into_iter().map(root).collect() }
    }

    /// Reads all directories once.
    pub fn read(&mut self) -> Changes {
        let mut touched = BTreeSet::new();
        for root in &mut self.roots {
            touched.extend(root.read());
        }
        let events = touched.into_iter().map(|id| self.event(id)).collect();
        Changes { events, problems: self.roots.iter().flat_map(|root| root.problems.clone()).collect() }
    }

    /// Sends every change until the receiver is gone. The first message holds a single `Reset`.
    pub async fn run(mut self, send: mpsc::Sender<Changes>) -> Result<(), notify::Error> {
        let (wake, mut woken) = mpsc::channel::<()>(1);
        let mut watcher = notify::recommended_watcher(move |_| {
            let _ = wake.try_send(());
        })?;
        for root in &self.roots {
            watcher.watch(&root.path, RecursiveMode::Recursive)?;
        }
        let first = self.read();
        let reset = Event::Reset(self.all().cloned().collect());
        let mut last = first.problems.clone();
        if send.send(Changes { events: vec![reset], problems: first.problems }).await.is_err() {
            return Ok(());
        }
        loop {
            let _ = tokio::time::timeout(SWEEP, woken.recv()).await;
            tokio::time::sleep(QUIET).await;
            while woken.try_recv().is_ok() {}
            let changes = tokio::task::block_in_place(|| self.read());
            if changes.events.is_empty() && changes.problems == last {
                continue;
            }
            last.clone_from(&changes.problems);
            if send.send(changes).await.is_err() {
                return Ok(());
            }
        }
    }

    fn all(&self) -> impl Iterator<Item = &super::object::Object> {
        let mut all = BTreeMap::new();
        for object in self.roots.iter().flat_map(|root| root.directory.objects()) {
            all.insert(&object.id, object);
        }
        all.into_values()
    }

    fn event(&self, id: ObjectId) -> Event {
        let found = self.roots.iter().rev().find_map(|root| root.directory.objects().find(|o| o.id == id));
        found.map_or_else(|| Event::Delete(id.clone()), |object| Event::Apply(object.clone()))
    }
}

impl Root {
    fn read(&mut self) -> Vec<ObjectId> {
        let paths = match manifests(&self.path) {
            Ok(paths) => paths,
            Err(error) => {
                let reason =
                    format!("the directory cannot be read: {error}; what it said before stays in force");
                self.problems = vec![Problem { path: self.path.as_path().into(), line: 0, reason }];
                return Vec::new();
            }
        };
        self.seen.retain(|path, _| paths.contains(&**path));
        for path in paths {
            self.look(&path);
        }
        let files: Files = self.seen.iter().map(|(path, seen)| (path.clone(), seen.text.clone())).collect();
        let changes = self.directory.update(files);
        self.problems = changes.problems;
        let id = |event: &Event| match event {
            Event::Apply(object) => Some(object.id.clone()),
            Event::Delete(id) => Some(id.clone()),
            Event::Reset(_) => None,
        };
        changes.events.iter().filter_map(id).collect()
    }

    fn look(&mut self, path: &Path) {
        let state = std::fs::metadata(path).map(|m| (m.modified().ok(), m.len()));
        let (modified, length) = state.unwrap_or((None, 0));
        // A time stamp is coarse: what was written a moment ago may be written again within it.
        let settled = |time: SystemTime| time.elapsed().is_ok_and(|age| age > Duration::from_secs(2));
        let same = |seen: &Seen| seen.modified == modified && seen.length == length;
        if modified.is_some_and(settled) && self.seen.get(path).is_some_and(same) {
            return;
        }
        let text = match length > super::yaml::FILE_LIMIT as u64 {
            true => Err(format!("the file is larger than {} MiB", super::yaml::FILE_LIMIT >> 20)),
            false => std::fs::read(path)
                .map_err(|e| e.to_string())
                .and_then(|bytes| String::from_utf8(bytes).map_err(|e| format!("no UTF-8: {e}")))
                .map(Into::into),
        };
        self.seen.insert(path.into(), Seen { modified, length, text });
    }
}

/// Every manifest below a directory: `*.yaml`, `*.yml`, `*.json`, in no hidden place.
pub fn manifests(root: &Path) -> std::io::Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    if root.is_file() {
        found.insert(root.to_owned());
        return Ok(found);
    }
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(&directory)? {
            let path = entry?.path();
            let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
            let manifest = path.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json");
            match (hidden, path.is_dir()) {
                (true, _) => {}
                (false, true) => open.push(path),
                (false, false) if manifest => drop(found.insert(path)),
                (false, false) => {}
            }
        }
    }
    Ok(found)
}
