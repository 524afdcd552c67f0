//! What the control plane costs: a controller against a real API server, with many services and many sidecars.
//!
//! Makes the kinds of our groups, services, pods with labels and accounts, their EndpointSlices, routes, rules and policies; starts a controller;
//! connects sidecars (their end of the configuration stream, over TLS, without traffic) that each ask for ten services; then
//! changes a weight, and an endpoint, and looks at who hears of it, when, and what that costs.
//!
//! The slices are the benchmark's own: the control plane is best one without a controller manager.

/// What is made in the API server.
mod objects;
/// The controller's process.
mod process;
/// A sidecar's way to the controller.
mod wire;
/// A sidecar's end.
mod sidecar;

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Parser;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::objects::{Objects, Size};
use crate::process::Controller;
use crate::sidecar::{Heard, Sidecar};
use crate::wire::Trust;

/// Services that each sidecar asks for.
const ASKED: usize = 10;
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// Measures the control plane against the API server of KUBECONFIG.
#[derive(Parser)]
struct Arguments {
    /// Services, of four pods each
    #[arg(long, default_value_t = 1000)]
    services: usize,
    /// Sidecars that connect
    #[arg(long, default_value_t = 200)]
    sidecars: usize,
    /// How often each change is made
    #[arg(long, default_value_t = 20)]
    rounds: usize,
    /// Pods that come and go, a hundred a second, while sidecars listen
    #[arg(long, default_value_t = 0)]
    churn: usize,
    /// The controller's program
    #[arg(long, default_value = "target/release/weft-controller")]
    controller: PathBuf,
    /// The port for sidecars; the next one is for people
    #[arg(long, default_value_t = 17180)]
    port: u16,
    /// `json` for one object instead of a table
    #[arg(short, long)]
    output: Option<String>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let figures = measure(&arguments).await?;
    let mut out = std::io::stdout();
    if arguments.output.as_deref() == Some("json") {
        writeln!(out, "{}", serde_json::to_string_pretty(&figures)?)?;
        return Ok(());
    }
    for (name, value) in figures.as_object().into_iter().flatten() {
        writeln!(out, "{name:60} {value:>12}")?;
    }
    Ok(())
}

async fn measure(arguments: &Arguments) -> Result<Value> {
    let client = kube::Client::try_default().await.context("the API server of KUBECONFIG")?;
    let size = Size { services: arguments.services, sidecars: arguments.sidecars };
    note("making objects");
    let objects = Objects::make(client, size).await?;
    let tokens = objects.tokens().await?;
    note("starting the controller");
    let start = Instant::now();
    let controller = Controller::start(&arguments.controller, arguments.port)?;
    controller.ready(PATIENCE).await?;
    let mut figures = json!({
        "services": size.services,
        "endpoints": size.services * objects::PODS,
        "sidecars": size.sidecars,
        "start until ready, s": seconds(start.elapsed()),
        "controller CPU at start, s": controller.cpu()?,
        "controller RSS at start, MiB": controller.rss()?,
    });
    note("connecting sidecars");
    let (heard, mut hearing) = mpsc::unbounded_channel();
    let trust = Trust { address: controller.address(), root: objects.root().await?.into() };
    let cpu = controller.cpu()?;
    let start = Instant::now();
    let sidecars: Vec<_> = tokens
        .into_iter()
        .enumerate()
        .map(|(k, token)| {
            let addresses = asked(k, size).into_iter().map(|service| objects.address(service)).collect();
            Sidecar::begin(k, trust.clone(), token, addresses, heard.clone())
        })
        .collect();
    let mut last = start;
    for _ in 0..size.sidecars {
        last = last.max(next(&mut hearing).await?.at);
    }
    figures["all configured after, s"] = json!(seconds(last - start));
    figures["bytes per sidecar at connect"] = json!(received(&sidecars) / size.sidecars as u64);
    figures["controller CPU to configure all, s"] = json!(controller.cpu()? - cpu);
    tokio::time::sleep(Duration::from_secs(2)).await;
    figures["controller RSS, MiB"] = json!(controller.rss()?);
    figures["controller peak RSS, MiB"] = json!(controller.peak()?);

    note("changing a weight");
    let changes = Changes { controller: &controller, sidecars: &sidecars, rounds: arguments.rounds };
    let everybody = size.sidecars;
    let weight = changes.run("one weight", everybody, &mut hearing, |i| objects.set_weight(i)).await?;
    merge(&mut figures, weight);
    note("changing an endpoint");
    let askers = (0..size.sidecars).filter(|k| asked(*k, size).contains(&objects::QUIET)).count();
    let endpoint = changes.run("one endpoint", askers, &mut hearing, |i| objects.set_ready(i)).await?;
    merge(&mut figures, endpoint);
    if arguments.churn > 0 {
        note("churning pods");
        merge(&mut figures, churn(arguments, &controller, &objects, &mut hearing).await?);
    }
    Ok(figures)
}

