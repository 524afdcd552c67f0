//! What the controller is told of: the pods as they run and the Services with their addresses, as manifests in a directory that
//! it watches beside the user's own.

use std::fs;
use std::io;
use std::path::Path;

use serde_json::{Value, json};

use crate::up::rollout::Kind;
use crate::up::services::Service;
use crate::up::supervisor::pods::Pod;
use crate::up::supervisor::{HOME, Mesh};

/// What was last written.
#[derive(Debug, Default)]
pub(crate) struct Written {
    pods: String,
    services: String,
}

/// Writes what changed; each file is replaced whole, so that nobody reads half of it.
pub(crate) fn write(mesh: &mut Mesh) {
    let pods = documents(mesh.pods.values().map(pod));
    let services = documents(mesh.desired.services.iter().filter_map(service));
    let written = &mut mesh.written;
    for (name, new, old) in
        [("pods.yaml", pods, &mut written.pods), ("services.yaml", services, &mut written.services)]
    {
        if new == *old {
            continue;
        }
        match replace(name, &new) {
            Ok(()) => *old = new,
            Err(e) => tracing::error!("write {name}: {e}"),
        }
    }
}

fn replace(name: &str, text: &str) -> io::Result<()> {
    let dir = Path::new(HOME).join("objects");
    let new = dir.join(format!(".{name}.new"));
    fs::write(&new, text)?;
    fs::rename(new, dir.join(name))
}

/// JSON is YAML.
fn documents(all: impl Iterator<Item = Value>) -> String {
    all.map(|value| format!("---\n{value}\n")).collect()
}

fn pod(pod: &Pod) -> Value {
    let state = pod.state();
    let ips: Vec<Value> = state.ips.iter().map(|ip| json!({ "ip": ip })).collect();
    let containers = pod.template.spec.containers.iter();
    let containers: Vec<Value> = containers.map(|c| json!({ "name": c.name, "ports": c.ports })).collect();
    let ready = if state.ready { "True" } else { "False" };
    let mut metadata = json!({
        "name": state.name, "namespace": state.namespace, "uid": pod.plan.uid, "labels": state.labels,
        "annotations": pod.template.metadata.annotations,
    });
    if let Some(owner) = owner(pod) {
        metadata["ownerReferences"] = json!([owner]);
    }
    if pod.ending {
        metadata["deletionTimestamp"] = json!("2000-01-01T00:00:00Z");
    }
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": metadata,
        "spec": {
            "serviceAccountName": pod.template.spec.account(), "nodeName": "local", "containers": containers,
        },
        "status": {
            "phase": if pod.ending { "Running" } else { pod.report.phase.as_str() },
            "podIP": state.ips.first(), "podIPs": ips, "conditions": [{ "type": "Ready", "status": ready }],
        },
    })
}

fn owner(pod: &Pod) -> Option<Value> {
    let (version, kind, name) = match pod.kind {
        Kind::Pod => return None,
        Kind::Interchangeable => ("apps/v1", "ReplicaSet", format!("{}-{}", pod.owner_name, pod.revision)),
        Kind::Numbered(_) => ("apps/v1", "StatefulSet", pod.owner_name.clone()),
        Kind::Job(..) => ("batch/v1", "Job", pod.owner_name.clone()),
    };
    Some(json!({ "apiVersion": version, "kind": kind, "name": name, "uid": pod.owner, "controller": true }))
}

/// The user's own file says the rest; it is repeated, because of two objects of one name the whole later one counts.
fn service(service: &Service) -> Option<Value> {
    if service.spec.kind.as_deref() == Some("ExternalName") {
        return None;
    }
    let addresses: Vec<String> = service.addresses.iter().map(ToString::to_string).collect();
    let addresses = if addresses.is_empty() { vec!["None".to_owned()] } else { addresses };
    let (meta, spec) = (&service.meta, &service.spec);
    let ports = spec.ports.iter().map(|p| {
        let mut port = json!({ "port": p.port, "protocol": p.protocol.as_deref().unwrap_or("TCP") });
        if let Some(name) = &p.name {
            port["name"] = json!(name);
        }
        if let Some(target) = &p.target_port {
            port["targetPort"] = json!(target);
        }
        if let Some(protocol) = &p.app_protocol {
            port["appProtocol"] = json!(protocol);
        }
        port
    });
    let families: Vec<&str> =
        service.addresses.iter().map(|a| if a.is_ipv6() { "IPv6" } else { "IPv4" }).collect();
    Some(json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {
            "name": meta.name, "namespace": meta.namespace, "labels": meta.labels, "annotations": meta.annotations,
        },
        "spec": {
            "selector": spec.selector, "ports": ports.collect::<Vec<_>>(), "clusterIP": addresses[0],
            "clusterIPs": addresses, "ipFamilies": families,
            "publishNotReadyAddresses": spec.publish_not_ready_addresses,
        },
    }))
}
