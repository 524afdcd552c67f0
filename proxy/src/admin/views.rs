//! The configuration as JSON, for people and for the `weft` command.

use std::time::SystemTime;

use serde_json::{Value, json};
use weft_core::model::cluster::Cluster;
use weft_core::model::policy::AuthorizationPolicy;
use weft_core::model::route::{HttpAction, RuleSource};
use weft_core::model::workload::{InboundPort, Workload};
use weft_core::overload::Memory;
use weft_core::snapshot::{
    ClusterState, EndpointState, PortState, RuleState, ServiceState, Snapshot, TcpRuleState,
};
use weft_core::upstream::Nanos;

use crate::config::SyncStatus;
use crate::identity::CertificateFacts;
use crate::overload::Overload;

/// Everything that is held.
pub(super) fn config(snapshot: &Snapshot) -> Value {
    let mut services: Vec<_> = snapshot.services().collect();
    services.sort_by(|a, b| a.service.name.cmp(&b.service.name));
    json!({
        "generation": snapshot.generation(),
        "workload": snapshot.workload().map(|told| workload(told)),
        "services": services.iter().map(|state| service(state)).collect::<Vec<_>>(),
    })
}

/// Clusters with their endpoints as they stand at `now`.
pub(super) fn clusters(snapshot: &Snapshot, now: Nanos) -> Value {
    let mut all: Vec<_> = snapshot.all_clusters().collect();
    all.sort_by(|a, b| a.cluster.name.cmp(&b.cluster.name));
    json!({ "clusters": all.iter().map(|state| cluster(state, now)).collect::<Vec<_>>() })
}

/// The certificate in use.
pub(super) fn certificate(facts: &CertificateFacts, now: SystemTime) -> Value {
    let left = facts.not_after.duration_since(now).map_or(0, |left| left.as_secs());
    json!({
        "certificate": {
            "identity": facts.identity.as_str(),
            "serial": facts.serial,
            "notBefore": date(facts.not_before),
            "notAfter": date(facts.not_after),
            "secondsLeft": left,
            "valid": facts.is_valid_at(now),
        }
    })
}

/// How the configuration stands.
pub(super) fn sync(status: &SyncStatus) -> Value {
    let held = status.held.iter().map(|(name, version)| json!({ "name": name, "version": version }));
    let refused = status.refused.iter().map(|(name, error)| json!({ "name": name, "error": error }));
    json!({
        "connected": status.connected,
        "asOf": status.as_of,
        "lastError": status.last_error,
        "resources": held.collect::<Vec<_>>(),
        "refused": refused.collect::<Vec<_>>(),
    })
}

/// What is under way, and how near that is to the sidecar's limits.
pub(super) fn load(overload: &Overload, memory: Option<Memory>, connections: usize) -> Value {
    let most = overload.most_requests();
    json!({
        "level": overload.level().name(),
        "connections": connections,
        "requests": overload.requests(),
        "mostRequests": (most < u32::MAX).then_some(most),
        "memory": memory.map(|memory| json!({ "used": memory.used, "limit": memory.limit })),
    })
}

fn workload(told: &Workload) -> Value {
    let labels: serde_json::Map<_, _> = told.labels.iter().map(|(k, v)| (k.to_string(), json!(v))).collect();
    json!({
        "identity": told.identity.as_str(),
        "pod": told.metadata.pod,
        "namespace": told.metadata.namespace,
        "workload": told.metadata.workload,
        "addresses": told.addresses,
        "labels": labels,
        "trustDomains": told.trust.iter().map(|bundle| bundle.domain.as_str()).collect::<Vec<_>>(),
        "inbound": {
            "mtls": format!("{:?}", told.inbound.default_mtls),
            "pathNormalization": format!("{:?}", told.inbound.path_normalization),
            "ports": told.inbound.ports.iter().map(inbound_port).collect::<Vec<_>>(),
            "policies": told.inbound.policies.iter().map(|held| policy(held)).collect::<Vec<_>>(),
        },
        "outbound": {
            "mode": format!("{:?}", told.outbound.mode),
            "meshRanges": told.outbound.mesh_ranges.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "listeners": told.outbound.listeners.iter().map(|l| l.bind.to_string()).collect::<Vec<_>>(),
        },
    })
}

