//! The root key and certificate, and what they sign.
//!
//! Of a signing request only the public key counts: names, usages and constraints in it are not heeded.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer, PrivatePkcs8KeyDer};
use time::OffsetDateTime;
use weft_core::identity::SpiffeId;
use x509_parser::prelude::{FromDer, X509Certificate, X509CertificationRequest};
use x509_parser::public_key::PublicKey;

/// How long a root is valid: ten years.
pub const ROOT_TTL: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// How long a workload's certificate is valid if nothing else is said: a day.
pub const DEFAULT_WORKLOAD_TTL: Duration = Duration::from_secs(24 * 3600);
/// How long before now certificates begin, for clocks that lag.
const BACKDATE: Duration = Duration::from_secs(60);
/// The longest signing request, in bytes of PEM.
const MAX_CSR_BYTES: usize = 16 << 10;

/// The root key and certificate.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    root_pem: String,
    root_der: Bytes,
    not_after: OffsetDateTime,
}

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// The request is not fit to be signed.
    #[error("the signing request is refused: {0}")]
    Request(String),
    /// The root is not fit to sign.
    #[error("the root: {0}")]
    Root(String),
    /// The library failed.
    #[error("signing: {0}")]
    Sign(#[from] rcgen::Error),
}

/// A certificate and its key.
#[derive(Debug)]
pub struct ServerCertificate {
    /// The certificate, DER.
    pub certificate: CertificateDer<'static>,
    /// Its key.
    pub key: PrivatePkcs8KeyDer<'static>,
    /// When it ends.
    pub not_after: OffsetDateTime,
}

impl Authority {
    /// Makes a new root: its key and its certificate, PEM.
    pub fn generate(now: OffsetDateTime) -> Result<(String, String), CaError> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let serial = serial();
        let mut params = params(now, now + ROOT_TTL, &serial);
        let name = format!("Weft root {}", &hex(&serial)[..8]);
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Ok((key.serialize_pem(), params.self_signed(&key)?.pem()))
    }

    /// Takes a root from PEM.
    pub fn from_pem(key: &str, certificate: &str) -> Result<Self, CaError> {
        let key = KeyPair::from_pem(key).map_err(|error| CaError::Root(format!("its key: {error}")))?;
        let der = CertificateDer::from_pem_slice(certificate.as_bytes())
            .map_err(|error| CaError::Root(format!("its certificate: {error}")))?;
        let not_after = check_root(&der, &key)?;
        let issuer = Issuer::from_ca_cert_der(&der, key)?;
        let root_der = Bytes::copy_from_slice(&der);
        Ok(Self { issuer, root_pem: certificate.to_owned(), root_der, not_after })
    }

    /// The root certificate, PEM.
    pub fn root_pem(&self) -> &str {
        &self.root_pem
    }

    /// The root certificate, DER.
    pub fn root_der(&self) -> &Bytes {
        &self.root_der
    }

    /// Signs a workload's key: a chain of PEM certificates, the workload's first.
    pub fn sign(
        &self,
        csr: &str,
        identity: &SpiffeId,
        ttl: Duration,
        now: OffsetDateTime,
    ) -> Result<Vec<String>, CaError> {
        let request = read_request(csr)?;
        let uri = identity.as_str().try_into()?;
        let certificate =
            self.leaf(now, ttl, vec![SanType::URI(uri)]).signed_by(&request.public_key, &self.issuer)?;
        check_key(certificate.der(), &request.public_key)?;
        Ok(vec![certificate.pem(), self.root_pem.clone()])
    }

    /// Makes a key and certificate for the controller's own server.
    pub fn server_certificate(
        &self,
        names: &[String],
        addresses: &[IpAddr],
        ttl: Duration,
        now: OffsetDateTime,
    ) -> Result<ServerCertificate, CaError> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let mut sans = Vec::new();
        for name in names {
            sans.push(SanType::DnsName(name.as_str().try_into()?));
        }
        sans.extend(addresses.iter().map(|address| SanType::IpAddress(*address)));
        let params = self.leaf(now, ttl, sans);
        let not_after = params.not_after;
        let certificate = params.signed_by(&key, &self.issuer)?.der().clone();
        Ok(ServerCertificate { certificate, key: key.serialize_der().into(), not_after })
    }

    /// A certificate that may be a client's and a server's, and no authority's; it never outlives the root.
    fn leaf(&self, now: OffsetDateTime, ttl: Duration, sans: Vec<SanType>) -> CertificateParams {
        let mut params = params(now, self.not_after.min(now + ttl), &serial());
        params.subject_alt_names = sans;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        params
    }
}

