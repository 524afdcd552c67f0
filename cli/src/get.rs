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
  weft get pods -n shop     of one namespace
  weft get sidecars         what each sidecar was told, and whether it took it")]
pub struct Get {
    #[command(flatten)]
    which: Which,
    /// Of one namespace only
    #[arg(short, long)]
    namespace: Option<String>,
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
    let state = within(mesh.state().await?, args.namespace.as_deref());
    let wants = |what| args.what.is_none() || args.what == Some(what);
    let mut sidecars = if wants(What::Sidecars) { sidecars(&mesh).await } else { Value::Null };
    if let (Some(namespace), Some(all)) =
        (&args.namespace, sidecars.pointer_mut("/sync/sidecars").and_then(Value::as_array_mut))
    {
        all.retain(|sidecar| sidecar["namespace"] == json!(namespace));
    }
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
    state.errors.iter().for_each(output::problem);
    Ok(ExitCode::SUCCESS)
}

/// What is in a namespace; all where none is named.
fn within(mut state: State, namespace: Option<&str>) -> State {
    if let Some(namespace) = namespace {
        state.pods.retain(|pod| pod.namespace == namespace);
        state.services.retain(|service| service.namespace == namespace);
    }
    state
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
    let mut table = Table::new(&["NAMESPACE", "SIDECAR OF", "READY", "RESTARTS", "CONFIGURATION"]);
    let meshed =
        state.pods.iter().filter_map(|p| Some((p, p.containers.iter().find(|c| c.name == SIDECAR)?)));
    for (pod, sidecar) in meshed {
        let ready = if sidecar.ready { "yes" } else { "no" };
        table.row(vec![
            pod.namespace.clone(),
            pod.name.clone(),
            ready.into(),
            sidecar.restarts.to_string(),
            if sidecar.running { configuration(pod, told) } else { "does not run".into() },
        ]);
    }
    table
}

/// What became of what the controller told one sidecar.
fn configuration(pod: &PodState, told: &Value) -> String {
    if let Some(error) = told.get("error").and_then(Value::as_str) {
        return format!("unknown: {error}");
    }
    let own = |entry: &&Value| entry["pod"] == json!(pod.name) && entry["namespace"] == json!(pod.namespace);
    match told["sync"]["sidecars"].as_array().into_iter().flatten().find(own) {
        None => "not connected: serves by what it holds".into(),
        Some(sidecar) => in_words(sidecar),
    }
}

/// What is refused comes before what is still on its way, and both before what is in force.
fn in_words(sidecar: &Value) -> String {
    let of = |wanted: &[&str]| -> Vec<&Value> {
        let all = sidecar["resources"].as_array().into_iter().flatten();
        all.filter(|r| r["status"].as_str().is_some_and(|s| wanted.contains(&s))).collect()
    };
    let (refused, coming) = (of(&["refused"]), of(&["unanswered", "sent"]));
    if !refused.is_empty() {
        return format!("refused: {}", listed(&refused, refusal));
    }
    if sidecar["waiting"] == json!(true) {
        return "waiting for this controller to know what the one before it knew".into();
    }
    if !coming.is_empty() {
        return format!("waiting for {}", listed(&coming, named));
    }
    format!("in force: {}", counted(of(&["programmed"]).iter().map(|r| word(r, "kind"))))
}

fn refusal(resource: &Value) -> String {
    format!("{}: {}: {}", named(resource), word(resource, "path"), word(resource, "reason"))
}

/// `service default/web.default.svc.cluster.local`
fn named(resource: &Value) -> String {
    match word(resource, "kind") {
        "workload" => "workload".into(),
        kind => format!("{kind} {}", word(resource, "name")),
    }
}

fn word<'a>(resource: &'a Value, key: &str) -> &'a str {
    resource[key].as_str().unwrap_or("?")
}

/// The first few.
fn listed(resources: &[&Value], say: fn(&Value) -> String) -> String {
    const FEW: usize = 3;
    let first = resources.iter().take(FEW).map(|r| say(r)).collect::<Vec<_>>().join("; ");
    match resources.len().saturating_sub(FEW) {
        0 => first,
        more => format!("{first}; and {more} more"),
    }
}

/// `2 addresses, 1 service`
fn counted<'a>(kinds: impl Iterator<Item = &'a str>) -> String {
    let mut counts = std::collections::BTreeMap::new();
    kinds.for_each(|kind| *counts.entry(kind).or_insert(0_usize) += 1);
    let plural = |kind: &str, n: usize| match kind {
        "endpoints" => format!("endpoints of {n}"),
        "address" if n > 1 => format!("{n} addresses"),
        _ if n > 1 => format!("{n} {kind}s"),
        _ => format!("{n} {kind}"),
    };
    match counts.is_empty() {
        true => "nothing yet".into(),
        false => counts.into_iter().map(|(kind, n)| plural(kind, n)).collect::<Vec<_>>().join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sidecar(resources: Value) -> Value {
        json!({"pod": "web-0", "namespace": "default", "waiting": false, "resources": resources})
    }

    fn resource(kind: &str, name: &str, status: &str) -> Value {
        json!({"kind": kind, "name": name, "status": status})
    }

    #[test]
    fn what_is_in_force_is_counted() {
        let all = sidecar(json!([
            resource("workload", "self", "programmed"),
            resource("service", "default/web", "programmed"),
            resource("service", "default/api", "programmed"),
            resource("address", "10.96.0.1:80", "programmed"),
        ]));
        assert_eq!(in_words(&all), "in force: 1 address, 2 services, 1 workload");
        assert_eq!(in_words(&sidecar(json!([]))), "in force: nothing yet");
    }

    #[test]
    fn a_namespace_has_its_own_only() {
        let pod = |namespace: &str| PodState { namespace: namespace.into(), ..PodState::default() };
        let state = || State { pods: vec![pod("shop"), pod("other")], ..State::default() };
        assert_eq!(
            (within(state(), Some("shop")).pods, within(state(), None).pods.len()),
            (vec![pod("shop")], 2)
        );
    }

    #[test]
    fn what_is_refused_says_where_and_why() {
        let refused = json!({"kind": "service", "name": "default/web", "status": "refused",
            "path": "routes[0].timeout", "reason": "is negative"});
        let all = sidecar(json!([resource("workload", "self", "sent"), refused]));
        assert_eq!(in_words(&all), "refused: service default/web: routes[0].timeout: is negative");
    }

    #[test]
    fn what_is_on_its_way_is_named_and_long_lists_are_cut() {
        let names = ["a", "b", "c", "d", "e"].map(|n| resource("service", &format!("default/{n}"), "sent"));
        let expected = "waiting for service default/a; service default/b; service default/c; and 2 more";
        assert_eq!(in_words(&sidecar(json!(names))), expected);
        let pod = PodState { name: "web-0".into(), namespace: "default".into(), ..PodState::default() };
        assert_eq!(
            configuration(&pod, &json!({"sync": {"sidecars": []}})),
            "not connected: serves by what it holds"
        );
    }
}
