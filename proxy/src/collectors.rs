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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::settings::AccessLogFormat;
    use crate::telemetry::Reporter;
    use http::HeaderName;
    use std::time::Duration;
    use weft_core::model::telemetry::{CollectorProtocol, Tag};

    fn exporters() -> Exporters {
        let (mesh, _) = Mesh::new(Duration::ZERO);
        let telemetry = Telemetry::new(AccessLogFormat::Off, Clock::system());
        Exporters { mesh, telemetry, dialer: Dialer::default(), seen: None, queues: Vec::new() }
    }

    fn tracing(host: &str, protocol: CollectorProtocol) -> Tracing {
        let collector = Collector {
            name: "jaeger".into(),
            host: host.into(),
            port: 1,
            service: None,
            protocol,
            headers: Vec::new(),
            timeout: Duration::from_millis(10),
        };
        Tracing { collector: Some(Arc::new(collector)), ..Tracing::default() }
    }

    fn both(tracing: &Tracing) -> Sides<Tracing> {
        Sides { client: tracing.clone(), server: tracing.clone() }
    }

    #[tokio::test]
    async fn nothing_runs_while_no_collector_is_named() {
        let mut exporters = exporters();
        exporters.follow(&Sides::default(), &Arc::default());
        let silent = Tracing { report: false, ..tracing("127.0.0.1", CollectorProtocol::Grpc) };
        exporters.follow(&both(&silent), &Arc::default());
        assert!(exporters.queues.is_empty());
        assert!(exporters.telemetry.spans.sink(Reporter::Source).is_none());
    }

    #[tokio::test]
    async fn one_export_serves_both_sides_for_as_long_as_the_collector_stays() {
        let mut exporters = exporters();
        let queue = |exporters: &Exporters, side| {
            exporters.telemetry.spans.sink(side).map(|sink| Arc::clone(&sink.queue)).unwrap()
        };
        let grpc = tracing("127.0.0.1", CollectorProtocol::Grpc);
        exporters.follow(&both(&grpc), &Arc::default());
        let first = queue(&exporters, Reporter::Source);
        assert!(Arc::ptr_eq(&first, &queue(&exporters, Reporter::Destination)));
        let more = Tracing { sampling: 50.0, ..grpc };
        exporters.follow(&both(&more), &Arc::default());
        assert!(Arc::ptr_eq(&first, &queue(&exporters, Reporter::Source)), "only the sampling has changed");
        let other = tracing("fd00::1", CollectorProtocol::Http { path: "/v1/traces".into() });
        exporters.follow(&both(&other), &Arc::default());
        assert!(!Arc::ptr_eq(&first, &queue(&exporters, Reporter::Source)));
        exporters.follow(&Sides::default(), &Arc::default());
        assert!(
            exporters.queues.is_empty() && exporters.telemetry.spans.sink(Reporter::Destination).is_none()
        );
    }

    #[tokio::test]
    async fn tags_are_read_where_they_come_from() {
        let exporters = exporters();
        let tag = |name: &str, value| Tag { name: name.into(), value };
        let environment =
            |name: &str, default: &str| TagValue::Environment { name: name.into(), default: default.into() };
        let header = TagValue::Header { name: HeaderName::from_static("end-user"), default: "nobody".into() };
        let tracing = Tracing {
            istio_tags: false,
            tags: vec![
                tag("written", TagValue::Literal("yes".into())),
                tag("path", environment("PATH", "")),
                tag("absent", environment("WEFT_NO_SUCH_VARIABLE", "default")),
                tag("empty", environment("WEFT_NO_SUCH_VARIABLE", "")),
                tag("user", header),
            ],
            ..tracing("127.0.0.1", CollectorProtocol::Grpc)
        };
        let queue =
            exporters.queue(tracing.collector.as_ref().unwrap(), &WorkloadMetadata::default()).unwrap();
        let sink = sink(queue, &tracing, &WorkloadMetadata::default());
        let names: Vec<_> = sink.fixed.iter().map(|tag| tag.key.as_str()).collect();
        assert_eq!(names, ["written", "path", "absent"]);
        assert_eq!(sink.headers[0].0.as_str(), "user");
    }
}
