//! `weft top`: who asks whom, how often, how fast and with what success, from the sidecars' own metrics.
//!
//! Two samples make a page: `sample` reads what each sidecar has counted, `rows` is the difference between two by pair of
//! workloads, `page` is that in a table.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use futures_util::{StreamExt, stream};
use tokio::time::Instant;

use crate::output::{self, Format};
use crate::reach::{Place, Reach, Sidecar};

/// Quantiles of histograms.
pub mod quantile;
/// What happened between two samples.
pub mod rows;
/// Rows for people.
mod page;

use rows::{Counted, Row, Sample};

/// Sidecars that are asked at a time.
const AT_A_TIME: usize = 16;
/// The least time between two samples.
const LEAST: Duration = Duration::from_millis(200);

/// `weft top`
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  weft top                              the whole mesh, refreshed every two seconds
  weft top -n shop                      the sidecars of one namespace
  weft top deploy/content-service       what goes in and out of one workload
  weft top --once --interval 10s        one page about ten seconds, for logs and scripts
  weft top -o json | jq .rows           for programs: an object a line

A row is what one workload asked of another, as the caller's sidecar counted it, or where the caller has none, that of the \
one who was asked. ERRORS are 5xx, gRPC errors and requests whose client left; P50 and P99 are interpolated between the \
buckets of Istio's histogram, as Prometheus does. CONNS are open opaque connections, and pooled ones where a cluster of the \
caller leads to that workload alone; `-` where that cannot be told.")]
pub struct Args {
    #[command(flatten)]
    place: Place,
    /// A pod or a workload (deploy/NAME, sts/NAME, job/NAME); everything when not given
    target: Option<String>,
    /// From one sample to the next
    #[arg(long, default_value = "2s", value_name = "DURATION", value_parser = crate::units::duration)]
    interval: Duration,
    /// One page, then end; so it is where standard output is no terminal
    #[arg(long)]
    once: bool,
    /// How to print; JSON is one object a page
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    output: Format,
}

/// Shows pages until told to end.
///
/// # Errors
/// No sidecar can be asked.
pub async fn run(args: Args) -> Result<ExitCode> {
    anyhow::ensure!(args.interval >= LEAST, "--interval: at least {LEAST:?}");
    let reach = args.place.reach().await?;
    let terminal = std::io::stdout().is_terminal();
    let once = args.once || (!terminal && args.output == Format::Text);
    let clear = terminal && !once && args.output == Format::Text;
    tokio::select! {
        over = pages(&reach, &args, once, clear) => over?,
        _ = tokio::signal::ctrl_c() => {}
    }
    Ok(ExitCode::SUCCESS)
}

async fn pages(reach: &Reach, args: &Args, once: bool, clear: bool) -> Result<()> {
    let mut before = sample_of(reach, args).await?;
    loop {
        tokio::time::sleep_until(before.at + args.interval).await;
        let now = sample_of(reach, args).await?;
        show(&rows::rows(&before, &now), &now, now.at - before.at, args.output, clear);
        if once {
            return Ok(());
        }
        before = now;
    }
}

fn show(rows: &[Row], now: &Sample, took: Duration, format: Format, clear: bool) {
    if format == Format::Json {
        return output::json(&page::json(rows, now, took));
    }
    let height = clear.then(|| usize::from(console::Term::stdout().size().0));
    let page = page::text(rows, now, took, height);
    output::raw(&if clear { format!("\u{1b}[H\u{1b}[J{page}") } else { page });
}

async fn sample_of(reach: &Reach, args: &Args) -> Result<Sample> {
    let sidecars = match &args.target {
        Some(target) => reach.sidecars(target).await?,
        None => reach.everywhere(args.place.namespace.as_deref()).await?,
    };
    if sidecars.is_empty() {
        let within =
            args.place.namespace.as_deref().map(|n| format!(" in namespace {n}")).unwrap_or_default();
        bail!("no sidecar runs{within}");
    }
    sample(&sidecars).await
}

/// What these sidecars have counted so far. Those that do not answer are counted.
///
/// # Errors
/// None answers; what the first said.
pub async fn sample(sidecars: &[Sidecar]) -> Result<Sample> {
    let at = Instant::now();
    let asked = stream::iter(sidecars).map(async |sidecar| {
        let text = sidecar.get("/metrics").await?;
        anyhow::Ok((sidecar.name(), Counted::read(&String::from_utf8_lossy(&text))))
    });
    let answers: Vec<_> = asked.buffer_unordered(AT_A_TIME).collect().await;
    let (mut silent, mut first) = (0, None);
    let mut counted = std::collections::BTreeMap::new();
    for answer in answers {
        match answer {
            Ok((pod, own)) => drop(counted.insert(pod, own)),
            Err(error) => {
                silent += 1;
                first.get_or_insert(error);
            }
        }
    }
    match first {
        Some(error) if counted.is_empty() => Err(error),
        _ => Ok(Sample { at, counted, silent }),
    }
}
