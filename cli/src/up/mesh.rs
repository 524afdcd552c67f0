//! A running mesh as the command line, the demo and tests see it: started here, or found by its name.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::process::Child;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use nix::unistd::getuid;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::net::unix::pipe;

use crate::up::api::{Answer, Ask, CONTROLLER, Event, Exec, Logs, Publish, Start, Started, State, Target};
use crate::up::begin::{environment, listener, spawn};
use crate::up::names::{DEFAULT_NAME, address, missing, runs, taken};
use crate::up::wire::{self, Channel};

/// How long setting up the namespaces may take.
const START: Duration = Duration::from_secs(30);

/// How to start a mesh.
#[derive(Clone, Debug)]
pub struct Options {
    /// The directory of manifests.
    pub dir: PathBuf,
    /// The mesh's name; several run side by side.
    pub name: String,
    /// What appears on this machine's loopback.
    pub publish: Vec<Publish>,
    /// The `weft` binary; this process's own when not given.
    pub binary: Option<PathBuf>,
}

impl Options {
    /// The manifests of a directory, as the mesh of the default name.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), name: DEFAULT_NAME.into(), publish: Vec::new(), binary: None }
    }
}

/// A running mesh.
#[derive(Debug)]
pub struct Mesh {
    name: String,
    /// When this process started it: the line to the supervisor, whose end ends the mesh.
    held: Option<(Channel, Child)>,
}

/// What a command wrote, and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Its exit code; 128 and the signal's number when killed.
    pub code: i32,
    /// What it wrote to its standard output.
    pub stdout: String,
    /// What it wrote to its standard error.
    pub stderr: String,
}

impl Mesh {
    /// Starts a mesh. It ends when this process does, or drops the value, unless [`Mesh::detach`] is called. Must run inside a
    /// tokio runtime with input, output and time.
    ///
    /// # Errors
    /// When the name or a port is taken, the directory cannot be read, or the system lacks what a mesh needs; says which.
    pub async fn start(options: Options) -> Result<Self> {
        let dir = options.dir.canonicalize().with_context(|| format!("{}", options.dir.display()))?;
        anyhow::ensure!(dir.is_dir(), "{} is not a directory", options.dir.display());
        let control = wire::listen(&address(&options.name)).map_err(|e| match e.kind() {
            std::io::ErrorKind::AddrInUse => taken(&options.name),
            _ => e.into(),
        })?;
        let listeners = options.publish.iter().map(listener).collect::<Result<Vec<_>>>()?;
        let (ours, theirs) = wire::pair()?;
        let child = spawn(options.binary.as_deref(), theirs)?;
        let channel = Channel::new(ours)?;
        let start = Start {
            name: options.name.clone(),
            dir,
            publish: options.publish,
            env: environment(),
            uid: getuid().as_raw(),
        };
        let fds: Vec<BorrowedFd<'_>> =
            std::iter::once(control.as_fd()).chain(listeners.iter().map(AsFd::as_fd)).collect();
        let begun = async {
            channel.send(&start, &fds).await?;
            channel.recv::<Started>().await
        };
        match tokio::time::timeout(START, begun).await.context("the mesh's supervisor does not answer")? {
            Ok(Some((Started::Yes, _))) => Ok(Self { name: options.name, held: Some((channel, child)) }),
            Ok(Some((Started::No(why), _))) => Err(anyhow!(why)),
            _ => bail!("the mesh's supervisor ended before it was set up"),
        }
    }

    /// A mesh that runs already, of this user.
    ///
    /// # Errors
    /// When there is none of this name; names those that there are.
    pub fn find(name: &str) -> Result<Self> {
        let socket = wire::connect(&address(name)).map_err(|_| missing(name))?;
        let owner = wire::peer_uid(socket.as_fd())?;
        anyhow::ensure!(owner == getuid().as_raw(), "mesh {name:?} is another user's");
        Ok(Self { name: name.to_owned(), held: None })
    }

