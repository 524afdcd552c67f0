//! The controller's life: one process in the mesh's network, started again whenever it ends, unless a test stops it.

use std::cell::Cell;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use anyhow::Result;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::sync::oneshot;

use crate::up::api::Start;
use crate::up::{logs, net};
use crate::up::process::{Exit, Reaper};
use crate::up::supervisor::{HOME, Input, Inputs};

/// The hidden subcommand.
pub const ROLE: &str = "controller-run";
/// Where its admin port is, in the mesh's network.
pub(crate) const ADMIN: ([u8; 4], u16) = ([127, 0, 0, 1], 15014);
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// The controller.
pub(crate) struct Controller {
    /// Whether it runs.
    pub(crate) runs: bool,
    wanted: Rc<Wanted>,
}

#[derive(Default)]
struct Wanted {
    run: Cell<bool>,
    pid: Cell<Option<Pid>>,
    changed: tokio::sync::Notify,
}

impl Controller {
    /// Starts it.
    pub(crate) fn new(start: &Start, reaper: Reaper, inputs: Inputs) -> Self {
        let wanted = Rc::new(Wanted { run: Cell::new(true), ..Wanted::default() });
        tokio::task::spawn_local(keep(start.clone(), reaper, inputs, Rc::clone(&wanted)));
        Self { runs: false, wanted }
    }

    /// Whether it shall run. One that shall not is killed, as if it had crashed.
    pub(crate) fn set(&self, run: bool) {
        self.wanted.run.set(run);
        if let (false, Some(pid)) = (run, self.wanted.pid.get()) {
            let _ = kill(pid, Signal::SIGKILL);
        }
        self.wanted.changed.notify_waiters();
    }

    /// Its process, while it runs.
    pub(crate) fn pid(&self) -> Option<Pid> {
        self.wanted.pid.get()
    }
}

/// The directory of its logs.
pub(crate) fn dir() -> PathBuf {
    Path::new(HOME).join("controller")
}

async fn keep(start: Start, reaper: Reaper, inputs: Inputs, wanted: Rc<Wanted>) {
    let mut pause = FIRST_PAUSE;
    loop {
        while !wanted.run.get() {
            wanted.changed.notified().await;
        }
        let began = tokio::time::Instant::now();
        match spawn(&start, &reaper) {
            Ok((pid, exited)) => {
                wanted.pid.set(Some(pid));
                let _ = inputs.send(Input::Controller(true));
                let exit = exited.await;
                wanted.pid.set(None);
                let _ = inputs.send(Input::Controller(false));
                let _ = logs::append(&logs::file(&dir(), "controller"), format!("weft: controller: {exit:?}\n").as_bytes());
            }
            Err(e) => tracing::error!("start the controller: {e:#}"),
        }
        if began.elapsed() > LONGEST_PAUSE || !wanted.run.get() {
            pause = FIRST_PAUSE;
        }
        if wanted.run.get() {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

fn spawn(start: &Start, reaper: &Reaper) -> Result<(Pid, oneshot::Receiver<Exit>)> {
    let home = Path::new(HOME);
    let mut command = Command::new("/proc/self/exe");
    command.arg(ROLE).arg("--dir").arg(&start.dir).arg("--dir").arg(home.join("objects"));
    command.args(["--listen", "0.0.0.0:15012", "--ca-dir"]).arg(home.join("ca"));
    command.arg("--tokens-dir").arg(home.join("tokens")).args(["--admin", "127.0.0.1:15014"]);
    command.arg("--address").arg(net::GATEWAY.to_string());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let (mut child, pid, exited) = reaper.spawn(&mut command)?;
    fs::create_dir_all(dir().join("logs"))?;
    let streams = [child.stdout.take().map(OwnedFd::from), child.stderr.take().map(OwnedFd::from)];
    for stream in streams.into_iter().flatten() {
        tokio::task::spawn_local(logs::pump(stream, logs::file(&dir(), "controller")));
    }
    Ok((pid, exited))
}
