//! `weft get`: pods, sidecars and services of a local mesh, for people and for programs.

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::commands::Which;
use crate::output::{self, Table};
use crate::up::api::PodState;
use crate::up::plan::SIDECAR;
use crate::up::{Mesh, State};

/// `weft get`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  weft get                  everything
  weft get pods -o json
  weft get sidecars         what each sidecar was told, and whether it took it")]
pub struct Get {
    #[command(flatten)]
    which: Which,
    /// What to show; everything when not given
    #[arg(value_enum)]
    what: Option<What>,
    /// How
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    output: Format,
}

/// What `weft get` shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum What {
    /// Pods
    #[value(alias = "pod", alias = "po")]
    Pods,
    /// Sidecars
    #[value(alias = "sidecar")]
    Sidecars,
    /// Services
    #[value(alias = "service", alias = "svc")]
    Services,
}

/// How `weft get` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Table,
    /// For programs
    Json,
}

/// Shows how a mesh stands.
///
/// # Errors
/// When there is none of this name.
pub async fn get(args: Get) -> Result<ExitCode> {
    let mesh = Mesh::find(&args.which.mesh)?;
    let state = mesh.state().await?;
    let wants = |what| args.what.is_none() || args.what == Some(what);
    let sidecars = if wants(What::Sidecars) { sidecars(&mesh).await } else { Value::Null };
    if args.output == Format::Json {
        output::pretty(&as_json(&state, &sidecars, args.what));
        return Ok(ExitCode::SUCCESS);
    }
    let mut parts = Vec::new();
    if wants(What::Pods) {
        parts.push(pod_table(&state).text());
    }
    if wants(What::Sidecars) {
        parts.push(sidecar_table(&state, &sidecars).text());
    }
    if wants(What::Services) {
        parts.push(service_table(&state).text());
    }
    output::raw(&parts.join("\n"));
    refusals(&sidecars).iter().for_each(output::problem);
    state.errors.iter().for_each(output::problem);
    Ok(ExitCode::SUCCESS)
}

/// What the controller says of its sidecars and of the manifests, or why it says nothing.
async fn sidecars(mesh: &Mesh) -> Value {
    let page = async |path: &str| -> Result<Value> {
        let (status, body) = mesh.controller_get(path).await?;
        anyhow::ensure!(status == 200, "status {status}");
        serde_json::from_str(&body).context("not JSON")
    };
    match (page("/sync").await, page("/errors").await) {
        (Ok(sync), errors) => json!({ "sync": sync, "errors": errors.unwrap_or(Value::Null) }),
        (Err(e), _) => json!({ "error": format!("{e:#}") }),
    }
}

fn as_json(state: &State, sidecars: &Value, what: Option<What>) -> Value {
    match what {
        Some(What::Pods) => json!(state.pods),
        Some(What::Services) => json!(state.services),
        Some(What::Sidecars) => sidecars.clone(),
        None => {
            let mut all = json!(state);
            all["sidecars"] = sidecars.clone();
            all
        }
    }
}

fn pod_table(state: &State) -> Table {
    let mut table = Table::new(&["NAMESPACE", "NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP"]);
    for pod in &state.pods {
        let ready = pod.containers.iter().filter(|c| c.ready).count();
        let restarts: u32 = pod.containers.iter().map(|c| c.restarts).sum();
        table.row(vec![
            pod.namespace.clone(),
            pod.name.clone(),
            format!("{ready}/{}", pod.containers.len()),
            status(pod),
            restarts.to_string(),
            age(pod.since),
            pod.ips.first().map(ToString::to_string).unwrap_or_default(),
        ]);
    }
    table
}

fn status(pod: &PodState) -> String {
    if pod.ready || pod.reason.is_empty() {
        pod.phase.clone()
    } else {
        format!("{} ({})", pod.phase, pod.reason)
    }
}

fn age(since: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    match now.saturating_sub(since) {
        s @ ..120 => format!("{s}s"),
        s @ ..7200 => format!("{}m", s / 60),
        s => format!("{}h", s / 3600),
    }
}

fn service_table(state: &State) -> Table {
    let mut table = Table::new(&["NAMESPACE", "SERVICE", "ADDRESS", "PORTS", "READY PODS"]);
    for service in &state.services {
        let list = |items: Vec<String>| if items.is_empty() { "None".to_owned() } else { items.join(",") };
        table.row(vec![
            service.namespace.clone(),
            service.name.clone(),
            list(service.addresses.iter().map(ToString::to_string).collect()),
            list(service.ports.iter().map(ToString::to_string).collect()),
            service.endpoints.to_string(),
        ]);
    }
    table
}

fn sidecar_table(state: &State, told: &Value) -> Table {
    let mut table = Table::new(&["NAMESPACE", "SIDECAR OF", "READY", "RESTARTS", "TOLD", "TAKEN"]);
    let meshed =
        state.pods.iter().filter_map(|p| Some((p, p.containers.iter().find(|c| c.name == SIDECAR)?)));
    for (pod, sidecar) in meshed {
        let ready = if sidecar.ready { "yes" } else { "no" };
        let (what, taken) = configuration(pod, told);
        table.row(vec![
            pod.namespace.clone(),
            pod.name.clone(),
            ready.into(),
            sidecar.restarts.to_string(),
            what,
            taken,
        ]);
    }
    table
}

/// What the controller told one sidecar, by kinds, and what became of it.
fn configuration(pod: &PodState, told: &Value) -> (String, String) {
    if let Some(error) = told.get("error").and_then(Value::as_str) {
        return ("?".into(), error.to_owned());
    }
    let own = |entry: &&Value| entry["pod"] == json!(pod.name) && entry["namespace"] == json!(pod.namespace);
    let Some(entry) = told["sync"]["sidecars"].as_array().into_iter().flatten().find(own) else {
        return ("-".into(), "not connected".into());
    };
    let resources = || entry["resources"].as_array().into_iter().flatten();
    let what = counted(resources().map(|r| r["kind"].as_str().unwrap_or("?")));
    let missing =
        counted(resources().map(|r| r["status"].as_str().unwrap_or("?")).filter(|s| *s != "programmed"));
    (what, if missing.is_empty() { "all".into() } else { missing })
}

/// `address 2, service 1`
fn counted<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let mut counts = std::collections::BTreeMap::new();
    words.for_each(|word| *counts.entry(word).or_insert(0) += 1);
    counts.iter().map(|(word, n)| format!("{word} {n}")).collect::<Vec<_>>().join(", ")
}

/// One line for each resource that a sidecar refused.
fn refusals(told: &Value) -> Vec<String> {
    let text = |value: &Value, key: &str| value[key].as_str().unwrap_or("").to_owned();
    let sidecars = told["sync"]["sidecars"].as_array().into_iter().flatten();
    let each = sidecars.flat_map(|sidecar| {
        let refused =
            sidecar["resources"].as_array().into_iter().flatten().filter(|r| r["status"] == "refused");
        refused.map(move |r| {
            let [kind, name, path, reason] = ["kind", "name", "path", "reason"].map(|key| text(r, key));
            format!(
                "{}/{} refused {kind} {name}: {path}: {reason}",
                text(sidecar, "namespace"),
                text(sidecar, "pod")
            )
        })
    });
    each.collect()
}
