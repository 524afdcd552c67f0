//! The last step before an application: a process that is still the mesh's makes the container's file system and user
//! around itself, and becomes the application.
//!
//! The application runs in a user namespace of its own, as a user who is not root and has no power over the pod: it can
//! change neither mounts nor rules nor the mark on its packets, and cannot look into the sidecar.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, setns, unshare};
use serde::{Deserialize, Serialize};

use crate::up::plan::ECHO_IMAGE;
use crate::up::process;
use crate::up::rootfs::{self, Bind, Root};

/// The hidden subcommand.
pub const ROLE: &str = "container-run";
/// The mesh's own directory, which applications do not see.
pub const HIDDEN: &str = ".weft";

/// How an application is started.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Launch {
    /// The file system: ours to make, or that of a process that already has one.
    pub root: Either,
    /// The application's user.
    pub uid: u32,
    /// Where it starts; `/` when that does not exist and it need not.
    pub cwd: PathBuf,
    /// Whether the directory must exist.
    pub strict_cwd: bool,
}

/// The file system and user namespace.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Either {
    /// Make them.
    New(Vec<Bind>),
    /// Those of this process.
    Of(u32),
}

/// The command that starts an application; its environment and streams are the caller's to set.
///
/// # Errors
/// Only when the launch cannot be written down.
pub fn command(launch: &Launch, argv: &[String]) -> Result<Command> {
    let mut command = process::role(ROLE);
    command.arg(serde_json::to_string(launch)?).args(argv).env_clear();
    Ok(command)
}

/// Becomes the application; `args` are those of [`command`]. Returns only to say why not.
pub fn run(args: &[String]) -> anyhow::Error {
    prepare(args).and_then(|mut command| Err(command.exec().into())).unwrap_or_else(|e: anyhow::Error| {
        let program = args.get(1).map_or("", String::as_str);
        e.context(format!("start {program:?}"))
    })
}

/// What shells give for a command that is not there, or cannot be run.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    let missing =
        error.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::NotFound);
    if missing { 127 } else { 126 }
}

fn prepare(args: &[String]) -> Result<Command> {
    let [launch, program, arguments @ ..] = args else { anyhow::bail!("nothing to start") };
    let launch: Launch = serde_json::from_str(launch)?;
    nix::unistd::setsid().context("begin a session")?;
    match &launch.root {
        Either::New(binds) => {
            unshare(CloneFlags::CLONE_NEWNS).context("make a mount namespace")?;
            rootfs::enter(&root(binds, &launch.cwd))?;
            become_user(launch.uid)?;
        }
        Either::Of(pid) => join(*pid)?,
    }
    if let Err(e) = std::env::set_current_dir(&launch.cwd) {
        if launch.strict_cwd {
            return Err(e).with_context(|| format!("go to {}", launch.cwd.display()));
        }
        std::env::set_current_dir("/")?;
    }
    let echo = program == ECHO_IMAGE;
    let mut command = Command::new(if echo { "/proc/self/exe" } else { program });
    if echo {
        command.arg("echo");
    }
    command.args(arguments);
    Ok(command)
}

fn root(binds: &[Bind], kept: &Path) -> Root {
    let private = ["/tmp", "/var/tmp", "/dev/shm"].map(PathBuf::from).to_vec();
    Root {
        hidden: vec![HIDDEN.to_owned()],
        private,
        fresh: vec![PathBuf::from("/run")],
        kept: kept.to_path_buf(),
        binds: binds.to_vec(),
        ..Root::default()
    }
}

fn become_user(uid: u32) -> Result<()> {
    unshare(CloneFlags::CLONE_NEWUSER).context("make the application's user namespace")?;
    fs::write("/proc/self/setgroups", "deny").context("give up groups")?;
    fs::write("/proc/self/uid_map", format!("{uid} 0 1")).context("map the application's user")?;
    fs::write("/proc/self/gid_map", format!("{uid} 0 1")).context("map the application's group")
}

fn join(pid: u32) -> Result<()> {
    let open = |kind: &str| {
        let path = format!("/proc/{pid}/ns/{kind}");
        fs::File::open(&path).with_context(|| format!("open {path}"))
    };
    let (mounts, user) = (open("mnt")?, open("user")?);
    setns(mounts, CloneFlags::CLONE_NEWNS).context("enter the container's file system")?;
    setns(user, CloneFlags::CLONE_NEWUSER).context("enter the container's user namespace")
}
