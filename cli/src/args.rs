//! The command line: one variant a command.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::{
    authz, check, commands, crds, demo, echo, explain, get, inject, load, mesh_test, sidecar, tap, top,
    validate,
};

/// A service mesh for Kubernetes, on this machine or in a cluster
#[derive(Debug, Parser)]
#[command(name = "weft", version, about, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show a working mesh on this machine: a sample, and a tour of what a mesh does
    Demo(demo::Args),
    /// Run a directory of Kubernetes manifests as a mesh on this machine
    Up(commands::Up),
    /// End a local mesh
    Down(commands::Down),
    /// Run a command in a pod, as its application would
    Exec(commands::ExecArgs),
    /// Print what a container wrote
    Logs(commands::LogsArgs),
    /// Show pods, sidecars and services of a local mesh
    Get(get::Get),
    /// Say what is wrong with manifests, offline
    Validate(validate::Args),
    /// Say step by step what becomes of a request, and why
    Explain(Box<explain::Args>),
    /// Say which policies apply to a pod, and who may do what
    Authz(Box<authz::Args>),
    /// Test routes and policies, offline
    Test(mesh_test::Args),
    /// Print the definitions of the mesh's kinds, for kubectl apply
    Crds(crds::Args),
    /// Put sidecars into the pods of manifests, offline
    Inject(inject::Args),
    /// Say what is wrong with a cluster, its control plane and its pods, and the mend
    Check(check::Args),
    /// Show what a sidecar holds, and how that differs from what the controller means it to hold
    Proxy(Box<sidecar::Args>),
    /// Show who asks whom: requests, errors, p50 and p99, connections by pair of workloads, refreshed
    Top(top::Args),
    /// Show requests as they pass a workload's sidecars, with reasons
    Tap(Box<tap::Args>),
    /// Run the echo application of samples and tests
    Echo(echo::Args),
    /// Ask a URL again and again, and count the answers
    Load(Box<load::Args>),
    /// Read what passes on a network
    #[command(hide = true)]
    Capture(demo::capture::Args),
}

/// Runs a command.
///
/// # Errors
/// What went wrong, and what to do about it.
pub fn run(cli: Cli) -> Result<ExitCode> {
    match cli.command {
        Command::Demo(args) => wait(demo::run(args)),
        Command::Up(args) => wait(commands::up(args)),
        Command::Down(args) => wait(commands::down(args)),
        Command::Exec(args) => wait(commands::exec(args)),
        Command::Logs(args) => wait(commands::logs(args)),
        Command::Get(args) => wait(get::get(args)),
        Command::Validate(args) => Ok(validate::run(&args)),
        Command::Explain(args) => wait(async { Ok(explain::run(&args).await) }),
        Command::Authz(args) => wait(async { Ok(authz::run(&args).await) }),
        Command::Test(args) => Ok(mesh_test::run(&args)),
        Command::Crds(args) => crds::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Inject(args) => inject::run(&args),
        Command::Check(args) => wait(check::run(args)),
        Command::Proxy(args) => wait(sidecar::run(*args)),
        Command::Top(args) => wait(top::run(args)),
        Command::Tap(args) => wait(tap::run(*args)),
        Command::Echo(args) => echo::run(args).map(|()| ExitCode::SUCCESS),
        Command::Load(args) => load::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Capture(args) => wait(async { demo::capture::run(args).await.map(|()| ExitCode::SUCCESS) }),
    }
}

/// For commands that only wait for others: one thread is enough.
fn wait(command: impl Future<Output = Result<ExitCode>>) -> Result<ExitCode> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(command)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_contradicts_itself_nowhere() {
        Cli::command().debug_assert();
    }

    /// The width of a terminal is not known here: a line that was broken by hand would be broken again.
    #[test]
    fn paragraphs_of_help_are_one_line_each() {
        let mut commands = vec![Cli::command()];
        while let Some(command) = commands.pop() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let lines: Vec<_> = help.lines().collect();
            for pair in lines.windows(2) {
                let prose = |line: &str| !line.is_empty() && !line.starts_with(' ');
                let broken = prose(pair[0]) && prose(pair[1]) && !pair[0].ends_with(['.', ':']);
                assert!(!broken, "{}: {pair:?}", command.get_name());
            }
            commands.extend(command.get_subcommands().cloned());
        }
    }
}
