//! The root key and certificate, and what they sign.
//!
//! Of a signing request only the public key counts: names, usages and constraints in it are not heeded.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};
use rustls::RootCertStore;
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::server::ParsedCertificate;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer, PrivatePkcs8KeyDer, UnixTime};
use time::OffsetDateTime;
use weft_core::identity::SpiffeId;
use x509_parser::prelude::{FromDer, X509Certificate, X509CertificationRequest};
use x509_parser::public_key::PublicKey;

/// How long a root is valid: ten years.
pub const ROOT_TTL: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// How long a workload's certificate is valid if nothing else is said: a day.
pub const DEFAULT_WORKLOAD_TTL: Duration = Duration::from_secs(24 * 3600);
/// How long before now certificates begin at most, for clocks that lag by minutes.
const BACKDATE: Duration = Duration::from_secs(600);
/// The longest signing request, in bytes of PEM.
const MAX_CSR_BYTES: usize = 16 << 10;

/// The key that signs, its certificate, and the way from there to the roots.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// From the signing certificate up, without the roots; empty where a root signs.
    intermediates: Vec<CertificateDer<'static>>,
    /// What follows a signed certificate, PEM.
    chain_pem: Vec<String>,
    root_pem: String,
    roots: Vec<Bytes>,
    not_after: OffsetDateTime,
}

/// What an authority is made from, PEM; each part has a name for errors.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// The key that signs.
    pub key: Part<'a>,
    /// Its certificate.
    pub certificate: Part<'a>,
    /// Certificates on the way to a root, in order; may be empty, and may hold either end too.
    pub chain: Part<'a>,
    /// Whom everybody believes: one or more.
    pub roots: Part<'a>,
}

/// A named text.
#[derive(Clone, Copy)]
pub struct Part<'a> {
    /// What people call it.
    pub name: &'a str,
    /// PEM.
    pub text: &'a str,
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
        let part = |name, text| Part { name, text };
        let certificate = part("its certificate", certificate);
        Self::of(Parts { key: part("its key", key), certificate, chain: part("", ""), roots: certificate })
    }

    /// Takes a root, or an authority below one, from PEM.
    pub fn of(parts: Parts<'_>) -> Result<Self, CaError> {
        let key = KeyPair::from_pem(parts.key.text).map_err(|error| parts.key.refused(&error))?;
        let der = parts.certificate.certificates()?.swap_remove(0);
        let not_after = check_authority(&der, &key, &parts)?;
        let roots = parts.roots.certificates()?;
        let chain = if parts.chain.text.is_empty() { Vec::new() } else { parts.chain.certificates()? };
        let issuer =
            Issuer::from_ca_cert_der(&der, key).map_err(|error| parts.certificate.refused(&error))?;
        let mut intermediates: Vec<_> = std::iter::once(der).chain(chain).collect();
        intermediates.dedup();
        intermediates.retain(|certificate| !roots.contains(certificate));
        let chain_pem = intermediates.iter().map(pem_of).chain([parts.roots.text.to_owned()]).collect();
        let root_pem = parts.roots.text.to_owned();
        let roots = roots.iter().map(|root| Bytes::copy_from_slice(root)).collect();
        Ok(Self { issuer, intermediates, chain_pem, root_pem, roots, not_after })
    }

    /// Signs something and looks whether those who believe the roots would believe it.
    ///
    /// # Errors
    /// They would not: why.
    pub fn verify(&self, now: OffsetDateTime) -> Result<(), CaError> {
        let untrusted =
            |error: &dyn fmt::Display| CaError::Root(format!("what it signs is not believed: {error}"));
        let name = "weft.dev".to_owned();
        let signed = self.server_certificate(&[name], &[], DEFAULT_WORKLOAD_TTL, now)?;
        let mut store = RootCertStore::empty();
        for root in &self.roots {
            let root = CertificateDer::from(root.to_vec());
            store.add(root).map_err(|error| untrusted(&error))?;
        }
        let leaf = ParsedCertificate::try_from(&signed.certificate).map_err(|error| untrusted(&error))?;
        let seconds = u64::try_from(now.unix_timestamp()).unwrap_or_default();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let algorithms = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&leaf, &store, &self.intermediates, now, algorithms)
            .map_err(|error| untrusted(&error))
    }

    /// The roots, PEM.
    pub fn root_pem(&self) -> &str {
        &self.root_pem
    }

    /// The roots, DER.
    pub fn roots(&self) -> &[Bytes] {
        &self.roots
    }

    /// What lies between a signed certificate and a root, from below.
    pub fn intermediates(&self) -> &[CertificateDer<'static>] {
        &self.intermediates
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
        Ok(std::iter::once(certificate.pem()).chain(self.chain_pem.iter().cloned()).collect())
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
        params.not_before = now - BACKDATE.min(ttl / 4);
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

fn check_authority(
    certificate: &CertificateDer<'_>,
    key: &KeyPair,
    parts: &Parts<'_>,
) -> Result<OffsetDateTime, CaError> {
    let refused = |error: &dyn fmt::Display| parts.certificate.refused(error);
    let parsed = X509Certificate::from_der(certificate).map_err(|error| refused(&error))?.1;
    if *parsed.public_key().subject_public_key.data != *key.public_key_raw() {
        return Err(parts.key.refused(&"the key is not the certificate's"));
    }
    if !parsed.is_ca() {
        return Err(refused(&"the certificate is no authority's"));
    }
    Ok(parsed.validity().not_after.to_datetime())
}

impl Part<'_> {
    fn refused(&self, error: &dyn fmt::Display) -> CaError {
        CaError::Root(format!("{}: {error}", self.name))
    }

    /// The certificates in it, at least one.
    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, CaError> {
        let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(self.text.as_bytes()).collect();
        let all = all.map_err(|error| self.refused(&error))?;
        if all.is_empty() { Err(self.refused(&"there is no certificate in it")) } else { Ok(all) }
    }
}

