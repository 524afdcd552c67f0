//! `weft authz`: which policies apply to a pod and to whom it is open; whether one identity may do one thing.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use weft_core::explain::told::{Access, Sent, ServerSide};
use weft_core::explain::{Came, policy, server};
use weft_core::identity::SpiffeId;

use crate::explain::question::header;
use crate::offline::Offline;
use crate::output::{self, Format, Table};

/// The exit code of a no.
const NO: u8 = 1;
/// The exit code where nothing can be told.
const UNKNOWN: u8 = 2;

/// `weft authz`
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    question: Question,
}

#[derive(Debug, clap::Subcommand)]
enum Question {
    /// Show every policy and rule that applies to a pod, and to whom it is open
    Check(Check),
    /// Say whether an identity may do something: yes or no, and by which rule
    Can(Can),
}

/// Where the policies come from.
#[derive(Debug, clap::Args)]
struct From {
    /// A file or directory of manifests; several are taken together
    #[arg(short, long = "file", required = true, value_name = "FILE_OR_DIR")]
    files: Vec<PathBuf>,
    /// The namespace of the pod or Service
    #[arg(short, long, default_value = "default")]
    namespace: String,
    /// How
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    output: Format,
}

/// `weft authz check`
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  weft authz check -f manifests/ deploy/content-service-v1

Exit code: 0; 2 where there is no such pod.")]
struct Check {
    #[command(flatten)]
    from: From,
    /// A pod, or deploy/NAME for one of its pods
    pod: String,
}

/// `weft authz can`
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  weft authz can -f manifests/ ns/default/sa/api-gateway DELETE content-service /api/x
  weft authz can -f manifests/ - GET content-service:8080 /       nobody that the mesh knows: a caller in clear

Policies and PeerAuthentication of the pods behind the Service are asked, routes are not: the path is the one that the
pods get. `weft explain` tells the whole way.

Exit code: 0 yes; 1 no, of any of the pods; 2 it cannot be told.")]
struct Can {
    #[command(flatten)]
    from: From,
    /// A header, as 'NAME: VALUE'
    #[arg(short = 'H', long = "header", value_parser = header, value_name = "HEADER")]
    headers: Vec<(String, String)>,
    /// Who: ns/NAMESPACE/sa/ACCOUNT, with a trust domain before it if it is another one; - for a caller in clear
    principal: String,
    /// The method
    method: String,
    /// A Service (NAME, NAME.NAMESPACE, with :PORT), a pod, or deploy/NAME
    target: String,
    /// The path
    #[arg(default_value = "/")]
    path: String,
}

/// What `weft authz can -o json` prints.
#[derive(Debug, Serialize)]
struct Answer {
    /// Whether every pod lets it in.
    allowed: bool,
    /// The status of the refusal; `None` where the connection is closed.
    status: Option<u16>,
    /// Why not.
    reason: Option<String>,
    /// The policy that decided.
    policy: Option<String>,
    /// Its rule.
    policy_rule: Option<String>,
    /// What would have to change.
    mend: Vec<String>,
    /// What each pod says.
    pods: Vec<ServerSide>,
}

/// Answers; the exit code tells yes from no.
pub fn run(args: &Args) -> ExitCode {
    let answered = match &args.question {
        Question::Check(check) => self::check(check),
        Question::Can(can) => self::can(can),
    };
    answered.unwrap_or_else(|error| {
        output::problem(format!("{error:#}"));
        ExitCode::from(UNKNOWN)
    })
}

fn mesh(from: &From) -> Result<Offline> {
    let mesh = Offline::read(&from.files)?;
    mesh.errors().for_each(output::warning);
    Ok(mesh)
}

fn check(args: &Check) -> Result<ExitCode> {
    let mesh = mesh(&args.from)?;
    let pod = mesh.pod(&args.from.namespace, &args.pod)?;
    if !pod.meshed {
        bail!("pod {} has no sidecar: no policy is in force there, everyone gets in", pod.meta.name);
    }
    let access = policy::access(&*mesh.workload(&pod.meta.name)?);
    match args.from.output {
        Format::Json => output::pretty(&access),
        Format::Text => output::raw(&shown(&access)),
    }
    Ok(ExitCode::SUCCESS)
}

