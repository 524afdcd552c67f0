//! The first step of a mesh: a process of the machine that makes the mesh's namespaces and waits outside for the supervisor in them.
//!
//! It must be single-threaded, which is why it is a process of its own. The supervisor dies with it, and it ends with the supervisor.

use std::fs;
use std::os::fd::AsFd;
use std::process::ExitStatus;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getgid, getuid};

use crate::up::api::Started;
use crate::up::{process, supervisor, wire};

/// The hidden subcommand.
pub const ROLE: &str = "mesh-boot";

/// Makes the namespaces, runs the supervisor in them and waits for its end; standard input is the line to the starter.
///
/// # Errors
/// When the kernel refuses a namespace, which the starter is told.
pub fn run() -> Result<()> {
    let status = namespaces().and_then(|()| supervise());
    if let Err(e) = &status {
        // The starter may be gone.
        let _ = wire::drain_blocking(std::io::stdin().as_fd());
        let _ = wire::send_blocking(std::io::stdin().as_fd(), &Started::No(format!("{e:#}")));
    }
    let status = status?;
    anyhow::ensure!(status.success(), "the supervisor ended: {status}");
    Ok(())
}

fn supervise() -> Result<ExitStatus> {
    let mut child = process::role(supervisor::ROLE);
    child.arg(std::process::id().to_string());
    let mut child = child.spawn().context("start the supervisor")?;
    supervisor::silence()?;
    child.wait().context("wait for the supervisor")
}

fn namespaces() -> Result<()> {
    let kinds = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS;
    // Root has the power already, but for root in most containers, which is then a user like any other.
    if getuid().is_root() && unshare(kinds).is_ok() {
        return Ok(());
    }
    user_namespace()?;
    unshare(kinds).map_err(|e| anyhow::anyhow!(no_namespaces(e)))
}

/// A user namespace in which this user is root.
fn user_namespace() -> Result<()> {
    let (uid, gid) = (getuid(), getgid());
    unshare(CloneFlags::CLONE_NEWUSER).map_err(|e| anyhow::anyhow!(no_user_namespace(e)))?;
    fs::write("/proc/self/setgroups", "deny").context("give up groups")?;
    fs::write("/proc/self/uid_map", format!("0 {uid} 1")).context("map the user")?;
    fs::write("/proc/self/gid_map", format!("0 {gid} 1")).context("map the group")
}

/// What an administrator can change, as far as this machine shows it.
fn no_user_namespace(error: Errno) -> String {
    let zero = |path: &str| fs::read_to_string(path).is_ok_and(|v| v.trim() == "0");
    let cause = if zero("/proc/sys/user/max_user_namespaces") {
        "/proc/sys/user/max_user_namespaces is 0: `sysctl user.max_user_namespaces=10000` allows them"
    } else if zero("/proc/sys/kernel/unprivileged_userns_clone") {
        "/proc/sys/kernel/unprivileged_userns_clone is 0: `sysctl kernel.unprivileged_userns_clone=1` allows them"
    } else {
        "a container's or the machine's security settings forbid them"
    };
    format!("this system does not let you make a user namespace ({error}): {cause}; or run weft as root")
}

fn no_namespaces(error: Errno) -> String {
    let restricted = fs::read_to_string("/proc/sys/kernel/apparmor_restrict_unprivileged_userns");
    let cause = if restricted.is_ok_and(|v| v.trim() == "1") {
        "AppArmor restricts user namespaces: `sysctl kernel.apparmor_restrict_unprivileged_userns=0` lifts that"
    } else {
        "CAP_SYS_ADMIN is missing, as in most containers"
    };
    format!("this system does not let you make network, mount and PID namespaces ({error}): {cause}")
}
