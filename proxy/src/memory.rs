//! The memory of this process as its cgroup counts it, and who looks at it (hardening G3).
//!
//! Looked at beside the workers: a request costs no more than the number that is left behind.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use weft_core::overload::{Level, Memory};

use crate::overload::Overload;
use crate::telemetry::Metrics;

/// What the kernel writes where there is no limit is above this, in bytes.
const NO_LIMIT: u64 = 1 << 60;

/// Where cgroups are found.
#[derive(Clone, Debug)]
pub struct Cgroups {
    /// Where their file systems are mounted.
    mounted: PathBuf,
    /// The file that says which are this process's.
    own: PathBuf,
}

/// The files of one version of cgroups.
struct Files {
    limit: &'static str,
    used: &'static str,
    /// The line of `memory.stat` with what the kernel gives back by itself.
    inactive: &'static str,
}

const V1: Files =
    Files { limit: "memory.limit_in_bytes", used: "memory.usage_in_bytes", inactive: "total_inactive_file " };
const V2: Files = Files { limit: "memory.max", used: "memory.current", inactive: "inactive_file " };

impl Default for Cgroups {
    fn default() -> Self {
        Self { mounted: "/sys/fs/cgroup".into(), own: "/proc/self/cgroup".into() }
    }
}

impl Cgroups {
    /// What this process's own cgroup uses and may use; `None` where nothing limits it. Which one it is is looked up
    /// each time: a process may be moved.
    pub fn memory(&self) -> Option<Memory> {
        let own = std::fs::read_to_string(&self.own).ok()?;
        let of = |controller: &str| {
            own.lines().find_map(|line| {
                let (_, rest) = line.split_once(':')?;
                let (controllers, path) = rest.split_once(':')?;
                controllers.split(',').any(|name| name == controller).then_some(path)
            })
        };
        match of("memory") {
            Some(path) => V1.read(&self.mounted.join("memory"), path),
            None => V2.read(&self.mounted, of("")?),
        }
    }
}

impl Files {
    fn read(&self, mounted: &Path, path: &str) -> Option<Memory> {
        let own = mounted.join(path.trim_start_matches('/'));
        // Inside a container the path is the machine's, while what is mounted is the container's own.
        let folder = if own.join(self.limit).exists() { own } else { mounted.to_owned() };
        let text = |name: &str| std::fs::read_to_string(folder.join(name)).ok();
        let number = |name: &str| text(name)?.trim().parse::<u64>().ok();
        let limit = number(self.limit).filter(|limit| *limit > 0 && *limit < NO_LIMIT)?;
        let stat = text("memory.stat")?;
        let inactive = stat.lines().find_map(|line| line.strip_prefix(self.inactive));
        let inactive = inactive.and_then(|bytes| bytes.trim().parse().ok()).unwrap_or(0);
        Some(Memory { used: number(self.used)?.saturating_sub(inactive), limit })
    }
}

/// Looks at memory as often as it is needed, for as long as the sidecar runs.
pub async fn follow(
    memory: impl Fn() -> Option<Memory>,
    overload: Overload,
    metrics: Arc<Metrics>,
) -> Infallible {
    loop {
        let memory = memory();
        let (level, changed) = overload.look(memory);
        if changed {
            tell(level, memory);
        }
        metrics.overload_level.set(level as i64);
        metrics.memory(memory);
        tokio::time::sleep(Memory::next_look(memory)).await;
    }
}

fn tell(level: Level, memory: Option<Memory>) {
    let (used, limit) = memory.map_or((0, 0), |memory| (memory.used, memory.limit));
    let does = match level {
        Level::Fine => return tracing::info!(used, limit, "there is memory again: everything is taken"),
        Level::Tight => "connections without a request are closed",
        Level::Short => "new requests are answered with 503",
        Level::Critical => "new connections are refused, responses that are not taken end",
    };
    tracing::warn!(level = level.name(), used, limit, "memory is nearly used up: {does}; raise its limit");
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::rc::Rc;
    use std::time::Duration;

    use crate::state::tests::Folder;

    /// Cgroups as these files, by path and content, tell of them.
    fn memory(name: &str, own: &str, files: &[(&str, &str)]) -> Option<Memory> {
        let folder = Folder::new(name);
        let cgroups = Cgroups { mounted: folder.0.join("fs"), own: folder.0.join("own") };
        std::fs::write(&cgroups.own, own).unwrap();
        for (path, content) in files {
            let path = cgroups.mounted.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        cgroups.memory()
    }

    #[test]
    fn g3_both_versions_of_cgroups_are_read() {
        let stat = ("memory.stat", "anon 5\ninactive_file 30\nactive_file 9\n");
        let container = [("memory.max", "1000\n"), ("memory.current", "530\n"), stat];
        let expected = Some(Memory { used: 500, limit: 1000 });
        assert_eq!(memory("v2", "0::/\n", &container), expected);
        assert_eq!(memory("v2-host", "0::/kubepods/a\n", &container), expected, "the machine's path");
        let nested = [
            ("memory/b/memory.limit_in_bytes", "1000\n"),
            ("memory/b/memory.usage_in_bytes", "530\n"),
            ("memory/b/memory.stat", "inactive_file 1\ntotal_inactive_file 30\n"),
            ("memory/memory.limit_in_bytes", "7\n"),
        ];
        assert_eq!(memory("v1", "9:name=systemd:/\n4:cpu,memory:/b\n0::/\n", &nested), expected);
    }

    #[test]
    fn g3_without_a_limit_there_is_nothing_to_tell() {
        let rest = [("memory.current", "530\n"), ("memory.stat", "inactive_file 1\n")];
        let with = |max| [("memory.max", max), rest[0], rest[1]];
        assert_eq!(memory("v2-max", "0::/\n", &with("max\n")), None);
        assert_eq!(memory("v2-none", "0::/\n", &rest), None);
        assert_eq!(memory("odd", "what?\n", &with("1000\n")), None);
        let v1 = [("memory/memory.limit_in_bytes", "9223372036854771712\n")];
        assert_eq!(memory("v1-none", "4:memory:/\n", &v1), None);
    }

    #[tokio::test(start_paused = true)]
    async fn g3_a_rise_is_heard_of_in_time_and_shown() {
        let (used, overload, metrics) = (Rc::new(Cell::new(10)), Overload::default(), Arc::default());
        let reading = Rc::clone(&used);
        let look = move || Some(Memory { used: reading.get(), limit: 100 });
        let looking = follow(look, overload.clone(), Arc::clone(&metrics));
        let steps = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            used.set(99);
            tokio::time::timeout(Duration::from_millis(600), overload.other_than(Level::Fine)).await.unwrap();
            assert_eq!(overload.level(), Level::Critical);
            tokio::task::yield_now().await;
            let mut text = String::new();
            metrics.render(&mut text, std::time::UNIX_EPOCH);
            for shown in
                ["weft_overload_level 3\n", "weft_memory_used_bytes 99\n", "weft_memory_limit_bytes 100\n"]
            {
                assert!(text.contains(shown), "{text}");
            }
            used.set(10);
            tokio::time::timeout(Duration::from_millis(200), overload.other_than(Level::Critical))
                .await
                .unwrap();
        };
        tokio::select! {
            never = looking => match never {},
            () = steps => {}
        }
    }
}
