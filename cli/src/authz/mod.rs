//! `weft authz`: which policies apply to a pod and to whom it is open; whether one identity may do one thing.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use weft_core::explain::told::{Access, Ask, ClientSide, Sent, ServerSide};
use weft_core::explain::{Came, policy, server};
use weft_core::identity::SpiffeId;

use crate::explain::live::ask;
use crate::explain::question::header;
use crate::offline::{Offline, principal};
use crate::output::{self, Format, Table};
use crate::reach::{Place, Reach};

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
    #[command(flatten)]
    place: Place,
    /// Ask nobody: a file or directory of manifests; several are taken together
    #[arg(short, long = "file", value_name = "FILE_OR_DIR", conflicts_with_all = ["mesh", "context"])]
    files: Vec<PathBuf>,
    /// How
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    output: Format,
}

/// `weft authz check`
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  weft authz check deploy/content-service-v1                    ask its sidecar what it holds
  weft authz check -f manifests/ deploy/content-service-v1      ask nobody: the manifests alone

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
  weft authz can ns/default/sa/api-gateway DELETE content-service /api/x
  weft authz can -f manifests/ ns/default/sa/api-gateway DELETE content-service /api/x
  weft authz can -f manifests/ - GET content-service:8080 /       nobody that the mesh knows: a caller in clear

Policies and PeerAuthentication of the pods behind the Service are asked, routes are not: the path is the one that the \
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
pub async fn run(args: &Args) -> ExitCode {
    let answered = match &args.question {
        Question::Check(check) => self::check(check).await,
        Question::Can(can) => self::can(can).await,
    };
    answered.unwrap_or_else(|error| {
        output::problem(format!("{error:#}"));
        ExitCode::from(UNKNOWN)
    })
}

/// The mesh of the manifests; `None`: one that runs is meant.
fn offline(from: &From) -> Result<Option<Offline>> {
    if from.files.is_empty() {
        return Ok(None);
    }
    let mesh = Offline::read(&from.files)?;
    mesh.errors().for_each(output::warning);
    Ok(Some(mesh))
}

impl From {
    fn namespace(&self) -> &str {
        self.place.namespace.as_deref().unwrap_or("default")
    }
}

async fn check(args: &Check) -> Result<ExitCode> {
    let access: Access = match offline(&args.from)? {
        None => ask(&args.from.place.reach().await?.sidecar(&args.pod).await?, &Ask::Access).await?,
        Some(mesh) => {
            let pod = mesh.pod(args.from.namespace(), &args.pod)?;
            if !pod.meshed {
                bail!("pod {} has no sidecar: no policy is in force there, everyone gets in", pod.meta.name);
            }
            policy::access(&*mesh.workload(&pod.meta.name)?)
        }
    };
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

async fn can(args: &Can) -> Result<ExitCode> {
    let pods = match offline(&args.from)? {
        Some(mesh) => of_manifests(args, &mesh)?,
        None => of_sidecars(args, &args.from.place.reach().await?).await?,
    };
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

fn of_manifests(args: &Can, mesh: &Offline) -> Result<Vec<ServerSide>> {
    let peer = mesh.principal(&args.principal)?;
    let source = mesh.address_of(peer.as_ref()).unwrap_or(NOBODY);
    let mut pods = Vec::new();
    for (pod, port) in mesh.behind(args.from.namespace(), &args.target)?.iter().filter(|(pod, _)| pod.meshed)
    {
        let ip = pod.addresses.first().context("the pod has no address")?;
        let (peer, to, request) = (peer.clone(), SocketAddr::new(*ip, *port), request(args));
        let came = Came { peer, sni: None, source, to, request };
        pods.push(server(&*mesh.workload(&pod.meta.name)?, &came));
    }
    Ok(pods)
}

/// The endpoints of the Service are those that a sidecar of its namespace knows.
async fn of_sidecars(args: &Can, reach: &Reach) -> Result<Vec<ServerSide>> {
    let all = reach.everywhere(Some(reach.namespace())).await?;
    let any = all.first().with_context(|| format!("no sidecar runs in namespace {}", reach.namespace()))?;
    let access: Access = ask(any, &Ask::Access).await?;
    let domain = SpiffeId::parse(&access.identity).map(|id| id.trust_domain().to_owned()).unwrap_or_default();
    let peer = principal(&args.principal, &domain)?.map(|id| id.to_string());
    let (host, port) = match args.target.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().with_context(|| format!("{port} is no port"))?),
        None => (args.target.as_str(), 80),
    };
    let address = reach.lookup(any, host).await?;
    let question = Ask::Client { host: host.to_owned(), port, address, request: request(args) };
    let told: ClientSide = ask(any, &question).await?;
    let mut endpoints: Vec<_> =
        told.branches.iter().flat_map(|b| &b.endpoints).filter(|e| e.meshed).collect();
    endpoints.sort_by_key(|endpoint| endpoint.address);
    endpoints.dedup_by_key(|endpoint| endpoint.address);
    let mut pods = Vec::new();
    for to in endpoints {
        let Some(sidecar) = all.iter().find(|s| s.pod == to.pod && s.namespace == to.namespace) else {
            continue;
        };
        let (peer, to, request) = (peer.clone(), to.address, request(args));
        pods.push(ask(sidecar, &Ask::Server { peer, sni: None, source: NOBODY, to, request }).await?);
    }
    Ok(pods)
}

/// Stands for the address of a caller of whom nothing but the identity is said.
const NOBODY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

fn request(args: &Can) -> Sent {
    let host = args.target.rsplit('/').next().unwrap_or(&args.target).to_owned();
    let written = args.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host"));
    let own = (!written).then(|| ("host".to_owned(), host));
    Sent {
        method: args.method.clone(),
        target: args.path.clone(),
        headers: own.into_iter().chain(args.headers.iter().cloned()).collect(),
        http: true,
        tls: false,
        sni: None,
    }
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
