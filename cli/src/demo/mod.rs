//! `weft demo`: the built-in sample as a mesh on this machine, and a guided tour of what a mesh is for. Everything is real:
//! sidecars, controller, redirection, mTLS, manifests. Each step measures what it shows and says whether it held.

use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Result;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::LocalSet;

use crate::demo::findings::Summary;
use crate::demo::home::Home;
use crate::demo::sample::Sample;
use crate::demo::stage::Stage;
use crate::demo::view::View;
use crate::output::{self, Format};
use crate::up::{Mesh, Options, Publish};

/// What a step found.
pub mod findings;
/// Judgements.
pub mod judge;
/// The built-in sample.
pub mod sample;
/// Jaeger beside it.
pub mod jaeger;
/// The directory of its files.
pub mod home;
/// What can be read in frames.
pub mod frames;
/// A look at the network.
pub mod capture;
/// Live progress.
pub mod view;
/// Requests that run in a pod.
pub mod traffic;
/// What the steps work with.
pub mod stage;
/// Step 1.
pub mod split;
/// Step 2.
pub mod mtls;
/// Step 3.
pub mod policy;
/// Step 4.
pub mod ejection;
/// Step 5.
pub mod crash;
/// Step 6.
pub mod edit;
/// Step 7.
pub mod broken;
/// Step 8.
pub mod outage;
/// The order of the steps.
pub mod tour;

/// How long the mesh may take to be ready.
const READY: Duration = Duration::from_secs(60);

/// `weft demo`
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  weft demo                 the tour, about two minutes
  weft demo --hold          then leave the mesh running, with commands to try, until Ctrl-C
  weft demo --jaeger --hold with a Jaeger that shows every trace
  weft demo -o json         only the result, on standard output")]
pub struct Args {
    /// The mesh's name
    #[arg(short = 'N', long, default_value = "demo")]
    name: String,
    /// Leave the mesh running after the tour, until Ctrl-C
    #[arg(long)]
    hold: bool,
    /// Run the `jaeger` of PATH as a pod of the mesh, and send it every trace
    #[arg(long)]
    jaeger: bool,
    /// Instead of the tour, edit the split so many times under load, and tell how long the edits took to be in force
    #[arg(long, value_name = "EDITS", value_parser = clap::value_parser!(u32).range(1..))]
    edits: Option<u32>,
    /// Write the sample's files into this directory and keep them
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// How the result is printed
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    output: Format,
}

/// Runs the sample and the tour.
///
/// # Errors
/// When the mesh cannot be started.
pub async fn run(args: Args) -> Result<ExitCode> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let tour = LocalSet::new();
    let tour = tour.run_until(held(&args));
    tokio::select! {
        code = tour => code,
        _ = interrupt.recv() => Ok(ExitCode::from(130)),
        _ = terminate.recv() => Ok(ExitCode::from(143)),
    }
}

async fn held(args: &Args) -> Result<ExitCode> {
    // First of all: the drawing of progress is a thread.
    let home = args.dir.as_deref().map_or_else(Home::private, Home::kept)?;
    let view = View::new(args.output == Format::Json);
    let (stage, jaeger) = match start(args, &home, &view).await {
        Ok((mesh, sample, jaeger)) => (Stage { mesh, sample, view }, jaeger),
        Err(e) => {
            view.summary(&Summary { ok: false, steps: Vec::new() });
            return Err(e);
        }
    };
    stage.view.note("the sample runs: client, api-gateway, content-service v1 and v2, two replicas each");
    if let Some(published) = &jaeger {
        stage.view.note(jaeger::whereabouts(published));
    }
    let summary = match args.edits {
        Some(edits) => tour::edits(&stage, edits).await,
        None => tour::walk(&stage).await,
    };
    stage.view.summary(&summary);
    if args.hold {
        hold(args, &home);
        if let Some(published) = &jaeger {
            output::progress(jaeger::whereabouts(published));
        }
        std::future::pending::<()>().await;
    }
    // Where a step broke off, its requests may still run: then the mesh ends with this process.
    if let Some(mesh) = Rc::into_inner(stage.mesh) {
        mesh.down().await?;
    }
    Ok(if summary.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn start(args: &Args, home: &Home, view: &View) -> Result<(Rc<Mesh>, Sample, Option<Publish>)> {
    view.doing("starting the sample");
    let sample = Sample::write(home.dir())?;
    let jaeger = args.jaeger.then(|| beside(&sample)).transpose()?;
    let publish = jaeger.iter().cloned().collect();
    let options = Options { name: args.name.clone(), publish, ..Options::new(sample.dir()) };
    let mesh = Mesh::start(options).await?;
    mesh.wait_ready(READY).await?;
    Ok((Rc::new(mesh), sample, jaeger))
}

/// Writes what asks for Jaeger; where it will be seen.
fn beside(sample: &Sample) -> Result<Publish> {
    sample.save(jaeger::FILE, &jaeger::manifests(&jaeger::find()?)?)?;
    jaeger::publish()
}

fn hold(args: &Args, home: &Home) {
    let name = &args.name;
    output::progress(format!(
        "\nThe mesh runs until Ctrl-C. To try, in another terminal:\n\n  \
         weft get -N {name}\n  \
         weft exec -N {name} deploy/client -- curl -s http://api-gateway/\n  \
         weft exec -N {name} deploy/client -- curl -s -H 'end-user: premium' http://api-gateway/\n  \
         weft exec -N {name} deploy/client -- curl -si -X DELETE http://content-service/\n  \
         weft logs -N {name} deploy/content-service-v1 -c weft-proxy\n  \
         $EDITOR {}\n",
        home.from_outside().join(sample::FILE).display()
    ));
}
