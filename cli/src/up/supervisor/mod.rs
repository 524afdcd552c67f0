//! The supervisor: the first process of a mesh's namespaces. It keeps what runs as the files want it.
//!
//! One task owns all state and takes one input at a time; every other task (a pod's agent, a connection to the control socket, the
//! watch on the directory) only sends it inputs. So nothing here is locked, and every decision sees one state.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::LocalSet;

use crate::up::agent::Report;
use crate::up::api::{Answer, Ask, Event, Start, Started};
use crate::up::container::HIDDEN;
use crate::up::files::{Folder, Problem};
use crate::up::net::{self, ServiceRule};
use crate::up::process::Reaper;
use crate::up::rootfs::{self, Root};
use crate::up::services::Addresses;
use crate::up::wire::{self, Channel, Listener};

/// Changes of the directory.
mod watch;
/// Publications.
mod publish;
/// What is wanted.
mod desired;
/// The controller's life.
pub mod controller;
/// Pods' lives.
mod pods;
/// What the controller is told of.
mod objects;
/// From what runs to what is wanted.
mod reconcile;
/// Answers to what is asked over the control socket.
mod control;

/// The hidden subcommand.
pub const ROLE: &str = "mesh-supervisor";
/// The mesh's directory, in memory.
const HOME: &str = "/.weft";
/// How long all pods together may take to end when the mesh does.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);

/// What happens, one at a time.
pub(crate) enum Input {
    /// Somebody asks.
    Asked(Ask, Rc<Channel>, Vec<OwnedFd>),
    /// A pod's agent runs, as this process, and is reached this way.
    Linked(String, u32, Rc<Channel>),
    /// A pod's agent reports.
    Reported(String, Report),
    /// A pod's agent is gone; why it could not be started, if that is so.
    Gone(String, Option<String>),
    /// The controller runs, or does not.
    Controller(bool),
    /// What the controller says of the manifests.
    Reports(controller::Reports),
    /// Look at the files again.
    Files,
    /// Something went wrong that has no other way to be told.
    Trouble(String),
    /// Look at everything again: a pause is over.
    Again,
    /// End everything in order.
    End,
    /// End at once: the starter is gone and did not detach, or ending in order takes too long.
    Abandon,
}

pub(crate) type Inputs = mpsc::UnboundedSender<Input>;

/// Everything about a mesh.
struct Mesh {
    start: Start,
    /// The machine's number of the process that waits for this one.
    outside: u32,
    inputs: Inputs,
    reaper: Reaper,
    folder: Folder,
    addresses: Addresses,
    desired: desired::Desired,
    pods: BTreeMap<String, pods::Pod>,
    /// How many pods were ever made.
    made: u32,
    /// Pauses after pods that did not live long, by workload.
    pauses: HashMap<String, reconcile::Pause>,
    rules: tokio::sync::watch::Sender<Vec<ServiceRule>>,
    published: publish::Ready,
    controller: controller::Controller,
    reports: controller::Reports,
    watchers: Vec<mpsc::UnboundedSender<Answer>>,
    /// Tasks that still have something to say to somebody.
    speaking: Vec<tokio::task::JoinHandle<()>>,
    history: Vec<Event>,
    told: Vec<Problem>,
    had_errors: bool,
    written: objects::Written,
    was_ready: bool,
    ending: bool,
    abandoned: bool,
}

/// Runs a mesh; standard input is the line to its starter. Returns when the mesh has ended.
///
/// # Errors
/// When the mesh cannot be set up; the starter has been told then.
pub fn run(args: &[String]) -> Result<()> {
    let outside = args.first().and_then(|a| a.parse().ok()).unwrap_or(0);
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL).context("end with the parent")?;
    let starter = std::io::stdin().as_fd().try_clone_to_owned()?;
    let runtime = prepare().inspect_err(|e| {
        // The starter's message was not read yet.
        let _ = wire::drain_blocking(starter.as_fd());
        refuse(e);
    })?;
    LocalSet::new().block_on(&runtime, serve(starter, outside)).inspect_err(refuse)
}

/// Tells the starter, who may be gone.
fn refuse(error: &anyhow::Error) {
    let _ = wire::send_blocking(std::io::stdin().as_fd(), &Started::No(format!("{error:#}")));
}

