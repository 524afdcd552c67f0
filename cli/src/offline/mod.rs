//! The mesh that a directory of manifests would make, without running any of it: the controller's own code compiles it
//! for every pod, and each pod's sidecar is told over the same wire.

/// From manifests to objects.
mod manifests;
/// A sidecar that is told of a world.
pub(crate) mod sidecar;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use anyhow::{Context, Result, bail};
use weft_controller::check::check;
use weft_controller::fragment::kubernetes::{Pod, Service};
use weft_controller::push::publisher::WorldCompiler;
use weft_controller::report::{Report, Severity};
use weft_controller::validate::validate;
use weft_controller::world::World;
use weft_controller::world::dirty::Dirty;
use weft_core::explain::told::{ClientSide, EndpointTold, Sent, ServerSide};
use weft_core::explain::{
    Asked, Came, Explanation, NO_SIDECAR, client, explanation, passed_by, server, without_sidecar,
};
use weft_core::identity::{SpiffeId, TrustDomain};
use weft_core::model::name::ObjectName;
use weft_core::model::workload::{TrustBundle, Workload};

use self::sidecar::Sidecar;
use crate::slips::{hint, listed};
use crate::up::injection::annotated;
use crate::up::intercepted::{Intercepted, kept_away};
use crate::up::manifest::Meta;

/// Stands for an address that nothing in the manifests has (RFC 5737).
const OUTSIDE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// The mesh of a directory.
pub struct Offline {
    compiler: WorldCompiler,
    reports: Vec<Report>,
    warnings: Vec<String>,
    all_meshed: bool,
}

/// A request, and who sends it.
#[derive(Clone, Debug)]
pub struct Query {
    /// The client's namespace.
    pub namespace: String,
    /// The client: a pod, or `deploy/NAME`.
    pub client: String,
    /// The host that it names, and that host's port.
    pub host: (String, u16),
    /// The request.
    pub request: Sent,
}

impl Offline {
    /// Reads manifests.
    ///
    /// # Errors
    /// A file that cannot be read, with its line.
    pub fn read(paths: &[PathBuf]) -> Result<Self> {
        let manifests = manifests::read(paths)?;
        let mut world = World::default();
        for object in &manifests.objects {
            if let Some(fragment) = validate(object).fragment {
                world.apply(fragment);
            }
        }
        world.settle(&Dirty::all());
        let trust = trust(&world);
        let compiler =
            WorldCompiler { world: Arc::new(world), trust: trust.into(), as_of: AtomicU64::new(1) };
        let reports = check(paths.to_vec()).reports;
        Ok(Self { compiler, reports, warnings: manifests.warnings, all_meshed: manifests.all_meshed })
    }

