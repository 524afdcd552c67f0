//! Mesh-wide settings: the ConfigMap `weft` of the root namespace, key `mesh`, with the names of Istio's MeshConfig.

use ipnet::IpNet;
use weft_core::identity::TrustDomain;
use weft_core::model::workload::{OutboundMode, PathNormalization};

use super::telemetry::TelemetrySettings;

/// The namespace of mesh-wide objects.
pub const ROOT_NAMESPACE: &str = "weft-system";
/// Counts as the root namespace too, so that mesh-wide manifests of Istio apply as they are.
pub const ISTIO_ROOT_NAMESPACE: &str = "istio-system";
/// The domain under which Kubernetes names its services.
pub const CLUSTER_DOMAIN: &str = "cluster.local";

/// What is honoured of MeshConfig.
#[derive(Clone, Debug, PartialEq)]
pub struct Mesh {
    /// `trustDomain`.
    pub trust_domain: TrustDomain,
    /// `trustDomainAliases`.
    pub trust_domain_aliases: Vec<TrustDomain>,
    /// `outboundTrafficPolicy.mode`.
    pub outbound: OutboundMode,
    /// `pathNormalization.normalization`.
    pub path_normalization: PathNormalization,
    /// Where pods and services live (`meshRanges`, ours; the ranges of Kubernetes' own defaults where it is silent).
    pub ranges: Vec<IpNet>,
    /// What is said of telemetry.
    pub telemetry: TelemetrySettings,
}

/// Whether a host that settings write, which may leave the domain out, is a service's.
pub fn is_host(written: &str, host: &str) -> bool {
    let rest = host.strip_prefix(written);
    rest.is_some_and(|rest| rest.is_empty() || is_domain(rest.trim_start_matches(".svc")))
}

fn is_domain(rest: &str) -> bool {
    rest.strip_prefix('.') == Some(CLUSTER_DOMAIN)
}

impl Mesh {
    /// Whether objects of a namespace speak for the whole mesh.
    pub fn is_root(namespace: &str) -> bool {
        namespace == ROOT_NAMESPACE || namespace == ISTIO_ROOT_NAMESPACE
    }
}

impl Default for Mesh {
    fn default() -> Self {
        let net = |a: [u8; 4], length| IpNet::V4(ipnet::Ipv4Net::new_assert(a.into(), length));
        let pods6 = ipnet::Ipv6Net::new_assert(std::net::Ipv6Addr::new(0xfd00, 0x10, 0, 0, 0, 0, 0, 0), 32);
        Self {
            trust_domain: TrustDomain::new("cluster.local").expect("a constant that is valid"),
            trust_domain_aliases: Vec::new(),
            outbound: OutboundMode::default(),
            path_normalization: PathNormalization::default(),
            ranges: vec![net([10, 244, 0, 0], 16), net([10, 96, 0, 0], 12), IpNet::V6(pods6)],
            telemetry: TelemetrySettings::default(),
        }
    }
}