fn inbound_port(port: &InboundPort) -> Value {
    json!({
        "port": port.number,
        "protocol": format!("{:?}", port.protocol),
        "mtls": format!("{:?}", port.mtls),
        "service": port.service.as_ref().map(|of| format!("{}:{}", of.service, of.port)),
        "application": port.application,
        "listener": port.listener,
    })
}

fn policy(held: &AuthorizationPolicy) -> Value {
    json!({
        "name": held.name.to_string(),
        "action": format!("{:?}", held.action),
        "dryRun": held.dry_run,
        "rules": held.rules.len(),
    })
}

fn service(state: &ServiceState) -> Value {
    json!({
        "name": state.service.name.to_string(),
        "addresses": state.service.addresses,
        "ports": state.ports.iter().map(|held| port(held)).collect::<Vec<_>>(),
    })
}

fn port(state: &PortState) -> Value {
    json!({
        "port": state.number,
        "name": state.name,
        "protocol": format!("{:?}", state.protocol),
        "http": state.rules.iter().map(|rule| http_rule(rule)).collect::<Vec<_>>(),
        "tcp": state.tcp.iter().map(|rule| tcp_rule(rule)).collect::<Vec<_>>(),
    })
}

fn http_rule(state: &RuleState) -> Value {
    let action = match &state.rule.action {
        HttpAction::Forward(forward) => json!({
            "destinations": forward.destinations.iter().map(|d| destination(&d.cluster.to_string(), d.weight))
                .collect::<Vec<_>>(),
            "timeoutMillis": forward.timeout.map(|t| t.as_millis() as u64),
            "retries": forward.retries.attempts,
        }),
        HttpAction::Redirect(redirect) => json!({ "redirect": redirect.status.as_u16() }),
        HttpAction::Respond(response) => json!({ "respond": response.status.as_u16() }),
    };
    let matches: Vec<_> = state.rule.matches.iter().map(ToString::to_string).collect();
    let extras = state.rule.extras.as_deref();
    json!({
        "source": source(&state.rule.source),
        "name": state.rule.source.name,
        "matches": matches,
        "fault": extras.and_then(|extras| extras.fault.as_ref()).map(ToString::to_string),
        "cors": extras.and_then(|extras| extras.cors.as_ref()).map(ToString::to_string),
        "action": action,
    })
}

fn tcp_rule(state: &TcpRuleState) -> Value {
    let to = state.rule.destinations.iter().map(|d| destination(&d.cluster.to_string(), d.weight));
    json!({ "source": source(&state.rule.source), "destinations": to.collect::<Vec<_>>() })
}

fn destination(cluster: &str, weight: u32) -> Value {
    json!({ "cluster": cluster, "weight": weight })
}

fn source(source: &RuleSource) -> String {
    match &source.object {
        Some(object) => format!("{object} {}", source.path),
        None => source.path.to_string(),
    }
}

fn cluster(state: &ClusterState, now: Nanos) -> Value {
    let Cluster { name, source, balancer, .. } = &*state.cluster;
    json!({
        "name": name.to_string(),
        "destinationRule": source.as_ref().map(ToString::to_string),
        "balancer": format!("{balancer:?}"),
        "connections": state.admission.connections(),
        "pendingRequests": state.admission.pending_requests(),
        "requests": state.admission.requests(),
        "retries": state.admission.retries(),
        "ejected": state.ejected(now),
        "endpoints": state.endpoints.iter().map(|one| endpoint(one, now)).collect::<Vec<_>>(),
    })
}

fn endpoint(state: &EndpointState, now: Nanos) -> Value {
    let left = state.ejected_until(now).map(|until| until.saturating_sub(now) / 1_000_000);
    json!({
        "address": state.address,
        "pod": state.metadata.pod,
        "identity": state.identity.as_ref().map(ToString::to_string),
        "transport": match &state.transport {
            Ok(transport) => format!("{transport:?}"),
            Err(reason) => reason.to_string(),
        },
        "weight": state.weight,
        "active": state.active(),
        "state": if left.is_some() { "ejected" } else { "active" },
        "ejectedForMillis": left,
    })
}

fn date(time: SystemTime) -> String {
    crate::clock::rfc3339(time)
}
