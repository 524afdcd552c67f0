//! The `weft` command.

use std::process::ExitCode;

use clap::Parser;
use weft::{args, output, roles};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let Some(code) = roles::run(&words) {
        return code;
    }
    args::run(args::Cli::parse()).unwrap_or_else(|e| {
        output::problem(format!("{e:#}"));
        ExitCode::FAILURE
    })
}
