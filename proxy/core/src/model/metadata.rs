//! Who a workload is, in the words that metrics use; where it runs.

use std::sync::Arc;

/// What Istio's metrics say of a workload (`source_workload`, `destination_app`, ...). Empty means unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct WorkloadMetadata {
    /// The owner's name: the Deployment, StatefulSet or Job; a bare pod's own name.
    pub workload: Arc<str>,
    /// The namespace.
    pub namespace: Arc<str>,
    /// The pod's name.
    pub pod: Arc<str>,
    /// `service.istio.io/canonical-name`, else `app.kubernetes.io/name`, else `app`, else the workload.
    pub canonical_service: Arc<str>,
    /// `service.istio.io/canonical-revision`, else `app.kubernetes.io/version`, else `version`, else `latest`.
    pub canonical_revision: Arc<str>,
    /// Label `app`.
    pub app: Arc<str>,
    /// Label `version`.
    pub version: Arc<str>,
    /// The cluster's name.
    pub cluster: Arc<str>,
}

/// Where a workload runs; empty parts are unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Locality {
    /// `topology.kubernetes.io/region`.
    pub region: Arc<str>,
    /// `topology.kubernetes.io/zone`.
    pub zone: Arc<str>,
    /// `topology.istio.io/subzone`.
    pub subzone: Arc<str>,
}

/// Labels, sorted by key.
pub type Labels = Arc<[(Arc<str>, Arc<str>)]>;