    /// What is wrong with the manifests: what is refused is not in force.
    pub fn errors(&self) -> impl Iterator<Item = String> + use<'_> {
        let wrong = self.reports.iter().filter(|report| report.severity != Severity::Warning);
        wrong.map(ToString::to_string).chain(self.warnings.iter().cloned())
    }

    /// Explains a request.
    ///
    /// # Errors
    /// There is no such client, or it cannot name the host.
    pub fn explain(&self, query: &Query) -> Result<Explanation> {
        let pod = self.pod(&query.namespace, &query.client)?;
        let (host, port) = &query.host;
        let dialled = SocketAddr::new(self.resolve(&query.namespace, host)?, *port);
        let asked = Asked { host: host.clone(), dialled, request: query.request.clone(), now: 0 };
        let mut sidecar = Sidecar::new(&self.compiler, &pod.meta.name)?;
        let listens = sidecar.snapshot().workload().is_some_and(|it| it.outbound.listener(dialled).is_some());
        let told = match self.passes_by(pod, dialled).filter(|_| !listens) {
            Some(why) => sidecar.asking(|snapshot| without_sidecar(snapshot, &asked, &why))?,
            None => sidecar.asking(|snapshot| client(snapshot, &asked))?,
        };
        let servers = told.branches.iter().map(|branch| {
            let meshed = branch.endpoints.iter().filter(|endpoint| endpoint.takes && endpoint.meshed);
            let sent = branch.sent.as_ref().filter(|_| branch.refused.is_none());
            let each = sent.into_iter().flat_map(|sent| meshed.clone().map(move |to| (to, sent)));
            each.filter_map(|(to, sent)| self.server(&told, to, sent).transpose()).collect()
        });
        let servers: Vec<Vec<ServerSide>> = servers.collect::<Result<_>>()?;
        let mut all = explanation(told, &servers);
        all.notes.extend(self.notes(&all));
        Ok(all)
    }

    /// What one pod's sidecar is told of itself.
    ///
    /// # Errors
    /// The pod's names fit no identity.
    pub fn workload(&self, pod: &ObjectName) -> Result<Arc<Workload>> {
        let sidecar = Sidecar::new(&self.compiler, pod)?;
        sidecar.snapshot().workload().cloned().context("the controller tells the pod nothing")
    }

    /// The pod of a name, or the first of a workload (`deploy/NAME`).
    ///
    /// # Errors
    /// There is none; those that there are.
    pub fn pod(&self, namespace: &str, name: &str) -> Result<&Arc<Pod>> {
        let world = &self.compiler.world;
        let own = |pod: &&Arc<Pod>| *pod.meta.name.namespace == *namespace;
        let mut pods = world.pods.values().filter(own);
        let found = match name.split_once('/') {
            Some(("pod" | "pods" | "po", name)) => pods.find(|pod| *pod.meta.name.name == *name),
            Some((_, workload)) => pods.find(|pod| *pod.workload == *workload),
            None => pods.find(|pod| *pod.meta.name.name == *name),
        };
        found.with_context(|| {
            let names: Vec<&str> = world.pods.values().filter(own).map(|pod| &*pod.meta.name.name).collect();
            let elsewhere: BTreeSet<&str> =
                world.pods.values().map(|pod| &*pod.meta.name.namespace).collect();
            let there = match names.is_empty() {
                false => format!("there is {}", listed(names)),
                true if elsewhere.is_empty() => "there is no pod at all".to_owned(),
                true => format!("pods are in {} (choose with -n)", listed(elsewhere)),
            };
            format!("no {name} in namespace {namespace} of the manifests; {there}")
        })
    }

    /// The pods behind a Service (`NAME`, `NAME.NAMESPACE`), each with the port that serves the Service's; or one
    /// pod, with the port that was written.
    ///
    /// # Errors
    /// There is nothing of that name.
    pub fn behind(&self, namespace: &str, target: &str) -> Result<Vec<(&Arc<Pod>, Option<u16>)>> {
        let (host, port) = host_and_port(target)?;
        let service = if host.contains('/') { None } else { self.service(namespace, host) };
        let Some(service) = service else {
            return Ok(vec![(self.pod(namespace, host)?, port)]);
        };
        let wanted =
            |p: &&weft_controller::fragment::kubernetes::ServicePort| port.is_none_or(|n| n == p.number);
        let port = service.ports.iter().find(wanted).with_context(|| {
            let ports: Vec<String> = service.ports.iter().map(|port| port.number.to_string()).collect();
            format!("{target}: Service {host} has no such port, but {}", ports.join(", "))
        })?;
        let selector =
            service.selector.as_ref().with_context(|| format!("Service {host} selects no pods"))?;
        let pods = self.compiler.world.pods_selected(&service.meta.name.namespace, selector);
        Ok(pods.filter_map(|pod| Some((pod, Some(port.target_on(Some(pod))?)))).collect())
    }

    /// Whom a principal means: `ns/NS/sa/NAME`, with or without a trust domain; `-` for nobody.
    ///
    /// # Errors
    /// It is no identity.
    pub fn principal(&self, text: &str) -> Result<Option<SpiffeId>> {
        principal(text, self.compiler.world.mesh.trust_domain.as_str())
    }

    /// The address of a pod that runs under an identity.
    pub fn address_of(&self, identity: Option<&SpiffeId>) -> Option<IpAddr> {
        let account = identity?.service_account()?;
        let runs = |pod: &&Arc<Pod>| (&*pod.meta.name.namespace, &*pod.service_account) == account;
        self.compiler.world.pods.values().find(runs)?.addresses.first().copied()
    }

    /// Why a client's sidecar does not see a connection.
    fn passes_by(&self, pod: &Pod, dialled: SocketAddr) -> Option<String> {
        if !pod.meshed {
            return Some(NO_SIDECAR.to_owned());
        }
        (!intercepted(pod).takes_outbound(dialled)).then(|| kept_away(&pod.meta.name.name, dialled))
    }

    fn server(&self, told: &ClientSide, to: &EndpointTold, sent: &Sent) -> Result<Option<ServerSide>> {
        let name = ObjectName { namespace: to.namespace.as_str().into(), name: to.pod.as_str().into() };
        let pod = self.compiler.world.pods.get(&name).filter(|pod| pod.meshed);
        let Some(pod) = pod else { return Ok(None) };
        if !intercepted(pod).takes_inbound(to.address.port()) {
            return Ok(Some(passed_by(to, sent)));
        }
        let identity = told.identity.as_deref().filter(|_| to.mtls);
        let came = Came {
            peer: identity.and_then(|id| SpiffeId::parse(id).ok()),
            sni: to.sni.clone(),
            source: told.address.unwrap_or(OUTSIDE),
            to: to.address,
            request: sent.clone(),
        };
        Ok(Some(server(&*self.workload(&pod.meta.name)?, &came)))
    }

    /// What a client of a namespace finds under a name: as cluster DNS would, no more.
    fn resolve(&self, namespace: &str, host: &str) -> Result<IpAddr> {
        if let Ok(ip) = host.trim_matches(['[', ']']).parse() {
            return Ok(ip);
        }
        if host == "localhost" {
            return Ok(Ipv4Addr::LOCALHOST.into());
        }
        if let Some(pod) = self.below_headless(namespace, host) {
            return pod
                .addresses
                .first()
                .copied()
                .with_context(|| format!("pod {} has no address", pod.meta.name));
        }
        let Some(service) = self.service(namespace, host) else {
            if host.contains('.') && !host.ends_with(".cluster.local") {
                return Ok(OUTSIDE);
            }
            let own = self.compiler.world.services.keys().filter(|name| *name.namespace == *namespace);
            let names: Vec<&str> = own.map(|name| &*name.name).collect();
            bail!(
                "`{host}` is no Service that a pod of namespace {namespace} finds by that name{}; it has {}",
                hint(host, names.iter().copied()),
                if names.is_empty() { "none".to_owned() } else { listed(names) }
            );
        };
        if let Some(name) = service.external_name.as_deref().filter(|name| *name != host) {
            return self.resolve(namespace, name);
        }
        let selected = service.selector.as_ref().and_then(|selector| {
            let namespace = &service.meta.name.namespace;
            self.compiler
                .world
                .pods_selected(namespace, selector)
                .find_map(|pod| pod.addresses.first().copied())
        });
        let address = service.addresses.first().copied().or(selected);
        address.with_context(|| format!("Service {} has no address and selects no pod", service.meta.name))
    }

    /// The pod that a name below a headless Service's means: `db-0.db`.
    fn below_headless(&self, namespace: &str, host: &str) -> Option<&Arc<Pod>> {
        let (pod, service) = host.split_once('.')?;
        let service = self.service(namespace, service).filter(|service| service.addresses.is_empty())?;
        let (namespace, selector) = (&service.meta.name.namespace, service.selector.as_ref()?);
        let mut pods = self.compiler.world.pods_selected(namespace, selector);
        pods.find(|found| found.meta.name.name.eq_ignore_ascii_case(pod))
    }

    fn service(&self, namespace: &str, host: &str) -> Option<&Arc<Service>> {
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        let host = host.strip_suffix(".cluster.local").unwrap_or(&host);
        let host = host.strip_suffix(".svc").unwrap_or(host);
        let (name, namespace) = host.split_once('.').unwrap_or((host, namespace));
        let name = ObjectName { namespace: namespace.into(), name: name.into() };
        self.compiler.world.services.get(&name)
    }

    /// What `weft validate` says of the objects that took part, and what was taken for granted.
    fn notes(&self, all: &Explanation) -> Vec<String> {
        let route = all.route.as_ref().and_then(|route| route.object.as_ref());
        let objects: Vec<String> = route
            .map(|name| format!("VirtualService {name}"))
            .into_iter()
            .chain(all.policy.iter().map(|name| format!("AuthorizationPolicy {name}")))
            .collect();
        let about =
            |report: &&Report| objects.contains(&report.object) && report.severity == Severity::Warning;
        let mut notes: Vec<String> = self.reports.iter().filter(about).map(ToString::to_string).collect();
        if self.all_meshed {
            notes.push(
                "nothing in the manifests says which pods get a sidecar: every pod is taken to have one"
                    .to_owned(),
            );
        }
        notes
    }
}

