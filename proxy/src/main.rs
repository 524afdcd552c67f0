//! The sidecar as a program of its own.

use clap::{Parser, Subcommand};
use weft_proxy::redirect::arguments::RedirectSettings;
use weft_proxy::settings::Settings;
use weft_proxy::{redirect, telemetry};

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
    runtime.block_on(redirect::run(settings))?;
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
