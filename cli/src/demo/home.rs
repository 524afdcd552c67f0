//! The directory of the sample's files. Nobody asked for files, so they live in memory, in a mount namespace of this process
//! and the mesh's: when the last of them is gone, however it went, so are they.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getgid, getuid};

/// Directories that every system has and hardly any uses; the first there is gets the memory file system.
const PLACES: [&str; 4] = ["/mnt", "/media", "/srv", "/opt"];
const NOTHING: Option<&str> = None;

/// Where the files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    dir: PathBuf,
    private: bool,
}

impl Home {
    /// A directory that is kept.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn kept(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
        Ok(Self { dir: dir.to_owned(), private: false })
    }

    /// A directory that leaves nothing behind. This process must have one thread.
    ///
    /// # Errors
    /// When the system allows no namespaces, which a mesh needs as well.
    pub fn private() -> Result<Self> {
        let place = PLACES.iter().map(Path::new).find(|place| place.is_dir());
        let place = place.with_context(|| format!("none of {} is there: use --dir", PLACES.join(", ")))?;
        own_mounts().context("make a mount namespace for the sample's files; --dir DIR does without")?;
        mount(NOTHING, "/", NOTHING, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NOTHING)?;
        mount(
            Some("weft"),
            place,
            Some("tmpfs"),
            MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
            Some("mode=0755,size=16m"),
        )
        .with_context(|| format!("mount memory on {}", place.display()))?;
        let dir = place.join("weft-demo");
        fs::create_dir(&dir)?;
        Ok(Self { dir, private: true })
    }

    /// Where this process and the mesh see it.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where every other process of this user sees it.
    pub fn from_outside(&self) -> PathBuf {
        if !self.private {
            return self.dir.clone();
        }
        let root = PathBuf::from(format!("/proc/{}/root", std::process::id()));
        root.join(self.dir.strip_prefix("/").unwrap_or(&self.dir))
    }
}

/// As an ordinary user, a mount namespace takes a user namespace; in it everybody keeps their numbers.
fn own_mounts() -> Result<()> {
    let (uid, gid) = (getuid(), getgid());
    if uid.is_root() {
        return Ok(unshare(CloneFlags::CLONE_NEWNS)?);
    }
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("{uid} {uid} 1"))?;
    Ok(fs::write("/proc/self/gid_map", format!("{gid} {gid} 1"))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_private_is_reached_through_this_process() {
        let home = Home { dir: "/mnt/weft-demo".into(), private: true };
        let outside = home.from_outside().display().to_string();
        assert_eq!(outside, format!("/proc/{}/root/mnt/weft-demo", std::process::id()));
        let kept = Home { private: false, ..home };
        assert_eq!(kept.from_outside(), kept.dir());
    }
}