    /// Lets the mesh run on when this process ends.
    ///
    /// # Errors
    /// When the mesh has ended.
    pub async fn detach(&mut self) -> Result<()> {
        if let Some((channel, _)) = &self.held {
            channel.send(&Started::Detach, &[]).await.context("the mesh has ended")?;
        }
        self.held = None;
        Ok(())
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it stands.
    ///
    /// # Errors
    /// When the mesh has ended.
    pub async fn state(&self) -> Result<State> {
        match self.ask(Ask::State).await? {
            Answer::State(state) => Ok(*state),
            other => Err(unexpected(other)),
        }
    }

    /// What happens in it, from its start on.
    ///
    /// # Errors
    /// When the mesh has ended.
    pub async fn events(&self) -> Result<Events> {
        Ok(Events(self.open(&Ask::Watch, &[]).await?))
    }

    /// Waits until every pod is ready.
    ///
    /// # Errors
    /// After `limit`: what is not ready, and why.
    pub async fn wait_ready(&self, limit: Duration) -> Result<State> {
        let mut last = None;
        let ready = async {
            loop {
                let state = self.state().await?;
                if state.ready {
                    return anyhow::Ok(state);
                }
                last = Some(state);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        match tokio::time::timeout(limit, ready).await {
            Ok(state) => state,
            Err(_) => bail!(
                "not ready after {} s: {}",
                limit.as_secs(),
                last.as_ref().map_or_else(String::new, State::lacking)
            ),
        }
    }

    /// Runs a command as a pod's application would run it (or as its sidecar, with the container `weft-proxy`), with these
    /// streams, and gives its exit code. Signals that come in on the receiver are passed on.
    ///
    /// # Errors
    /// When there is no such pod or container, or the command cannot be started.
    pub async fn exec_with(
        &self,
        exec: Exec,
        streams: [BorrowedFd<'_>; 3],
        mut signals: tokio::sync::mpsc::Receiver<i32>,
    ) -> Result<i32> {
        let channel = self.open(&Ask::Exec(exec), &streams).await?;
        loop {
            tokio::select! {
                answer = channel.recv::<Answer>() => match answer? {
                    Some((Answer::Exit(code), _)) => return Ok(code),
                    Some((other, _)) => return Err(unexpected(other)),
                    None => bail!("the mesh or the pod has ended"),
                },
                Some(signal) = signals.recv() => channel.send(&Ask::Signal(signal), &[]).await?,
            }
        }
    }

    /// Runs a command in a pod (`NAME`, `deploy/NAME`, or `@mesh` for the network between the pods) and collects what it writes.
    ///
    /// # Errors
    /// As [`Mesh::exec_with`].
    pub async fn exec(&self, target: &Target, container: Option<&str>, argv: &[&str]) -> Result<Output> {
        let (out, out_end) = pipe_pair()?;
        let (err, err_end) = pipe_pair()?;
        let null = std::fs::File::open("/dev/null")?;
        let argv = argv.iter().map(|word| (*word).to_owned()).collect();
        let exec =
            Exec { target: target.clone(), container: container.map(Into::into), argv, env: Vec::new() };
        let (_keep, signals) = tokio::sync::mpsc::channel(1);
        let run = async {
            let code = self.exec_with(exec, [null.as_fd(), out_end.as_fd(), err_end.as_fd()], signals).await;
            // Readers see the end only when nobody can write.
            drop((out_end, err_end));
            code
        };
        let (code, stdout, stderr) = tokio::join!(run, collect(out), collect(err));
        Ok(Output { code: code?, stdout: stdout?, stderr: stderr? })
    }

    /// What a container wrote.
    ///
    /// # Errors
    /// When there is no such pod or container.
    pub async fn logs(&self, logs: Logs, mut each: impl FnMut(&str)) -> Result<()> {
        let channel = self.open(&Ask::Logs(logs), &[]).await?;
        while let Some((answer, _)) = channel.recv::<Answer>().await? {
            match answer {
                Answer::Text(text) => each(&text),
                Answer::Done => return Ok(()),
                other => return Err(unexpected(other)),
            }
        }
        Ok(())
    }

    /// Sends a signal to a container's process (`weft-proxy` is the sidecar).
    ///
    /// # Errors
    /// When there is no such process.
    pub async fn kill_process(&self, target: &Target, container: &str, signal: i32) -> Result<()> {
        self.done(Ask::Kill(target.clone(), Some(container.to_owned()), signal)).await
    }

    /// Kills a pod with all its processes, as a node's failure would. `@controller` kills the controller, which starts again.
    ///
    /// # Errors
    /// When there is no such pod.
    pub async fn kill_pod(&self, target: &Target) -> Result<()> {
        self.done(Ask::Kill(target.clone(), None, nix::libc::SIGKILL)).await
    }

    /// Kills a pod's sidecar, which starts again.
    ///
    /// # Errors
    /// When the pod has none.
    pub async fn kill_sidecar(&self, target: &Target) -> Result<()> {
        self.kill_process(target, crate::up::plan::SIDECAR, nix::libc::SIGKILL).await
    }

    /// Kills the controller and leaves it so.
    ///
    /// # Errors
    /// When the mesh has ended.
    pub async fn stop_controller(&self) -> Result<()> {
        self.done(Ask::RunController(false)).await
    }

    /// Starts the controller after [`Mesh::stop_controller`].
    ///
    /// # Errors
    /// When the mesh has ended.
    pub async fn start_controller(&self) -> Result<()> {
        self.done(Ask::RunController(true)).await
    }

    /// A GET inside a pod's network, to its loopback or else its own address: the sidecar's admin port, say.
    ///
    /// # Errors
    /// When nobody answers there.
    pub async fn admin_get(&self, target: &Target, port: u16, path: &str) -> Result<(u16, String)> {
        http(self.ask(Ask::Get(target.clone(), port, path.to_owned())).await?)
    }

    /// A connection to a port of a pod's loopback, made inside its network.
    ///
    /// # Errors
    /// When nobody listens there.
    pub async fn connect(&self, target: &Target, port: u16) -> Result<TcpStream> {
        let channel = self.open(&Ask::Connect(target.clone(), port), &[]).await?;
        match channel.recv::<Answer>().await?.context("the mesh or the pod has ended")? {
            (Answer::Done, mut fds) if !fds.is_empty() => {
                Ok(TcpStream::from_std(std::net::TcpStream::from(fds.remove(0)))?)
            }
            (other, _) => Err(unexpected(other)),
        }
    }

    /// A connection to the controller's admin port.
    ///
    /// # Errors
    /// When the controller does not run.
    pub async fn controller_connect(&self) -> Result<TcpStream> {
        self.connect(&Target { namespace: String::new(), name: CONTROLLER.into() }, 0).await
    }

    /// A GET to the controller's admin port.
    ///
    /// # Errors
    /// When the controller does not answer.
    pub async fn controller_get(&self, path: &str) -> Result<(u16, String)> {
        http(self.ask(Ask::Controller(path.to_owned())).await?)
    }

    /// Ends the mesh and waits until nothing of it is left.
    ///
    /// # Errors
    /// When it has ended already.
    pub async fn down(self) -> Result<()> {
        let Answer::Ending(outside) = self.ask(Ask::Down).await? else { bail!("the mesh does not end") };
        if self.held.is_some() {
            return self.wait_end().await;
        }
        while runs(outside) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Waits for the end of a mesh that this process started.
    ///
    /// # Errors
    /// When its first process cannot be waited for.
    pub async fn wait_end(mut self) -> Result<()> {
        if let Some((_line, mut child)) = self.held.take() {
            tokio::task::spawn_blocking(move || child.wait()).await??;
        }
        Ok(())
    }

    async fn done(&self, ask: Ask) -> Result<()> {
        match self.ask(ask).await? {
            Answer::Done => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    async fn ask(&self, ask: Ask) -> Result<Answer> {
        let answer = self.open(&ask, &[]).await?.recv::<Answer>().await?;
        match answer {
            Some((Answer::Failed(why), _)) => Err(anyhow!(why)),
            Some((answer, _)) => Ok(answer),
            None => bail!("mesh {:?} has ended", self.name),
        }
    }

    async fn open(&self, ask: &Ask, fds: &[BorrowedFd<'_>]) -> Result<Channel> {
        let channel = Channel::new(wire::connect(&address(&self.name)).map_err(|_| missing(&self.name))?)?;
        channel.send(ask, fds).await?;
        Ok(channel)
    }
}

/// What happens in a mesh.
#[derive(Debug)]
pub struct Events(Channel);

impl Events {
    /// The next; `None` when the mesh has ended.
    ///
    /// # Errors
    /// When the other end speaks another language.
    pub async fn next(&self) -> Result<Option<Event>> {
        match self.0.recv::<Answer>().await? {
            Some((Answer::Event(event), _)) => Ok(Some(event)),
            Some((other, _)) => Err(unexpected(other)),
            None => Ok(None),
        }
    }
}

fn pipe_pair() -> Result<(OwnedFd, OwnedFd)> {
    Ok(nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?)
}

async fn collect(from: OwnedFd) -> Result<String> {
    let mut bytes = Vec::new();
    pipe::Receiver::from_owned_fd(from)?.read_to_end(&mut bytes).await?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn http(answer: Answer) -> Result<(u16, String)> {
    match answer {
        Answer::Http(status, body) => Ok((status, body)),
        other => Err(unexpected(other)),
    }
}

fn unexpected(answer: Answer) -> anyhow::Error {
    match answer {
        Answer::Failed(why) => anyhow!(why),
        other => anyhow!("unexpected answer: {other:?}"),
    }
}
