//! Features: conditions that a sidecar must know, or else it would let through what they keep out.
//!
//! A resource lists the features that it uses. A decoder that does not know one refuses the whole resource, so that an
//! old sidecar under a new controller never loses a condition that it cannot read. Whoever adds a condition to the
//! model adds a feature here.

use weft_core::model::cluster::UpstreamTls;
use weft_core::model::policy::{AuthorizationPolicy, PathPattern};
use weft_core::model::service::Service;
use weft_core::model::workload::{MtlsMode, PathNormalization, Workload};

use crate::error::DecodeError;

/// AuthorizationPolicies.
pub const AUTHORIZATION: &str = "authorization";
/// `when` in AuthorizationPolicies.
pub const AUTHORIZATION_WHEN: &str = "authorization.when";
/// URI templates in the paths of AuthorizationPolicies.
pub const AUTHORIZATION_PATH_TEMPLATES: &str = "authorization.path-templates";
/// PeerAuthentication modes other than PERMISSIVE.
pub const PEER_AUTHENTICATION: &str = "peer-authentication";
/// Path normalisation other than RFC 3986's.
pub const PATH_NORMALIZATION: &str = "path-normalization";
/// Servers that must prove a name of a list.
pub const SERVER_NAMES: &str = "server-names";

/// The features that this version knows.
pub const KNOWN: [&str; 6] = [
    AUTHORIZATION,
    AUTHORIZATION_WHEN,
    AUTHORIZATION_PATH_TEMPLATES,
    PEER_AUTHENTICATION,
    PATH_NORMALIZATION,
    SERVER_NAMES,
];

/// The features that a workload uses.
pub fn of_workload(workload: &Workload) -> Vec<&'static str> {
    let inbound = &workload.inbound;
    let modes = inbound.ports.iter().map(|port| port.mtls).chain([inbound.default_mtls]);
    let policies = || inbound.policies.iter();
    used([
        (AUTHORIZATION, !inbound.policies.is_empty()),
        (AUTHORIZATION_WHEN, policies().any(|policy| policy.rules.iter().any(|rule| !rule.when.is_empty()))),
        (AUTHORIZATION_PATH_TEMPLATES, policies().any(|policy| has_template(policy))),
        (PEER_AUTHENTICATION, modes.into_iter().any(|mode| mode != MtlsMode::Permissive)),
        (PATH_NORMALIZATION, inbound.path_normalization != PathNormalization::Base),
    ])
}

/// The features that a service uses.
pub fn of_service(service: &Service) -> Vec<&'static str> {
    let named = |tls: &UpstreamTls| matches!(tls, UpstreamTls::Mutual { sans, .. } if !sans.is_empty());
    used([(SERVER_NAMES, service.clusters.iter().any(|cluster| named(&cluster.tls)))])
}

/// Refuses a resource that requires what this version does not know.
pub fn check(requires: &[String]) -> Result<(), DecodeError> {
    for (index, feature) in requires.iter().enumerate() {
        if !KNOWN.contains(&feature.as_str()) {
            let error =
                DecodeError::not_understood(format!("this sidecar does not know the feature {feature:?}"));
            return Err(error.in_item(index).in_field("requires"));
        }
    }
    Ok(())
}

fn used<const N: usize>(features: [(&'static str, bool); N]) -> Vec<&'static str> {
    features.into_iter().filter(|(_, used)| *used).map(|(name, _)| name).collect()
}

fn has_template(policy: &AuthorizationPolicy) -> bool {
    let operations = policy.rules.iter().flat_map(|rule| &rule.to);
    let mut patterns = operations.flat_map(|to| to.paths.values.iter().chain(&to.paths.not_values));
    patterns.any(|pattern| matches!(pattern, PathPattern::Template(_)))
}
