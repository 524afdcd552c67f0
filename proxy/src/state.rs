//! Memory-backed storage that outlives the process: the last good configuration, the key and the certificate.
//!
//! Files have mode 0600 and are replaced whole: a reader sees the old content or the new one.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// No file here is larger than this, in bytes.
const MAX_FILE: u64 = 64 << 20;

/// A folder of state; without one nothing is kept.
#[derive(Clone, Debug, Default)]
pub struct StateDir(Option<PathBuf>);

/// A file of state that cannot be kept or read.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {problem}; check the folder in WEFT_STATE_DIR")]
pub struct StateError {
    path: PathBuf,
    problem: io::Error,
}

impl StateDir {
    /// The folder, made if it is not there.
    ///
    /// # Errors
    /// It can be neither found nor made.
    pub fn open(path: Option<&Path>) -> Result<Self, StateError> {
        if let Some(path) = path {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
            made.map_err(|problem| StateError { path: path.to_owned(), problem })?;
        }
        Ok(Self(path.map(Path::to_owned)))
    }

    /// The content of a file; `None` where it is not there.
    ///
    /// # Errors
    /// It is there and cannot be read.
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>, StateError> {
        let Some(path) = self.path(name) else { return Ok(None) };
        let mut bytes = Vec::new();
        let read = File::open(&path).and_then(|file| file.take(MAX_FILE).read_to_end(&mut bytes));
        match read {
            Ok(_) => Ok(Some(bytes)),
            Err(problem) if problem.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(problem) => Err(StateError { path, problem }),
        }
    }

    /// Replaces a file.
    ///
    /// # Errors
    /// The folder is full or gone; the old content stays.
    pub fn write(&self, name: &str, content: &[u8]) -> Result<(), StateError> {
        let Some(path) = self.path(name) else { return Ok(()) };
        let fresh = path.with_extension("new");
        let written = replace(&path, &fresh, content);
        written.map_err(|problem| StateError { path, problem })
    }

    /// Whether anything is kept.
    pub fn is_kept(&self) -> bool {
        self.0.is_some()
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        self.0.as_ref().map(|folder| folder.join(name))
    }
}

fn replace(path: &Path, fresh: &Path, content: &[u8]) -> io::Result<()> {
    match std::fs::remove_file(fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(fresh)?;
    file.write_all(content)?;
    std::fs::rename(fresh, path)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// A folder that is gone with its guard.
    pub(crate) struct Folder(pub(crate) PathBuf);

    impl Folder {
        pub(crate) fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("weft-{}-{name}", std::process::id()));
            let _ = std::fs::remove_dir_all(&path);
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn files_are_private_and_replaced_whole() {
        let folder = Folder::new("state");
        let state = StateDir::open(Some(&folder.0.join("a/b"))).unwrap();
        assert_eq!(state.read("x").unwrap(), None);
        state.write("x", b"one").unwrap();
        state.write("x", b"two").unwrap();
        assert_eq!(state.read("x").unwrap().unwrap(), b"two");
        let mode = std::fs::metadata(folder.0.join("a/b/x")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(folder.0.join("a/b")).unwrap().count(), 1);
    }

    #[test]
    fn without_a_folder_nothing_is_kept() {
        let state = StateDir::open(None).unwrap();
        state.write("x", b"one").unwrap();
        assert_eq!(state.read("x").unwrap(), None);
    }
}
