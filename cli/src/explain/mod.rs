//! `weft explain`: the whole way of one request, step by step, and why it is refused where it is.

/// Of which mesh it is asked.
pub mod source;
/// A request as people write it.
pub mod question;
/// An explanation for people.
pub mod text;
/// Explained by sidecars that run.
pub mod live;

use std::io::IsTerminal;
use std::process::ExitCode;

use anyhow::Result;
use weft_core::explain::Explanation;
use weft_core::explain::told::Verdict;

use crate::offline::Query;
use crate::output::{self, Format};
use source::Source;

/// The exit code of a request that is refused, or of which a part is.
const REFUSED: u8 = 1;

/// `weft explain`
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  weft explain deploy/client http://content-service/api/x                          ask the sidecars of a mesh that runs
  weft explain -N shop deploy/client -H 'end-user: premium' http://content-service/api/x
  weft explain -f manifests/ deploy/client -X DELETE http://content-service/api/x   ask nobody: the manifests alone
  weft explain -f manifests/ deploy/client http://web:8080/ -o json | jq -r .verdict

The client's sidecar is asked where such a request goes, by what it holds right now (endpoints that it has set aside are \
out), and the servers' sidecars whether they let it in. No request is sent. Of a client without a sidecar another sidecar, \
of its namespace where there is one, tells whom it reaches. A listener of a Sidecar resource (captureMode: NONE) is asked by its own address:
  weft explain deploy/client -H 'host: web' http://127.0.0.1:8080/

With -f nothing runs and nobody is asked: the controller's own code compiles the manifests for the client's pod and for \
the servers', and the functions that decide in a sidecar say what they would. Every pod is taken to be ready.

Exit code: 0 the request is forwarded, or answered by its route; 1 it is refused, or a part of such requests is; 2 it \
cannot be told.")]
pub struct Args {
    #[command(flatten)]
    source: Source,
    /// The method
    #[arg(short = 'X', long = "request", default_value = "GET", value_name = "METHOD")]
    method: String,
    /// A header, as 'NAME: VALUE'
    #[arg(short = 'H', long = "header", value_parser = question::header, value_name = "HEADER")]
    headers: Vec<(String, String)>,
    /// Who sends it: a pod, or deploy/NAME for one of its pods
    client: String,
    /// What it asks for: http://SERVICE:PORT/PATH
    url: String,
}

/// Explains a request; the exit code tells what becomes of it.
pub async fn run(args: &Args) -> ExitCode {
    source::answered(explained(args).await.map(|all| tell(args, &all)))
}

async fn explained(args: &Args) -> Result<Explanation> {
    let (host, request) = question::question(&args.method, &args.url, &args.headers)?;
    question::doubt(&args.method).into_iter().for_each(output::warning);
    match args.source.offline()? {
        None => live::explain(&args.source.place.reach().await?, &args.client, host, request).await,
        Some(mesh) => {
            let namespace = args.source.namespace().to_owned();
            mesh.explain(&Query { namespace, client: args.client.clone(), host, request })
        }
    }
}

fn tell(args: &Args, all: &Explanation) -> ExitCode {
    match args.source.output {
        Format::Json => output::pretty(all),
        Format::Text => {
            let colours = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            let title = format!("{} {} from {}", args.method, args.url, args.client);
            output::raw(&text::text(&title, all, colours));
        }
    }
    code(all)
}

fn code(all: &Explanation) -> ExitCode {
    match all.verdict {
        Verdict::Forwarded | Verdict::Answered if !all.mixed => ExitCode::SUCCESS,
        _ => ExitCode::from(REFUSED),
    }
}