/// `NAME` or `NAME:PORT`.
///
/// # Errors
/// The port is none.
pub fn host_and_port(target: &str) -> Result<(&str, Option<u16>)> {
    match target.rsplit_once(':') {
        None => Ok((target, None)),
        Some((host, port)) => {
            let number = port.parse().ok().filter(|number| *number > 0);
            let number =
                number.with_context(|| format!("{target}: `{port}` is no port, which is a number"))?;
            Ok((host, Some(number)))
        }
    }
}

/// Whom a principal means: `ns/NS/sa/NAME`, with or without a trust domain or `spiffe://`; `-` for nobody.
///
/// # Errors
/// It is no identity.
pub fn principal(text: &str, domain: &str) -> Result<Option<SpiffeId>> {
    if text == "-" {
        return Ok(None);
    }
    let bare = text.strip_prefix("spiffe://").unwrap_or(text);
    let uri = if bare.starts_with("ns/") {
        format!("spiffe://{domain}/{bare}")
    } else {
        format!("spiffe://{bare}")
    };
    let id =
        SpiffeId::parse(&uri).with_context(|| format!("`{text}`: write ns/NAMESPACE/sa/ACCOUNT, or -"))?;
    anyhow::ensure!(
        id.service_account().is_some(),
        "`{text}` names no service account: write ns/NAMESPACE/sa/ACCOUNT"
    );
    Ok(Some(id))
}

fn trust(world: &World) -> Vec<TrustBundle> {
    let bundle = |domain: &TrustDomain| TrustBundle { domain: domain.clone(), roots: vec![ROOT.into()] };
    std::iter::once(&world.mesh.trust_domain).chain(&world.mesh.trust_domain_aliases).map(bundle).collect()
}

/// Stands for a root certificate: nothing is verified with it.
const ROOT: &[u8] = b"offline";

/// What comes to a pod's sidecar; all, where its annotations cannot be read, as its author is told.
pub(crate) fn intercepted(pod: &Pod) -> Intercepted {
    let annotations = pod.meta.annotations.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    let said = annotated(&Meta { annotations, ..Meta::default() });
    said.map_or_else(|_| Intercepted::default(), |said| Intercepted(said.redirect))
}

#[cfg(test)]
mod tests;
