//! Exporters of spans, as the configuration names collectors: made when there is one, ended when there is none. While
//! no collector is named nothing runs.

use std::sync::Arc;

use opentelemetry::{Key, KeyValue};
use weft_core::model::metadata::WorkloadMetadata;
use weft_core::model::telemetry::{Collector, Sides, TagValue, Tracing};

use crate::config::Mesh;
use crate::dial::Dialer;
use crate::settings::variable;
use crate::telemetry::Telemetry;
use crate::telemetry::spans::connect::Lookup;
use crate::telemetry::spans::export::{exporter, resource};
use crate::telemetry::spans::{Queue, Sink};

/// Follows the configuration for as long as there is one. To be run where exports may run.
pub async fn follow(mesh: Mesh, telemetry: Telemetry, dialer: Dialer) {
    let mut exporters = Exporters { mesh: mesh.clone(), telemetry, dialer, seen: None, queues: Vec::new() };
    let mut changes = mesh.changes();
    loop {
        changes.borrow_and_update();
        if let Some(workload) = mesh.snapshot().workload() {
            exporters.follow(&workload.telemetry.tracing, &workload.metadata);
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// The exporters that run.
struct Exporters {
    mesh: Mesh,
    telemetry: Telemetry,
    dialer: Dialer,
    /// By what they were made.
    seen: Option<(Sides<Tracing>, Arc<WorkloadMetadata>)>,
    queues: Vec<(Arc<Collector>, Arc<Queue>)>,
}

impl Exporters {
    fn follow(&mut self, tracing: &Sides<Tracing>, own: &Arc<WorkloadMetadata>) {
        if self.seen.as_ref().is_some_and(|(seen, by)| seen == tracing && by == own) {
            return;
        }
        // Spans say whose they are: others' exporters are not gone on with.
        let same = self.seen.as_ref().is_some_and(|(_, by)| by == own);
        let old = std::mem::take(&mut self.queues);
        let known = if same { old.clone() } else { Vec::new() };
        let sinks = Sides {
            client: self.sink(&tracing.client, own, &known),
            server: self.sink(&tracing.server, own, &known),
        };
        self.telemetry.spans.set(sinks);
        self.seen = Some((tracing.clone(), Arc::clone(own)));
        let gone = |queue: &Arc<Queue>| !self.queues.iter().any(|(_, kept)| Arc::ptr_eq(kept, queue));
        for (_, queue) in old.into_iter().filter(|(_, queue)| gone(queue)) {
            tokio::spawn(queue.close());
        }
    }

    fn sink(
        &mut self,
        tracing: &Tracing,
        own: &WorkloadMetadata,
        known: &[(Arc<Collector>, Arc<Queue>)],
    ) -> Option<Arc<Sink>> {
        let collector = tracing.collector.as_ref().filter(|_| tracing.report)?;
        let of = |queues: &[(Arc<Collector>, Arc<Queue>)]| {
            queues.iter().find(|(held, _)| held == collector).map(|(_, queue)| Arc::clone(queue))
        };
        let queue = match of(&self.queues) {
            Some(queue) => queue,
            None => {
                let queue = of(known).or_else(|| self.queue(collector, own))?;
                self.queues.push((Arc::clone(collector), Arc::clone(&queue)));
                queue
            }
        };
        Some(Arc::new(sink(queue, tracing, own)))
    }

    /// A collector that is a service of the mesh is found as the mesh knows it: the sidecar may see no name server that
    /// knows services.
    fn lookup(&self, collector: &Collector) -> Lookup {
        let (mesh, service) = (self.mesh.clone(), collector.service.clone());
        Arc::new(move || {
            let (mesh, service) = (mesh.clone(), service.clone());
            Box::pin(async move {
                let Some(service) = service else { return Vec::new() };
                let found = mesh.service(&service.service).await;
                found.map_or_else(|_| Vec::new(), |state| state.service.addresses.clone())
            })
        })
    }

    fn queue(&self, collector: &Collector, own: &WorkloadMetadata) -> Option<Arc<Queue>> {
        let name = &collector.name;
        let exporter = exporter(collector, self.dialer, self.lookup(collector))
            .map_err(|error| tracing::error!(collector = %name, %error, "no spans are exported"))
            .ok()?;
        let spans = self.telemetry.metrics.spans.clone();
        let (resource, timeout) = (resource(own), collector.timeout);
        Some(Arc::new(Queue::new(exporter, Arc::clone(name), &resource, timeout, spans)))
    }
}

fn sink(queue: Arc<Queue>, tracing: &Tracing, own: &WorkloadMetadata) -> Sink {
    let istio = tracing.istio_tags.then(|| crate::telemetry::spans::attributes::istio(own));
    let mut fixed: Vec<KeyValue> = istio.into_iter().flatten().collect();
    let mut headers = Vec::new();
    for tag in &tracing.tags {
        let key = Key::from(Arc::clone(&tag.name));
        let value = match &tag.value {
            TagValue::Literal(text) => Arc::clone(text),
            TagValue::Environment { name, default } => {
                variable(name).map_or_else(|| Arc::clone(default), Arc::from)
            }
            TagValue::Header { name, default } => {
                headers.push((key, name.clone(), Arc::clone(default)));
                continue;
            }
        };
        if !value.is_empty() {
            fixed.push(KeyValue::new(key, value));
        }
    }
    Sink { queue, fixed, headers }
}
