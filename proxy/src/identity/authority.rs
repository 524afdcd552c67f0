//! The call to the mesh's certificate authority.

use std::time::Duration;

use rustls::pki_types::CertificateDer;
use tonic::Request;
use weft_api::pb::ca::IstioCertificateRequest;
use weft_api::pb::ca::istio_certificate_service_client::IstioCertificateServiceClient;

use crate::controller::{ControllerLink, LinkError};

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Who signs keys.
pub trait Authority: Send + Sync + 'static {
    /// Signs a request (PEM) for so long; the chain, PEM, the leaf first.
    fn sign(
        &self,
        request_pem: String,
        life: Duration,
    ) -> impl Future<Output = Result<Vec<String>, AuthorityError>> + Send;

    /// The roots that a chain must lead to.
    ///
    /// # Errors
    /// They cannot be read.
    fn roots(&self) -> Result<Vec<CertificateDer<'static>>, AuthorityError>;
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The authority cannot be asked.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// It said no.
    #[error(
        "the certificate authority refused: {0}; is the token in WEFT_TOKEN_FILE this pod's, for the audience that the controller expects?"
    )]
    Refused(String),
    /// It gave no answer.
    #[error("the certificate authority did not answer: {0}")]
    Unavailable(String),
}

impl Authority for ControllerLink {
    async fn sign(&self, request_pem: String, life: Duration) -> Result<Vec<String>, AuthorityError> {
        let asked = IstioCertificateRequest {
            csr: request_pem,
            validity_duration: i64::try_from(life.as_secs()).unwrap_or(i64::MAX),
            metadata: None,
        };
        let mut request = Request::new(asked);
        request.metadata_mut().insert("authorization", self.authorization()?);
        request.set_timeout(TIMEOUT);
        let mut client = IstioCertificateServiceClient::new(self.connect().await?);
        let answer = tokio::time::timeout(TIMEOUT, client.create_certificate(request)).await;
        let answer =
            answer.map_err(|_| AuthorityError::Unavailable(format!("nothing within {TIMEOUT:?}")))?;
        answer.map(|response| response.into_inner().cert_chain).map_err(|status| refusal(&status))
    }

    fn roots(&self) -> Result<Vec<CertificateDer<'static>>, AuthorityError> {
        Ok(ControllerLink::roots(self)?)
    }
}

fn refusal(status: &tonic::Status) -> AuthorityError {
    use tonic::Code;
    let text = format!("{:?}: {}", status.code(), status.message());
    match status.code() {
        Code::Unauthenticated | Code::PermissionDenied | Code::InvalidArgument => {
            AuthorityError::Refused(text)
        }
        _ => AuthorityError::Unavailable(text),
    }
}
