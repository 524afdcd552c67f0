//! PeerAuthentications.

use weft_core::model::workload::MtlsMode;
use weft_crds::peer_authentication::{MutualTls, MutualTlsMode, PeerAuthentication as Written};

use super::common;
use super::findings::Findings;
use crate::fragment::mesh::Mesh;
use crate::fragment::meta::Meta;
use crate::fragment::security::PeerAuthentication;

/// What a PeerAuthentication means.
pub fn peer_authentication(findings: &mut Findings, meta: Meta, spec: &Written) -> PeerAuthentication {
    let labels = spec.selector.as_ref().map(|s| &s.match_labels).filter(|labels| !labels.is_empty());
    let selector = labels.map(|l| common::selector(findings, "spec.selector.matchLabels", l));
    if selector.is_some() && Mesh::is_root(&meta.name.namespace) {
        findings.warn(
            "spec.selector",
            "has no effect in the root namespace, where the object speaks for the whole mesh",
        );
    }
    if selector.is_none() && !spec.port_level_mtls.is_empty() {
        findings.error("spec.portLevelMtls", "needs a selector: ports are those of chosen pods");
    }
    let mut ports = Vec::new();
    for (number, mtls) in &spec.port_level_mtls {
        match number.parse::<u16>() {
            Ok(number) if number > 0 && ports.iter().any(|(known, _)| *known == number) => {
                findings
                    .error(format!("spec.portLevelMtls.{number}"), format!("port {number} is written twice"));
            }
            Ok(number) if number > 0 => ports.push((number, mode(Some(mtls)))),
            _ => findings
                .error(format!("spec.portLevelMtls.{number}"), format!("`{number}` is no port, 1 to 65535")),
        }
    }
    PeerAuthentication { meta, selector, mode: mode(spec.mtls.as_ref()), ports }
}

fn mode(written: Option<&MutualTls>) -> Option<MtlsMode> {
    match written?.mode? {
        MutualTlsMode::Unset => None,
        MutualTlsMode::Disable => Some(MtlsMode::Disable),
        MutualTlsMode::Permissive => Some(MtlsMode::Permissive),
        MutualTlsMode::Strict => Some(MtlsMode::Strict),
    }
}
