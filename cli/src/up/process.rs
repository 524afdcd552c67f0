//! Child processes of a process that is the first of its PID namespace: started here, and reaped here with everybody else's orphans.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::process::{Child, Command, ExitStatus};
use std::rc::Rc;

use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(Signal),
}

impl Exit {
    /// As shells number it.
    pub fn code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal as i32,
        }
    }
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "killed by {signal}"),
        }
    }
}

impl From<ExitStatus> for Exit {
    fn from(status: ExitStatus) -> Self {
        use std::os::unix::process::ExitStatusExt;
        match status.signal().and_then(|s| Signal::try_from(s).ok()) {
            Some(signal) => Self::Signal(signal),
            None => Self::Code(status.code().unwrap_or(-1)),
        }
    }
}

/// This binary again, in another role.
pub fn role(role: &str) -> Command {
    use std::os::unix::process::CommandExt;
    let mut command = Command::new("/proc/self/exe");
    command.arg0("weft").arg(role);
    command
}

type Waiting = Rc<RefCell<HashMap<Pid, oneshot::Sender<Exit>>>>;

/// Reaps all children. One a process, inside a `LocalSet`; nothing else in the process may wait for children.
#[derive(Clone, Debug)]
pub struct Reaper {
    waiting: Waiting,
}

impl Reaper {
    /// Starts reaping.
    ///
    /// # Errors
    /// When signals cannot be received.
    pub fn start() -> io::Result<Self> {
        let mut children = signal(SignalKind::child())?;
        let waiting = Waiting::default();
        let all = Rc::clone(&waiting);
        tokio::task::spawn_local(async move {
            while children.recv().await.is_some() {
                reap(&all);
            }
        });
        Ok(Self { waiting })
    }

    /// Starts a process; the receiver hears how it ended.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn spawn(&self, command: &mut Command) -> io::Result<(Child, Pid, oneshot::Receiver<Exit>)> {
        let child = command.spawn()?;
        let pid = Pid::from_raw(i32::try_from(child.id()).map_err(io::Error::other)?);
        let (tell, told) = oneshot::channel();
        self.waiting.borrow_mut().insert(pid, tell);
        Ok((child, pid, told))
    }
}

fn reap(waiting: &Waiting) {
    loop {
        let (pid, exit) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) => (pid, Exit::Code(code)),
            Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, Exit::Signal(signal)),
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return,
            Err(Errno::EINTR) | Ok(_) => continue,
            Err(_) => return,
        };
        if let Some(tell) = waiting.borrow_mut().remove(&pid) {
            // Nobody may be interested any more.
            let _ = tell.send(exit);
        }
    }
}
