//! The processes of a local mesh: this binary again, under names that no user types.
//!
//! They are told apart before anything else happens, because most of them must enter namespaces while they have one thread.

use std::process::ExitCode;

use clap::Parser;

use crate::output;
use crate::up::agent::sidecar;
use crate::up::supervisor::controller;
use crate::up::{agent, boot, container, supervisor};

/// The sidecar's settings, from its environment.
#[derive(Parser)]
struct Sidecar {
    #[command(flatten)]
    settings: weft_proxy::settings::Settings,
}

/// Runs the role that the arguments name, if they name one.
pub fn run(args: &[String]) -> Option<ExitCode> {
    let (role, rest) = args.split_first()?;
    let result = match role.as_str() {
        boot::ROLE => boot::run(),
        supervisor::ROLE => supervisor::run(rest),
        agent::BOOT_ROLE => agent::boot(rest),
        agent::ROLE => agent::run(rest),
        sidecar::ROLE => run_sidecar(rest),
        controller::ROLE => run_controller(rest),
        container::ROLE => Err(container::run(rest)),
        _ => return None,
    };
    Some(match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            // The first two have told their starter.
            if ![boot::ROLE, supervisor::ROLE].contains(&role.as_str()) {
                output::progress(format!("weft: {e:#}"));
            }
            ExitCode::from(if role == container::ROLE { container::exit_code(&e) } else { 1 })
        }
    })
}

fn run_sidecar(args: &[String]) -> anyhow::Result<()> {
    weft_proxy::run(Sidecar::try_parse_from(words(args))?.settings)
}

fn run_controller(args: &[String]) -> anyhow::Result<()> {
    weft_controller::app::run(weft_controller::settings::Settings::try_parse_from(words(args))?)
}

/// Arguments as parsers want them: behind the program's name.
fn words(args: &[String]) -> impl Iterator<Item = &str> {
    std::iter::once("weft").chain(args.iter().map(String::as_str))
}
