//! `weft check`: what is wrong with the cluster, the control plane and the injected pods, and what to do about it.
//!
//! Before the chart is installed it says whether it could be. `gather` asks the API server, `judge` decides.

use std::process::ExitCode;

use anyhow::Result;

use crate::check::judge::{Finding, Level};
use crate::output::{self, Format};

/// What the API server says.
pub mod facts;
/// What that means.
pub mod judge;
/// Asking the API server.
pub mod gather;

/// `weft check`
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  weft check                    the cluster of the current context: before the install, and after it
  weft check --namespace shop   only the pods and objects of one namespace

Exit codes: 0 nothing is wrong, 1 something is, 2 something may be.")]
pub struct Args {
    /// Only the pods and objects of this namespace
    #[arg(short, long)]
    namespace: Option<String>,
    /// The namespace of the control plane
    #[arg(long, default_value = "weft-system")]
    root: String,
    /// Which of several control planes
    #[arg(long, default_value = "default")]
    revision: String,
    /// How to print; JSON is one array
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    output: Format,
}

/// Asks, judges and prints.
///
/// # Errors
/// The API server cannot be reached.
pub async fn run(args: Args) -> Result<ExitCode> {
    let facts = gather::gather(&args.root, &args.revision, args.namespace.as_deref()).await?;
    let findings = judge::judge(&facts);
    match args.output {
        Format::Json => output::json(&findings),
        Format::Text => findings.iter().for_each(print),
    }
    Ok(match findings.iter().map(|finding| finding.level).max() {
        Some(Level::Wrong) => ExitCode::from(1),
        Some(Level::Doubtful) => ExitCode::from(2),
        _ => ExitCode::SUCCESS,
    })
}

fn print(finding: &Finding) {
    let mark = match finding.level {
        Level::Right => "ok      ",
        Level::Doubtful => "doubtful",
        Level::Wrong => "wrong   ",
    };
    output::line(format!("{mark}  {}", finding.what));
    if let Some(mend) = &finding.mend {
        output::line(format!("          -> {mend}"));
    }
}