fn prepare() -> Result<tokio::runtime::Runtime> {
    rootfs::enter(&Root { made: vec![HIDDEN.to_owned()], ..Root::default() })?;
    for dir in ["pods", "objects", "tokens", "ca", "controller/logs"] {
        fs::create_dir_all(Path::new(HOME).join(dir))?;
    }
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

async fn serve(starter: OwnedFd, outside: u32) -> Result<()> {
    let starter = Channel::new(starter)?;
    let Some((start, fds)) = starter.recv::<Start>().await? else { return Ok(()) };
    let (inputs, mut queue) = mpsc::unbounded_channel();
    let mut mesh = Mesh::new(start, outside, inputs.clone(), fds).await?;
    starter.send(&Started::Yes, &[]).await?;
    tokio::task::spawn_local(follow_starter(starter, inputs.clone()));
    tokio::task::spawn_local(terminated(inputs.clone()));
    tokio::task::spawn_local(controller::follow_reports(inputs.clone()));
    let (dir, files) = (mesh.start.dir.clone(), inputs.clone());
    tokio::task::spawn_local(watch::run(dir, move || drop(files.send(Input::Files))));
    while let Some(input) = queue.recv().await {
        mesh.take(input);
        if mesh.abandoned || (mesh.ending && mesh.pods.is_empty()) {
            break;
        }
    }
    mesh.hear_out().await;
    // What still runs ends with this process, by the kernel.
    Ok(())
}

impl Mesh {
    async fn new(start: Start, outside: u32, inputs: Inputs, mut fds: Vec<OwnedFd>) -> Result<Self> {
        anyhow::ensure!(!fds.is_empty(), "no control socket was handed in");
        net::prepare_mesh().await?;
        let reaper = Reaper::start()?;
        let control = Listener::new(fds.remove(0))?;
        tokio::task::spawn_local(control::accept(control, inputs.clone()));
        let published = publish::Ready::default();
        for (index, listener) in fds.into_iter().enumerate() {
            publish::start(index, listener, Rc::clone(&published))?;
        }
        let (rules, changes) = tokio::sync::watch::channel(Vec::new());
        tokio::task::spawn_local(apply_rules(changes, inputs.clone()));
        let controller = controller::Controller::new(&start, reaper.clone(), inputs.clone());
        Ok(Self {
            folder: Folder::new(&start.dir),
            start,
            outside,
            inputs,
            reaper,
            addresses: Addresses::default(),
            desired: desired::Desired::default(),
            pods: BTreeMap::new(),
            made: 0,
            pauses: HashMap::new(),
            rules,
            published,
            controller,
            reports: Default::default(),
            watchers: Vec::new(),
            speaking: Vec::new(),
            history: Vec::new(),
            told: Vec::new(),
            had_errors: false,
            written: objects::Written::default(),
            was_ready: false,
            ending: false,
            abandoned: false,
        })
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Asked(ask, asker, fds) => return self.answer(ask, asker, fds),
            Input::Linked(uid, pid, channel) => self.linked(&uid, pid, channel),
            Input::Reported(uid, report) => self.reported(&uid, report),
            Input::Gone(uid, why) => self.gone(&uid, why),
            Input::Controller(runs) => self.controller.runs = runs,
            Input::Reports(reports) => self.take_reports(reports),
            Input::Files => self.read_files(),
            Input::Trouble(text) => self.tell(Event::Problem(text)),
            Input::Again => {}
            Input::End => self.end(),
            Input::Abandon => self.abandoned = true,
        }
        self.settle();
    }

    /// Tells everybody who watches.
    fn tell(&mut self, event: Event) {
        self.watchers.retain(|w| w.send(Answer::Event(event.clone())).is_ok());
        self.history.push(event);
        if self.history.len() > 500 {
            self.history.drain(..100);
        }
    }

    /// Keeps a task in mind that must be heard before the mesh ends.
    fn speak(&mut self, task: tokio::task::JoinHandle<()>) {
        self.speaking.retain(|t| !t.is_finished());
        self.speaking.push(task);
    }

    /// Lets everybody hear the last words; those who do not listen are not waited for.
    async fn hear_out(mut self) {
        self.watchers.clear();
        let all = async {
            for task in self.speaking {
                let _ = task.await;
            }
        };
        let _ = tokio::time::timeout(std::time::Duration::from_millis(500), all).await;
    }

    /// Ends all pods; the mesh ends when they have.
    fn end(&mut self) {
        if !std::mem::replace(&mut self.ending, true) {
            self.tell(Event::Ending);
            let inputs = self.inputs.clone();
            tokio::task::spawn_local(async move {
                tokio::time::sleep(PATIENCE).await;
                let _ = inputs.send(Input::Abandon);
            });
        }
        let all: Vec<String> = self.pods.keys().cloned().collect();
        all.iter().for_each(|uid| self.end_pod(uid));
    }
}

async fn follow_starter(starter: Channel, inputs: Inputs) {
    match starter.recv::<Started>().await {
        Ok(Some((Started::Detach, _))) => {
            if let Err(e) = silence() {
                tracing::debug!("{e:#}");
            }
        }
        _ => drop(inputs.send(Input::Abandon)),
    }
}

async fn terminated(inputs: Inputs) {
    if let Ok(mut terminate) = signal(SignalKind::terminate()) {
        terminate.recv().await;
        let _ = inputs.send(Input::End);
    }
}

/// Rules are replaced one after the other; of several that wait, only the newest is applied.
async fn apply_rules(mut changes: tokio::sync::watch::Receiver<Vec<ServiceRule>>, inputs: Inputs) {
    while changes.changed().await.is_ok() {
        let rules = changes.borrow_and_update().clone();
        if let Err(e) = net::apply_services(&rules).await {
            let _ = inputs.send(Input::Trouble(format!("{e:#}")));
        }
    }
}

/// Lets go of the starter's terminal.
///
/// # Errors
/// When there is no `/dev/null`.
pub fn silence() -> Result<()> {
    let null = fs::OpenOptions::new().write(true).open("/dev/null").context("open /dev/null")?;
    nix::unistd::dup2_stderr(null).context("let go of standard error")
}

/// The directory of a pod, in memory.
fn pod_dir(uid: &str) -> PathBuf {
    Path::new(HOME).join("pods").join(uid)
}
