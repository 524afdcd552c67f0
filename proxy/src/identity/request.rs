//! A fresh key and what is asked of the authority for it; what comes back is believed only after a check.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, SanType};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use rustls::sign::CertifiedKey;
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use weft_core::identity::SpiffeId;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::credentials::{CertificateFacts, Issued};

/// A key made here, that has no certificate yet.
pub struct PendingKey {
    key: KeyPair,
    identity: SpiffeId,
}

/// Why a certificate from the authority is refused (hardening D14).
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// No key could be made, or no request of it.
    #[error("no request for a certificate can be made: {0}")]
    Request(String),
    /// Not a certificate.
    #[error("the authority sent what is no certificate: {0}")]
    Garbage(String),
    /// For another identity.
    #[error("the authority certified `{found}` and not `{wanted}`")]
    Identity {
        /// Who we are.
        wanted: String,
        /// Who the certificate is for.
        found: String,
    },
    /// For another key.
    #[error("the authority certified a key that is not ours")]
    Key,
    /// Not signed by a root that we believe, or outside of its life.
    #[error("the certificate is not to be believed: {0}; is the authority's root in WEFT_ROOT_FILE?")]
    Chain(String),
}

impl PendingKey {
    /// Makes a key (ECDSA P-256) for an identity.
    ///
    /// # Errors
    /// The machine has no randomness.
    pub fn generate(identity: SpiffeId) -> Result<Self, CertificateError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(request)?;
        Ok(Self { key, identity })
    }

    /// The key that was kept from before.
    ///
    /// # Errors
    /// It is no key.
    pub fn from_pem(pem: &str, identity: SpiffeId) -> Result<Self, CertificateError> {
        Ok(Self { key: KeyPair::from_pem(pem).map_err(request)?, identity })
    }

    /// The request for a certificate, PEM.
    ///
    /// # Errors
    /// The identity does not fit into a certificate.
    pub fn request_pem(&self) -> Result<String, CertificateError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![SanType::URI(self.identity.as_str().try_into().map_err(request)?)];
        params.serialize_request(&self.key).and_then(|csr| csr.pem()).map_err(request)
    }

    /// The key, PEM: for memory-backed storage only.
    pub fn to_pem(&self) -> String {
        self.key.serialize_pem()
    }

    /// Checks what the authority sent: our identity, our key, a chain to one of `roots`, in force at `now`.
    ///
    /// # Errors
    /// [`CertificateError`]; the certificate must not be used.
    pub fn accept(
        &self,
        chain: Vec<CertificateDer<'static>>,
        roots: &[CertificateDer<'static>],
        now: SystemTime,
    ) -> Result<Issued, CertificateError> {
        let leaf = chain.first().ok_or_else(|| CertificateError::Garbage("an empty chain".to_owned()))?;
        let facts = read_leaf(leaf, &self.key)?;
        if facts.identity != self.identity {
            return Err(self.wrong_identity(facts.identity.as_str()));
        }
        verify_chain(&chain, roots, now)?;
        Ok(Issued { certified: Arc::new(self.certified(chain)?), facts })
    }

    fn certified(&self, chain: Vec<CertificateDer<'static>>) -> Result<CertifiedKey, CertificateError> {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.serialize_der()));
        let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key);
        Ok(CertifiedKey::new(chain, key.map_err(|e| CertificateError::Request(e.to_string()))?))
    }

    fn wrong_identity(&self, found: &str) -> CertificateError {
        CertificateError::Identity { wanted: self.identity.to_string(), found: found.to_owned() }
    }
}

/// The certificates in a list of PEM texts, each of which may hold several.
///
/// # Errors
/// A text that holds no certificate.
pub fn parse_chain<S: AsRef<[u8]>>(texts: &[S]) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let mut chain = Vec::new();
    for text in texts {
        for certificate in CertificateDer::pem_slice_iter(text.as_ref()) {
            chain.push(certificate.map_err(|e| CertificateError::Garbage(e.to_string()))?);
        }
    }
    Ok(chain)
}

fn request(error: rcgen::Error) -> CertificateError {
    CertificateError::Request(error.to_string())
}

fn read_leaf(leaf: &CertificateDer<'_>, key: &KeyPair) -> Result<CertificateFacts, CertificateError> {
    let garbage = |problem: &str| CertificateError::Garbage(problem.to_owned());
    let (_, cert) = X509Certificate::from_der(leaf).map_err(|e| CertificateError::Garbage(e.to_string()))?;
    if cert.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
        return Err(CertificateError::Key);
    }
    let at = |time: i64| u64::try_from(time).map(|s| UNIX_EPOCH + Duration::from_secs(s));
    Ok(CertificateFacts {
        identity: read_identity(&cert)?,
        serial: cert.raw_serial_as_string(),
        not_before: at(cert.validity().not_before.timestamp()).map_err(|_| garbage("dates before 1970"))?,
        not_after: at(cert.validity().not_after.timestamp()).map_err(|_| garbage("dates before 1970"))?,
    })
}

/// SPIFFE X.509-SVID, section 2: exactly one URI.
fn read_identity(cert: &X509Certificate<'_>) -> Result<SpiffeId, CertificateError> {
    let garbage = |problem: String| CertificateError::Garbage(problem);
    let names = cert.subject_alternative_name().map_err(|e| garbage(e.to_string()))?;
    let names = names.map(|extension| extension.value.general_names.as_slice()).unwrap_or_default();
    let mut uris = names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    match (uris.next(), uris.next()) {
        (Some(uri), None) => SpiffeId::parse(uri).map_err(|e| garbage(e.to_string())),
        _ => Err(garbage("it must name exactly one URI".to_owned())),
    }
}

fn verify_chain(
    chain: &[CertificateDer<'static>],
    roots: &[CertificateDer<'static>],
    now: SystemTime,
) -> Result<(), CertificateError> {
    let wrong = |e: webpki::Error| CertificateError::Chain(e.to_string());
    let anchors: Vec<_> = roots.iter().filter_map(|root| anchor_from_trusted_cert(root).ok()).collect();
    let leaf = EndEntityCert::try_from(&chain[0]).map_err(wrong)?;
    let now = UnixTime::since_unix_epoch(now.duration_since(UNIX_EPOCH).unwrap_or_default());
    let algorithms = webpki::ALL_VERIFICATION_ALGS;
    leaf.verify_for_usage(algorithms, &anchors, &chain[1..], now, KeyUsage::client_auth(), None, None)
        .map(|_| ())
        .map_err(wrong)
}
