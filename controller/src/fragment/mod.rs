//! Objects as they are once understood: what validation makes of them, before it is known for whom.
//!
//! A fragment is the model of `weft-core` with its references still names, and with the conditions on the client
//! that only the compiler can decide.

/// Names, ages and origins of objects; selectors; visibility.
pub mod meta;
/// Telemetries.
pub mod telemetry;
/// Mesh-wide settings.
pub mod mesh;
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

use std::mem::discriminant;
use std::sync::Arc;

use weft_core::model::name::ObjectName;

/// An object that is understood.
#[derive(Clone, Debug, PartialEq)]
pub enum Fragment {
    /// The ConfigMap of mesh-wide settings of a root namespace.
    Mesh(Arc<str>, mesh::Mesh),
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
    /// A Telemetry.
    Telemetry(telemetry::Telemetry),
}

/// What tells a fragment from every other.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FragmentKey {
    /// The ConfigMap of mesh-wide settings of a root namespace.
    Mesh(Arc<str>),
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
    /// A Telemetry.
    Telemetry(ObjectKey),
}

impl FragmentKey {
    /// Whether the two are made from objects of one kind and group; of mesh-wide settings, of one namespace.
    pub fn same_kind(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Mesh(a), Self::Mesh(b)) => a == b,
            _ => discriminant(self) == discriminant(other) && self.origin() == other.origin(),
        }
    }

    fn origin(&self) -> Option<meta::Origin> {
        match self {
            Self::VirtualService((_, origin))
            | Self::DestinationRule((_, origin))
            | Self::AuthorizationPolicy((_, origin))
            | Self::PeerAuthentication((_, origin))
            | Self::Sidecar((_, origin))
            | Self::Telemetry((_, origin)) => Some(*origin),
            Self::Mesh(_) | Self::Namespace(_) | Self::Service(_) | Self::Pod(_) | Self::EndpointSlice(_) => {
                None
            }
        }
    }
}

/// An object's name and the group it was written in; ours sorts first.
pub type ObjectKey = (ObjectName, meta::Origin);
