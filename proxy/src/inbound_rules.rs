//! What a workload's configuration says of the requests that come in on one of its ports, found once for each
//! configuration.

use std::sync::Arc;

use http::HeaderName;
use weft_core::authz::requires_paths;
use weft_core::http::path::PathRules;
use weft_core::model::policy::{AuthorizationPolicy, Condition};
use weft_core::model::protocol::Protocol;
use weft_core::model::workload::Workload;
use weft_core::snapshot::Snapshot;

use crate::http::head::Strictness;
use crate::telemetry::ServiceLabels;

/// What holds for requests on one port.
pub struct Rules {
    /// The configuration that says so.
    pub generation: u64,
    /// The workload.
    pub workload: Arc<Workload>,
    /// What the port carries.
    pub protocol: Protocol,
    /// How strictly requests are read.
    pub strictness: Strictness,
    /// The headers that policies read.
    pub headers: Vec<HeaderName>,
    /// The service that the port serves, as metrics name it.
    pub labels: ServiceLabels,
}

impl Rules {
    /// What a configuration says of a port; `None` while the workload is not known.
    pub fn of(snapshot: &Snapshot, port: u16) -> Option<Self> {
        let workload = Arc::clone(snapshot.workload()?);
        let inbound = &workload.inbound;
        let told = inbound.port(port);
        let service = told.and_then(|port| port.service.as_ref());
        let labels = service.map(|of| ServiceLabels {
            host: Arc::clone(&of.service.host),
            name: of.service.host.split('.').next().unwrap_or_default().into(),
            namespace: Arc::clone(&of.service.namespace),
        });
        let paths = requires_paths(&inbound.policies);
        Some(Self {
            generation: snapshot.generation(),
            protocol: told.map_or(Protocol::Auto, |port| port.protocol),
            strictness: Strictness {
                paths: PathRules::new(inbound.path_normalization, paths),
                hosts: inbound.policies.iter().any(|policy| reads_hosts(policy)),
            },
            headers: read_headers(&inbound.policies),
            labels: labels.unwrap_or_default(),
            workload,
        })
    }
}

fn reads_hosts(policy: &AuthorizationPolicy) -> bool {
    policy.rules.iter().flat_map(|rule| &rule.to).any(|operation| !operation.hosts.is_empty())
}

fn read_headers(policies: &[Arc<AuthorizationPolicy>]) -> Vec<HeaderName> {
    let conditions = policies.iter().flat_map(|policy| &policy.rules).flat_map(|rule| &rule.when);
    let named = conditions.filter_map(|condition| match condition {
        Condition::Header(name, _) => Some(name.clone()),
        _ => None,
    });
    named.collect()
}
