//! Sidecars.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use weft_core::model::protocol::Protocol;
use weft_core::model::workload::OutboundMode;
use weft_crds::sidecar::{
    CaptureMode, EgressListener, IngressListener, OutboundTrafficMode, OutboundTrafficPolicy,
    Sidecar as Written, SidecarPort,
};

use super::common;
use super::findings::Findings;
use crate::fragment::mesh::Mesh;
use crate::fragment::meta::Meta;
use crate::fragment::sidecar::{Egress, EgressHost, Ingress, Sidecar};

/// What a Sidecar means.
pub fn sidecar(findings: &mut Findings, meta: Meta, spec: &Written) -> Sidecar {
    let namespace = meta.name.namespace.clone();
    let labels = spec.workload_selector.as_ref().map(|s| &s.labels).filter(|labels| !labels.is_empty());
    let selector = labels.map(|l| common::selector(findings, "spec.workloadSelector.labels", l));
    if selector.is_some() && Mesh::is_root(&namespace) {
        findings.error(
            "spec.workloadSelector",
            "has no meaning in the root namespace, where the object speaks for the whole mesh",
        );
    }
    let ingress = spec.ingress.iter().enumerate();
    let ingress =
        ingress.filter_map(|(i, l)| self::ingress(findings, &format!("spec.ingress[{i}]"), l)).collect();
    let egress = spec.egress.iter().enumerate();
    let egress =
        egress.map(|(i, l)| self::egress(findings, &format!("spec.egress[{i}]"), l, &namespace)).collect();
    let outbound = spec.outbound_traffic_policy.as_ref().and_then(|p| outbound(findings, p));
    let (ingress, egress): (Vec<Ingress>, Vec<Egress>) = (ingress, egress);
    common::bounded(findings, "spec.ingress", &spec.ingress);
    common::bounded(findings, "spec.egress", &spec.egress);
    twice(findings, "spec.ingress", ingress.iter().map(|i| Some((i.port, None))));
    twice(findings, "spec.egress", egress.iter().map(|e| Some((e.port?.0, e.bind))));
    let catch_all = egress.iter().position(|e| e.port.is_none());
    if let Some(at) = catch_all.filter(|at| at + 1 < egress.len()) {
        findings.error(
            format!("spec.egress[{at}]"),
            "has no port and so takes all other traffic: it stands alone of its kind, and last",
        );
    }
    Sidecar { meta, selector, ingress, egress, outbound }
}

/// Notes listeners on one port and address.
fn twice(
    findings: &mut Findings,
    path: &str,
    listeners: impl Iterator<Item = Option<(u16, Option<IpAddr>)>>,
) {
    let mut known = BTreeSet::new();
    for (i, listener) in listeners.enumerate() {
        let Some(listener) = listener else { continue };
        if !known.insert(listener) {
            findings.error(format!("{path}[{i}].port.number"), format!("{} is written twice", listener.0));
        }
    }
}

fn outbound(findings: &mut Findings, written: &OutboundTrafficPolicy) -> Option<OutboundMode> {
    let path = "spec.outboundTrafficPolicy.mode";
    match written.mode {
        Some(OutboundTrafficMode::AllowAny) => Some(OutboundMode::AllowAny),
        Some(OutboundTrafficMode::RegistryOnly) => Some(OutboundMode::RegistryOnly),
        Some(OutboundTrafficMode::AllowAnyDynamicDns) => {
            findings.unhonoured(path, "ALLOW_ANY_DYNAMIC_DNS is not honoured yet");
            None
        }
        None => {
            findings.error(path, "missing; write ALLOW_ANY or REGISTRY_ONLY, or leave the block out");
            None
        }
    }
}

fn port(findings: &mut Findings, path: &str, written: Option<&SidecarPort>) -> Option<(u16, Protocol)> {
    let written = written?;
    if written.number.is_none() {
        findings.error(format!("{path}.number"), "missing");
    }
    let number = common::port(findings, &format!("{path}.number"), written.number)?;
    let protocol = match written.protocol.as_str() {
        "" => Protocol::of_port(Some(&written.name), None, number),
        word => Protocol::of_port(Some(word), None, number),
    };
    if !written.protocol.is_empty() && protocol == Protocol::Auto {
        findings.error(
            format!("{path}.protocol"),
            format!("`{}` is not known; write HTTP, HTTP2, GRPC, TCP, TLS or HTTPS", written.protocol),
        );
    }
    Some((number, protocol))
}

