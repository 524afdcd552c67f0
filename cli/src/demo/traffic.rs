//! Requests that run inside a pod, as its application would send them, while the tour watches what becomes of them.

use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::unix::pipe::Receiver;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::load::tally::Summary;
use crate::up::api::Exec;
use crate::up::{Mesh, Target};

/// This binary, as every process that the mesh starts for us sees it.
pub const SELF: &str = "/proc/self/exe";
/// How often a load tells its counts.
const REPORT: &str = "50ms";

/// A command of this binary that runs in a pod, line by line.
#[derive(Debug)]
pub struct Lines {
    lines: mpsc::UnboundedReceiver<String>,
    signals: mpsc::Sender<i32>,
    ended: JoinHandle<Result<()>>,
}

impl Lines {
    /// Starts `weft ARGS` in a pod. Must run inside a `LocalSet`.
    ///
    /// # Errors
    /// When no pipe can be had.
    pub fn start(mesh: &Rc<Mesh>, target: &Target, args: &[&str]) -> Result<Self> {
        let (out, out_end) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
        let (err, err_end) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
        let argv = std::iter::once(SELF).chain(args.iter().copied()).map(str::to_owned).collect();
        let exec = Exec { target: target.clone(), container: None, argv, env: Vec::new() };
        let (signals, received) = mpsc::channel(4);
        let run = run(Rc::clone(mesh), exec, [out_end, err_end], received);
        let (tell, lines) = mpsc::unbounded_channel();
        let out = Receiver::from_owned_fd(out)?;
        let err = Receiver::from_owned_fd(err)?;
        let ended = tokio::task::spawn_local(async move {
            let (code, (), complaint) = tokio::join!(run, pump(out, tell), read(err));
            match code? {
                0 => Ok(()),
                code => bail!("exit code {code}: {}", complaint.trim()),
            }
        });
        Ok(Self { lines, signals, ended })
    }

    /// The next line; `None` at the end.
    pub async fn next(&mut self) -> Option<String> {
        self.lines.recv().await
    }

    /// Interrupts it.
    pub async fn interrupt(&self) {
        // It may have ended by itself.
        let _ = self.signals.send(nix::libc::SIGINT).await;
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// What it complained about.
    pub async fn ended(self) -> Result<()> {
        self.ended.await?
    }
}

async fn run(mesh: Rc<Mesh>, exec: Exec, ends: [OwnedFd; 2], signals: mpsc::Receiver<i32>) -> Result<i32> {
    let null = std::fs::File::open("/dev/null")?;
    // The ends are closed with this function: only then do readers see the end.
    mesh.exec_with(exec, [null.as_fd(), ends[0].as_fd(), ends[1].as_fd()], signals).await
}

async fn pump(out: Receiver, tell: mpsc::UnboundedSender<String>) {
    let mut lines = BufReader::new(out).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if tell.send(line).is_err() {
            return;
        }
    }
}

async fn read(mut err: Receiver) -> String {
    let mut text = String::new();
    // Whatever cannot be read is not told.
    let _ = err.read_to_string(&mut text).await;
    text
}

/// A load that runs.
#[derive(Debug)]
pub struct Traffic {
    latest: watch::Receiver<Summary>,
    signals: mpsc::Sender<i32>,
    ended: JoinHandle<Result<()>>,
}

impl Traffic {
    /// Starts `weft load URL ARGS` in a pod. Must run inside a `LocalSet`.
    ///
    /// # Errors
    /// When no pipe can be had.
    pub fn start(mesh: &Rc<Mesh>, from: &Target, url: &str, args: &[&str]) -> Result<Self> {
        let fixed = ["load", url, "--report", REPORT, "--timeout", "10s", "-o", "json"];
        let mut lines = Lines::start(mesh, from, &[&fixed, args].concat())?;
        let (tell, latest) = watch::channel(Summary::default());
        let signals = lines.signals.clone();
        let url = url.to_owned();
        let ended = tokio::task::spawn_local(async move {
            while let Some(line) = lines.next().await {
                tell.send_replace(serde_json::from_str(&line).with_context(|| line)?);
            }
            lines.ended().await.with_context(|| format!("load on {url}"))
        });
        Ok(Self { latest, signals, ended })
    }

    /// The counts so far.
    pub fn now(&self) -> Summary {
        self.latest.borrow().clone()
    }

    /// The counts, as they come.
    pub fn watch(&self) -> watch::Receiver<Summary> {
        self.latest.clone()
    }

    /// Waits until the counts are as they should be, and gives them; those of the moment when `limit` is over.
    pub async fn until(&mut self, limit: Duration, wanted: impl Fn(&Summary) -> bool) -> Summary {
        let reached = async { self.latest.wait_for(|s| wanted(s)).await.map(|s| s.clone()).ok() };
        let reached = tokio::time::timeout(limit, reached).await.ok().flatten();
        reached.unwrap_or_else(|| self.now())
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// When it could not run.
    pub async fn finish(self) -> Result<Summary> {
        self.ended.await??;
        let last = self.latest.borrow().clone();
        anyhow::ensure!(last.done, "the load did not tell its result");
        Ok(last)
    }

    /// Ends it, and gives the counts.
    ///
    /// # Errors
    /// When it could not run.
    pub async fn stop(self) -> Result<Summary> {
        // It may have ended by itself.
        let _ = self.signals.send(nix::libc::SIGINT).await;
        self.finish().await
    }
}
