//! Objects as they are once understood: what validation makes of them, before it is known for whom.
//!
//! A fragment is the model of `weft-core` with its references still names, and with the conditions on the client
//! that only the compiler can decide.

/// Names, ages and origins of objects; selectors; visibility.
pub mod meta;
/// VirtualServices.
pub mod virtual_service;
/// DestinationRules.
pub mod destination_rule;
/// AuthorizationPolicies and PeerAuthentications.
pub mod security;
/// Sidecars.
pub mod sidecar;
/// Kubernetes' own kinds: namespaces, services, pods, endpoint slices.
pub mod kubernetes;
/// Mesh-wide settings.
pub mod mesh;