fn shown(access: &Access) -> String {
    let mut text = format!("{} is {}\n\n", access.pod, access.identity);
    let modes = access.ports.iter().map(|(port, mode)| format!("port {port} {mode}, "));
    text.push_str(&format!("PeerAuthentication: {}otherwise {}\n", modes.collect::<String>(), access.mtls));
    let mut table = Table::new(&["POLICY", "ACTION", "RULE", "WHO", "WHAT", "WHEN"]);
    for policy in &access.policies {
        let action =
            if policy.dry_run { format!("{} (dry run)", policy.action) } else { policy.action.clone() };
        let row = |rule: &str, who: &str, what: &str, when: &str| {
            [&policy.policy, &action, rule, who, what, when].map(str::to_owned).to_vec()
        };
        if policy.rules.is_empty() {
            table.row(row("none", "nobody", "-", ""));
        }
        policy.rules.iter().for_each(|r| table.row(row(&r.rule, &r.who, &r.what, &r.when)));
    }
    if access.policies.is_empty() {
        text.push_str("no policy applies\n");
    } else {
        text.push('\n');
        text.push_str(&table.text());
    }
    text.push_str(&format!("\nopen to: {}\n", access.open_to));
    access.notes.iter().for_each(|note| text.push_str(&format!("note: {note}\n")));
    text
}

fn can(args: &Can) -> Result<ExitCode> {
    let mesh = mesh(&args.from)?;
    let peer = mesh.principal(&args.principal)?;
    let behind = mesh.behind(&args.from.namespace, &args.target)?;
    let mut pods = Vec::new();
    for (pod, port) in behind.iter().filter(|(pod, _)| pod.meshed) {
        let ip = pod.addresses.first().context("the pod has no address")?;
        let came = came(args, peer.clone(), mesh.address_of(peer.as_ref()), SocketAddr::new(*ip, *port));
        pods.push(server(&*mesh.workload(&pod.meta.name)?, &came));
    }
    if pods.is_empty() {
        bail!("no pod of {} has a sidecar: no policy is in force there, everyone gets in", args.target);
    }
    let answer = Answer::of(pods);
    match args.from.output {
        Format::Json => output::pretty(&answer),
        Format::Text => output::raw(&answer.text(args)),
    }
    Ok(if answer.allowed { ExitCode::SUCCESS } else { ExitCode::from(NO) })
}

fn came(args: &Can, peer: Option<SpiffeId>, source: Option<IpAddr>, to: SocketAddr) -> Came {
    let host = args.target.rsplit('/').next().unwrap_or(&args.target).to_owned();
    let written = args.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host"));
    let own = (!written).then(|| ("host".to_owned(), host));
    let request = Sent {
        method: args.method.clone(),
        target: args.path.clone(),
        headers: own.into_iter().chain(args.headers.iter().cloned()).collect(),
        http: true,
        tls: false,
        sni: None,
    };
    Came { peer, sni: None, source: source.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)), to, request }
}

impl Answer {
    /// The word of the first pod that says no; else of the first.
    fn of(pods: Vec<ServerSide>) -> Self {
        let refusing = pods.iter().find_map(|pod| pod.refused.as_ref());
        let first = pods.first();
        Self {
            allowed: refusing.is_none(),
            status: refusing.and_then(|refused| refused.status),
            reason: refusing.map(|refused| refused.reason.clone()),
            policy: refusing.map_or_else(|| first.and_then(|p| p.policy.clone()), |r| r.policy.clone()),
            policy_rule: refusing
                .map_or_else(|| first.and_then(|p| p.policy_rule.clone()), |r| r.policy_rule.clone()),
            mend: refusing.map(|refused| refused.mend.clone()).unwrap_or_default(),
            pods,
        }
    }

    fn text(&self, args: &Can) -> String {
        let what = format!("{} {} {} {}", args.principal, args.method, args.target, args.path);
        let mut text = format!("{}: {what}\n", if self.allowed { "yes" } else { "no" });
        let no = |pod: &&ServerSide| pod.refused.is_some() != self.allowed;
        if let Some(pod) = self.pods.iter().find(no) {
            pod.steps.iter().for_each(|step| text.push_str(&format!("  {}\n", step.says)));
        }
        if let (Some(reason), false) = (&self.reason, self.allowed) {
            let status = self.status.map_or_else(|| "the connection is closed".to_owned(), |s| s.to_string());
            text.push_str(&format!("  {status} ({reason})\n"));
        }
        let refusing = self.pods.iter().filter(|pod| pod.refused.is_some()).count();
        if refusing > 0 && refusing < self.pods.len() {
            text.push_str(&format!("  {refusing} of {} pods say no\n", self.pods.len()));
        }
        self.mend.iter().for_each(|mend| text.push_str(&format!("  for a yes: {mend}\n")));
        text
    }
}
