//! Exporters by OTLP, over gRPC or HTTP.

use std::collections::HashMap;

use http::{HeaderName, HeaderValue};
use opentelemetry::KeyValue;
use opentelemetry_otlp::{
    ExporterBuildError, Protocol, SpanExporter, WithExportConfig, WithHttpConfig, WithTonicConfig,
};
use opentelemetry_sdk::Resource;
use tonic::metadata::MetadataMap;
use tonic::transport::Endpoint;
use weft_core::model::metadata::WorkloadMetadata;
use weft_core::model::telemetry::{Collector, CollectorProtocol};

use super::attributes::known;
use super::connect::{Connector, Lookup};
use super::http::Posting;
use crate::dial::Dialer;

/// Why there is no exporter.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// Host and port make no address.
    #[error("the address of the collector cannot be used: {0}")]
    Address(#[from] tonic::transport::Error),
    /// The exporter refuses its settings.
    #[error("the collector cannot be used: {0}")]
    Settings(#[from] ExporterBuildError),
}

/// An exporter to a collector; connects when there is something to send.
///
/// # Errors
/// Which setting of the collector cannot be used.
pub fn exporter(collector: &Collector, dialer: Dialer, lookup: Lookup) -> Result<SpanExporter, ExportError> {
    let connector = Connector { dialer, lookup, host: collector.host.clone(), port: collector.port };
    let address = format!("http://{}", authority(collector));
    match &collector.protocol {
        CollectorProtocol::Grpc => grpc(collector, connector, address),
        CollectorProtocol::Http { path } => http(collector, connector, format!("{address}{path}")),
    }
}

fn grpc(collector: &Collector, connector: Connector, address: String) -> Result<SpanExporter, ExportError> {
    let channel = Endpoint::from_shared(address)?.connect_with_connector_lazy(connector);
    let metadata = MetadataMap::from_headers(collector.headers.iter().cloned().collect());
    let builder = SpanExporter::builder().with_tonic().with_channel(channel).with_metadata(metadata);
    Ok(builder.with_timeout(collector.timeout).build()?)
}

fn http(collector: &Collector, connector: Connector, address: String) -> Result<SpanExporter, ExportError> {
    let text = |(name, value): &(HeaderName, HeaderValue)| {
        Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
    };
    let headers: HashMap<_, _> = collector.headers.iter().filter_map(text).collect();
    let client = Posting { connector, timeout: collector.timeout };
    let builder = SpanExporter::builder().with_http().with_http_client(client).with_headers(headers);
    let builder = builder.with_protocol(Protocol::HttpBinary).with_endpoint(address);
    Ok(builder.with_timeout(collector.timeout).build()?)
}

fn authority(collector: &Collector) -> String {
    let Collector { host, port, .. } = collector;
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Who tells: Istio's name of a service (`app.namespace`), and the pod.
pub fn resource(own: &WorkloadMetadata) -> Resource {
    let name = if own.app.is_empty() { &own.workload } else { &own.app };
    Resource::builder_empty()
        .with_service_name(format!("{name}.{}", own.namespace))
        .with_attributes([
            known("service.version", &own.canonical_revision),
            known("service.instance.id", &own.pod),
            known("k8s.namespace.name", &own.namespace),
            known("k8s.pod.name", &own.pod),
            KeyValue::new("telemetry.sdk.language", "rust"),
            KeyValue::new("telemetry.sdk.name", "opentelemetry"),
        ])
        .build()
}
