//! The manifest files below a directory, as they are: what is there, what it says, what cannot be read.
//!
//! Names are followed through symbolic links, each directory once. What a directory that cannot be read holds is
//! taken to be as it was.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::Metadata;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::directory::Files;
use super::object::Problem;
use super::yaml::FILE_LIMIT;

/// How coarse a file system's clock may be: what was written this recently may be written again at the same time.
const COARSE: Duration = Duration::from_secs(2);

/// The files below one directory, or one file.
pub struct Tree {
    root: PathBuf,
    seen: BTreeMap<Arc<Path>, Seen>,
}

/// A file as it was last read; the same stamp means the same text.
struct Seen {
    stamp: Option<Stamp>,
    text: Result<Arc<str>, String>,
}

/// What changes whenever a file does: device, inode, length, change time in seconds and nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp(u64, u64, u64, i64, i64);

impl Tree {
    /// A tree of which nothing was read yet.
    pub fn new(root: PathBuf) -> Self {
        Self { root, seen: BTreeMap::new() }
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The text of each file now, and the directories that cannot be read. Files that are `held`, because someone
    /// is writing them, stay as they were.
    pub fn read(&mut self, held: &BTreeSet<PathBuf>) -> (Files, Vec<Problem>) {
        let found = manifests(&self.root);
        let dark = |path: &Path| found.unreadable.iter().any(|(directory, _)| path.starts_with(directory));
        self.seen.retain(|path, _| found.files.contains(&**path) || dark(path));
        for path in found.files.iter().filter(|path| !held.contains(*path)) {
            self.look(path);
        }
        let files = self.seen.iter().map(|(path, seen)| (path.clone(), seen.text.clone())).collect();
        (files, found.unreadable.into_iter().map(unreadable).collect())
    }

    fn look(&mut self, path: &Path) {
        let state = std::fs::metadata(path).ok();
        let stamp = state.as_ref().map(Stamp::of);
        let settled = state.as_ref().and_then(|m| m.modified().ok()).is_some_and(settled);
        let same = |seen: &Seen| seen.text.is_ok() && seen.stamp == stamp;
        if settled && self.seen.get(path).is_some_and(same) {
            return;
        }
        self.seen.insert(path.into(), Seen { stamp, text: text(path).map(Into::into) });
    }
}

fn settled(modified: SystemTime) -> bool {
    modified.elapsed().is_ok_and(|age| age > COARSE)
}

fn unreadable((path, error): (PathBuf, io::Error)) -> Problem {
    let effect = "what it said before stays in force";
    Problem { path: path.into(), line: 0, reason: format!("cannot be read: {error}"), effect }
}

impl Stamp {
    fn of(state: &Metadata) -> Self {
        Self(state.dev(), state.ino(), state.len(), state.ctime(), state.ctime_nsec())
    }
}

/// The text of a file: UTF-8, no longer than [`FILE_LIMIT`]. A device or a pipe is none: to read it could take forever.
fn text(path: &Path) -> Result<String, String> {
    let state = std::fs::metadata(path).map_err(|e| e.to_string())?;
    if !state.is_file() {
        return Err("is no regular file".to_owned());
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(|e| e.to_string())?;
    file.take(FILE_LIMIT as u64 + 1).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    if bytes.len() > FILE_LIMIT {
        return Err(format!("the file is larger than {} MiB", FILE_LIMIT >> 20));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = valid.iter().filter(|byte| **byte == b'\n').count() + 1;
        format!("is no UTF-8 text: a byte on line {line} belongs to no character")
    })
}

/// What is found below a place.
#[derive(Debug, Default)]
pub struct Found {
    /// Manifest files: `*.yaml`, `*.yml`, `*.json`, in no hidden place; the place itself, whatever its name, if it
    /// is a file.
    pub files: BTreeSet<PathBuf>,
    /// Directories that cannot be listed.
    pub unreadable: Vec<(PathBuf, io::Error)>,
}

/// Every manifest below a place.
pub fn manifests(root: &Path) -> Found {
    let mut found = Found::default();
    if root.is_file() {
        found.files.insert(root.to_owned());
        return found;
    }
    let mut visited = BTreeSet::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        match list(&directory, &mut visited) {
            Ok(entries) => sort(entries, &mut found.files, &mut open),
            Err(error) if error.kind() == io::ErrorKind::NotFound && directory != root => {}
            Err(error) => found.unreadable.push((directory, error)),
        }
    }
    found
}

/// The entries of a directory that was not listed yet under another name, in order.
fn list(directory: &Path, visited: &mut BTreeSet<(u64, u64)>) -> io::Result<Vec<PathBuf>> {
    let state = std::fs::metadata(directory)?;
    if !visited.insert((state.dev(), state.ino())) {
        return Ok(Vec::new());
    }
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        entries.push(entry?.path());
    }
    // The last one is looked at first.
    entries.sort_by(|a, b| b.cmp(a));
    Ok(entries)
}

