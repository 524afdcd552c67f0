//! The call by which workloads ask for certificates: Istio's `CreateCertificate`.

use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::sync::watch;
use tonic::{Request, Response, Status};
use weft_api::pb::ca::istio_certificate_service_server::IstioCertificateService;
use weft_api::pb::ca::{IstioCertificateRequest, IstioCertificateResponse};
use weft_core::identity::{SpiffeId, TrustDomain};

use super::authority::{Authority, CaError};
use crate::metrics::Metrics;
use crate::tokens::{Authenticator, Caller};

/// The certificate authority's server.
pub struct CertificateService {
    /// What signs.
    pub authority: Arc<Authority>,
    /// Who asks.
    pub tokens: Arc<Authenticator>,
    /// The trust domain of identities.
    pub trust_domain: watch::Receiver<TrustDomain>,
    /// How long certificates are valid, at most and where the caller leaves it open.
    pub ttl: Duration,
    /// What is counted.
    pub metrics: Metrics,
}

#[tonic::async_trait]
impl IstioCertificateService for CertificateService {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        let caller = self.tokens.authenticate(request.metadata()).await;
        let caller = caller.inspect_err(|_| self.metrics.unauthenticated.inc())?;
        let request = request.into_inner();
        let identity = self.identity_of(&caller)?;
        let ttl = ttl_of(request.validity_duration, self.ttl)?;
        let cert_chain = self.authority.sign(&request.csr, &identity, ttl, OffsetDateTime::now_utc());
        let cert_chain = cert_chain.map_err(|error| status_of(&caller, &error))?;
        self.metrics.certificates.inc();
        tracing::info!("certificate for {identity} of pod {}, valid {}s", caller.pod, ttl.as_secs());
        Ok(Response::new(IstioCertificateResponse { cert_chain }))
    }
}

impl CertificateService {
    fn identity_of(&self, caller: &Caller) -> Result<SpiffeId, Status> {
        let domain = self.trust_domain.borrow().clone();
        SpiffeId::of_service_account(&domain, &caller.pod.namespace, &caller.service_account)
            .map_err(|error| Status::permission_denied(format!("pod {}: {error}", caller.pod)))
    }
}

/// What is asked for, at most what is allowed.
fn ttl_of(seconds: i64, most: Duration) -> Result<Duration, Status> {
    match u64::try_from(seconds) {
        Ok(0) => Ok(most),
        Ok(seconds) => Ok(most.min(Duration::from_secs(seconds))),
        Err(_) => Err(Status::invalid_argument(format!("validity_duration: {seconds} is negative"))),
    }
}

fn status_of(caller: &Caller, error: &CaError) -> Status {
    tracing::warn!("pod {}: {error}", caller.pod);
    match error {
        CaError::Request(_) => Status::invalid_argument(format!("csr: {error}")),
        CaError::Root(_) | CaError::Sign(_) => Status::internal(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_may_ask_for_less_and_never_for_more() {
        let hour = Duration::from_secs(3600);
        assert_eq!(ttl_of(0, hour).unwrap(), hour);
        assert_eq!(ttl_of(60, hour).unwrap(), Duration::from_secs(60));
        assert_eq!(ttl_of(i64::MAX, hour).unwrap(), hour);
        assert!(ttl_of(-1, hour).is_err());
    }
}
