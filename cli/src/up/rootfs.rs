//! The file system that a process of a local mesh sees: the machine's own, with mounts of ours, and nothing written to the machine.
//!
//! A new root is a memory file system into which every top-level entry of the old root is bound. Where a path has
//! to exist that the machine lacks (a volume's `mountPath`), its parent directory is *mirrored*: replaced by a
//! memory file system whose entries are bound to, or copied from, the original. The new root is built on `/proc`,
//! the one directory that always exists and that a new PID namespace replaces anyway.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde::{Deserialize, Serialize};

const BASE: &str = "/proc";
const NO_SOURCE: Option<&str> = None;

/// A path of ours that appears somewhere in the new root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    /// Where it is, as the old root names it.
    pub source: PathBuf,
    /// Where it appears.
    pub target: PathBuf,
    /// Whether writes are refused.
    pub read_only: bool,
}

/// What the new root differs in from the old.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// Top-level names that do not appear.
    pub hidden: Vec<String>,
    /// Directories that are made (empty, in memory) at the top level.
    pub made: Vec<String>,
    /// Directories that show what they show outside, but keep what is written into them to themselves.
    pub private: Vec<PathBuf>,
    /// Directories whose directories are there but empty, as after a start of the machine, but for the way to `kept`.
    pub fresh: Vec<PathBuf>,
    /// A path that must be there.
    pub kept: PathBuf,
    /// Paths of ours.
    pub binds: Vec<Bind>,
}

/// Replaces this process's root. It must be single-threaded and alone in its mount namespace, in a PID namespace of its own.
///
/// # Errors
/// Names the mount that failed; the process is of no use then.
pub fn enter(root: &Root) -> Result<()> {
    mount(NO_SOURCE, "/", NO_SOURCE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NO_SOURCE)
        .context("make mounts private")?;
    tmpfs(Path::new(BASE), 0o755)?;
    let mut build = Build { ours: BTreeSet::from([PathBuf::new()]) };
    build.top_level(root)?;
    mount_proc(&Path::new(BASE).join("proc"))?;
    for dir in &root.private {
        build.private(dir, &|_| true)?;
    }
    for dir in &root.fresh {
        build.private(dir, &|entry| root.kept.starts_with(entry) || entry.is_symlink())?;
    }
    // All mount points first: making one may replace a directory that another one's target is in.
    for bind in &root.binds {
        build.prepare(bind).with_context(|| format!("make {}", bind.target.display()))?;
    }
    let mut binds: Vec<&Bind> = root.binds.iter().collect();
    binds.sort_by_key(|b| b.target.components().count());
    for bind in binds {
        build.bind(bind).with_context(|| format!("mount {}", bind.target.display()))?;
    }
    pivot()
}

/// Mounts the process list of this PID namespace.
///
/// # Errors
/// Inside a container whose own `/proc` is masked, the kernel refuses this to ordinary users.
pub fn mount_proc(target: &Path) -> Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), target, Some("proc"), flags, NO_SOURCE).context(
        "mount /proc in a new PID namespace (inside a container whose /proc is masked, the kernel refuses this: \
         run the container with an unmasked /proc, or on the machine itself)",
    )
}

struct Build {
    /// Directories of the new root, relative to it, that are ours to write to.
    ours: BTreeSet<PathBuf>,
}

impl Build {
    fn top_level(&mut self, root: &Root) -> Result<()> {
        for entry in fs::read_dir("/").context("read /")? {
            let name = entry.context("read /")?.file_name();
            let hidden = name == "proc" || root.hidden.iter().any(|h| name == h.as_str());
            if !hidden {
                show(&Path::new("/").join(&name), &Path::new(BASE).join(&name))?;
            }
        }
        fs::create_dir_all(Path::new(BASE).join("proc"))?;
        for name in &root.made {
            fs::create_dir_all(Path::new(BASE).join(name))?;
            self.ours.insert(PathBuf::from(name));
        }
        Ok(())
    }

    fn private(&mut self, dir: &Path, shows: &dyn Fn(&Path) -> bool) -> Result<()> {
        let Ok(relative) = self.resolve(dir) else { return Ok(()) };
        if Path::new(BASE).join(&relative).is_dir() && !self.ours.contains(&relative) {
            self.mirror(&relative, shows)?;
        }
        Ok(())
    }

    fn prepare(&mut self, bind: &Bind) -> Result<PathBuf> {
        let source =
            fs::metadata(&bind.source).with_context(|| format!("look at {}", bind.source.display()))?;
        let relative = self.resolve(&bind.target)?;
        self.place(&relative, source.is_dir())
    }

