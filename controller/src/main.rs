//! The controller as a program of its own.

use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> anyhow::Result<()> {
    weft_controller::app::run(weft_controller::settings::Settings::parse())
}