/// The services that a sidecar asks for: one that all ask for, and others in turn.
fn asked(sidecar: usize, size: Size) -> Vec<usize> {
    let others = (1..ASKED).map(|i| 1 + (sidecar * (ASKED - 1) + i - 1) % (size.services - 1));
    std::iter::once(0).chain(others).collect()
}

/// A kind of change, made again and again.
struct Changes<'a> {
    controller: &'a Controller,
    sidecars: &'a [Arc<Sidecar>],
    rounds: usize,
}

impl Changes<'_> {
    async fn run<F: Future<Output = Result<()>>>(
        &self,
        name: &str,
        hearers: usize,
        hearing: &mut mpsc::UnboundedReceiver<Heard>,
        change: impl Fn(usize) -> F,
    ) -> Result<Value> {
        let (mut times, mut unconcerned) = (Vec::new(), 0);
        let (cpu, bytes) = (self.controller.cpu()?, received(self.sidecars));
        for i in 0..self.rounds {
            change(i).await?;
            let answered = Instant::now();
            let mut last = answered;
            for _ in 0..hearers {
                last = last.max(next(hearing).await?.at);
            }
            times.push(last - answered);
            tokio::time::sleep(Duration::from_millis(200)).await;
            while hearing.try_recv().is_ok() {
                unconcerned += 1;
            }
        }
        times.sort();
        let (rounds, sidecars) = (self.rounds as u64, hearers.max(1) as u64);
        let mut figures = serde_json::Map::new();
        let mut put = |what: &str, value: Value| drop(figures.insert(format!("{name}: {what}"), value));
        put("p50 to the last of those who asked, ms", json!(millis(times[times.len() / 2])));
        put(
            "p99 to the last of those who asked, ms",
            json!(millis(times[(times.len() * 99).div_ceil(100) - 1])),
        );
        put("who asked", json!(hearers));
        put("heard by others", json!(unconcerned));
        put("controller CPU, ms", json!((self.controller.cpu()? - cpu) * 1000.0 / self.rounds as f64));
        put("bytes per sidecar", json!((received(self.sidecars) - bytes) / rounds / sidecars));
        Ok(Value::Object(figures))
    }
}

async fn churn(
    arguments: &Arguments,
    controller: &Controller,
    objects: &Objects,
    hearing: &mut mpsc::UnboundedReceiver<Heard>,
) -> Result<Value> {
    let cpu = controller.cpu()?;
    let start = Instant::now();
    objects.churn(arguments.churn).await?;
    let (made, mut last, mut pushes) = (Instant::now(), start, 0u64);
    while let Ok(Some(heard)) = tokio::time::timeout(Duration::from_secs(6), hearing.recv()).await {
        last = last.max(heard.at);
        pushes += 1;
    }
    Ok(json!({
        "churn: pods": arguments.churn,
        "churn: s": seconds(made - start),
        "churn: last heard after the last change, ms": millis(last.saturating_duration_since(made)),
        "churn: responses": pushes,
        "churn: controller CPU, s": controller.cpu()? - cpu,
        "churn: controller RSS, MiB": controller.rss()?,
    }))
}

async fn next(hearing: &mut mpsc::UnboundedReceiver<Heard>) -> Result<Heard> {
    let heard = tokio::time::timeout(PATIENCE, hearing.recv()).await;
    heard.context("nobody hears anything any more")?.context("all sidecars are gone")
}

fn received(sidecars: &[Arc<Sidecar>]) -> u64 {
    sidecars.iter().map(|sidecar| sidecar.received()).sum()
}

fn merge(into: &mut Value, from: Value) {
    if let (Value::Object(into), Value::Object(from)) = (into, from) {
        into.extend(from);
    }
}

fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1000.0).round() / 1000.0
}

fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 10_000.0).round() / 10.0
}

fn note(what: &str) {
    let _ = writeln!(std::io::stderr(), "{what}");
}
