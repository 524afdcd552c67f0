//! One destination of a rule: its endpoints, how they are dialled, and what stands in the way.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::balance::{PickArgs, candidates, pick};
use crate::model::cluster::{Balancer, OutlierDetection, UpstreamTls};
use crate::model::name::ClusterName;
use crate::reason::Reason;
use crate::transport::Transport;
use crate::upstream::{ClusterState, EndpointState, Nanos};

use super::costs::shown_labels;
use super::told::{Branch, EndpointTold, Refused, Sent, Step};
use super::words;

/// Where a branch leads.
pub(super) struct Way<'a> {
    /// The name of the cluster.
    pub(super) name: &'a ClusterName,
    /// The cluster.
    pub(super) cluster: Option<&'a Arc<ClusterState>>,
    /// The cluster of the port without subset, to tell who else is there.
    pub(super) whole: Option<&'a Arc<ClusterState>>,
    /// The only endpoint there is, where the client addressed one.
    pub(super) only: Option<Arc<EndpointState>>,
    /// What the client dialled.
    pub(super) original: SocketAddr,
    /// The share of requests, in percent.
    pub(super) share: f64,
    /// The time.
    pub(super) now: Nanos,
}

/// Tells of one destination.
pub(super) fn branch(way: &Way<'_>, sent: Option<Sent>) -> Branch {
    let mut branch = Branch {
        cluster: way.name.to_string(),
        service: Some(way.name.service.to_string()).filter(|_| way.name.port != 0),
        port: way.name.port,
        subset: way.name.subset.as_deref().map(str::to_owned),
        share: way.share,
        endpoints: Vec::new(),
        refused: None,
        sent,
        steps: Vec::new(),
    };
    let Some(cluster) = way.cluster else {
        branch.refused = Some(no_cluster(way.name));
        return branch;
    };
    let picked = picked(way, cluster);
    branch.endpoints = endpoints(way, cluster, &picked);
    branch.steps.push(Step::client("endpoints", who_takes(&branch.endpoints)));
    branch.steps.extend(policy_of(cluster));
    branch.steps.extend(dialled(cluster, &picked));
    branch.refused = refused(way, cluster, &picked);
    branch
}

/// The endpoints of which one is picked.
fn picked(way: &Way<'_>, cluster: &Arc<ClusterState>) -> Vec<Arc<EndpointState>> {
    if let Some(only) = &way.only {
        return vec![Arc::clone(only)];
    }
    if cluster.cluster.balancer == Balancer::Passthrough {
        let args = PickArgs { now: way.now, random: 0, tried: &[], original: Some(way.original) };
        return pick(cluster, &args).into_iter().collect();
    }
    candidates(cluster, way.now).into_iter().cloned().collect()
}

fn no_cluster(name: &ClusterName) -> Refused {
    let mend = match &name.subset {
        Some(subset) => format!(
            "a DestinationRule for {} must have a subset `{subset}`, and the Service a port {}",
            name.service.host, name.port
        ),
        None => format!("there must be a Service {} with a port {}", name.service.host, name.port),
    };
    Refused::by(Reason::NoCluster, mend)
}

fn refused(way: &Way<'_>, cluster: &Arc<ClusterState>, picked: &[Arc<EndpointState>]) -> Option<Refused> {
    if cluster.admission.request(&cluster.cluster).is_none() {
        let mend = "http2MaxRequests of the DestinationRule is reached: raise it, or send less at a time";
        return Some(Refused::by(Reason::Overflow, mend));
    }
    if picked.is_empty() {
        let labels = &cluster.cluster.labels;
        let mend = match labels.is_empty() {
            true => format!("a ready pod must stand behind {}", way.name.service.host),
            false => format!(
                "a ready pod of {} must have the labels {}",
                way.name.service.host,
                shown_labels(labels)
            ),
        };
        return Some(Refused::by(Reason::NoHealthyUpstream, mend));
    }
    let fault = |endpoint: &Arc<EndpointState>| endpoint.transport.as_ref().err().copied();
    let first = fault(picked.first()?)?;
    let all = picked.iter().all(|endpoint| fault(endpoint).is_some());
    all.then(|| {
        let mend = "mTLS is due, and nothing says who must answer: name subjectAltNames in the DestinationRule that fit the \
                    pod's service account, or remove tls.mode: ISTIO_MUTUAL for endpoints outside the mesh";
        Refused::by(first, mend)
    })
}

