//! What several resources say.

use std::sync::Arc;

use weft_core::identity::SpiffeId;
use weft_core::matching::{Pattern, StringMatch, Wildcard};
use weft_core::model::address::{HostBinding, ServicePortRef};
use weft_core::model::metadata::{Labels, Locality, WorkloadMetadata};
use weft_core::model::name::{ClusterName, ObjectName, ServiceName};
use weft_core::model::protocol::Protocol;

use super::value::{
    At, Result, chosen, domain, host, list, namespace, optional, port, required, text, variant, word,
};
use crate::error::DecodeError;
use crate::limits::{MAX_LABELS, MAX_VALUES};
use crate::pb::config as pb;

pub(super) fn service_name(name: Option<&pb::ServiceName>) -> Result<ServiceName> {
    let name = required(name)?;
    Ok(ServiceName {
        namespace: namespace(&name.namespace).at("namespace")?,
        host: host(&name.host).at("host")?,
    })
}

pub(super) fn port_ref(it: &pb::ServicePortRef) -> Result<ServicePortRef> {
    Ok(ServicePortRef {
        service: service_name(it.service.as_ref()).at("service")?,
        port: port(it.port).at("port")?,
    })
}

pub(super) fn cluster_name(name: Option<&pb::ClusterName>) -> Result<ClusterName> {
    let name = required(name)?;
    Ok(ClusterName {
        service: service_name(name.service.as_ref()).at("service")?,
        port: port(name.port).at("port")?,
        subset: optional("subset", name.subset.as_ref(), |subset| word(subset))?,
    })
}

pub(super) fn object_name(name: &pb::ObjectName) -> Result<ObjectName> {
    Ok(ObjectName {
        namespace: namespace(&name.namespace).at("namespace")?,
        name: word(&name.name).at("name")?,
    })
}

pub(super) fn labels(labels: &[pb::Label]) -> Result<Labels> {
    let label = |label: &pb::Label| Ok((word(&label.key).at("key")?, text(&label.value).at("value")?));
    let labels = list("labels", labels, MAX_LABELS, label)?;
    for (i, pair) in labels.windows(2).enumerate() {
        if pair[0].0 >= pair[1].0 {
            let error = DecodeError::invalid("labels are not in order, or one stands twice");
            return Err(error.in_item(i + 1).in_field("labels"));
        }
    }
    Ok(labels.into())
}

pub(super) fn locality(locality: Option<&pb::Locality>) -> Result<Locality> {
    let Some(it) = locality else { return Ok(Locality::default()) };
    Ok(Locality {
        region: text(&it.region).at("region")?,
        zone: text(&it.zone).at("zone")?,
        subzone: text(&it.subzone).at("subzone")?,
    })
}

pub(super) fn metadata(metadata: Option<&pb::WorkloadMetadata>) -> Result<Arc<WorkloadMetadata>> {
    let Some(it) = metadata else { return Ok(Arc::default()) };
    Ok(Arc::new(WorkloadMetadata {
        workload: text(&it.workload).at("workload")?,
        namespace: text(&it.namespace).at("namespace")?,
        pod: text(&it.pod).at("pod")?,
        canonical_service: text(&it.canonical_service).at("canonical_service")?,
        canonical_revision: text(&it.canonical_revision).at("canonical_revision")?,
        app: text(&it.app).at("app")?,
        version: text(&it.version).at("version")?,
        cluster: text(&it.cluster).at("cluster")?,
    }))
}

pub(super) fn identity(uri: &str) -> Result<SpiffeId> {
    SpiffeId::parse(uri).map_err(DecodeError::invalid)
}

pub(super) fn protocol(protocol: i32) -> Result<Protocol> {
    Ok(match variant(protocol)? {
        pb::Protocol::Unspecified | pb::Protocol::Auto => Protocol::Auto,
        pb::Protocol::Http => Protocol::Http,
        pb::Protocol::Http2 => Protocol::Http2,
        pb::Protocol::Grpc => Protocol::Grpc,
        pb::Protocol::Tcp => Protocol::Tcp,
        pb::Protocol::Tls => Protocol::Tls,
        pb::Protocol::Udp => Protocol::Udp,
    })
}

pub(super) fn binding(binding: &pb::HostBinding) -> Result<HostBinding> {
    Ok(HostBinding {
        domains: list("domains", &binding.domains, MAX_VALUES, |it| domain(it))?,
        target: required(binding.target.as_ref()).and_then(port_ref).at("target")?,
    })
}

pub(super) fn string_match(it: &pb::StringMatch) -> Result<StringMatch> {
    use pb::string_match::Kind;
    Ok(match chosen(it.kind.as_ref())? {
        Kind::Present(_) => StringMatch::Present,
        Kind::Exact(exact) => StringMatch::Exact(text(exact).at("exact")?),
        Kind::Prefix(prefix) => StringMatch::Prefix(text(prefix).at("prefix")?),
        Kind::Regex(regex) => StringMatch::Regex(pattern(regex).at("regex")?),
    })
}

fn pattern(text: &str) -> Result<Pattern> {
    Pattern::new(text).map_err(DecodeError::invalid)
}

pub(super) fn wildcard(it: &pb::Wildcard) -> Result<Wildcard> {
    use pb::wildcard::Kind;
    Ok(match chosen(it.kind.as_ref())? {
        Kind::Present(_) => Wildcard::Present,
        Kind::Exact(exact) => Wildcard::Exact(text(exact).at("exact")?),
        Kind::Prefix(prefix) => Wildcard::Prefix(text(prefix).at("prefix")?),
        Kind::Suffix(suffix) => Wildcard::Suffix(text(suffix).at("suffix")?),
    })
}
