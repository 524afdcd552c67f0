//! A certificate authority for tests.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use time::OffsetDateTime;

/// A root that signs whatever it is asked to.
pub struct TestCa {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate with its key.
pub struct TestCertificate {
    /// The certificate, DER.
    pub chain: Vec<CertificateDer<'static>>,
    /// The key.
    pub key: PrivateKeyDer<'static>,
}

impl TestCa {
    /// A new root.
    ///
    /// # Panics
    /// Without randomness.
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        let mut name = DistinguishedName::new();
        name.push(DnType::OrganizationName, "weft tests");
        params.distinguished_name = name;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        Self { issuer: CertifiedIssuer::self_signed(params, key).expect("a root") }
    }

    /// The root, PEM.
    pub fn root_pem(&self) -> String {
        self.issuer.pem()
    }

    /// The root, DER.
    pub fn root_der(&self) -> CertificateDer<'static> {
        self.issuer.der().clone()
    }

    /// A certificate for a server's DNS name.
    ///
    /// # Panics
    /// Where it is no name.
    pub fn server(&self, name: &str) -> TestCertificate {
        self.issue(SanType::DnsName(name.try_into().expect("a name")), Duration::from_secs(86_400))
    }

    /// A certificate for a SPIFFE identity.
    ///
    /// # Panics
    /// Where it is no URI.
    pub fn workload(&self, identity: &str, life: Duration) -> TestCertificate {
        self.issue(SanType::URI(identity.try_into().expect("a URI")), life)
    }

    /// Signs a request (PEM) as it stands, for so long; the certificate, PEM.
    ///
    /// # Panics
    /// Where it is no request.
    pub fn sign(&self, request_pem: &str, life: Duration) -> String {
        let mut request = CertificateSigningRequestParams::from_pem(request_pem).expect("a request");
        live(&mut request.params, life);
        request.signed_by(&self.issuer).expect("a certificate").pem()
    }

    fn issue(&self, name: SanType, life: Duration) -> TestCertificate {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![name];
        live(&mut params, life);
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        TestCertificate { chain: vec![certificate.der().clone()], key }
    }
}

impl Default for TestCa {
    fn default() -> Self {
        Self::new()
    }
}

fn live(params: &mut CertificateParams, life: Duration) {
    params.not_before = OffsetDateTime::now_utc() - Duration::from_secs(60);
    params.not_after = OffsetDateTime::now_utc() + life;
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
}
