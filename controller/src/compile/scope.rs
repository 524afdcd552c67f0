//! Which namespaces' objects count for whom.

use std::sync::Arc;

use weft_core::model::name::ServiceName;

use super::Context;
use crate::fragment::kubernetes::Service;
use crate::fragment::mesh::Mesh;
use crate::fragment::meta::Meta;
use crate::fragment::sidecar::Sidecar;
use crate::world::World;

/// Whether an object that shapes a host counts for this client: the host's own namespace shapes it for all, the
/// client's for its own, the root namespace for the mesh, any other only where the service's owner granted it.
pub fn shapes(context: Context<'_>, object: &Meta, service: Option<&Service>) -> bool {
    let from = &object.name.namespace;
    let own = *from == context.client.meta.name.namespace;
    Mesh::is_root(from) || own || service.is_some_and(|service| service.is_shaped_from(from))
}

/// The Sidecar of a pod: the oldest that selects it, else its namespace's, else the mesh's.
pub fn sidecar<'a>(context: Context<'a>) -> Option<&'a Arc<Sidecar>> {
    let oldest = |namespace: &str, wanted: &dyn Fn(&Sidecar) -> bool| {
        let found = context.world.sidecars.of_namespace(namespace).filter(|s| wanted(s));
        found.min_by(|a, b| a.meta.age.cmp(&b.meta.age))
    };
    let namespace = &context.client.meta.name.namespace;
    let selects = |s: &Sidecar| s.selector.as_ref().is_some_and(|s| s.selects(&context.client.meta.labels));
    let whole = |s: &Sidecar| s.selector.is_none();
    let roots = || roots().find_map(|root| oldest(root, &whole));
    oldest(namespace, &selects).or_else(|| oldest(namespace, &whole)).or_else(roots)
}

/// The namespaces whose objects speak for the whole mesh.
pub fn roots() -> impl Iterator<Item = &'static str> {
    [crate::fragment::mesh::ROOT_NAMESPACE, crate::fragment::mesh::ISTIO_ROOT_NAMESPACE].into_iter()
}

/// Whether a client sees a service: the service is exported to its namespace, and its Sidecar imports it.
pub fn sees(context: Context<'_>, service: &Service) -> bool {
    if !service.visibility.includes(&context.client.meta.name.namespace) {
        return false;
    }
    let name = service.service_name();
    let imports = |s: &Arc<Sidecar>| {
        s.egress.is_empty() || s.egress.iter().any(|e| e.hosts.iter().any(|h| h.includes(&name)))
    };
    sidecar(context).is_none_or(imports)
}

/// The service of a host, if the client sees it.
pub fn seen_service<'a>(context: Context<'a>, host: &str) -> Option<&'a Arc<Service>> {
    context.world.service_of_host(host).filter(|service| sees(context, service))
}

/// A name for a host that a rule refers to: the service's, or one that no service has.
pub fn name_of_host(world: &World, host: &Arc<str>, namespace: &Arc<str>) -> ServiceName {
    let known = world.service_of_host(host).map(|service| service.service_name());
    known.unwrap_or_else(|| ServiceName { namespace: namespace.clone(), host: host.clone() })
}

/// The names by which a Host header means a service, as this client writes them.
pub fn domains(context: Context<'_>, service: &Service) -> Vec<Arc<str>> {
    let name = &service.meta.name;
    let mut all = vec![
        service.host(),
        format!("{}.{}.svc", name.name, name.namespace).into(),
        format!("{}.{}", name.name, name.namespace).into(),
    ];
    if name.namespace == context.client.meta.name.namespace {
        all.push(name.name.clone());
    }
    all.extend(service.addresses.iter().map(|ip| match ip {
        std::net::IpAddr::V4(ip) => ip.to_string().into(),
        std::net::IpAddr::V6(ip) => format!("[{ip}]").into(),
    }));
    if service.addresses.is_empty() {
        // Its pods have names below each of its own: `db-0.db`.
        let below: Vec<Arc<str>> = all.iter().map(|name| format!("*.{name}").into()).collect();
        all.extend(below);
    }
    all
}
