//! Kubernetes' own kinds. The API server has checked them; what cannot be read all the same is named.

use std::net::IpAddr;
use std::sync::Arc;

use weft_core::model::name::ObjectName;
use weft_core::model::protocol::Protocol;
use weft_crds::core as written;
use weft_crds::meta::ObjectMeta;

use super::common;
use super::findings::Findings;
use crate::fragment::kubernetes::{
    EndpointSlice, Namespace, Pod, Sampling, Service, ServicePort, SliceEndpoint, TargetPort, uid_hash,
};
use crate::fragment::meta::{Meta, Selector};
use crate::source::yaml;

/// Who may shape a service's traffic for clients elsewhere: namespaces, or `*`.
const ALLOW_ROUTES_FROM: &str = "weft.dev/allow-routes-from";
/// Which namespaces see a service.
const EXPORT_TO: &str = "networking.istio.io/exportTo";
/// The service of an EndpointSlice.
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// What the injector put into a pod; it cannot be set by hand.
const STATUS: &str = "weft.dev/status";
/// Sampling of traces in percent.
const SAMPLING: &str = "weft.dev/trace-sampling";
/// Istio's ProxyConfig as YAML.
const PROXY_CONFIG: &str = "proxy.istio.io/config";
/// Says that a pod has a sidecar, when it is `istio`.
const TLS_MODE: &str = "security.istio.io/tlsMode";

/// A Namespace.
pub fn namespace(meta: &Meta) -> Namespace {
    Namespace { name: meta.name.name.clone(), labels: meta.labels.clone() }
}

/// A Service.
pub fn service(findings: &mut Findings, meta: Meta, spec: &written::ServiceSpec) -> Service {
    let ips: Vec<&String> = match spec.cluster_ips.is_empty() {
        true => vec![&spec.cluster_ip],
        false => spec.cluster_ips.iter().collect(),
    };
    let own = ips.into_iter().filter(|ip| !ip.is_empty() && *ip != "None").cloned().collect::<Vec<_>>();
    let list = |text: &str| {
        text.split(',').map(|n| n.trim().to_owned()).filter(|n| !n.is_empty()).collect::<Vec<_>>()
    };
    let exported = meta.annotation(EXPORT_TO).map(list).unwrap_or_default();
    let granted = meta.annotation(ALLOW_ROUTES_FROM).map(list).unwrap_or_default();
    let ports = spec.ports.iter().enumerate();
    let ports = ports.filter_map(|(i, p)| service_port(findings, &format!("spec.ports[{i}]"), p)).collect();
    let namespace = meta.name.namespace.clone();
    Service {
        addresses: addresses(findings, "spec.clusterIPs", &own),
        external_addresses: addresses(findings, "spec.externalIPs", &spec.external_ips),
        selector: (!spec.selector.is_empty()).then(|| Selector(common::labels(&spec.selector).to_vec())),
        ports,
        external_name: (spec.type_ == "ExternalName").then(|| spec.external_name.to_ascii_lowercase().into()),
        publish_not_ready: spec.publish_not_ready_addresses,
        visibility: common::visibility(findings, "metadata.annotations", &exported, &namespace),
        routes_from: granted.iter().map(|n| n.as_str().into()).collect(),
        meta,
    }
}

fn service_port(findings: &mut Findings, path: &str, written: &written::ServicePort) -> Option<ServicePort> {
    if !matches!(written.protocol.as_str(), "" | "TCP") {
        return None;
    }
    let number = port(findings, &format!("{path}.port"), written.port)?;
    let target = match &written.target_port {
        None => TargetPort::Number(number),
        Some(written::IntOrString::Int(0)) => TargetPort::Number(number),
        Some(written::IntOrString::Int(n)) => {
            TargetPort::Number(port(findings, &format!("{path}.targetPort"), *n)?)
        }
        Some(written::IntOrString::String(name)) => match name.parse::<u16>() {
            Ok(number) => TargetPort::Number(number),
            Err(_) => TargetPort::Name(name.as_str().into()),
        },
    };
    let name = Some(written.name.as_str()).filter(|name| !name.is_empty());
    let protocol = Protocol::of_port(name, written.app_protocol.as_deref(), number);
    Some(ServicePort { name: written.name.as_str().into(), number, protocol, target })
}

