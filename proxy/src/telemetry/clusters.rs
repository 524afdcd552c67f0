//! Clusters as they stand: read from the snapshot when somebody asks, so that they cost requests nothing.

use std::fmt::Write;

use weft_core::snapshot::{ClusterState, Snapshot};
use weft_core::upstream::Nanos;

/// A number of a cluster: one that goes up and down, or by its name (`_total`) one that only grows.
struct Gauge {
    name: &'static str,
    help: &'static str,
    value: fn(&ClusterState, Nanos) -> u64,
}

const GAUGES: [Gauge; 10] = [
    Gauge {
        name: "weft_upstream_endpoints",
        help: "Endpoints of the cluster.",
        value: |cluster, _| cluster.endpoints.len() as u64,
    },
    Gauge {
        name: "weft_upstream_endpoints_ejected",
        help: "Endpoints that outlier detection set aside.",
        value: |cluster, now| cluster.ejected(now) as u64,
    },
    Gauge {
        name: "weft_upstream_connections",
        help: "Connections to the cluster.",
        value: |cluster, _| cluster.admission.connections().into(),
    },
    Gauge {
        name: "weft_upstream_pending_requests",
        help: "Requests that wait for a connection.",
        value: |cluster, _| cluster.admission.pending_requests().into(),
    },
    Gauge {
        name: "weft_upstream_requests",
        help: "Requests under way.",
        value: |cluster, _| cluster.admission.requests().into(),
    },
    Gauge {
        name: "weft_upstream_retries",
        help: "Retries under way.",
        value: |cluster, _| cluster.admission.retries().into(),
    },
    Gauge {
        name: "weft_upstream_retry_budget",
        help: "Retries that may be under way at once.",
        value: |cluster, _| retry_budget(cluster),
    },
    Gauge {
        name: "weft_upstream_ejections_total",
        help: "How often outlier detection set an endpoint aside.",
        value: |cluster, _| cluster.ejections(),
    },
    Gauge {
        name: "weft_upstream_retries_total",
        help: "Retries.",
        value: |cluster, _| cluster.admission.retried().0,
    },
    Gauge {
        name: "weft_upstream_retries_denied_total",
        help: "Retries that the budget had no room for.",
        value: |cluster, _| cluster.admission.retried().1,
    },
];

/// The gauges of every cluster.
pub fn render(snapshot: &Snapshot, now: Nanos) -> String {
    let mut text = String::new();
    let mut clusters: Vec<_> = snapshot.all_clusters().collect();
    clusters.sort_by(|a, b| a.cluster.name.cmp(&b.cluster.name));
    for Gauge { name, help, value } in &GAUGES {
        let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for cluster in &clusters {
            let _ = writeln!(text, "{name}{{cluster=\"{}\"}} {}", cluster.cluster.name, value(cluster, now));
        }
    }
    text
}

/// `maxRetries` where it is written, else the share of the requests under way.
fn retry_budget(state: &ClusterState) -> u64 {
    let budget = state.cluster.retry_budget;
    let share = u64::from(state.admission.requests()) * u64::from(budget.basis_points) / 10_000;
    let share = share.max(u64::from(budget.min_concurrency));
    state.cluster.connections.max_retries.map_or(share, u64::from)
}
