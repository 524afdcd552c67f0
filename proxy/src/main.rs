//! The sidecar as a program of its own.

use clap::{Parser, Subcommand};
use weft_proxy::settings::Settings;

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
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Run(settings) => weft_proxy::run(*settings),
    }
}
