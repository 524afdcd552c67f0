//! The server of streams.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use weft_api::pb::config::config_service_server::ConfigService;
use weft_api::pb::config::{DeltaRequest, DeltaResponse};

use super::publisher::Publisher;
use super::registry::Registry;
use super::stream::{Pace, SidecarStream};
use crate::metrics::Metrics;
use crate::tokens::Authenticator;

/// Responses that may wait for a sidecar to read them: one for each type of resource.
const WAITING_RESPONSES: usize = 4;

/// The server of streams.
pub struct PushService {
    /// Who connects.
    pub tokens: Arc<Authenticator>,
    /// What is compiled.
    pub publisher: Publisher,
    /// Who is connected.
    pub registry: Registry,
    /// How fast changes go out.
    pub pace: Pace,
    /// What is counted.
    pub metrics: Metrics,
    /// Ends every stream.
    pub shutdown: CancellationToken,
}

#[tonic::async_trait]
impl ConfigService for PushService {
    type StreamStream = ReceiverStream<Result<DeltaResponse, Status>>;

    async fn stream(
        &self,
        request: Request<Streaming<DeltaRequest>>,
    ) -> Result<Response<Self::StreamStream>, Status> {
        let caller = self.tokens.authenticate(request.metadata()).await;
        let caller = caller.inspect_err(|_| self.metrics.unauthenticated.inc())?;
        tracing::info!("sidecar {} is connected", caller.pod);
        let (responses, receiver) = mpsc::channel(WAITING_RESPONSES);
        let stream = SidecarStream {
            entry: self.registry.enter(caller.pod, caller.uid),
            worlds: self.publisher.subscribe(),
            responses,
            pace: self.pace,
            metrics: self.metrics.clone(),
            shutdown: self.shutdown.clone(),
        };
        tokio::spawn(stream.run(request.into_inner()));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}
