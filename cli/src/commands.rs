//! The commands about a local mesh: from arguments to what is printed and the exit code.

use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::output;
use crate::up::api::{Exec, Logs};
use crate::up::names::DEFAULT_NAME;
use crate::up::{Event, Mesh, Options, Publish, State, Target};

/// `weft up`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  weft up ./manifests                              run them here until Ctrl-C; saving a file is `kubectl apply`
  weft up ./manifests --publish 8080:web:80        and reach Service web at http://127.0.0.1:8080
  weft up ./manifests -N shop --detach             return when every pod is Ready; `weft down -N shop` ends it

Containers' commands run as they stand, as processes of this machine: no image is used, no name server and no way out of the \
mesh is there. Applications share this machine's files and user; a local mesh isolates networks, it is no security boundary.")]
pub struct Up {
    /// A directory of Kubernetes manifests (*.yaml, *.yml, *.json)
    dir: PathBuf,
    /// The mesh's name; several run side by side
    #[arg(short = 'N', long, default_value = DEFAULT_NAME)]
    name: String,
    /// Return when every pod is Ready, and let the mesh run on
    #[arg(long)]
    detach: bool,
    /// Listen on this machine's 127.0.0.1:HOSTPORT for a Service: each connection goes to one of its ready pods, from outside the mesh
    #[arg(long, value_name = "HOSTPORT:[NAMESPACE/]SERVICE:PORT")]
    publish: Vec<Publish>,
    /// With --detach: give up after so many seconds
    #[arg(long, default_value_t = 120, value_name = "SECONDS")]
    timeout: u64,
}

/// Which mesh.
#[derive(Debug, Args)]
pub struct Which {
    /// The mesh's name
    #[arg(short = 'N', long = "name", default_value = DEFAULT_NAME)]
    pub(crate) mesh: String,
}

/// Which pod.
#[derive(Debug, Args)]
pub struct Where {
    #[command(flatten)]
    which: Which,
    /// The pod's namespace
    #[arg(short, long, default_value = "default")]
    namespace: String,
    /// The container; the first one when not given; weft-proxy is the sidecar
    #[arg(short, long)]
    container: Option<String>,
}

/// `weft down`
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  weft down -N shop        end the mesh shop; returns when nothing of it is left"
)]
pub struct Down {
    #[command(flatten)]
    which: Which,
}

/// `weft exec`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  weft exec deploy/client -- curl -s http://web/           as the application would: through its sidecar
  weft exec -c weft-proxy web-0 -- curl -s 127.0.0.1:15000/config_dump
  weft exec @mesh -- tcpdump -ni any tcp                   in the network between the pods
  weft exec @mesh -- curl -s http://10.244.0.2:8080/       a pod, from outside and past the caller's sidecar

With -c weft-proxy the command has the sidecar's rights in the pod's network: 127.0.0.1 is the pod's own, and what goes \
elsewhere is redirected as the application's is. Only the sidecar itself marks its packets as its own.

