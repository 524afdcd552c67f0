//! Whose certificates are believed, and for whom they speak (X.509-SVID, sections 2 to 5).
//!
//! A certificate counts when it has exactly one URI, a SPIFFE identity, and the roots *of that identity's own trust
//! domain* have signed it: a root of one domain cannot make identities of another.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError};
use rustls::{RootCertStore, SignatureScheme};
use weft_core::identity::SpiffeId;
use weft_core::model::workload::TrustBundle;

use super::fault::IdentityFault;

impl From<IdentityFault> for Error {
    fn from(fault: IdentityFault) -> Self {
        Self::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(fault))))
    }
}

/// The identity in a certificate: its only URI.
///
/// # Errors
/// Where the certificate cannot be read, or has not exactly one URI which is a SPIFFE identity.
pub fn identity_of(certificate: &CertificateDer<'_>) -> Result<SpiffeId, Error> {
    let malformed = |_| Error::InvalidCertificate(CertificateError::BadEncoding);
    let parsed = webpki::EndEntityCert::try_from(certificate).map_err(malformed)?;
    let mut uris = parsed.valid_uri_names();
    match (uris.next(), uris.count()) {
        (Some(uri), 0) => Ok(SpiffeId::parse(uri).map_err(IdentityFault::from)?),
        (first, more) => Err(IdentityFault::Uris(usize::from(first.is_some()) + more).into()),
    }
}

/// The roots of each believed trust domain.
#[derive(Debug)]
pub struct Trust {
    domains: BTreeMap<String, Domain>,
    provider: Arc<CryptoProvider>,
}

/// One trust domain.
#[derive(Debug)]
struct Domain {
    roots: Arc<RootCertStore>,
    clients: Arc<dyn ClientCertVerifier>,
}

impl Trust {
    /// The trust that a workload was told of. A root that cannot be read is left out with a warning: the others
    /// go on to count, and a domain without roots is not believed at all.
    pub fn new(bundles: &[TrustBundle], provider: &Arc<CryptoProvider>) -> Self {
        let domains = bundles.iter().filter_map(|bundle| {
            let domain = Domain::new(bundle, provider)?;
            Some((bundle.domain.as_str().to_owned(), domain))
        });
        Self { domains: domains.collect(), provider: provider.clone() }
    }

    /// Whether nobody is believed.
    pub fn is_empty(&self) -> bool {
        self.domains.is_empty()
    }

    fn domain(&self, id: &SpiffeId) -> Result<&Domain, IdentityFault> {
        let name = id.trust_domain();
        self.domains.get(name).ok_or_else(|| IdentityFault::Domain(name.to_owned()))
    }

    fn schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl Domain {
    fn new(bundle: &TrustBundle, provider: &Arc<CryptoProvider>) -> Option<Self> {
        let mut roots = RootCertStore::empty();
        for root in &bundle.roots {
            if let Err(error) = roots.add(CertificateDer::from_slice(root)) {
                tracing::warn!(domain = %bundle.domain, %error, "a root certificate cannot be read and is left out");
            }
        }
        let roots = Arc::new(roots);
        let clients = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone());
        Some(Self { roots, clients: clients.build().ok()? })
    }
}

/// Judges the certificates of clients.
impl ClientCertVerifier for Trust {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let id = identity_of(end_entity)?;
        self.domain(&id)?.clients.verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}

/// Judges the certificate of one server, which must be one of `expected`.
#[derive(Debug)]
pub(super) struct ExpectedServer {
    pub(super) trust: Arc<Trust>,
    /// SPIFFE URIs.
    pub(super) expected: Arc<[Arc<str>]>,
}

impl ServerCertVerifier for ExpectedServer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let id = identity_of(end_entity)?;
        let roots = &self.trust.domain(&id)?.roots;
        let algorithms = self.trust.provider.signature_verification_algorithms.all;
        let parsed = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(&parsed, roots, intermediates, now, algorithms)?;
        if self.expected.iter().any(|uri| **uri == *id.as_str()) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(IdentityFault::Unexpected(id).into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        ClientCertVerifier::verify_tls12_signature(&*self.trust, message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        ClientCertVerifier::verify_tls13_signature(&*self.trust, message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trust.schemes()
    }
}
