//! DestinationRules.

use std::sync::Arc;

use weft_core::model::cluster::{Balancer, ConnectionPolicy, OutlierDetection, RetryBudget, UpstreamTls};
use weft_core::model::metadata::Labels;

use super::meta::{Meta, Selector, Visibility};

/// A DestinationRule that is understood.
#[derive(Clone, Debug, PartialEq)]
pub struct DestinationRule {
    /// Name, age, origin.
    pub meta: Meta,
    /// `host`, fully qualified, lower case; `*.x` stands for every name under `x`.
    pub host: Arc<str>,
    /// `exportTo`.
    pub visibility: Visibility,
    /// `workloadSelector`: the client pods it is for; with one, only those of its own namespace.
    pub clients: Option<Selector>,
    /// `trafficPolicy`.
    pub policy: Option<TrafficPolicy>,
    /// `subsets`.
    pub subsets: Vec<Subset>,
}

/// One of `subsets`.
#[derive(Clone, Debug, PartialEq)]
pub struct Subset {
    /// Its name.
    pub name: Arc<str>,
    /// The labels of its endpoints.
    pub labels: Labels,
    /// Its own `trafficPolicy`.
    pub policy: Option<TrafficPolicy>,
}

/// `trafficPolicy`: the blocks, and what replaces them on single ports.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrafficPolicy {
    /// The blocks.
    pub blocks: Blocks,
    /// `portLevelSettings`, by service port: replace all blocks on that port.
    pub ports: Vec<(u16, Blocks)>,
}

/// The blocks of a traffic policy; one that is `None` was not written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Blocks {
    /// `loadBalancer`.
    pub balancer: Option<Balancer>,
    /// `connectionPool`.
    pub connections: Option<ConnectionPolicy>,
    /// `outlierDetection`.
    pub outlier: Option<OutlierDetection>,
    /// `tls`.
    pub tls: Option<UpstreamTls>,
    /// `retryBudget`.
    pub retry_budget: Option<RetryBudget>,
}

impl TrafficPolicy {
    /// The blocks that hold on a port.
    pub fn on_port(&self, port: u16) -> &Blocks {
        self.ports.iter().find(|(number, _)| *number == port).map_or(&self.blocks, |(_, blocks)| blocks)
    }
}

impl Blocks {
    /// These blocks, with those that `over` writes in their place.
    pub fn overlaid(&self, over: &Self) -> Self {
        Self {
            balancer: over.balancer.or(self.balancer),
            connections: over.connections.clone().or_else(|| self.connections.clone()),
            outlier: over.outlier.clone().or_else(|| self.outlier.clone()),
            tls: over.tls.clone().or_else(|| self.tls.clone()),
            retry_budget: over.retry_budget.or(self.retry_budget),
        }
    }
}
