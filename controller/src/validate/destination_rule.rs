//! DestinationRules.

use std::collections::BTreeSet;
use std::sync::Arc;

use weft_core::identity::SpiffeId;
use weft_core::model::cluster::{Balancer, RetryBudget, UpstreamTls};
use weft_crds::destination_rule::load_balancer::{LoadBalancer, SimpleLb};
use weft_crds::destination_rule::tls::{ClientTls, ClientTlsMode};
use weft_crds::destination_rule::{
    DestinationRule as Written, PortTrafficPolicy, RetryBudget as WrittenBudget, Subset as WrittenSubset,
    TrafficPolicy as WrittenPolicy,
};

use super::findings::Findings;
use super::{common, connection_pool, outlier};
use crate::fragment::destination_rule::{Blocks, DestinationRule, Subset, TrafficPolicy};
use crate::fragment::meta::Meta;

/// What a DestinationRule means.
pub fn destination_rule(findings: &mut Findings, meta: Meta, spec: &Written) -> Option<DestinationRule> {
    let namespace = meta.name.namespace.clone();
    let host = common::host(findings, "spec.host", &spec.host, &namespace);
    let visibility = common::visibility(findings, "spec.exportTo", &spec.export_to, &namespace);
    let clients = spec.workload_selector.as_ref();
    let clients =
        clients.map(|s| common::selector(findings, "spec.workloadSelector.matchLabels", &s.match_labels));
    let policy = spec.traffic_policy.as_ref().map(|p| traffic_policy(findings, "spec.trafficPolicy", p));
    let subsets = subsets(findings, &spec.subsets);
    Some(DestinationRule { meta, host: host?, visibility, clients, policy, subsets })
}

fn subsets(findings: &mut Findings, written: &[WrittenSubset]) -> Vec<Subset> {
    common::bounded(findings, "spec.subsets", written);
    let mut names = BTreeSet::new();
    let mut all = Vec::new();
    for (i, subset) in written.iter().enumerate() {
        let path = format!("spec.subsets[{i}]");
        if subset.name.is_empty() {
            findings.error(format!("{path}.name"), "missing; a route names a subset by it");
        } else if !names.insert(&subset.name) {
            findings.error(format!("{path}.name"), format!("`{}` is written twice", subset.name));
        }
        common::selector(findings, &format!("{path}.labels"), &subset.labels);
        let policy = subset.traffic_policy.as_ref();
        all.push(Subset {
            name: subset.name.as_str().into(),
            labels: common::labels(&subset.labels),
            policy: policy.map(|p| traffic_policy(findings, &format!("{path}.trafficPolicy"), p)),
        });
    }
    all
}

fn traffic_policy(findings: &mut Findings, path: &str, written: &WrittenPolicy) -> TrafficPolicy {
    common::bounded(findings, &format!("{path}.portLevelSettings"), &written.port_level_settings);
    let blocks = Blocks {
        balancer: written
            .load_balancer
            .as_ref()
            .map(|lb| balancer(findings, &format!("{path}.loadBalancer"), lb)),
        connections: written
            .connection_pool
            .as_ref()
            .map(|pool| connection_pool::policy(findings, &format!("{path}.connectionPool"), pool)),
        outlier: written
            .outlier_detection
            .as_ref()
            .map(|o| outlier::detection(findings, &format!("{path}.outlierDetection"), o)),
        tls: written.tls.as_ref().and_then(|t| tls(findings, &format!("{path}.tls"), t)),
        retry_budget: written
            .retry_budget
            .as_ref()
            .map(|b| retry_budget(findings, &format!("{path}.retryBudget"), b)),
    };
    let mut ports = Vec::new();
    for (i, port) in written.port_level_settings.iter().enumerate() {
        let path = format!("{path}.portLevelSettings[{i}]");
        let Some(number) = port_number(findings, &path, port) else { continue };
        if ports.iter().any(|(known, _)| *known == number) {
            findings.error(format!("{path}.port.number"), format!("{number} is written twice"));
        }
        ports.push((number, port_blocks(findings, &path, port)));
    }
    TrafficPolicy { blocks, ports }
}

