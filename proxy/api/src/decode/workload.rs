//! A sidecar's own workload.

use std::sync::Arc;

use bytes::Bytes;
use weft_core::identity::TrustDomain;
use weft_core::model::workload::{
    EgressListener, Inbound, InboundPort, MtlsMode, Outbound, OutboundMode, PathNormalization, TrustBundle,
    Workload,
};

use super::common::{binding, identity, labels, locality, metadata, port_ref, protocol};
use super::policy::policy;
use super::telemetry::telemetry;
use super::value::{
    At, Result, fail, ip, list, message, network, optional, port as port_number, required, socket_address,
    variant,
};
use crate::error::DecodeError;
use crate::feature;
use crate::limits::{MAX_CERTIFICATE_BYTES, MAX_POLICIES, MAX_PORTS, MAX_ROOTS, MAX_VALUES};
use crate::pb::config as pb;

/// Decodes a sidecar's own workload.
pub fn workload(body: &[u8]) -> Result<Workload> {
    let message: pb::Workload = message(body)?;
    feature::check(&message.requires)?;
    Ok(Workload {
        identity: identity(&message.identity).at("identity")?,
        metadata: metadata(message.metadata.as_ref()).at("metadata")?,
        addresses: list("addresses", &message.addresses, MAX_VALUES, |address| ip(address))?,
        labels: labels(&message.labels)?,
        locality: locality(message.locality.as_ref()).at("locality")?,
        trust: list("trust", &message.trust, MAX_ROOTS, trust)?,
        inbound: required(message.inbound.as_ref()).and_then(inbound).at("inbound")?,
        outbound: required(message.outbound.as_ref()).and_then(outbound).at("outbound")?,
        telemetry: Arc::new(telemetry(message.telemetry.as_ref()).at("telemetry")?),
    })
}

fn trust(bundle: &pb::TrustBundle) -> Result<TrustBundle> {
    let domain = TrustDomain::new(&bundle.domain).map_err(DecodeError::invalid).at("domain")?;
    Ok(TrustBundle { domain, roots: list("roots", &bundle.roots, MAX_ROOTS, root)? })
}

fn root(der: &Bytes) -> Result<Bytes> {
    if der.is_empty() || der.len() > MAX_CERTIFICATE_BYTES {
        return fail(format!("{} bytes are no certificate", der.len()));
    }
    // A copy of its own: the bytes are a part of the whole message otherwise, and would keep it in memory.
    Ok(Bytes::copy_from_slice(der))
}

fn inbound(inbound: &pb::Inbound) -> Result<Inbound> {
    Ok(Inbound {
        default_mtls: mtls(inbound.default_mtls).at("default_mtls")?,
        ports: list("ports", &inbound.ports, MAX_PORTS, port)?,
        policies: list("policies", &inbound.policies, MAX_POLICIES, |it| policy(it).map(Arc::new))?,
        path_normalization: normalization(inbound.path_normalization).at("path_normalization")?,
    })
}

fn port(port: &pb::InboundPort) -> Result<InboundPort> {
    Ok(InboundPort {
        number: port_number(port.number).at("number")?,
        protocol: protocol(port.protocol).at("protocol")?,
        mtls: mtls(port.mtls).at("mtls")?,
        service: optional("service", port.service.as_ref(), port_ref)?,
        application: optional("application", port.application.as_ref(), socket_address)?,
        listener: optional("listener", port.listener.as_ref(), socket_address)?,
    })
}

fn mtls(mode: i32) -> Result<MtlsMode> {
    Ok(match variant(mode)? {
        pb::MtlsMode::Disable => MtlsMode::Disable,
        pb::MtlsMode::Permissive => MtlsMode::Permissive,
        pb::MtlsMode::Unspecified | pb::MtlsMode::Strict => MtlsMode::Strict,
    })
}

fn normalization(how: i32) -> Result<PathNormalization> {
    Ok(match variant(how)? {
        pb::PathNormalization::None => PathNormalization::None,
        pb::PathNormalization::Unspecified | pb::PathNormalization::Base => PathNormalization::Base,
        pb::PathNormalization::MergeSlashes => PathNormalization::MergeSlashes,
        pb::PathNormalization::DecodeAndMergeSlashes => PathNormalization::DecodeAndMergeSlashes,
    })
}

fn outbound(outbound: &pb::Outbound) -> Result<Outbound> {
    Ok(Outbound {
        mode: mode(outbound.mode).at("mode")?,
        mesh_ranges: list("mesh_ranges", &outbound.mesh_ranges, MAX_VALUES, network)?,
        listeners: list("listeners", &outbound.listeners, MAX_PORTS, listener)?,
    })
}

fn mode(mode: i32) -> Result<OutboundMode> {
    Ok(match variant(mode)? {
        pb::OutboundMode::AllowAny => OutboundMode::AllowAny,
        pb::OutboundMode::Unspecified | pb::OutboundMode::RegistryOnly => OutboundMode::RegistryOnly,
    })
}

fn listener(listener: &pb::EgressListener) -> Result<EgressListener> {
    Ok(EgressListener {
        bind: required(listener.bind.as_ref()).and_then(socket_address).at("bind")?,
        protocol: protocol(listener.protocol).at("protocol")?,
        services: list("services", &listener.services, MAX_VALUES, binding)?,
    })
}
