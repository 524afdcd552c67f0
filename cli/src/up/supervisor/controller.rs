//! The controller's life: one process in the mesh's network, started again whenever it ends, unless a test stops it.

use std::cell::Cell;
use std::fs;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Result;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Deserialize;
use tokio::sync::oneshot;

use crate::up::api::Start;
use crate::up::files::Problem;
use crate::up::process::{self, Exit, Reaper};
use crate::up::supervisor::{HOME, Input, Inputs};
use crate::up::{http, logs, net};

/// The hidden subcommand.
pub const ROLE: &str = "controller-run";
/// Where its admin port is, in the mesh's network.
pub(crate) const ADMIN: ([u8; 4], u16) = ([127, 0, 0, 1], 15014);
/// How often its reports are looked at.
const LOOK: Duration = Duration::from_millis(200);
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

/// What the controller says of the manifests: errors, and what has no effect.
pub(crate) type Reports = (Vec<Problem>, Vec<Problem>);

#[derive(Deserialize)]
struct Page {
    reports: Vec<Report>,
}

#[derive(Deserialize)]
struct Report {
    file: PathBuf,
    line: u32,
    severity: String,
    object: String,
    field: String,
    reason: String,
}

/// Looks at what the controller says, again and again; what it last said holds while it is away.
pub(crate) async fn follow_reports(inputs: Inputs) {
    let mut last = None;
    loop {
        tokio::time::sleep(LOOK).await;
        let page = http::get(SocketAddr::from(ADMIN), "/errors", &[]);
        let Ok(Ok((200, body))) = tokio::time::timeout(Duration::from_secs(5), page).await else { continue };
        if last.as_ref() == Some(&body) {
            continue;
        }
        if let Ok(page) = serde_json::from_slice::<Page>(&body) {
            let _ = inputs.send(Input::Reports(sorted(page)));
        }
        last = Some(body);
    }
}

fn sorted(page: Page) -> Reports {
    // What the supervisor itself wrote is not the user's to mend.
    let theirs = page.reports.into_iter().filter(|r| !r.file.starts_with(HOME));
    let (warnings, errors): (Vec<_>, Vec<_>) = theirs.partition(|r| r.severity == "warning");
    let problem = |r: Report| {
        let message = if r.field.is_empty() { r.reason } else { format!("{}: {}", r.field, r.reason) };
        Problem { file: r.file, line: r.line, resource: r.object, message }
    };
    (errors.into_iter().map(problem).collect(), warnings.into_iter().map(problem).collect())
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
                let _ = logs::append(
                    &logs::file(&dir(), "controller"),
                    format!("weft: controller: {exit:?}\n").as_bytes(),
                );
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
    let mut command = process::role(ROLE);
    command.arg("--dir").arg(&start.dir).arg("--dir").arg(home.join("objects"));
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
