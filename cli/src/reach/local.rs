//! Sidecars of a mesh of `weft up`: connections that an agent makes inside the pod's network and hands out.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use anyhow::{Result, bail};

use super::{ADMIN, Admin, Bare, Sidecar, Target, Way, talk};
use crate::slips::{hint, listed};
use crate::up::api::{CONTROLLER, PodState};
use crate::up::plan::SIDECAR;
use crate::up::{self, Mesh};

/// The sidecars that are meant; at least one.
pub(super) async fn sidecars(mesh: &Arc<Mesh>, namespace: &str, target: &Target) -> Result<Vec<Sidecar>> {
    let state = mesh.state().await?;
    let here = state.pods.iter().filter(|pod| pod.namespace == namespace);
    let meant: Vec<_> = here.filter(|pod| is_meant(pod, target)).collect();
    if meant.is_empty() {
        bail!("there is no {target} in namespace {namespace}{}", instead(&state.pods, namespace));
    }
    let found: Vec<_> = meant.iter().filter(|pod| runs(pod)).map(|pod| sidecar(mesh, pod)).collect();
    if found.is_empty() {
        bail!("{target} in namespace {namespace}: {}", why_none(meant[0]));
    }
    Ok(found)
}

/// The pod that is meant, where none that is meant has a sidecar.
pub(super) async fn bare(mesh: &Mesh, namespace: &str, target: &Target) -> Result<Option<Bare>> {
    let state = mesh.state().await?;
    let mut meant = state.pods.iter().filter(|pod| pod.namespace == namespace && is_meant(pod, target));
    if meant.clone().any(has_sidecar) {
        return Ok(None);
    }
    Ok(meant.next().map(|pod| Bare {
        namespace: pod.namespace.clone(),
        pod: pod.name.clone(),
        address: pod.ips.first().copied(),
    }))
}

/// All sidecars that run.
pub(super) async fn everywhere(mesh: &Arc<Mesh>, namespace: Option<&str>) -> Result<Vec<Sidecar>> {
    let state = mesh.state().await?;
    let wanted = |pod: &&PodState| namespace.is_none_or(|namespace| pod.namespace == namespace);
    Ok(state.pods.iter().filter(wanted).filter(|pod| runs(pod)).map(|pod| sidecar(mesh, pod)).collect())
}

/// The address that a pod's hosts file has for a name: there is no name server.
pub(super) async fn lookup(mesh: &Mesh, (namespace, pod): (&str, &str), host: &str) -> Result<IpAddr> {
    let target = up::Target { namespace: namespace.to_owned(), name: pod.to_owned() };
    let hosts = mesh.exec(&target, None, &["cat", "/etc/hosts"]).await?.stdout;
    match in_hosts(&hosts, host) {
        Some(address) => Ok(address),
        None => bail!(
            "{host} is no name that {namespace}/{pod} finds{}: it is in no line of its hosts file; `weft get` lists the \
             Services",
            hint(host, names_in(&hosts))
        ),
    }
}

fn names_in(hosts: &str) -> impl Iterator<Item = &str> {
    let lines = hosts.lines().map(|line| line.split('#').next().unwrap_or_default());
    lines.flat_map(|line| line.split_ascii_whitespace().skip(1))
}

fn in_hosts(hosts: &str, host: &str) -> Option<IpAddr> {
    let host = host.strip_suffix('.').unwrap_or(host);
    let line = |line: &str| {
        let mut words = line.split('#').next()?.split_ascii_whitespace();
        let address = words.next()?.parse().ok()?;
        words.any(|name| name.eq_ignore_ascii_case(host)).then_some(address)
    };
    hosts.lines().find_map(line)
}

/// A connection to the loopback of a pod, or to the controller's administration interface.
pub(super) async fn connect(mesh: &Mesh, namespace: &str, pod: &str, port: u16) -> Result<talk::Stream> {
    let target = up::Target { namespace: namespace.to_owned(), name: pod.to_owned() };
    let stream = match pod {
        CONTROLLER => mesh.controller_connect().await?,
        _ => mesh.connect(&target, port).await?,
    };
    Ok(talk::Stream { bytes: Box::pin(stream), trouble: None })
}

fn is_meant(pod: &PodState, target: &Target) -> bool {
    match target {
        Target::Pod(name) => pod.name == *name,
        Target::Workload { kind, name } => pod.owner == format!("{kind} {}/{name}", pod.namespace),
    }
}

fn has_sidecar(pod: &PodState) -> bool {
    pod.containers.iter().any(|container| container.name == SIDECAR)
}

fn runs(pod: &PodState) -> bool {
    pod.containers.iter().any(|container| container.name == SIDECAR && container.running)
}

fn sidecar(mesh: &Arc<Mesh>, pod: &PodState) -> Sidecar {
    let workload = pod.owner.replacen(&format!(" {}/", pod.namespace), "/", 1);
    Sidecar {
        namespace: pod.namespace.clone(),
        pod: pod.name.clone(),
        workload: if workload.is_empty() { pod.name.clone() } else { workload },
        ready: pod.ready,
        address: pod.ips.first().copied(),
        intercepted: pod.intercepted.clone(),
        admin: Admin::of_sidecar(&Way::Local(Arc::clone(mesh)), &pod.namespace, &pod.name, ADMIN),
    }
}

fn why_none(pod: &PodState) -> String {
    if has_sidecar(pod) {
        return format!("the sidecar of {} does not run ({}); `weft logs` says more", pod.name, pod.phase);
    }
    format!(
        "{} has no sidecar; label its namespace weft.dev/injection=enabled to have one in its pods",
        pod.name
    )
}

fn instead(pods: &[PodState], namespace: &str) -> String {
    let here: Vec<&str> =
        pods.iter().filter(|pod| pod.namespace == namespace).map(|pod| pod.name.as_str()).collect();
    let elsewhere: BTreeSet<&str> = pods.iter().map(|pod| pod.namespace.as_str()).collect();
    match here.is_empty() {
        false => format!("; its pods are: {}", listed(here)),
        true if elsewhere.is_empty() => ", and no pod at all".into(),
        true => format!(", which has no pods; there are some in {} (choose with -n)", listed(elsewhere)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_as_a_hosts_file_has_them() {
        let hosts = "127.0.0.1 localhost\n10.96.0.7 web web.shop # web2\nfd00::7 web\n";
        assert_eq!(in_hosts(hosts, "WEB.shop."), Some([10, 96, 0, 7].into()));
        assert_eq!(in_hosts(hosts, "web2"), None);
    }

    #[test]
    fn a_workload_stands_for_its_own_pods_only() {
        let pod = |name: &str, owner: &str| PodState {
            namespace: "shop".into(),
            name: name.into(),
            owner: owner.into(),
            ..PodState::default()
        };
        let (web, web2) = (pod("web-1", "Deployment shop/web"), pod("web-2-1", "Deployment shop/web-2"));
        let target = "deploy/web".parse().unwrap();
        assert!(is_meant(&web, &target) && !is_meant(&web2, &target));
        assert!(is_meant(&web2, &"web-2-1".parse().unwrap()));
        assert!(!is_meant(&web, &"sts/web".parse().unwrap()));
    }
}
