//! The `weft` command.

use clap::{Parser, Subcommand};

/// A service mesh for Kubernetes, on this machine or in a cluster
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the echo application of samples and tests
    Echo(weft::echo::Args),
    /// Ask a URL again and again, and count the answers
    Load(Box<weft::load::Args>),
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Echo(args) => weft::echo::run(args),
        Command::Load(args) => weft::load::run(&args),
    }
}
