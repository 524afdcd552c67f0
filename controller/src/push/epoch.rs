//! Resource versions that never go back, also when the controller starts again.
//!
//! A sidecar takes in nothing older than what it has seen. Where the source of objects has no versions of its own, as a
//! directory has none, each start of the controller opens a new epoch, so that all its versions are above all earlier ones.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// The file that remembers the last epoch.
pub const EPOCH_FILE: &str = "epoch";
/// Versions in one epoch.
const EPOCH_BITS: u32 = 32;

/// A start of the controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Epoch(u64);

impl Epoch {
    /// Opens the next epoch, and remembers it in the directory before anybody hears of it.
    ///
    /// # Errors
    /// The directory cannot be read or written, or the file holds no number.
    pub fn next(directory: &Path) -> Result<Self> {
        fs::create_dir_all(directory)
            .with_context(|| format!("{}: cannot make the directory", directory.display()))?;
        let file = directory.join(EPOCH_FILE);
        let next = last(&file).with_context(|| format!("{}: no epoch", file.display()))? + 1;
        let draft = file.with_extension("tmp");
        fs::write(&draft, next.to_string()).with_context(|| format!("{}: cannot write", draft.display()))?;
        fs::rename(&draft, &file).with_context(|| format!("{}: cannot write", file.display()))?;
        Ok(Self(next))
    }

    /// The resource version of a world: above 0, and above every one of an earlier epoch.
    pub fn as_of(self, world: u64) -> u64 {
        (self.0 << EPOCH_BITS) + world
    }
}

fn last(file: &Path) -> Result<u64> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(text.trim().parse::<u32>()?.into()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn f10_versions_of_a_later_start_are_above_all_earlier_ones() {
        let dir = TempDir::new().unwrap();
        let first = Epoch::next(dir.path()).unwrap();
        let second = Epoch::next(dir.path()).unwrap();
        assert!(first.as_of(0) > 0);
        assert!(second.as_of(0) > first.as_of(1_000_000));
        std::fs::write(dir.path().join(EPOCH_FILE), "x").unwrap();
        assert!(Epoch::next(dir.path()).is_err(), "to begin again at 1 would leave every sidecar waiting");
    }
}
