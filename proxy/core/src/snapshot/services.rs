//! The rules of a service with the clusters they name.

use std::sync::Arc;

use super::clusters::ServiceClusters;
use super::resources::routed;
use super::{PortState, ServiceState};
use crate::hash::Map;
use crate::model::name::{ClusterName, ServiceName};
use crate::model::route::{Forward, HeaderOps, HttpAction, HttpRule, RuleSource, TcpDestination, TcpRule};
use crate::model::service::{Service, ServicePort};
use crate::route::{RuleState, TcpRuleState};
use crate::upstream::ClusterState;

type AllClusters = Map<ServiceName, Arc<ServiceClusters>>;

/// A service with its rules resolved; the one before where nothing that it is made of changed.
pub(super) fn service(
    told: &Arc<Service>,
    clusters: &AllClusters,
    previous: Option<&Arc<ServiceState>>,
) -> Arc<ServiceState> {
    let now = |name: &ServiceName| clusters.get(name).cloned();
    let same = |before: &Arc<ServiceState>| {
        Arc::ptr_eq(&before.service, told)
            && before.sources.iter().all(|(name, source)| same_source(source, clusters.get(name)))
    };
    if let Some(before) = previous.filter(|before| same(before)) {
        return Arc::clone(before);
    }
    let names = std::iter::once(&told.name).chain(routed(told));
    let sources = names.map(|name| (name.clone(), now(name))).collect();
    let ports = told.ports.iter().map(|p| Arc::new(port(told, p, clusters))).collect();
    Arc::new(ServiceState { service: Arc::clone(told), ports, sources })
}

fn same_source(before: &Option<Arc<ServiceClusters>>, now: Option<&Arc<ServiceClusters>>) -> bool {
    match (before, now) {
        (Some(before), Some(now)) => Arc::ptr_eq(before, now),
        (None, None) => true,
        _ => false,
    }
}

fn port(service: &Service, port: &ServicePort, clusters: &AllClusters) -> PortState {
    let own = ClusterName { service: service.name.clone(), port: port.number, subset: None };
    let http = or_else(&port.http.rules, || to_itself(own.clone()));
    let tcp = or_else(&port.tcp, || tcp_to_itself(own.clone()));
    PortState {
        number: port.number,
        name: Arc::clone(&port.name),
        protocol: port.protocol,
        rules: http.into_iter().map(|rule| http_rule(rule, clusters)).collect(),
        tcp: tcp.into_iter().map(|rule| tcp_rule(rule, clusters)).collect(),
        cluster: find(clusters, &own),
    }
}

fn or_else<T>(rules: &[Arc<T>], default: impl FnOnce() -> T) -> Vec<Arc<T>> {
    if rules.is_empty() { vec![Arc::new(default())] } else { rules.to_vec() }
}

fn http_rule(rule: Arc<HttpRule>, clusters: &AllClusters) -> Arc<RuleState> {
    let found = match &rule.action {
        HttpAction::Forward(forward) => {
            forward.destinations.iter().map(|d| find(clusters, &d.cluster)).collect()
        }
        HttpAction::Redirect(_) | HttpAction::Respond(_) => Vec::new(),
    };
    RuleState::new(rule, found)
}

fn tcp_rule(rule: Arc<TcpRule>, clusters: &AllClusters) -> Arc<TcpRuleState> {
    let found = rule.destinations.iter().map(|d| find(clusters, &d.cluster)).collect();
    TcpRuleState::new(rule, found)
}

fn find(clusters: &AllClusters, name: &ClusterName) -> Option<Arc<ClusterState>> {
    clusters.get(&name.service)?.find(name).cloned()
}

/// The rule of a port for which the controller told none.
fn to_itself(cluster: ClusterName) -> HttpRule {
    HttpRule {
        source: default_source(),
        matches: Vec::new(),
        action: HttpAction::Forward(Box::new(Forward::to(cluster))),
        request_headers: HeaderOps::default(),
        response_headers: HeaderOps::default(),
        extras: None,
    }
}

fn tcp_to_itself(cluster: ClusterName) -> TcpRule {
    let destinations = vec![TcpDestination { cluster, weight: 1 }];
    TcpRule { source: default_source(), matches: Vec::new(), destinations }
}

fn default_source() -> RuleSource {
    RuleSource { object: None, path: "default".into(), name: "default".into() }
}
