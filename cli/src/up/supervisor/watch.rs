//! Tells when the directory of manifests may have changed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecursiveMode, Watcher};
use tokio::sync::mpsc;

/// An editor's several steps count as one change.
const SETTLE: Duration = Duration::from_millis(30);
/// A directory that is gone is looked for this often.
const LOOK: Duration = Duration::from_millis(500);

/// Calls `changed` after every change until the process ends.
pub(crate) async fn run(dir: PathBuf, changed: impl Fn()) {
    loop {
        let (tell, mut told) = mpsc::unbounded_channel();
        let watcher = watcher(&dir, tell);
        if watcher.is_err() {
            tokio::time::sleep(LOOK).await;
        }
        changed();
        while watcher.is_ok() && dir.exists() {
            let Ok(event) = tokio::time::timeout(LOOK, told.recv()).await else { continue };
            if event.is_none() {
                break;
            }
            tokio::time::sleep(SETTLE).await;
            while told.try_recv().is_ok() {}
            changed();
        }
    }
}

fn watcher(dir: &Path, tell: mpsc::UnboundedSender<()>) -> notify::Result<notify::RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let read_only = |kind: &EventKind| matches!(kind, EventKind::Access(access) if *access != AccessKind::Close(AccessMode::Write));
        if event.is_ok_and(|e| !read_only(&e.kind)) {
            // Nobody listens any more when the mesh ends.
            let _ = tell.send(());
        }
    })?;
    watcher.watch(dir, RecursiveMode::Recursive)?;
    Ok(watcher)
}
