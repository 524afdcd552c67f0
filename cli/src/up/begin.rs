//! What a mesh begins with: its first process, its environment, its ports on this machine.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

use crate::up::api::Publish;
use crate::up::boot;

/// What of this process's environment containers get.
const PASSED: [&str; 9] = ["PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "SHELL", "TERM"];

/// A port of this machine's loopback, for a Service.
///
/// # Errors
/// The port is taken.
pub(crate) fn listener(publish: &Publish) -> Result<TcpListener> {
    let port = publish.host_port;
    TcpListener::bind(("127.0.0.1", port)).with_context(|| format!("--publish: listen on 127.0.0.1:{port}"))
}

/// Starts the mesh's first process, in a process group of its own: the terminal's Ctrl-C reaches only this process, which then
/// ends the mesh in order.
///
/// # Errors
/// It cannot be started.
pub(crate) fn spawn(binary: Option<&Path>, socket: OwnedFd) -> Result<Child> {
    let mut boot = Command::new(binary.unwrap_or(Path::new("/proc/self/exe")));
    boot.arg0("weft").arg(boot::ROLE).stdin(Stdio::from(socket)).stdout(Stdio::null()).process_group(0);
    boot.spawn().context("start the mesh's first process")
}

/// What containers get of this process's environment.
pub(crate) fn environment() -> Vec<(String, String)> {
    PASSED.iter().filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?))).collect()
}
