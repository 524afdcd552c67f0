//! Who a pod is to metrics; where it runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use weft_core::identity::SpiffeId;
use weft_core::model::metadata::{Labels, Locality, WorkloadMetadata};

use crate::fragment::kubernetes::Pod;
use crate::world::World;

/// The name of the one cluster there is, in the words of Istio's metrics.
const CLUSTER: &str = "Kubernetes";

/// What metrics say of a pod.
pub fn of_pod(pod: &Pod) -> Arc<WorkloadMetadata> {
    let labels = &pod.meta.labels;
    let first = |keys: &[&str]| keys.iter().find_map(|key| labels.get(*key)).map(|v| Arc::from(v.as_str()));
    let service = first(&["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"]);
    let revision = first(&["service.istio.io/canonical-revision", "app.kubernetes.io/version", "version"]);
    Arc::new(WorkloadMetadata {
        workload: pod.workload.clone(),
        namespace: pod.meta.name.namespace.clone(),
        pod: pod.meta.name.name.clone(),
        canonical_service: service.unwrap_or_else(|| pod.workload.clone()),
        canonical_revision: revision.unwrap_or_else(|| "latest".into()),
        app: first(&["app"]).unwrap_or_default(),
        version: first(&["version"]).unwrap_or_default(),
        cluster: CLUSTER.into(),
    })
}

/// The identity of a pod's service account; `None` where its names cannot be part of one.
pub fn identity(world: &World, pod: &Pod) -> Option<SpiffeId> {
    let domain = &world.mesh.trust_domain;
    SpiffeId::of_service_account(domain, &pod.meta.name.namespace, &pod.service_account).ok()
}

/// A pod's labels in the order of the model.
pub fn labels(labels: &BTreeMap<String, String>) -> Labels {
    labels.iter().map(|(key, value)| (key.as_str().into(), value.as_str().into())).collect()
}

/// Where a pod runs, as its labels say.
pub fn locality(pod: &Pod) -> Locality {
    let label = |key: &str| pod.meta.labels.get(key).map(|v| v.as_str().into()).unwrap_or_default();
    match pod.meta.labels.get("istio-locality") {
        Some(text) => {
            let mut parts = text.split('.').map(Arc::from);
            let mut next = || parts.next().unwrap_or_default();
            Locality { region: next(), zone: next(), subzone: next() }
        }
        None => Locality {
            region: label("topology.kubernetes.io/region"),
            zone: label("topology.kubernetes.io/zone"),
            subzone: label("topology.istio.io/subzone"),
        },
    }
}
