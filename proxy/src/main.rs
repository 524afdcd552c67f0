//! The sidecar as a program of its own.

use std::time::Duration;

use anyhow::bail;
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use weft_proxy::redirect::arguments::RedirectSettings;
use weft_proxy::settings::Settings;
use weft_proxy::{redirect, start, telemetry};

/// Small and fast for what a proxy does: many short-lived pieces on a few threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The sidecar of the Weft mesh.
#[derive(Parser)]
#[command(name = "weft-proxy", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the sidecar.
    Run(Box<Settings>),
    /// Brings the pod's traffic to its sidecar.
    Redirect(Box<RedirectSettings>),
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Run(settings) => weft_proxy::run(*settings),
        Command::Redirect(settings) => set_up(&settings),
    }
}

/// Redirects and says so: an init container's log is where people look.
fn set_up(settings: &RedirectSettings) -> anyhow::Result<()> {
    telemetry::log::start("info")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(until_told_to_end(redirected(settings)))?;
    match settings.remove {
        true => tracing::info!("the pod's traffic is not redirected any more"),
        false => tracing::info!(
            outbound = settings.outbound_port,
            inbound = settings.inbound_port,
            "the pod's traffic goes by way of its sidecar"
        ),
    }
    Ok(())
}

async fn redirected(settings: &RedirectSettings) -> anyhow::Result<()> {
    if let Some(port) = settings.once_ready.filter(|_| !settings.remove) {
        start::ready(port, Duration::from_secs(settings.within.into())).await?;
    }
    Ok(redirect::run(settings).await?)
}

/// The first process of a container has to ask for signals: one that waits would hold up the end of its pod.
async fn until_told_to_end(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let mut told = signal(SignalKind::terminate())?;
    tokio::select! {
        done = work => done,
        _ = told.recv() => bail!("told to end before the pod's traffic was redirected"),
    }
}
