//! `weft crds`: the definitions of the mesh's kinds, for `kubectl apply`.

use anyhow::Result;
use clap::ValueEnum;
use serde_json::json;
use weft_crds::crd::{crds, yaml};
use weft_crds::kind::Origin;

use crate::output;

/// `weft crds`
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  weft crds | kubectl apply --server-side -f -             Weft's own definitions
  weft crds --group istio | kubectl create -f -            Istio's, where Istio is not installed; `create` never
                                                           replaces definitions that are there
  weft crds -o json | jq '.items[].metadata.name'

The chart installs the same definitions: charts/weft/crds-weft.yaml and charts/weft/crds-istio.yaml.")]
pub struct Args {
    /// Whose
    #[arg(long, value_enum, default_value_t = Group::Weft)]
    group: Group,
    /// How
    #[arg(short, long, value_enum, default_value_t = Format::Yaml)]
    output: Format,
}

/// Whose definitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Group {
    /// Weft's own groups, *.weft.dev
    Weft,
    /// Istio's groups, *.istio.io, with the kinds that are not honoured yet
    Istio,
}

/// How they are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A document for each
    Yaml,
    /// One List
    Json,
}

/// Prints the definitions.
///
/// # Errors
/// A definition has no form in YAML.
pub fn run(args: &Args) -> Result<()> {
    let manifests = crds(match args.group {
        Group::Weft => Origin::Weft,
        Group::Istio => Origin::Istio,
    });
    match args.output {
        Format::Yaml => output::raw(&yaml(&manifests)?),
        Format::Json => output::pretty(&json!({ "apiVersion": "v1", "kind": "List", "items": manifests })),
    }
    Ok(())
}