    fn bind(&mut self, bind: &Bind) -> Result<()> {
        // Again: an earlier bind may lie over the mount point, which is then made in what it shows.
        let target = self.prepare(bind)?;
        mount(Some(&bind.source), &target, NO_SOURCE, MsFlags::MS_BIND | MsFlags::MS_REC, NO_SOURCE)?;
        if bind.read_only {
            let flags = MsFlags::MS_BIND
                | MsFlags::MS_REMOUNT
                | MsFlags::MS_RDONLY
                | MsFlags::MS_NOSUID
                | MsFlags::MS_NODEV;
            mount(NO_SOURCE, &target, NO_SOURCE, flags, NO_SOURCE).context("make it read-only")?;
        } else {
            self.ours.extend(target.strip_prefix(BASE).map(Path::to_path_buf));
        }
        Ok(())
    }

    /// Follows symbolic links as they will be in the new root; what does not exist is kept as it stands.
    fn resolve(&self, path: &Path) -> Result<PathBuf> {
        let mut done = PathBuf::new();
        let mut left: Vec<PathBuf> = components(path);
        let mut links = 0;
        while let Some(next) = left.pop() {
            if next == Path::new("..") {
                done.pop();
                continue;
            }
            let here = Path::new(BASE).join(&done).join(&next);
            let Ok(target) = fs::read_link(&here) else {
                done.push(next);
                continue;
            };
            links += 1;
            if links > 40 {
                bail!("too many symbolic links in {}", path.display());
            }
            if target.is_absolute() {
                done = PathBuf::new();
            }
            left.extend(components(&target));
        }
        Ok(done)
    }

    /// Makes sure that a mount point exists, without writing to the machine.
    fn place(&mut self, relative: &Path, dir: bool) -> Result<PathBuf> {
        let target = Path::new(BASE).join(relative);
        if target.exists() {
            return Ok(target);
        }
        let parent = relative.parent().map(Path::to_path_buf).unwrap_or_default();
        self.place(&parent, true)?;
        if !self.ours.contains(&parent) {
            self.mirror(&parent, &|_| true)?;
        }
        if dir {
            fs::create_dir(&target)?;
            self.ours.insert(relative.to_path_buf());
        } else {
            fs::write(&target, "")?;
        }
        Ok(target)
    }

    fn mirror(&mut self, relative: &Path, shows: &dyn Fn(&Path) -> bool) -> Result<()> {
        let (outside, inside) = (Path::new("/").join(relative), Path::new(BASE).join(relative));
        let mode = fs::metadata(&inside)?.permissions().mode() & 0o7777;
        let entries: Vec<_> = fs::read_dir(&inside)?.filter_map(Result::ok).map(|e| e.file_name()).collect();
        tmpfs(&inside, mode)?;
        self.ours.insert(relative.to_path_buf());
        for name in entries {
            let (outside, inside) = (outside.join(&name), inside.join(&name));
            let shown = if shows(&outside) { show(&outside, &inside) } else { empty(&outside, &inside) };
            // What this user may not look at cannot be shown either.
            if let Err(e) = shown {
                tracing::debug!("{}: {e:#}", outside.display());
            }
        }
        Ok(())
    }
}

fn components(path: &Path) -> Vec<PathBuf> {
    let kept = path.components().filter(|c| matches!(c, Component::Normal(_) | Component::ParentDir));
    let mut all: Vec<PathBuf> = kept.map(|c| PathBuf::from(c.as_os_str())).collect();
    all.reverse();
    all
}

/// Makes `outside` appear at `inside`: links are copied, files and directories bound, sockets and pipes left out.
fn show(outside: &Path, inside: &Path) -> Result<()> {
    let meta = fs::symlink_metadata(outside)?;
    let kind = meta.file_type();
    if kind.is_symlink() {
        symlink(fs::read_link(outside)?, inside)?;
        return Ok(());
    }
    if kind.is_socket() || kind.is_fifo() {
        return Ok(());
    }
    if kind.is_dir() {
        fs::create_dir(inside)?
    } else {
        fs::write(inside, "")?
    }
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    let bound = mount(Some(outside), inside, NO_SOURCE, flags, NO_SOURCE);
    bound.with_context(|| format!("bind {}", outside.display()))
}

/// A directory like another one, with nothing in it; other kinds of files are left out.
fn empty(outside: &Path, inside: &Path) -> Result<()> {
    if outside.is_dir() {
        fs::create_dir(inside)?;
    }
    Ok(())
}

fn tmpfs(target: &Path, mode: u32) -> Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    let options = format!("mode={mode:o}");
    mount(Some("tmpfs"), target, Some("tmpfs"), flags, Some(options.as_str()))
        .with_context(|| format!("mount a memory file system on {}", target.display()))
}

fn pivot() -> Result<()> {
    let old = std::env::current_dir().ok();
    std::env::set_current_dir(BASE)?;
    nix::unistd::pivot_root(".", ".").context("change the root")?;
    umount2(".", MntFlags::MNT_DETACH).context("leave the old root")?;
    std::env::set_current_dir("/")?;
    if let Some(old) = old {
        // The directory may be hidden in the new root.
        let _ = std::env::set_current_dir(old);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_come_last_first_and_without_the_root() {
        assert_eq!(components(Path::new("/a/../b")), ["b", "..", "a"].map(PathBuf::from));
    }
}
