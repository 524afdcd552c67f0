//! Endpoints.

use std::net::IpAddr;
use std::sync::Arc;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use weft_core::model::endpoint::{Endpoint, EndpointSlice};

use super::value::{identity, ip, labels, locality, metadata, port, slice_name};

/// A slice of a service's endpoints.
pub fn slice() -> impl Strategy<Value = EndpointSlice> {
    let endpoints = vec(endpoint().prop_map(Arc::new), 0..4);
    (slice_name(), endpoints).prop_map(|(name, endpoints)| EndpointSlice { name, endpoints })
}

/// One endpoint.
pub fn endpoint() -> impl Strategy<Value = Endpoint> {
    let host =
        ip().prop_filter("an address of one host", |it: &IpAddr| !it.is_unspecified() && !it.is_multicast());
    let how = (vec((port(), port()), 0..3), 1..=u32::MAX, any::<bool>(), vec(port(), 0..2));
    let who = (option::of(identity()), labels(), metadata(), locality());
    (host, how, who).prop_map(|(ip, how, who)| {
        let ((ports, weight, meshed, plaintext_ports), (identity, labels, metadata, locality)) = (how, who);
        Endpoint { ip, ports, weight, identity, meshed, plaintext_ports, labels, metadata, locality }
    })
}
