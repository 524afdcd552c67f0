//! The wire between controller and sidecar: messages, their encoding and strict decoding, and the delta protocol.

/// Generated messages, clients and servers.
pub mod pb {
    /// `weft.config.v1`: the configuration of sidecars.
    pub mod config {
        tonic::include_proto!("weft.config.v1");
    }

    /// `istio.v1.auth`: the certificate authority's call.
    pub mod ca {
        tonic::include_proto!("istio.v1.auth");
    }
}