The exit code is the command's; 128 and the signal's number when it was killed; 127 and 126 \
when there is no such command, or it is none; 125 when nothing could be started.")]
pub struct ExecArgs {
    #[command(flatten)]
    place: Where,
    /// A pod, or a workload (deploy/NAME, sts/NAME, job/NAME) that stands for one of its pods
    pod: String,
    /// The command
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

/// `weft logs`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  weft logs deploy/web -f
  weft logs web-0 -c weft-proxy --tail 20
  weft logs @controller")]
pub struct LogsArgs {
    #[command(flatten)]
    place: Where,
    /// A pod, or a workload that stands for one of its pods, or @controller
    pod: String,
    /// Wait for more
    #[arg(short, long)]
    follow: bool,
    /// Only so many of the last lines
    #[arg(long)]
    tail: Option<usize>,
}

/// Runs a mesh.
///
/// # Errors
/// What a mesh lacks.
pub async fn up(args: Up) -> Result<ExitCode> {
    let options =
        Options { dir: args.dir.clone(), name: args.name, publish: args.publish.clone(), binary: None };
    let mut interrupts = Interrupts::new()?;
    let mut mesh = Mesh::start(options).await?;
    output::progress(format!("mesh {:?} starts from {}", mesh.name(), args.dir.display()));
    for p in &args.publish {
        output::progress(format!(
            "http://127.0.0.1:{} is service {}/{} port {}",
            p.host_port, p.namespace, p.service, p.port
        ));
    }
    if args.detach {
        return detached(&mut mesh, &mut interrupts, Duration::from_secs(args.timeout)).await;
    }
    tokio::select! {
        over = follow(&mesh, false) => {
            anyhow::ensure!(over?, "the mesh has ended: its processes were killed from outside");
            output::progress("the mesh was ended from elsewhere");
            mesh.wait_end().await?;
            return Ok(ExitCode::SUCCESS);
        }
        () = interrupts.next() => {}
    }
    output::progress("ending; again to end at once");
    tokio::select! {
        done = mesh.down() => done?,
        // Dropping the mesh's line ends it at once.
        () = interrupts.next() => {}
    }
    Ok(ExitCode::SUCCESS)
}

async fn detached(mesh: &mut Mesh, interrupts: &mut Interrupts, limit: Duration) -> Result<ExitCode> {
    tokio::select! {
        ready = tokio::time::timeout(limit, follow(mesh, true)) => match ready {
            Ok(result) => anyhow::ensure!(result?, "the mesh ended before it was ready"),
            Err(_) => {
                let state = mesh.state().await?;
                last_words(mesh, &state).await?;
                bail!("not ready after {} s: {}; the mesh was ended", limit.as_secs(), state.lacking());
            }
        },
        () = interrupts.next() => bail!("interrupted; the mesh was ended"),
    }
    mesh.detach().await?;
    let wrong = mesh.state().await?.errors.len();
    if wrong > 0 {
        output::warning(format!(
            "{wrong} errors stand in the manifests: what they say of is not there, or as it was before"
        ));
    }
    output::progress(format!("ready; `weft get -N {0}` shows it, `weft down -N {0}` ends it", mesh.name()));
    Ok(ExitCode::SUCCESS)
}

/// What the containers that are not ready last wrote: their logs are about to go.
async fn last_words(mesh: &Mesh, state: &State) -> Result<()> {
    for pod in state.pods.iter().filter(|p| !p.ready) {
        for container in pod.containers.iter().filter(|c| !c.ready) {
            let target = Target { namespace: pod.namespace.clone(), name: pod.name.clone() };
            let logs =
                Logs { target, container: Some(container.name.clone()), tail: Some(10), follow: false };
            output::progress(format!("--- the last lines of {} in {}:", container.name, pod.name));
            mesh.logs(logs, |text| output::progress(text.trim_end())).await?;
        }
    }
    Ok(())
}

/// Tells what happens, until the mesh is ready for the first time or ends; whether it came to that in order.
async fn follow(mesh: &Mesh, until_ready: bool) -> Result<bool> {
    let events = mesh.events().await?;
    let mut ending = false;
    while let Some(event) = events.next().await? {
        ending |= event == Event::Ending;
        tell(&event);
        if event == Event::Ready && until_ready {
            return Ok(true);
        }
    }
    Ok(ending && !until_ready)
}

fn tell(event: &Event) {
    match event {
        Event::Pod(name, how) => output::progress(format!("  {name}: {how}")),
        Event::Problem(text) => output::problem(text),
        Event::Warning(text) => output::warning(text),
        Event::Mended => output::progress("the manifests are fine again"),
        Event::Ready => output::progress("every pod is ready"),
        Event::Ending => output::progress("ending"),
        Event::Note(text) => output::progress(text),
    }
}

/// Ends a mesh.
///
/// # Errors
/// When there is none of this name.
pub async fn down(args: Down) -> Result<ExitCode> {
    let mesh = Mesh::find(&args.which.mesh)?;
    mesh.down().await?;
    output::progress(format!("mesh {:?} has ended", args.which.mesh));
    Ok(ExitCode::SUCCESS)
}

/// Runs a command in a pod.
///
/// # Errors
/// When it cannot be started.
pub async fn exec(args: ExecArgs) -> Result<ExitCode> {
    let mesh = Mesh::find(&args.place.which.mesh)?;
    let target = Target { namespace: args.place.namespace, name: args.pod };
    let terminal = std::env::var("TERM").ok().filter(|_| std::io::stdin().is_terminal());
    let env = terminal.into_iter().map(|t| ("TERM".to_owned(), t)).collect();
    let exec = Exec { target, container: args.place.container, argv: args.command, env };
    let (input, out, err) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let (tell, signals) = tokio::sync::mpsc::channel(8);
    for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup(), SignalKind::quit()] {
        tokio::spawn(pass_on(signal(kind)?, kind.as_raw_value(), tell.clone()));
    }
    match mesh.exec_with(exec, [input.as_fd(), out.as_fd(), err.as_fd()], signals).await {
        Ok(code) => Ok(ExitCode::from(u8::try_from(code).unwrap_or(255))),
        Err(e) => {
            output::problem(format!("{e:#}"));
            Ok(ExitCode::from(125))
        }
    }
}

async fn pass_on(mut signals: Signal, number: i32, to: tokio::sync::mpsc::Sender<i32>) {
    while signals.recv().await.is_some() {
        if to.send(number).await.is_err() {
            return;
        }
    }
}

/// Prints what a container wrote.
///
/// # Errors
/// When there is no such container.
pub async fn logs(args: LogsArgs) -> Result<ExitCode> {
    let mesh = Mesh::find(&args.place.which.mesh)?;
    let target = Target { namespace: args.place.namespace, name: args.pod };
    let logs = Logs { target, container: args.place.container, tail: args.tail, follow: args.follow };
    mesh.logs(logs, output::raw).await?;
    Ok(ExitCode::SUCCESS)
}

/// Ctrl-C and what else asks a command to end.
struct Interrupts([Signal; 3]);

impl Interrupts {
    fn new() -> Result<Self> {
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        Ok(Self([signal(kinds[0])?, signal(kinds[1])?, signal(kinds[2])?]))
    }

    async fn next(&mut self) {
        let [a, b, c] = &mut self.0;
        tokio::select! {
            _ = a.recv() => {}
            _ = b.recv() => {}
            _ = c.recv() => {}
        }
    }
}