fn params(now: OffsetDateTime, not_after: OffsetDateTime, serial: &[u8]) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.serial_number = Some(SerialNumber::from_slice(serial));
    params.not_before = now - BACKDATE;
    params.not_after = not_after;
    params
}

/// 20 random bytes, of which the first keeps the number positive and its length whole (RFC 5280, section 4.1.2.2).
fn serial() -> [u8; 20] {
    let mut serial: [u8; 20] = rand::random();
    serial[0] = serial[0] & 0x7f | 0x40;
    serial
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read_request(csr: &str) -> Result<CertificateSigningRequestParams, CaError> {
    if csr.len() > MAX_CSR_BYTES {
        return Err(CaError::Request(format!("longer than {MAX_CSR_BYTES} bytes")));
    }
    let refused = |error: &dyn std::fmt::Display| CaError::Request(error.to_string());
    let der =
        CertificateSigningRequestDer::from_pem_slice(csr.as_bytes()).map_err(|error| refused(&error))?;
    let (rest, _) = X509CertificationRequest::from_der(&der).map_err(|error| refused(&error))?;
    if !rest.is_empty() {
        return Err(CaError::Request("bytes after its end".to_owned()));
    }
    CertificateSigningRequestParams::from_der(&der).map_err(|error| refused(&error))
}

/// The signed key must be the requested one: its algorithm is guessed from the request's signature.
fn check_key(certificate: &CertificateDer<'_>, key: &impl PublicKeyData) -> Result<(), CaError> {
    let parsed =
        X509Certificate::from_der(certificate).map_err(|error| CaError::Request(error.to_string()))?.1;
    let usable = match parsed.public_key().parsed() {
        Ok(PublicKey::RSA(key)) => key.key_size() >= 2048,
        Ok(PublicKey::EC(key)) => key.key_size() >= 256,
        _ => false,
    };
    let same = *parsed.public_key().subject_public_key.data == *key.der_bytes();
    if usable && same {
        Ok(())
    } else {
        Err(CaError::Request("the key is no ECDSA P-256 or P-384 key, nor RSA of 2048 bits".to_owned()))
    }
}

fn check_root(certificate: &CertificateDer<'_>, key: &KeyPair) -> Result<OffsetDateTime, CaError> {
    let parsed = X509Certificate::from_der(certificate).map_err(|error| CaError::Root(error.to_string()))?.1;
    if *parsed.public_key().subject_public_key.data != *key.public_key_raw() {
        return Err(CaError::Root("the key is not the certificate's".to_owned()));
    }
    if !parsed.is_ca() {
        return Err(CaError::Root("the certificate is no authority's".to_owned()));
    }
    Ok(parsed.validity().not_after.to_datetime())
}

#[cfg(test)]
mod tests {
    use x509_parser::prelude::{GeneralName, ParsedExtension};

    use super::*;

    fn authority() -> Authority {
        let (key, certificate) = Authority::generate(OffsetDateTime::now_utc()).unwrap();
        Authority::from_pem(&key, &certificate).unwrap()
    }

    fn identity() -> SpiffeId {
        SpiffeId::parse("spiffe://cluster.local/ns/default/sa/api").unwrap()
    }

    fn request(change: impl FnOnce(&mut CertificateParams)) -> String {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        change(&mut params);
        params.serialize_request(&key).unwrap().pem().unwrap()
    }

    fn signed(csr: &str) -> CertificateDer<'static> {
        let chain =
            authority().sign(csr, &identity(), DEFAULT_WORKLOAD_TTL, OffsetDateTime::now_utc()).unwrap();
        assert_eq!(chain.len(), 2);
        CertificateDer::from_pem_slice(chain[0].as_bytes()).unwrap()
    }

    #[test]
    fn d14_only_the_key_of_a_request_counts() {
        let der = signed(&request(|params| {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
            params.subject_alt_names = vec![
                SanType::URI("spiffe://cluster.local/ns/kube-system/sa/admin".try_into().unwrap()),
                SanType::DnsName("example.com".try_into().unwrap()),
            ];
            params.distinguished_name.push(DnType::CommonName, "admin");
        }));
        let (_, certificate) = X509Certificate::from_der(&der).unwrap();
        assert!(!certificate.is_ca());
        assert_eq!(certificate.subject().iter().count(), 0);
        let san = certificate.subject_alternative_name().unwrap().unwrap();
        assert!(san.critical, "as the subject is empty");
        assert_eq!(san.value.general_names, [GeneralName::URI(identity().as_str())]);
        let usage = certificate.key_usage().unwrap().unwrap().value;
        assert!(usage.digital_signature() && !usage.key_cert_sign());
        let extended = certificate.extended_key_usage().unwrap().unwrap().value;
        assert!(extended.client_auth && extended.server_auth && !extended.any);
        assert!(
            certificate
                .extensions()
                .iter()
                .any(|it| { matches!(it.parsed_extension(), ParsedExtension::AuthorityKeyIdentifier(_)) })
        );
    }

    #[test]
    fn times_and_serial() {
        let der = signed(&request(|_| ()));
        let (_, certificate) = X509Certificate::from_der(&der).unwrap();
        let now = OffsetDateTime::now_utc().unix_timestamp();
        let validity = certificate.validity();
        assert!((now - validity.not_before.timestamp() - 60).abs() < 5);
        assert!((validity.not_after.timestamp() - now - 24 * 3600).abs() < 5);
        assert_eq!(certificate.raw_serial().len(), 20);
        assert_ne!(
            certificate.raw_serial(),
            X509Certificate::from_der(&signed(&request(|_| ()))).unwrap().1.raw_serial()
        );
    }

    #[test]
    fn nothing_outlives_the_root() {
        let authority = authority();
        let late = OffsetDateTime::now_utc() + ROOT_TTL - Duration::from_secs(100);
        let chain = authority.sign(&request(|_| ()), &identity(), DEFAULT_WORKLOAD_TTL, late).unwrap();
        let der = CertificateDer::from_pem_slice(chain[0].as_bytes()).unwrap();
        let (_, certificate) = X509Certificate::from_der(&der).unwrap();
        assert_eq!(certificate.validity().not_after.timestamp(), authority.not_after.unix_timestamp());
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let good = request(|_| ());
        let der = CertificateSigningRequestDer::from_pem_slice(good.as_bytes()).unwrap();
        let mut forged = der.to_vec();
        let last = forged.len() - 1;
        forged[last] ^= 1;
        let pem = |der: &[u8]| {
            use base64::Engine;
            let text = base64::engine::general_purpose::STANDARD.encode(der);
            format!("-----BEGIN CERTIFICATE REQUEST-----\n{text}\n-----END CERTIFICATE REQUEST-----\n")
        };
        let long = [der.as_ref(), b"x"].concat();
        for bad in [String::new(), "x".repeat(1 << 20), pem(&forged), pem(&long), pem(b"x")] {
            let result = authority().sign(&bad, &identity(), DEFAULT_WORKLOAD_TTL, OffsetDateTime::now_utc());
            assert!(matches!(result, Err(CaError::Request(_))), "{result:?}");
        }
    }

    #[test]
    fn a_root_is_a_key_and_its_own_certificate() {
        let now = OffsetDateTime::now_utc();
        let (key, certificate) = Authority::generate(now).unwrap();
        let (other, _) = Authority::generate(now).unwrap();
        assert!(Authority::from_pem(&key, &certificate).is_ok());
        assert!(matches!(Authority::from_pem(&other, &certificate), Err(CaError::Root(_))));
        assert!(matches!(Authority::from_pem("", &certificate), Err(CaError::Root(_))));
        assert!(matches!(Authority::from_pem(&key, ""), Err(CaError::Root(_))));
    }
}
