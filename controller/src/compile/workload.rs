//! A pod's own workload: who it is, what it lets in, how it goes out.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use weft_core::model::address::{HostBinding, ServicePortRef};
use weft_core::model::workload::{EgressListener, Inbound, InboundPort, Outbound, Workload};

use super::mtls::PodMtls;
use super::{Context, address, metadata, policy, scope, telemetry};
use crate::fragment::kubernetes::Service;
use crate::fragment::sidecar::{Egress, Ingress, Sidecar};

/// The workload of the client; `None` where its namespace or account cannot be part of an identity.
pub fn workload(context: Context<'_>) -> Option<Workload> {
    let pod = context.client;
    let sidecar = scope::sidecar(context);
    Some(Workload {
        identity: metadata::identity(context.world, pod)?,
        metadata: metadata::of_pod(pod),
        addresses: pod.addresses.clone(),
        labels: metadata::labels(&pod.meta.labels),
        locality: metadata::locality(pod),
        trust: context.trust.to_vec(),
        inbound: inbound(context, sidecar.map(Arc::as_ref)),
        outbound: outbound(context, sidecar.map(Arc::as_ref)),
        telemetry: telemetry::telemetry(context),
    })
}

fn inbound(context: Context<'_>, sidecar: Option<&Sidecar>) -> Inbound {
    let mtls = PodMtls::of(context.world, context.client);
    let mut ports = match sidecar.map(|sidecar| sidecar.ingress.as_slice()) {
        Some(ingress) if !ingress.is_empty() => {
            ingress.iter().map(|i| of_ingress(context, i, &mtls)).collect()
        }
        _ => of_services(context, &mtls),
    };
    for (number, mode) in mtls.named_ports() {
        if !ports.iter().any(|port| port.number == number) {
            ports.push(InboundPort { mtls: mode, ..undeclared(number) });
        }
    }
    ports.sort_by_key(|port| port.number);
    Inbound {
        default_mtls: mtls.default_mode(),
        ports,
        policies: policy::policies(context),
        path_normalization: context.world.mesh.path_normalization,
    }
}

fn undeclared(number: u16) -> InboundPort {
    InboundPort {
        number,
        protocol: Default::default(),
        mtls: Default::default(),
        service: None,
        application: None,
        listener: None,
    }
}

/// The ports that services name; of several services on one port, the oldest decides.
fn of_services(context: Context<'_>, mtls: &PodMtls<'_>) -> Vec<InboundPort> {
    let mut ports: Vec<InboundPort> = Vec::new();
    for service in context.world.services_of_pod(context.client) {
        for port in &service.ports {
            let Some(number) = port.target_on(Some(context.client)) else { continue };
            if ports.iter().any(|known| known.number == number) {
                continue;
            }
            let service = Some(ServicePortRef { service: service.service_name(), port: port.number });
            let mode = mtls.on_port(number);
            ports.push(InboundPort { protocol: port.protocol, mtls: mode, service, ..undeclared(number) });
        }
    }
    ports
}

fn of_ingress(context: Context<'_>, ingress: &Ingress, mtls: &PodMtls<'_>) -> InboundPort {
    let mut owners = address::owners(context, context.client, ingress.port);
    let owner = owners.next();
    let own = context.client.addresses.first().copied();
    let concrete = |a: SocketAddr| match (a.ip().is_unspecified(), own) {
        (true, Some(ip)) => SocketAddr::new(ip, a.port()),
        _ => a,
    };
    InboundPort {
        protocol: ingress.protocol,
        mtls: mtls.on_port(ingress.port),
        service: owner.map(|(s, p)| ServicePortRef { service: s.service_name(), port: p.number }),
        application: ingress.application.map(concrete),
        listener: ingress.listener,
        ..undeclared(ingress.port)
    }
}

fn outbound(context: Context<'_>, sidecar: Option<&Sidecar>) -> Outbound {
    let own = sidecar.and_then(|sidecar| sidecar.outbound);
    let explicit = sidecar.map(|sidecar| sidecar.egress.as_slice()).unwrap_or_default();
    Outbound {
        mode: own.unwrap_or(context.world.mesh.outbound),
        mesh_ranges: context.world.mesh.ranges.clone(),
        listeners: explicit.iter().filter_map(|egress| listener(context, egress)).collect(),
    }
}

/// An explicit listener, where traffic is not captured: on the loopback address unless `bind` says otherwise.
fn listener(context: Context<'_>, egress: &Egress) -> Option<EgressListener> {
    let (number, protocol) = egress.port.filter(|_| !egress.captured)?;
    let bind = SocketAddr::new(egress.bind.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)), number);
    let meant = |service: &&Arc<Service>| {
        let name = service.service_name();
        service.ports.iter().any(|port| port.number == number)
            && service.visibility.includes(&context.client.meta.name.namespace)
            && egress.hosts.iter().any(|host| host.includes(&name))
    };
    let mut services: Vec<&Arc<Service>> = context.world.services.values().filter(meant).collect();
    services.sort_by(|a, b| a.meta.age.cmp(&b.meta.age));
    let binding = |service: &&Arc<Service>| HostBinding {
        domains: scope::domains(context, service),
        target: ServicePortRef { service: service.service_name(), port: number },
    };
    Some(EgressListener { bind, protocol, services: services.iter().map(binding).collect() })
}
