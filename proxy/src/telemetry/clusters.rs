//! Clusters as they stand: read from the snapshot when somebody asks, so that they cost requests nothing.

use std::fmt::Write;

use weft_core::snapshot::{ClusterState, Snapshot};
use weft_core::upstream::Nanos;

/// A gauge of a cluster.
struct Gauge {
    name: &'static str,
    help: &'static str,
    value: fn(&ClusterState, Nanos) -> usize,
}

const GAUGES: [Gauge; 7] = [
    Gauge {
        name: "weft_upstream_endpoints",
        help: "Endpoints of the cluster.",
        value: |cluster, _| cluster.endpoints.len(),
    },
    Gauge {
        name: "weft_upstream_endpoints_ejected",
        help: "Endpoints that outlier detection set aside.",
        value: |cluster, now| cluster.ejected(now),
    },
    Gauge {
        name: "weft_upstream_connections",
        help: "Connections to the cluster.",
        value: |cluster, _| cluster.admission.connections() as usize,
    },
    Gauge {
        name: "weft_upstream_pending_requests",
        help: "Requests that wait for a connection.",
        value: |cluster, _| cluster.admission.pending_requests() as usize,
    },
    Gauge {
        name: "weft_upstream_requests",
        help: "Requests under way.",
        value: |cluster, _| cluster.admission.requests() as usize,
    },
    Gauge {
        name: "weft_upstream_retries",
        help: "Retries under way.",
        value: |cluster, _| cluster.admission.retries() as usize,
    },
    Gauge {
        name: "weft_upstream_retry_budget",
        help: "Retries that may be under way at once.",
        value: |cluster, _| retry_budget(cluster),
    },
];

/// Appends the gauges of every cluster.
pub fn render(text: &mut String, snapshot: &Snapshot, now: Nanos) {
    let mut clusters: Vec<_> = snapshot.all_clusters().collect();
    clusters.sort_by(|a, b| a.cluster.name.cmp(&b.cluster.name));
    for Gauge { name, help, value } in &GAUGES {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge");
        for cluster in &clusters {
            let _ = writeln!(text, "{name}{{cluster=\"{}\"}} {}", cluster.cluster.name, value(cluster, now));
        }
    }
}

/// `maxRetries` where it is written, else the share of the requests under way.
fn retry_budget(state: &ClusterState) -> usize {
    let budget = state.cluster.retry_budget;
    let share = u64::from(state.admission.requests()) * u64::from(budget.basis_points) / 10_000;
    let share = share.max(u64::from(budget.min_concurrency));
    state.cluster.connections.max_retries.map_or(share, u64::from) as usize
}