/// Without the text, which may be a key.
impl fmt::Debug for Part<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

fn pem_of(certificate: &CertificateDer<'_>) -> String {
    let text = STANDARD.encode(certificate);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
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
        assert!((now - validity.not_before.timestamp() - 600).abs() < 5);
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

    #[test]
    fn clocks_may_lag_by_minutes_and_a_short_life_is_not_spent_before_it_begins() {
        let (now, csr) = (OffsetDateTime::now_utc(), request(|_| ()));
        let chain = authority().sign(&csr, &identity(), Duration::from_secs(80), now).unwrap();
        let der = CertificateDer::from_pem_slice(chain[0].as_bytes()).unwrap();
        let (_, certificate) = X509Certificate::from_der(&der).unwrap();
        assert_eq!(now.unix_timestamp() - certificate.validity().not_before.timestamp(), 20);
    }

    /// A root, and an authority below it: its key and certificate, and the root's certificate.
    fn below(now: OffsetDateTime) -> (String, String, String) {
        let (root_key, root) = Authority::generate(now).unwrap();
        let issuer = Issuer::from_ca_cert_pem(&root, KeyPair::from_pem(&root_key).unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = params(now, now + ROOT_TTL, &serial());
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.distinguished_name.push(DnType::CommonName, "Intermediate");
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate = params.signed_by(&key, &issuer).unwrap().pem();
        (key.serialize_pem(), certificate, root)
    }

    #[test]
    fn an_authority_below_a_root_sends_the_way_up_along() {
        let now = OffsetDateTime::now_utc();
        let (key, certificate, root) = below(now);
        let both = format!("{certificate}{root}");
        let part = |text| Part { name: "part", text };
        for chain in ["", &*certificate, &*both] {
            let (key, certificate) = (part(&*key), part(&*certificate));
            let authority =
                Authority::of(Parts { key, certificate, chain: part(chain), roots: part(&root) }).unwrap();
            authority.verify(now).unwrap();
            let signed = authority.sign(&request(|_| ()), &identity(), DEFAULT_WORKLOAD_TTL, now).unwrap();
            assert_eq!(signed.len(), 3);
            assert_eq!((&signed[1], &signed[2]), (&certificate.text.replace("\r", ""), &root));
            assert_eq!(authority.intermediates().len(), 1);
        }
    }

    #[test]
    fn an_authority_that_nobody_would_believe_is_found_out() {
        let now = OffsetDateTime::now_utc();
        let (key, certificate, _) = below(now);
        let (root_key, other) = Authority::generate(now).unwrap();
        let part = |text| Part { name: "part", text };
        let parts =
            Parts { key: part(&key), certificate: part(&certificate), chain: part(""), roots: part(&other) };
        let error = Authority::of(parts).unwrap().verify(now).unwrap_err().to_string();
        assert!(error.contains("not believed"), "{error}");
        let own = Authority::from_pem(&root_key, &other).unwrap();
        own.verify(now).unwrap();
        assert!(own.verify(now + ROOT_TTL + DEFAULT_WORKLOAD_TTL).is_err(), "it has ended");
    }
}
