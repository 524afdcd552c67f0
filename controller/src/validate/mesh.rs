//! The ConfigMap of mesh-wide settings: key `mesh`, YAML with the names of Istio's MeshConfig.

use serde_json::Value;
use weft_core::identity::TrustDomain;
use weft_core::model::workload::{OutboundMode, PathNormalization};

use super::common;
use super::findings::Findings;
use super::mesh_telemetry;
use crate::fragment::mesh::Mesh;
use crate::source::yaml;

/// The ConfigMap's name.
pub const NAME: &str = "weft";
/// Its key.
const KEY: &str = "mesh";

/// The settings; those that are not honoured are warned about, for they come whole from people's Istio.
pub fn mesh(findings: &mut Findings, data: &std::collections::BTreeMap<String, String>) -> Mesh {
    let mut mesh = Mesh::default();
    let Some(text) = data.get(KEY) else {
        findings.warn("data.mesh", "missing; every setting has its default");
        return mesh;
    };
    let parsed = yaml::parse(text).map_err(|e| format!("line {} of it: {}", e.line, e.reason));
    let Some(documents) = findings.take("data.mesh", parsed) else { return mesh };
    let Some(document) = documents.into_iter().next() else { return mesh };
    let Value::Object(settings) = &*document.value else {
        findings.error("data.mesh", "is no map of settings");
        return mesh;
    };
    for (name, value) in settings {
        setting(findings, &mut mesh, name, value);
    }
    mesh.telemetry = mesh_telemetry::settings(findings, settings);
    mesh
}

fn setting(findings: &mut Findings, mesh: &mut Mesh, name: &str, value: &Value) {
    let path = format!("data.mesh.{name}");
    match name {
        "trustDomain" => {
            mesh.trust_domain = domain(findings, &path, value).unwrap_or(mesh.trust_domain.clone())
        }
        "trustDomainAliases" => {
            let all = value.as_array().map(Vec::as_slice).unwrap_or_default().iter().enumerate();
            mesh.trust_domain_aliases =
                all.filter_map(|(i, v)| domain(findings, &format!("{path}[{i}]"), v)).collect();
        }
        "outboundTrafficPolicy" => outbound(findings, mesh, &path, value),
        "pathNormalization" => normalization(findings, mesh, &path, value),
        "meshRanges" => ranges(findings, mesh, &path, value),
        name if mesh_telemetry::NAMES.contains(&name) => {}
        _ => findings.warn(path, "is not honoured yet, and has no effect"),
    }
}

fn domain(findings: &mut Findings, path: &str, value: &Value) -> Option<TrustDomain> {
    findings.take(path, TrustDomain::new(value.as_str().unwrap_or_default()))
}

fn outbound(findings: &mut Findings, mesh: &mut Mesh, path: &str, value: &Value) {
    match value["mode"].as_str() {
        Some("ALLOW_ANY") => mesh.outbound = OutboundMode::AllowAny,
        Some("REGISTRY_ONLY") => mesh.outbound = OutboundMode::RegistryOnly,
        Some(other) => findings
            .error(format!("{path}.mode"), format!("`{other}` is neither ALLOW_ANY nor REGISTRY_ONLY")),
        None => findings.error(format!("{path}.mode"), "missing; write ALLOW_ANY or REGISTRY_ONLY"),
    }
}

fn normalization(findings: &mut Findings, mesh: &mut Mesh, path: &str, value: &Value) {
    mesh.path_normalization = match value["normalization"].as_str() {
        None | Some("DEFAULT" | "BASE") => PathNormalization::Base,
        Some("NONE") => PathNormalization::None,
        Some("MERGE_SLASHES") => PathNormalization::MergeSlashes,
        Some("DECODE_AND_MERGE_SLASHES") => PathNormalization::DecodeAndMergeSlashes,
        Some(other) => {
            let known = "NONE, BASE, MERGE_SLASHES or DECODE_AND_MERGE_SLASHES";
            findings.error(format!("{path}.normalization"), format!("`{other}` is not known; write {known}"));
            return;
        }
    };
}

fn ranges(findings: &mut Findings, mesh: &mut Mesh, path: &str, value: &Value) {
    let all = value.as_array().map(Vec::as_slice).unwrap_or_default().iter().enumerate();
    let read = |(i, v): (usize, &Value)| {
        common::network(findings, &format!("{path}[{i}]"), v.as_str().unwrap_or_default())
    };
    mesh.ranges = all.filter_map(read).collect();
}