fn bind(findings: &mut Findings, path: &str, text: &str) -> Option<IpAddr> {
    if text.is_empty() {
        return None;
    }
    findings.take(
        &format!("{path}.bind"),
        text.parse().map_err(|_| format!("`{text}` is no address; Unix sockets are not honoured yet")),
    )
}

fn ingress(findings: &mut Findings, path: &str, written: &IngressListener) -> Option<Ingress> {
    if written.port.is_none() {
        findings.error(format!("{path}.port"), "missing");
    }
    let (number, protocol) = port(findings, &format!("{path}.port"), written.port.as_ref())?;
    let bind = bind(findings, path, &written.bind);
    let captured = written.capture_mode != Some(CaptureMode::None);
    if bind.is_some() && captured {
        findings.error(format!("{path}.bind"), "has a meaning only with `captureMode: NONE`");
    }
    let listener =
        (!captured).then(|| SocketAddr::new(bind.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)), number));
    let application =
        default_endpoint(findings, &format!("{path}.defaultEndpoint"), &written.default_endpoint);
    if listener.is_some() && application.is_none() {
        findings.error(
            format!("{path}.defaultEndpoint"),
            "missing; with `captureMode: NONE` write where the application listens",
        );
    }
    Some(Ingress { port: number, protocol, listener, application })
}

fn default_endpoint(findings: &mut Findings, path: &str, text: &str) -> Option<SocketAddr> {
    if text.is_empty() {
        return None;
    }
    if text.starts_with("unix://") {
        findings.unhonoured(path, "Unix sockets are not honoured yet");
        return None;
    }
    let parsed: Option<SocketAddr> = text.parse().ok();
    let allowed = parsed.filter(|a| a.ip().is_loopback() || a.ip().is_unspecified());
    if allowed.is_none() {
        findings
            .error(path, format!("`{text}` is none of 127.0.0.1:PORT, 0.0.0.0:PORT, [::1]:PORT, [::]:PORT"));
    }
    allowed
}

fn egress(findings: &mut Findings, path: &str, written: &EgressListener, namespace: &str) -> Egress {
    let port = port(findings, &format!("{path}.port"), written.port.as_ref());
    let captured = written.capture_mode != Some(CaptureMode::None);
    if !captured && written.port.is_none() {
        findings.error(
            format!("{path}.port"),
            "missing; with `captureMode: NONE` write where the sidecar listens",
        );
    }
    common::bounded(findings, &format!("{path}.hosts"), &written.hosts);
    if written.hosts.is_empty() {
        findings
            .error(format!("{path}.hosts"), "missing; `*/*` is every service, `./*` those of this namespace");
    }
    let hosts = written.hosts.iter().enumerate();
    let hosts =
        hosts.filter_map(|(i, text)| egress_host(findings, &format!("{path}.hosts[{i}]"), text, namespace));
    let hosts = hosts.collect();
    Egress { port, bind: bind(findings, path, &written.bind), captured, hosts }
}

/// `namespace/host`; the namespace `~` is none at all.
fn egress_host(findings: &mut Findings, path: &str, text: &str, namespace: &str) -> Option<EgressHost> {
    let Some((of, host)) = text.split_once('/') else {
        findings
            .error(path, format!("`{text}` has no namespace; write `NAMESPACE/HOST`, `*/HOST` or `./HOST`"));
        return None;
    };
    let of = match of {
        "~" => return None,
        "*" => None,
        "." => Some(namespace.into()),
        "" => {
            findings.error(
                path,
                format!("`{text}` has no namespace; write `NAMESPACE/HOST`, `*/HOST` or `./HOST`"),
            );
            return None;
        }
        excluded if excluded.starts_with('~') => {
            findings.unhonoured(path, "excluding a host is not honoured yet");
            return None;
        }
        name => Some(name.into()),
    };
    let host = common::host(findings, path, host, namespace)?;
    Some(EgressHost { namespace: of, host })
}
