//! `weft authz`: which policies apply to a pod and to whom it is open; whether one identity may do one thing.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use weft_core::explain::told::{Access, Ask, ClientSide, EndpointTold, Sent, ServerSide};
use weft_core::explain::{Came, policy, server};
use weft_core::identity::SpiffeId;

use crate::explain::live::{Servers, ask};
use crate::explain::question::{doubt, header, with_host};
use crate::explain::source::{Source, answered};
use crate::offline::{Offline, host_and_port, intercepted, principal};
use crate::output::{self, Format, Table};
use crate::reach::{Reach, Sidecar};
use crate::slips::listed;

/// The exit code of a no.
const NO: u8 = 1;

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

/// `weft authz check`
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  weft authz check deploy/content-service-v1                    ask its sidecar what it holds
  weft authz check -f manifests/ deploy/content-service-v1      ask nobody: the manifests alone

Exit code: 0; 2 where there is no such pod.")]
struct Check {
    #[command(flatten)]
    from: Source,
    /// A pod, or deploy/NAME for one of its pods
    pod: String,
}

/// `weft authz can`
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  weft authz can ns/default/sa/api-gateway DELETE content-service /api/x
  weft authz can -f manifests/ ns/default/sa/api-gateway DELETE content-service /api/x
  weft authz can -f manifests/ - GET content-service:8080 /       nobody that the mesh knows: a caller in clear
  weft authz can ns/default/sa/client GET deploy/content-service-v1:8080 /      one of its pods, by the pod's own port

Policies and PeerAuthentication of the pods behind the Service are asked, routes are not: the path is the one that the \
pods get. `weft explain` tells the whole way.

Exit code: 0 yes; 1 no, of any of the pods; 2 it cannot be told.")]
struct Can {
    #[command(flatten)]
    from: Source,
    /// A header, as 'NAME: VALUE'
    #[arg(short = 'H', long = "header", value_parser = header, value_name = "HEADER")]
    headers: Vec<(String, String)>,
    /// Who: ns/NAMESPACE/sa/ACCOUNT, with a trust domain before it if it is another one; - for a caller in clear
    principal: String,
    /// The method
    method: String,
    /// A Service (NAME, NAME.NAMESPACE), a pod, or deploy/NAME; with :PORT
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
    answered(match &args.question {
        Question::Check(check) => self::check(check).await,
        Question::Can(can) => self::can(can).await,
    })
}

async fn check(args: &Check) -> Result<ExitCode> {
    let access: Access = match args.from.offline()? {
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
    doubt(&args.method).into_iter().for_each(output::warning);
    let pods = match args.from.offline()? {
        Some(mesh) => of_manifests(args, &mesh)?,
        None => of_sidecars(args, &args.from.place.reach().await?).await?,
    };
    if pods.is_empty() {
        bail!(
            "{}: no sidecar of its pods sees what comes there: no policy is in force, everyone gets in",
            args.target
        );
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
        let workload = mesh.workload(&pod.meta.name)?;
        let port = served(*port, &policy::access(&workload), &args.target)?;
        if !intercepted(pod).takes_inbound(port) {
            continue;
        }
        let (peer, to, request) = (peer.clone(), SocketAddr::new(*ip, port), request(args));
        pods.push(server(&workload, &Came { peer, sni: None, source, to, request }));
    }
    Ok(pods)
}

/// The port of a pod that is meant: the one that is written, or its only one.
fn served(written: Option<u16>, access: &Access, target: &str) -> Result<u16> {
    match (written, &access.ports[..]) {
        (Some(port), _) => Ok(port),
        (None, [(only, _)]) => Ok(*only),
        (None, several) => {
            let ports: Vec<String> = several.iter().map(|(port, _)| port.to_string()).collect();
            let of_service = if ports.is_empty() { "none".to_owned() } else { ports.join(", ") };
            bail!(
                "{target}: write {target}:PORT; the ports of {} that Services lead to: {of_service}",
                access.pod
            )
        }
    }
}

/// A pod answers for itself; the endpoints of a Service are those that a sidecar of its namespace knows.
async fn of_sidecars(args: &Can, reach: &Reach) -> Result<Vec<ServerSide>> {
    let all = reach.everywhere(Some(reach.namespace())).await?;
    let Some(any) = all.first() else { bail!(nobody(reach).await) };
    let access: Access = ask(any, &Ask::Access).await?;
    let domain = SpiffeId::parse(&access.identity).map(|id| id.trust_domain().to_owned()).unwrap_or_default();
    let peer = principal(&args.principal, &domain)?.map(|id| id.to_string());
    let (host, port) = host_and_port(&args.target)?;
    let named = match host.contains('/') {
        true => reach.sidecars(host).await?,
        false => all.iter().filter(|sidecar| sidecar.pod == host).cloned().collect(),
    };
    let mut asked = Vec::new();
    if named.is_empty() {
        let mut servers = Servers::new(reach);
        for to in endpoints(args, reach, any, (host, port.unwrap_or(80))).await? {
            asked.extend(servers.sidecar(&to).await?.map(|sidecar| (sidecar, to.address)));
        }
    }
    for sidecar in named {
        let port = served(port, &ask(&sidecar, &Ask::Access).await?, &args.target)?;
        let ip = sidecar.address.with_context(|| format!("{} has no address yet", sidecar.name()))?;
        asked.push((sidecar, SocketAddr::new(ip, port)));
    }
    let mut pods = Vec::new();
    for (sidecar, to) in
        asked.into_iter().filter(|(sidecar, to)| sidecar.intercepted.takes_inbound(to.port()))
    {
        let (peer, request) = (peer.clone(), request(args));
        pods.push(ask(&sidecar, &Ask::Server { peer, sni: None, source: NOBODY, to, request }).await?);
    }
    Ok(pods)
}

/// The endpoints with a sidecar that stand behind a Service, by address.
async fn endpoints(
    args: &Can,
    reach: &Reach,
    any: &Sidecar,
    (host, port): (&str, u16),
) -> Result<Vec<EndpointTold>> {
    let address = reach.lookup((&any.namespace, &any.pod), host).await?;
    let question = Ask::Client { host: host.to_owned(), port, address, request: request(args) };
    let told: ClientSide = ask(any, &question).await?;
    let mut all: Vec<EndpointTold> = told.branches.into_iter().flat_map(|branch| branch.endpoints).collect();
    if let (true, Some(refused)) = (all.is_empty(), &told.refused) {
        bail!("{}: {} ({})", args.target, refused.mend.join("; "), refused.reason);
    }
    if all.is_empty() {
        bail!("{}: no pod stands behind it", args.target);
    }
    all.retain(|endpoint| endpoint.meshed);
    all.sort_by_key(|endpoint| endpoint.address);
    all.dedup_by_key(|endpoint| endpoint.address);
    Ok(all)
}

/// That nobody can be asked, and where somebody could.
async fn nobody(reach: &Reach) -> String {
    let all = reach.everywhere(None).await.unwrap_or_default();
    let elsewhere: BTreeSet<&str> = all.iter().map(|sidecar| sidecar.namespace.as_str()).collect();
    let hint = match elsewhere.is_empty() {
        true => String::new(),
        false => format!("; there are some in {} (choose with -n)", listed(elsewhere)),
    };
    format!("no sidecar runs in namespace {}{hint}", reach.namespace())
}

/// Stands for the address of a caller of whom nothing but the identity is said.
const NOBODY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

fn request(args: &Can) -> Sent {
    let host = args.target.rsplit('/').next().unwrap_or(&args.target);
    Sent {
        method: args.method.clone(),
        target: args.path.clone(),
        headers: with_host(host, &args.headers),
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
