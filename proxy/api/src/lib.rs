//! The wire between controller and sidecar: messages, their encoding and strict decoding, and the delta protocol.
//!
//! The modules stand in dependency order, a module uses only those above it.

/// How much one message may hold.
pub mod limits;

/// Generated messages, clients and servers.
pub mod pb {
    pub use prost::Message;

    /// `weft.config.v1`: the configuration of sidecars.
    pub mod config {
        tonic::include_proto!("weft.config.v1");
    }

    /// `istio.v1.auth`: the certificate authority's call.
    pub mod ca {
        tonic::include_proto!("istio.v1.auth");
    }
}

/// Resources as bytes, and their versions.
pub mod encoded;
/// Why a resource is refused, and at which field.
pub mod error;
/// Names of resources as texts.
pub mod name;
/// Conditions that a sidecar must know before it may serve by a resource.
pub mod feature;
/// A resource of any type.
pub mod resource;
/// From the model to bytes.
pub mod encode;
/// From bytes to the model, strictly.
pub mod decode;
/// The delta protocol, without input or output: the sidecar's end and the controller's.
pub mod session;
