//! What is known of a peer before its first request: for the application, and for metrics.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use weft_core::model::address::Meaning;
use weft_core::model::metadata::WorkloadMetadata;
use weft_core::model::name::AddressKey;

use crate::downstream::Incoming;
use crate::io::Io;
use crate::local::Local;

/// `x-forwarded-client-cert` as Istio's sidecars write it: `By`, `Hash`, `Subject`, `URI`. `None` for plaintext.
pub fn client_cert(local: &Local, io: &Io, from: &Incoming) -> Option<HeaderValue> {
    let peer = from.downstream.peer.as_ref()?;
    let snapshot = local.mesh.snapshot();
    let mut text = String::with_capacity(256);
    if let Some(workload) = snapshot.workload() {
        let _ = write!(text, "By={};", workload.identity);
    }
    if let Some(hash) = io.peer_certificate().and_then(sha256) {
        let _ = write!(text, "Hash={hash};");
    }
    let _ = write!(text, "Subject=\"\";URI={peer}");
    HeaderValue::try_from(text).ok()
}

/// What metrics say of the peer: what its address means, if the controller says so in time. Metrics alone need it.
pub async fn client_metadata(local: &Local, client: SocketAddr, patience: Duration) -> Arc<WorkloadMetadata> {
    let asked = local.mesh.address(AddressKey::new(client.ip(), 0));
    let unknown = || Arc::clone(&local.unknown);
    let Ok(Ok(address)) = tokio::time::timeout(patience, asked).await else { return unknown() };
    match &address.meaning {
        Meaning::Workload(workload) => Arc::clone(&workload.metadata),
        _ => unknown(),
    }
}

/// By the provider of TLS: there is no other use for a hash.
fn sha256(bytes: &[u8]) -> Option<String> {
    let suite = rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256.tls13()?;
    let hash = suite.common.hash_provider.hash(bytes);
    Some(hash.as_ref().iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_written_as_envoy_does() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(sha256(b"").as_deref(), Some(empty));
    }
}
