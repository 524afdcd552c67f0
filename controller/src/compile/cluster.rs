//! Clusters from DestinationRules.

use std::sync::Arc;

use weft_core::model::cluster::Cluster;
use weft_core::model::metadata::Labels;
use weft_core::model::name::{ClusterName, ObjectName, ServiceName};

use super::{Context, scope};
use crate::fragment::destination_rule::{Blocks, DestinationRule, Subset, TrafficPolicy};
use crate::fragment::kubernetes::Service;
use crate::fragment::mesh::Mesh;

/// What the DestinationRules say of one host to one client, merged.
#[derive(Default)]
pub struct Rules<'a> {
    /// The rule whose policy counts, for explanations.
    source: Option<&'a ObjectName>,
    policy: Option<&'a TrafficPolicy>,
    subsets: Vec<&'a Subset>,
}

/// A cluster for each port, and for each port and subset.
pub fn clusters(context: Context<'_>, name: &ServiceName, service: &Service) -> Vec<Arc<Cluster>> {
    let rules = Rules::of(context, name, service);
    let subsets = || std::iter::once(None).chain(rules.subsets.iter().copied().map(Some));
    let ports = service.ports.iter().map(|port| port.number);
    ports
        .flat_map(|port| subsets().map(move |subset| (port, subset)))
        .map(|(port, subset)| Arc::new(rules.cluster(name, port, subset)))
        .collect()
}

impl<'a> Rules<'a> {
    /// The rules of the first namespace that has any for the host: the client's, the service's, the mesh's.
    fn of(context: Context<'a>, name: &ServiceName, service: &Service) -> Self {
        let groups: Vec<&[Arc<DestinationRule>]> =
            context.world.index.destination_rules.groups(&name.host).collect();
        let client = &*context.client.meta.name.namespace;
        let in_client = |rule: &DestinationRule| *rule.meta.name.namespace == *client;
        let in_service = |rule: &DestinationRule| *rule.meta.name.namespace == *name.namespace;
        let in_root = |rule: &DestinationRule| Mesh::is_root(&rule.meta.name.namespace);
        let granted =
            |rule: &DestinationRule| !in_root(rule) && scope::shapes(context, &rule.meta, Some(service));
        let order: [&dyn Fn(&DestinationRule) -> bool; 4] = [&in_client, &in_service, &granted, &in_root];
        for of_namespace in order {
            for group in &groups {
                let found: Vec<_> = group.iter().filter(|r| of_namespace(r) && counts(context, r)).collect();
                if !found.is_empty() {
                    return Self::merged(found);
                }
            }
        }
        Self::default()
    }

    /// Rules for chosen pods first, then the oldest first: subsets are joined, the first policy counts.
    fn merged(mut rules: Vec<&'a Arc<DestinationRule>>) -> Self {
        rules.sort_by_key(|rule| rule.clients.is_none());
        let mut all = Self::default();
        for rule in rules {
            if all.policy.is_none() {
                all.source = Some(&rule.meta.name);
                all.policy = rule.policy.as_ref();
            }
            for subset in &rule.subsets {
                if !all.subsets.iter().any(|known| known.name == subset.name) {
                    all.subsets.push(subset);
                }
            }
        }
        all
    }

    fn cluster(&self, service: &ServiceName, port: u16, subset: Option<&Subset>) -> Cluster {
        let plain = Blocks::default();
        let top = self.policy.map_or(&plain, |policy| policy.on_port(port));
        let over = subset.and_then(|s| s.policy.as_ref()).map_or(&plain, |policy| policy.on_port(port));
        let blocks = top.overlaid(over);
        let subset_name = subset.map(|subset| subset.name.clone());
        let labels: Labels = subset.map(|subset| subset.labels.clone()).unwrap_or_else(|| Arc::new([]));
        Cluster {
            name: ClusterName { service: service.clone(), port, subset: subset_name },
            source: self.source.cloned(),
            labels,
            balancer: blocks.balancer.unwrap_or_default(),
            connections: blocks.connections.unwrap_or_default(),
            outlier: blocks.outlier,
            tls: blocks.tls.unwrap_or_default(),
            retry_budget: blocks.retry_budget.unwrap_or_default(),
        }
    }
}

fn counts(context: Context<'_>, rule: &DestinationRule) -> bool {
    let client = &context.client.meta;
    match &rule.clients {
        Some(selector) => {
            rule.meta.name.namespace == client.name.namespace && selector.selects(&client.labels)
        }
        None => rule.visibility.includes(&client.name.namespace),
    }
}
