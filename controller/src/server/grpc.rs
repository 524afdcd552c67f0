//! gRPC for sidecars: certificates and configuration, on one port.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use weft_api::limits::MAX_MESSAGE_BYTES;
use weft_api::pb::ca::istio_certificate_service_server::IstioCertificateServiceServer;
use weft_api::pb::config::config_service_server::ConfigServiceServer;

use super::accept::accept;
use super::certificate::ServerIdentity;
use crate::ca::service::CertificateService;
use crate::push::service::PushService;

/// How often a silent peer is asked whether it is there, and how long it may take to say so.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// The largest signing request, in bytes of its message.
const MAX_REQUEST_BYTES: usize = 64 << 10;
/// Calls at a time on one connection: a sidecar needs two.
const CALLS_PER_CONNECTION: u32 = 16;

/// Serves until told to stop; then calls end and connections close.
///
/// # Errors
/// TLS cannot be set up, or the server fails.
pub async fn serve(
    listener: TcpListener,
    identity: Arc<ServerIdentity>,
    certificates: CertificateService,
    push: PushService,
    shutdown: CancellationToken,
) -> Result<()> {
    let incoming = accept(listener, identity.server_config()?, shutdown.clone());
    let renewal = tokio::spawn(identity.keep());
    let config = ConfigServiceServer::new(push)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let certificates =
        IstioCertificateServiceServer::new(certificates).max_decoding_message_size(MAX_REQUEST_BYTES);
    let served = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .max_concurrent_streams(CALLS_PER_CONNECTION)
        .add_service(config)
        .add_service(certificates)
        .serve_with_incoming_shutdown(incoming, shutdown.cancelled_owned())
        .await;
    renewal.abort();
    Ok(served?)
}