fn sort(entries: Vec<PathBuf>, files: &mut BTreeSet<PathBuf>, directories: &mut Vec<PathBuf>) {
    for path in entries {
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        let manifest = path.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json");
        match (hidden, path.is_dir()) {
            (true, _) => {}
            (false, true) => directories.push(path),
            (false, false) if manifest => drop(files.insert(path)),
            (false, false) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    /// A folder of this test's own, gone with it.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("weft-files-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn write(&self, name: &str, text: impl AsRef<[u8]>) {
            fs::write(self.0.join(name), text).unwrap();
        }

        fn texts(&self, tree: &mut Tree) -> Vec<(String, Result<String, String>)> {
            let (files, _) = tree.read(&BTreeSet::new());
            let shown = |(path, text): (Arc<Path>, Result<Arc<str>, String>)| {
                let name = path.strip_prefix(&self.0).unwrap().display().to_string();
                (name, text.map(|t| t.to_string()))
            };
            files.into_iter().map(shown).collect()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn f6_links_that_go_in_circles_end() {
        let folder = Folder::new("circles");
        fs::create_dir_all(folder.0.join("a/b")).unwrap();
        folder.write("a/b/x.yaml", "x");
        symlink(&folder.0, folder.0.join("a/up")).unwrap();
        symlink("../..", folder.0.join("a/b/up")).unwrap();
        symlink("self.yaml", folder.0.join("self.yaml")).unwrap();
        symlink("nowhere", folder.0.join("lost.yaml")).unwrap();
        let texts = folder.texts(&mut Tree::new(folder.0.clone()));
        let names: Vec<_> = texts.iter().map(|(name, text)| (name.as_str(), text.is_ok())).collect();
        assert_eq!(names, [("a/b/x.yaml", true), ("lost.yaml", false), ("self.yaml", false)]);
    }

    #[test]
    fn f6_what_is_no_text_is_named_with_its_line() {
        let folder = Folder::new("bytes");
        folder.write("x.yaml", b"a: 1\nb: \xff\n");
        let texts = folder.texts(&mut Tree::new(folder.0.clone()));
        assert!(texts[0].1.as_ref().unwrap_err().contains("line 2"), "{texts:?}");
        folder.write("x.yaml", vec![b'x'; FILE_LIMIT + 1]);
        let texts = folder.texts(&mut Tree::new(folder.0.clone()));
        assert_eq!(texts[0].1, Err("the file is larger than 16 MiB".to_owned()));
    }

    #[test]
    fn a_file_that_becomes_a_directory_is_a_file_that_is_gone() {
        let folder = Folder::new("replaced");
        let mut tree = Tree::new(folder.0.clone());
        folder.write("x.yaml", "x");
        assert_eq!(folder.texts(&mut tree).len(), 1);
        fs::remove_file(folder.0.join("x.yaml")).unwrap();
        fs::create_dir(folder.0.join("x.yaml")).unwrap();
        assert!(folder.texts(&mut tree).is_empty());
    }

    #[test]
    fn a_directory_that_vanishes_keeps_what_it_said() {
        let folder = Folder::new("vanished");
        let mut tree = Tree::new(folder.0.clone());
        folder.write("x.yaml", "x");
        assert_eq!(folder.texts(&mut tree).len(), 1);
        fs::remove_dir_all(&folder.0).unwrap();
        let (files, problems) = tree.read(&BTreeSet::new());
        assert_eq!((files.len(), problems.len()), (1, 1));
        assert!(problems[0].effect.contains("stays in force"), "{}", problems[0]);
        fs::create_dir(&folder.0).unwrap();
        folder.write("y.yaml", "y");
        assert_eq!(folder.texts(&mut tree), [("y.yaml".to_owned(), Ok("y".to_owned()))]);
    }

    #[test]
    fn a_file_that_someone_writes_stays_as_it_was() {
        let folder = Folder::new("held");
        let mut tree = Tree::new(folder.0.clone());
        folder.write("x.yaml", "whole");
        folder.texts(&mut tree);
        folder.write("x.yaml", "ha");
        folder.write("new.yaml", "ha");
        let held = ["x.yaml", "new.yaml"].map(|name| folder.0.join(name)).into();
        let (files, _) = tree.read(&held);
        let texts: Vec<_> = files.into_values().map(|text| text.unwrap().to_string()).collect();
        assert_eq!(texts, ["whole"]);
        assert_eq!(folder.texts(&mut tree)[1].1.as_deref(), Ok("ha"));
    }

    #[test]
    fn what_cannot_be_read_is_read_once_it_can() {
        let folder = Folder::new("rights");
        let mut tree = Tree::new(folder.0.clone());
        folder.write("x.yaml", "x");
        let mode = |bits| fs::set_permissions(folder.0.join("x.yaml"), fs::Permissions::from_mode(bits));
        mode(0o000).unwrap();
        // Nothing is unreadable to root.
        let closed = fs::read(folder.0.join("x.yaml")).is_err();
        assert_eq!(folder.texts(&mut tree)[0].1.is_err(), closed);
        mode(0o600).unwrap();
        assert_eq!(folder.texts(&mut tree)[0].1.as_deref(), Ok("x"));
    }
}