/// A Pod.
pub fn pod(findings: &mut Findings, meta: Meta, object: &written::Pod) -> Pod {
    let status = &object.status;
    let ips: Vec<String> = match status.pod_ips.is_empty() {
        true => Some(&status.pod_ip).filter(|ip| !ip.is_empty()).into_iter().cloned().collect(),
        false => status.pod_ips.iter().map(|ip| ip.ip.clone()).collect(),
    };
    let ready = status.conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True");
    let containers = object.spec.init_containers.iter().chain(&object.spec.containers);
    let named = containers.flat_map(|c| &c.ports).filter(|port| !port.name.is_empty());
    let ports = named.filter_map(|p| Some((p.name.as_str().into(), u16::try_from(p.container_port).ok()?)));
    let account = match object.spec.service_account_name.as_str() {
        "" => "default",
        name => name,
    };
    Pod {
        addresses: addresses(findings, "status.podIPs", &ips),
        service_account: account.into(),
        node: object.spec.node_name.as_str().into(),
        workload: workload(&object.metadata),
        ready: ready && object.metadata.deletion_timestamp.is_none(),
        ended: matches!(status.phase.as_str(), "Succeeded" | "Failed"),
        meshed: is_meshed(object),
        host_network: object.spec.host_network,
        uid: uid_hash(&object.metadata.uid),
        ports: ports.collect(),
        sampling: sampling(findings, &object.metadata),
        meta,
    }
}

/// What the annotations say of traces; what is no percentage is warned about, for the pod runs all the same.
fn sampling(findings: &mut Findings, meta: &ObjectMeta) -> Sampling {
    let own = meta.annotation(SAMPLING).map(|text| text.trim().parse::<f64>().ok());
    let config = meta.annotation(PROXY_CONFIG).and_then(|text| yaml::parse(text).ok()?.into_iter().next());
    let config = config.map(|document| document.value["tracing"]["sampling"].clone());
    let config = config.filter(|value| !value.is_null()).map(|value| value.as_f64());
    Sampling { own: percent(findings, SAMPLING, own), config: percent(findings, PROXY_CONFIG, config) }
}

fn percent(findings: &mut Findings, key: &str, written: Option<Option<f64>>) -> Option<f64> {
    let percent = written?.filter(|percent| (0.0..=100.0).contains(percent));
    if percent.is_none() {
        findings.warn(
            format!("metadata.annotations[{key}]"),
            "sampling is no percentage, 0 to 100: it has no effect",
        );
    }
    percent
}

/// Whether a sidecar is in the pod: the injector's mark, or a label that says so.
fn is_meshed(pod: &written::Pod) -> bool {
    let injected = pod.metadata.annotations.contains_key(STATUS) && !pod.spec.host_network;
    injected || pod.metadata.label(TLS_MODE) == Some("istio")
}

/// The owner's name: of a ReplicaSet, the Deployment's.
fn workload(meta: &ObjectMeta) -> Arc<str> {
    let owner = meta.owner_references.iter().find(|owner| owner.controller.unwrap_or(false));
    let Some(owner) = owner else { return meta.name.as_str().into() };
    let hash = meta.label("pod-template-hash").map(|hash| format!("-{hash}")).unwrap_or_default();
    match owner.kind.as_str() {
        "ReplicaSet" => owner.name.strip_suffix(&hash).unwrap_or(&owner.name).into(),
        _ => owner.name.as_str().into(),
    }
}

/// An EndpointSlice; `None` for one of no service, or of names.
pub fn endpoint_slice(
    findings: &mut Findings,
    meta: Meta,
    slice: &written::EndpointSlice,
) -> Option<EndpointSlice> {
    let service = meta.labels.get(SERVICE_NAME)?;
    let service = ObjectName { namespace: meta.name.namespace.clone(), name: service.as_str().into() };
    if slice.address_type == "FQDN" {
        return None;
    }
    let port = |p: &written::EndpointPort| {
        let tcp = matches!(p.protocol.as_str(), "" | "TCP");
        Some((p.name.as_str().into(), u16::try_from(p.port?).ok()?)).filter(|_| tcp)
    };
    let mut endpoints = Vec::new();
    for (i, endpoint) in slice.endpoints.iter().enumerate() {
        for ip in addresses(findings, &format!("endpoints[{i}].addresses"), &endpoint.addresses) {
            endpoints.push(slice_endpoint(&meta, endpoint, ip));
        }
    }
    Some(EndpointSlice { service, ports: slice.ports.iter().filter_map(port).collect(), endpoints, meta })
}

fn slice_endpoint(meta: &Meta, endpoint: &written::Endpoint, ip: IpAddr) -> SliceEndpoint {
    let pod = endpoint.target_ref.as_ref().filter(|target| target.kind == "Pod");
    SliceEndpoint {
        ip,
        pod: pod.map(|target| ObjectName {
            namespace: meta.name.namespace.clone(),
            name: target.name.as_str().into(),
        }),
        ready: endpoint.conditions.ready.unwrap_or(true),
        zone: endpoint.zone.as_deref().unwrap_or_default().into(),
    }
}

fn addresses(findings: &mut Findings, path: &str, list: &[String]) -> Vec<IpAddr> {
    let read = |(i, text): (usize, &String)| {
        let parsed = text.parse::<IpAddr>().map_err(|_| format!("`{text}` is no IP address"));
        findings.take(&format!("{path}[{i}]"), parsed)
    };
    list.iter().enumerate().filter_map(read).collect()
}

fn port(findings: &mut Findings, path: &str, number: i64) -> Option<u16> {
    findings.take(path, weft_crds::scalar::Int(number).port())
}
