//! What a workload's configuration says of the requests that come in on one of its ports, found once for each
//! configuration.

use std::sync::Arc;

use http::HeaderName;
use weft_core::authz;
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
        Some(Self {
            generation: snapshot.generation(),
            protocol: told.map_or(Protocol::Auto, |port| port.protocol),
            strictness: authz::strictness(inbound),
            headers: authz::read_headers(&inbound.policies),
            labels: labels.unwrap_or_default(),
            workload,
        })
    }
}
