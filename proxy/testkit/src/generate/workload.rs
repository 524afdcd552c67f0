//! Workloads.

use std::sync::Arc;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use weft_core::identity::TrustDomain;
use weft_core::model::workload::{
    EgressListener, Inbound, InboundPort, MtlsMode, Outbound, OutboundMode, PathNormalization, TrustBundle,
    Workload,
};

use super::policy::policy;
use super::telemetry::telemetry;
use super::value::{
    binding, identity, ip, labels, locality, metadata, network, port, port_ref, protocol, socket_address,
};

/// A sidecar's own workload.
pub fn workload() -> impl Strategy<Value = Workload> {
    let who = (identity(), metadata(), vec(ip(), 0..3), labels(), locality());
    let what = (vec(trust(), 0..3), inbound(), outbound(), telemetry());
    (who, what).prop_map(|(who, (trust, inbound, outbound, telemetry))| {
        let (identity, metadata, addresses, labels, locality) = who;
        Workload { identity, metadata, addresses, labels, locality, trust, inbound, outbound, telemetry }
    })
}

fn trust() -> impl Strategy<Value = TrustBundle> {
    let domain = "[a-z.]{1,8}".prop_map(|name| TrustDomain::new(&name).expect("a valid domain"));
    let root = vec(any::<u8>(), 1..8).prop_map(Bytes::from);
    (domain, vec(root, 0..3)).prop_map(|(domain, roots)| TrustBundle { domain, roots })
}

fn inbound() -> impl Strategy<Value = Inbound> {
    use PathNormalization::{Base, DecodeAndMergeSlashes, MergeSlashes, None};
    let normalization = prop::sample::select(vec![None, Base, MergeSlashes, DecodeAndMergeSlashes]);
    let policies = vec(policy().prop_map(Arc::new), 0..3);
    (mtls(), vec(inbound_port(), 0..3), policies, normalization).prop_map(
        |(default_mtls, ports, policies, path_normalization)| Inbound {
            default_mtls,
            ports,
            policies,
            path_normalization,
        },
    )
}

fn mtls() -> impl Strategy<Value = MtlsMode> {
    prop::sample::select(vec![MtlsMode::Disable, MtlsMode::Permissive, MtlsMode::Strict])
}

fn inbound_port() -> impl Strategy<Value = InboundPort> {
    let addresses = (option::of(socket_address()), option::of(socket_address()));
    (port(), protocol(), mtls(), option::of(port_ref()), addresses).prop_map(
        |(number, protocol, mtls, service, (application, listener))| InboundPort {
            number,
            protocol,
            mtls,
            service,
            application,
            listener,
        },
    )
}

fn outbound() -> impl Strategy<Value = Outbound> {
    let mode = prop::sample::select(vec![OutboundMode::AllowAny, OutboundMode::RegistryOnly]);
    let listener = (socket_address(), protocol(), vec(binding(), 0..3))
        .prop_map(|(bind, protocol, services)| EgressListener { bind, protocol, services });
    (mode, vec(network(), 0..3), vec(listener, 0..3)).prop_map(|(mode, mesh_ranges, listeners)| Outbound {
        mode,
        mesh_ranges,
        listeners,
    })
}