fn port_number(findings: &mut Findings, path: &str, port: &PortTrafficPolicy) -> Option<u16> {
    let number = port.port.as_ref().and_then(|port| port.number);
    if number.is_none() {
        findings.error(format!("{path}.port.number"), "missing; write the service's port");
    }
    common::port(findings, &format!("{path}.port.number"), number)
}

/// A port's settings are a traffic policy without ports of its own.
fn port_blocks(findings: &mut Findings, path: &str, port: &PortTrafficPolicy) -> Blocks {
    let as_policy = WrittenPolicy {
        load_balancer: port.load_balancer.clone(),
        connection_pool: port.connection_pool.clone(),
        outlier_detection: port.outlier_detection.clone(),
        tls: port.tls.clone(),
        ..WrittenPolicy::default()
    };
    traffic_policy(findings, path, &as_policy).blocks
}

fn balancer(findings: &mut Findings, path: &str, written: &LoadBalancer) -> Balancer {
    let simple = match written.simple {
        Some(SimpleLb::RoundRobin) => Balancer::RoundRobin,
        Some(SimpleLb::Random) => Balancer::Random,
        Some(SimpleLb::Passthrough) => Balancer::Passthrough,
        Some(SimpleLb::LeastConn) => {
            findings.warn(format!("{path}.simple"), "LEAST_CONN is the old name of LEAST_REQUEST");
            Balancer::LeastRequest
        }
        Some(SimpleLb::LeastRequest | SimpleLb::Unspecified) | None => Balancer::LeastRequest,
    };
    if written.simple.is_some() && written.consistent_hash.is_some() {
        findings.error(path, "says two things; write one of simple, consistentHash");
    }
    simple
}

/// `tls`. An empty block would mean plaintext in Istio: here the mode must be written.
fn tls(findings: &mut Findings, path: &str, written: &ClientTls) -> Option<UpstreamTls> {
    let files = [
        ("clientCertificate", &written.client_certificate),
        ("privateKey", &written.private_key),
        ("caCertificates", &written.ca_certificates),
        ("credentialName", &written.credential_name),
    ];
    match written.mode {
        None => {
            findings.error(
                format!("{path}.mode"),
                "missing; write DISABLE for plaintext, ISTIO_MUTUAL for the mesh's mTLS, or leave the block out",
            );
            None
        }
        Some(ClientTlsMode::Disable) => Some(UpstreamTls::Disable),
        Some(ClientTlsMode::IstioMutual) => {
            for (name, _) in files.iter().filter(|(_, text)| !text.is_empty()) {
                findings.error(
                    format!("{path}.{name}"),
                    "has no meaning with ISTIO_MUTUAL, which has the mesh's own certificate",
                );
            }
            let sni = Some(&written.sni).filter(|sni| !sni.is_empty()).map(|sni| sni.as_str().into());
            Some(UpstreamTls::Mutual { sans: sans(findings, path, &written.subject_alt_names), sni })
        }
        Some(ClientTlsMode::Simple | ClientTlsMode::Mutual) => {
            findings.unhonoured(
                format!("{path}.mode"),
                "SIMPLE and MUTUAL are not honoured yet; DISABLE and ISTIO_MUTUAL are",
            );
            None
        }
    }
}

fn sans(findings: &mut Findings, path: &str, written: &[String]) -> Arc<[Arc<str>]> {
    for (i, san) in written.iter().enumerate() {
        findings.take(&format!("{path}.subjectAltNames[{i}]"), SpiffeId::parse(san));
    }
    written.iter().map(|san| san.as_str().into()).collect()
}

fn retry_budget(findings: &mut Findings, path: &str, written: &WrittenBudget) -> RetryBudget {
    let percent = written.percent.unwrap_or(20.0);
    if !(0.0..=100.0).contains(&percent) {
        findings
            .error(format!("{path}.percent"), format!("{percent} is outside the allowed range, 0 to 100"));
    }
    let least = format!("{path}.minRetryConcurrency");
    let least = common::number(findings, &least, written.min_retry_concurrency, (0, i64::from(u32::MAX)));
    RetryBudget {
        basis_points: (percent.clamp(0.0, 100.0) * 100.0) as u32,
        min_concurrency: least.unwrap_or(3),
    }
}
