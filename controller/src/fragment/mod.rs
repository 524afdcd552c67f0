//! Objects as they are once understood: what validation makes of them, before it is known for whom.
//!
//! A fragment is the model of `weft-core` with its references still names, and with the conditions on the client
//! that only the compiler can decide.

/// Mesh-wide settings.
pub mod mesh;
/// Names, ages and origins of objects; selectors; visibility.
pub mod meta;
/// Kubernetes' own kinds: namespaces, services, pods, endpoint slices.
pub mod kubernetes;
/// VirtualServices.
pub mod virtual_service;
/// DestinationRules.
pub mod destination_rule;
/// AuthorizationPolicies and PeerAuthentications.
pub mod security;
/// Sidecars.
pub mod sidecar;

use std::sync::Arc;

use weft_core::model::name::ObjectName;

/// An object that is understood.
#[derive(Clone, Debug, PartialEq)]
pub enum Fragment {
    /// The ConfigMap of mesh-wide settings.
    Mesh(mesh::Mesh),
    /// A Namespace.
    Namespace(kubernetes::Namespace),
    /// A Service.
    Service(kubernetes::Service),
    /// A Pod.
    Pod(kubernetes::Pod),
    /// An EndpointSlice.
    EndpointSlice(kubernetes::EndpointSlice),
    /// A VirtualService.
    VirtualService(virtual_service::VirtualService),
    /// A DestinationRule.
    DestinationRule(Box<destination_rule::DestinationRule>),
    /// An AuthorizationPolicy.
    AuthorizationPolicy(security::AuthorizationPolicy),
    /// A PeerAuthentication.
    PeerAuthentication(security::PeerAuthentication),
    /// A Sidecar.
    Sidecar(sidecar::Sidecar),
}

/// What tells a fragment from every other.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FragmentKey {
    /// The one ConfigMap of mesh-wide settings.
    Mesh,
    /// A Namespace.
    Namespace(Arc<str>),
    /// A Service.
    Service(ObjectName),
    /// A Pod.
    Pod(ObjectName),
    /// An EndpointSlice.
    EndpointSlice(ObjectName),
    /// A VirtualService.
    VirtualService(ObjectKey),
    /// A DestinationRule.
    DestinationRule(ObjectKey),
    /// An AuthorizationPolicy.
    AuthorizationPolicy(ObjectKey),
    /// A PeerAuthentication.
    PeerAuthentication(ObjectKey),
    /// A Sidecar.
    Sidecar(ObjectKey),
}

/// An object's name and the group it was written in; ours sorts first.
pub type ObjectKey = (ObjectName, meta::Origin);
