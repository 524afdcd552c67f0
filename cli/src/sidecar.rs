//! `weft proxy`: what one sidecar holds, how that differs from what the controller means it to hold, and its log's level.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::output::{self, Format};
use crate::query::encode;
use crate::reach::{Admin, Place, Reach, Sidecar};

/// What is held against what is meant.
pub mod difference;
/// The configuration in tables.
mod tables;

use difference::Difference;

/// Names in one question to the controller.
const BATCH: usize = 50;

/// `weft proxy`
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  weft proxy routes deploy/client              the rules by which its requests find their way, in order, with their objects
  weft proxy endpoints web-0                   who may be picked, and who is set aside for how long
  weft proxy clusters deploy/client -o json    connections, requests, retries: for programs
  weft proxy diff deploy/client                what it holds, and the controller means otherwise; exit code 1 if there is any
  weft proxy log deploy/client debug           more in its log, until it is changed again or starts anew
  weft proxy log @controller info,weft_controller::push=debug

A pod is named as for kubectl: NAME, deploy/NAME, sts/NAME, job/NAME. With -N a mesh of `weft up`, else the cluster of \
KUBECONFIG, where it takes `get` of pods and `get` and `create` of pods/portforward.")]
pub struct Args {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    what: What,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum What {
    /// Services, their ports and the rules of each, in the order in which they are tried
    Routes(Of),
    /// Clusters: where requests go, with what is under way
    Clusters(Of),
    /// Endpoints of clusters as they stand
    Endpoints(Of),
    /// What comes in and goes out: ports, mTLS, policies, explicit listeners
    Listeners(Of),
    /// The certificate
    Certs(Of),
    /// What it holds against what the controller means it to hold; exit code 1 if they differ
    Diff(Of),
    /// The level of its log, or another one
    Log(Log),
}

/// Whose.
#[derive(Clone, Debug, clap::Args)]
struct Of {
    /// A pod, or a workload (deploy/NAME, sts/NAME, job/NAME) that stands for one of its pods
    pod: String,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    output: Format,
}

#[derive(Clone, Debug, clap::Args)]
struct Log {
    /// A pod, a workload: all of its pods, or @controller
    pod: String,
    /// error, warn, info, debug, trace, or a filter such as info,weft_proxy::config=debug
    level: Option<String>,
}

/// Shows what a sidecar holds.
///
/// # Errors
/// It cannot be reached; says why.
pub async fn run(args: Args) -> Result<ExitCode> {
    let reach = args.place.reach().await?;
    let (of, path) = match &args.what {
        What::Log(log) => return level(&reach, log).await,
        What::Diff(of) => return diff(&reach, of).await,
        What::Routes(of) | What::Listeners(of) => (of, "/config"),
        What::Clusters(of) | What::Endpoints(of) => (of, "/clusters"),
        What::Certs(of) => (of, "/certs"),
    };
    let sidecar = reach.sidecar(&of.pod).await?;
    let mut page = json_of(&sidecar, path).await?;
    let part = match &args.what {
        What::Routes(_) => page["services"].take(),
        What::Listeners(_) => page["workload"].take(),
        What::Clusters(_) | What::Endpoints(_) => page["clusters"].take(),
        _ => page["certificate"].take(),
    };
    let difference = compare(&reach, &sidecar).await;
    if of.output == Format::Json {
        output::pretty(&enveloped(&sidecar, part, &difference));
        return Ok(ExitCode::SUCCESS);
    }
    output::raw(&match &args.what {
        What::Routes(_) => tables::routes(&part),
        What::Clusters(_) => tables::clusters(&part),
        What::Endpoints(_) => tables::endpoints(&part),
        What::Listeners(_) => tables::listeners(&part),
        _ => tables::certificate(&part),
    });
    output::progress(format!("{}: {}", sidecar.name(), in_words(&difference)));
    Ok(ExitCode::SUCCESS)
}

fn enveloped(sidecar: &Sidecar, part: Value, difference: &Result<Difference>) -> Value {
    json!({
        "namespace": sidecar.namespace,
        "pod": sidecar.pod,
        "held": part,
        "difference": match difference {
            Ok(difference) => json!(difference),
            Err(error) => json!({ "unknown": format!("{error:#}") }),
        },
    })
}

fn in_words(difference: &Result<Difference>) -> String {
    match difference {
        Ok(difference) => difference.to_string(),
        Err(error) => format!("whether that is what the controller means is not known: {error:#}"),
    }
}

async fn diff(reach: &Reach, of: &Of) -> Result<ExitCode> {
    let sidecar = reach.sidecar(&of.pod).await?;
    let difference = compare(reach, &sidecar).await?;
    match of.output {
        Format::Json => output::pretty(&enveloped(&sidecar, Value::Null, &Ok(difference.clone()))),
        Format::Text => {
            output::raw(&tables::differences(&difference));
            output::line(format!("{}: {difference}", sidecar.name()));
        }
    }
    Ok(if difference.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What a sidecar says that it holds, against what a controller would tell it now.
async fn compare(reach: &Reach, sidecar: &Sidecar) -> Result<Difference> {
    let held = json_of(sidecar, "/sync").await?;
    let controllers = reach.controllers().await?;
    let controller = controllers.first().context("there is no controller")?;
    let names: Vec<&str> =
        held["resources"].as_array().into_iter().flatten().filter_map(|held| held["name"].as_str()).collect();
    let mut meant = BTreeMap::new();
    let mut known = true;
    for names in names.chunks(BATCH) {
        let pod = encode(&sidecar.name());
        let names: String = names.iter().map(|name| format!("&name={}", encode(name))).collect();
        let page = controller.get(&format!("/meant?pod={pod}{names}")).await?;
        let page: Value = serde_json::from_slice(&page).context("what the controller says is no JSON")?;
        known &= page["known"] == json!(true);
        for resource in page["resources"].as_array().into_iter().flatten() {
            let name = resource["name"].as_str().unwrap_or_default().to_owned();
            meant.insert(name, resource["version"].as_str().map(str::to_owned));
        }
    }
    Ok(Difference::of(&held, &meant, known))
}

async fn json_of(sidecar: &Sidecar, path: &str) -> Result<Value> {
    let body = sidecar.get(path).await?;
    serde_json::from_slice(&body).with_context(|| format!("what the sidecar says at {path} is no JSON"))
}

/// Shows or changes the level of logs.
async fn level(reach: &Reach, log: &Log) -> Result<ExitCode> {
    let path = match &log.level {
        None => "/logging".to_owned(),
        Some(level) => format!("/logging?level={}", level.replace([' ', '&', '#', '?'], "")),
    };
    let asked: Vec<Admin> = match log.pod == crate::up::api::CONTROLLER {
        true => reach.controllers().await?,
        false => reach.sidecars(&log.pod).await?.into_iter().map(|sidecar| sidecar.admin).collect(),
    };
    let mut said = Vec::new();
    for admin in asked {
        let level = if log.level.is_some() { admin.post(&path).await } else { admin.get(&path).await }?;
        said.push(format!("{}: {}", admin.name, String::from_utf8_lossy(&level).trim()));
    }
    said.iter().for_each(output::line);
    Ok(ExitCode::SUCCESS)
}
