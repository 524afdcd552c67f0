//! A sidecar's own workload.

use weft_core::model::workload::{
    EgressListener, Inbound, InboundPort, MtlsMode, Outbound, OutboundMode, PathNormalization, TrustBundle,
    Workload,
};

use super::common::{bindings, ip, labels, locality, metadata, network, port_ref, protocol, socket_address};
use super::policy::policy;
use super::telemetry::telemetry;
use crate::encoded::Encoded;
use crate::feature;
use crate::pb::config as pb;

/// Encodes a sidecar's own workload.
pub fn workload(workload: &Workload) -> Encoded {
    Encoded::of(&pb::Workload {
        requires: feature::of_workload(workload).into_iter().map(str::to_owned).collect(),
        identity: workload.identity.to_string(),
        metadata: metadata(&workload.metadata),
        addresses: workload.addresses.iter().map(|address| ip(*address)).collect(),
        labels: labels(&workload.labels),
        locality: locality(&workload.locality),
        trust: workload.trust.iter().map(trust).collect(),
        inbound: Some(inbound(&workload.inbound)),
        outbound: Some(outbound(&workload.outbound)),
        telemetry: telemetry(&workload.telemetry),
    })
}

fn trust(bundle: &TrustBundle) -> pb::TrustBundle {
    pb::TrustBundle { domain: bundle.domain.to_string(), roots: bundle.roots.clone() }
}

fn inbound(inbound: &Inbound) -> pb::Inbound {
    pb::Inbound {
        default_mtls: mtls(inbound.default_mtls).into(),
        ports: inbound.ports.iter().map(port).collect(),
        policies: inbound.policies.iter().map(|it| policy(it)).collect(),
        path_normalization: normalization(inbound.path_normalization).into(),
    }
}

fn port(port: &InboundPort) -> pb::InboundPort {
    pb::InboundPort {
        number: port.number.into(),
        protocol: protocol(port.protocol),
        mtls: mtls(port.mtls).into(),
        service: port.service.as_ref().map(port_ref),
        application: port.application.map(socket_address),
        listener: port.listener.map(socket_address),
    }
}

fn mtls(mode: MtlsMode) -> pb::MtlsMode {
    match mode {
        MtlsMode::Disable => pb::MtlsMode::Disable,
        MtlsMode::Permissive => pb::MtlsMode::Permissive,
        MtlsMode::Strict => pb::MtlsMode::Strict,
    }
}

fn normalization(how: PathNormalization) -> pb::PathNormalization {
    match how {
        PathNormalization::None => pb::PathNormalization::None,
        PathNormalization::Base => pb::PathNormalization::Base,
        PathNormalization::MergeSlashes => pb::PathNormalization::MergeSlashes,
        PathNormalization::DecodeAndMergeSlashes => pb::PathNormalization::DecodeAndMergeSlashes,
    }
}

fn outbound(outbound: &Outbound) -> pb::Outbound {
    let mode = match outbound.mode {
        OutboundMode::AllowAny => pb::OutboundMode::AllowAny,
        OutboundMode::RegistryOnly => pb::OutboundMode::RegistryOnly,
    };
    pb::Outbound {
        mode: mode.into(),
        mesh_ranges: outbound.mesh_ranges.iter().map(network).collect(),
        listeners: outbound.listeners.iter().map(listener).collect(),
    }
}

fn listener(listener: &EgressListener) -> pb::EgressListener {
    pb::EgressListener {
        bind: Some(socket_address(listener.bind)),
        protocol: protocol(listener.protocol),
        services: bindings(&listener.services),
    }
}
