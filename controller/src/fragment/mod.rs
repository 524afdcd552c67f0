//! Objects as they are once understood: what validation makes of them, before it is known for whom.
//!
//! A fragment is the model of `weft-core` with its references still names, and with the conditions on the client
//! that only the compiler can decide.

/// DestinationRules.
pub mod destination_rule;
/// Kubernetes' own kinds: namespaces, services, pods, endpoint slices.
pub mod kubernetes;
/// Mesh-wide settings.
pub mod mesh;
/// Names, ages and origins of objects; selectors; visibility.
pub mod meta;
/// AuthorizationPolicies and PeerAuthentications.
pub mod security;
/// Sidecars.
pub mod sidecar;
/// VirtualServices.
pub mod virtual_service;
