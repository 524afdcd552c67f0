//! Meshes by their names: sockets of the abstract namespace, which go with the mesh.

use anyhow::anyhow;
use nix::unistd::getuid;

/// The name of a mesh that was given none.
pub const DEFAULT_NAME: &str = "default";

/// The names of this user's meshes.
pub fn names() -> Vec<String> {
    let prefix = format!("@{}", address(""));
    let sockets = std::fs::read_to_string("/proc/net/unix").unwrap_or_default();
    let paths = sockets.lines().filter_map(|line| line.split_whitespace().last());
    let mut names: Vec<String> = paths.filter_map(|p| p.strip_prefix(&prefix).map(Into::into)).collect();
    names.sort();
    names.dedup();
    names
}

/// The socket of a mesh.
pub(crate) fn address(name: &str) -> String {
    format!("weft/{}/{name}", getuid())
}

/// That there is one of this name.
pub(crate) fn taken(name: &str) -> anyhow::Error {
    anyhow!(
        "a mesh called {name:?} runs already: end it with `weft down -N {name}`, or give this one another name with -N"
    )
}

/// That there is none of this name; those that there are.
pub(crate) fn missing(name: &str) -> anyhow::Error {
    let running = names();
    let hint = if running.is_empty() {
        "none of yours runs; `weft up DIR` starts one".to_owned()
    } else {
        format!("yours are: {} (choose with -N)", running.join(", "))
    };
    anyhow!("no mesh called {name:?} runs: {hint}")
}

/// Whether a process runs; one that only waits to be collected does not.
pub(crate) fn runs(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with('Z'))
}
