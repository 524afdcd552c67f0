//! What a user writes: the mesh's own kinds, and the few fields of Kubernetes' kinds that the mesh reads.
//!
//! Types follow Istio's v1 API field by field, so that existing manifests decode unchanged, under our own groups and
//! under Istio's. This crate only knows what can be written: whether it makes sense is for validation, and
//! what it means for the compiler. Limits and honoured fields are listed in this crate's README.

/// Numbers and durations as they were written.
pub mod scalar;

/// Names that are not known.
pub mod slips;

/// The frame around every object.
pub mod meta;

/// JSON to types, with the path of whatever does not fit.
pub mod decode;

/// Pieces that several kinds share.
pub mod shared;

/// Which requests and connections go where.
pub mod virtual_service;

/// How connections to a service are made, shared out and given up.
pub mod destination_rule;

/// Who may send what to a workload.
pub mod authorization_policy;

/// Whether a workload takes plaintext, mutual TLS or both.
pub mod peer_authentication;

/// What a sidecar listens on and may reach.
pub mod sidecar;

/// What sidecars tell of their traffic.
pub mod telemetry;

/// Kubernetes' own kinds, as far as the mesh reads them.
pub mod core;

/// The table of kinds.
pub mod kind;

/// What the types cannot say: bounds, and rules between fields.
pub mod refine;

/// Structural schemas made from the types.
pub mod schema;

/// CustomResourceDefinitions: the frame around the schemas.
pub mod crd;

/// Which valid fields are not honoured yet.
pub mod honoured;