/// Every endpoint of the port: those of the cluster, and those of the port that are not in it.
fn endpoints(way: &Way<'_>, cluster: &Arc<ClusterState>, picked: &[Arc<EndpointState>]) -> Vec<EndpointTold> {
    let is_picked = |endpoint: &EndpointState| picked.iter().any(|p| p.address == endpoint.address);
    let mut all: Vec<EndpointTold> = cluster
        .endpoints
        .iter()
        .map(|endpoint| told(endpoint, (!is_picked(endpoint)).then(|| why_not(way, endpoint))))
        .collect();
    let others = way.whole.filter(|_| way.only.is_none()).into_iter().flat_map(|whole| &whole.endpoints);
    let labels = shown_labels(&cluster.cluster.labels);
    let not_in = |endpoint: &&Arc<EndpointState>| cluster.endpoint_at(endpoint.address).is_none();
    all.extend(others.filter(not_in).map(|e| told(e, Some(format!("has not the labels {labels}")))));
    let unlisted = picked.iter().filter(|endpoint| cluster.endpoint_at(endpoint.address).is_none());
    let fresh: Vec<_> = unlisted.filter(|e| all.iter().all(|known| known.address != e.address)).collect();
    all.extend(fresh.into_iter().map(|endpoint| told(endpoint, None)));
    all
}

fn why_not(way: &Way<'_>, endpoint: &EndpointState) -> String {
    match endpoint.ejected_until(way.now) {
        _ if way.only.is_some() => "the client addressed another pod".to_owned(),
        Some(until) => {
            let left = std::time::Duration::from_nanos(until.saturating_sub(way.now));
            format!("ejected by outlier detection for {:.1} s more", left.as_secs_f64())
        }
        None => "is not picked".to_owned(),
    }
}

fn told(endpoint: &EndpointState, why: Option<String>) -> EndpointTold {
    let sni = match &endpoint.transport {
        Ok(Transport::Mutual(tls)) => Some(tls.sni.to_string()),
        _ => None,
    };
    EndpointTold {
        address: endpoint.address,
        namespace: endpoint.metadata.namespace.to_string(),
        pod: endpoint.metadata.pod.to_string(),
        takes: why.is_none(),
        why,
        mtls: endpoint.is_mutual(),
        meshed: endpoint.endpoint.as_ref().is_some_and(|e| e.meshed) || endpoint.is_mutual(),
        sni,
    }
}

pub(super) fn who_takes(endpoints: &[EndpointTold]) -> String {
    let name = |e: &EndpointTold| match e.pod.is_empty() {
        true => e.address.to_string(),
        false => format!("{} ({})", e.pod, e.address),
    };
    let takes: Vec<String> = endpoints.iter().filter(|e| e.takes).map(name).collect();
    let out: Vec<String> =
        endpoints.iter().filter_map(|e| e.why.as_ref().map(|why| format!("{} {why}", name(e)))).collect();
    let taking = if takes.is_empty() { "none".to_owned() } else { words::listed(&takes, 4) };
    match out.is_empty() {
        true => taking,
        false => format!("{taking}; out: {}", words::listed(&out, 4)),
    }
}

/// What the cluster's DestinationRule says.
fn policy_of(cluster: &ClusterState) -> Option<Step> {
    let rule = &cluster.cluster;
    let source = rule.source.as_ref()?;
    let limits = [
        rule.connections.max_connections.map(|n| format!("at most {n} connections")),
        rule.connections.max_pending_requests.map(|n| format!("{n} waiting requests")),
        rule.connections.max_requests.map(|n| format!("{n} requests under way")),
        rule.outlier.as_ref().map(ejection),
    ];
    let balancer = match rule.balancer {
        Balancer::LeastRequest => "least request",
        Balancer::RoundRobin => "round robin",
        Balancer::Random => "random",
        Balancer::Passthrough => "passthrough",
    };
    let all: Vec<String> = std::iter::once(balancer.to_owned()).chain(limits.into_iter().flatten()).collect();
    Some(Step::client("limits", format!("DestinationRule {source}: {}", all.join(", "))))
}

fn ejection(rules: &OutlierDetection) -> String {
    let base = words::time(rules.base_ejection_time);
    match rules.consecutive_5xx {
        0 => format!("endpoints that fail are set aside for {base}"),
        n => format!("an endpoint that fails {n} times in a row is set aside for {base}"),
    }
}

/// How the endpoints are dialled.
fn dialled(cluster: &ClusterState, picked: &[Arc<EndpointState>]) -> Option<Step> {
    let first = picked.first()?;
    let says = match &first.transport {
        Ok(Transport::Mutual(tls)) => {
            let expected: Vec<String> = tls.expected.iter().map(ToString::to_string).collect();
            format!("mTLS; the server must be {}", expected.join(" or "))
        }
        Ok(Transport::Plain) if cluster.cluster.tls == UpstreamTls::Disable => {
            "in clear: the DestinationRule says tls.mode: DISABLE".to_owned()
        }
        Ok(Transport::Plain) => "in clear: no sidecar is known to be there that takes mTLS".to_owned(),
        Err(reason) => format!("not at all: {reason}"),
    };
    let differ = picked.iter().any(|e| e.is_mutual() != first.is_mutual());
    let says = if differ { format!("{says} (not all endpoints alike)") } else { says };
    Some(Step::client("mtls", says))
}
