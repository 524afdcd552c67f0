//! The certificate of the webhooks, and the authority behind it. Pure: time is an argument.
//!
//! An authority of their own signs it, and not the root of the mesh: what the API server is told to believe for its
//! calls must not depend on who signs for workloads, which may be somebody outside. The authority stays while the
//! certificate is renewed below it, so that a renewal needs no change in who is believed. Where the authority itself is
//! replaced, the one before is believed beside it for a while: replicas and API servers hear of the new one when they do.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use base64::Engine;
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::ca::authority::Authority;

/// How long a certificate is valid: thirty days.
pub const TTL: Duration = Duration::from_secs(30 * 24 * 3600);
/// The end of the authority is met this long before it comes.
const AUTHORITY_MARGIN: Duration = Duration::from_secs(365 * 24 * 3600);

/// How long the authority before is believed beside a new one.
const OVERLAP: Duration = Duration::from_secs(600);
/// So many of those before are believed at most.
const MOST_BEFORE: usize = 2;

/// Keys of the Secret.
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
const AUTHORITY: &str = "ca.crt";
const AUTHORITY_KEY: &str = "ca.key";
/// Those believed before, and until when they are, in seconds of Unix time.
const BEFORE: &str = "ca-before.crt";
const BEFORE_UNTIL: &str = "ca-before.until";

/// Under which names and addresses the webhooks are reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Names.
    pub names: Vec<String>,
    /// Addresses.
    pub addresses: Vec<IpAddr>,
}

/// What the Secret holds, as PEM: a server's certificate and key, and the authority's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Material(BTreeMap<String, Vec<u8>>);

impl Material {
    /// Makes everything anew.
    ///
    /// # Errors
    /// The cryptography fails.
    pub fn generate(names: &Names, ttl: Duration, now: OffsetDateTime) -> Result<Self> {
        let (key, certificate) = Authority::generate(now)?;
        let fields = [(AUTHORITY, certificate), (AUTHORITY_KEY, key)];
        let fields = fields.map(|(name, text)| (name.to_owned(), text.into_bytes()));
        Self(fields.into_iter().collect()).renewed(names, ttl, now)
    }

    /// Takes what a Secret holds.
    pub fn of_secret(data: impl IntoIterator<Item = (String, Vec<u8>)>) -> Self {
        Self(data.into_iter().collect())
    }

    /// What the Secret is to hold.
    pub fn into_secret(self) -> BTreeMap<String, Vec<u8>> {
        self.0
    }

    /// The same authority with a new certificate below it.
    ///
    /// # Errors
    /// The authority is not fit to sign.
    pub fn renewed(mut self, names: &Names, ttl: Duration, now: OffsetDateTime) -> Result<Self> {
        let authority = Authority::from_pem(self.text(AUTHORITY_KEY)?, self.text(AUTHORITY)?)?;
        let issued = authority.server_certificate(&names.names, &names.addresses, ttl, now)?;
        let pem = |label, der: &[u8]| pem(label, der).into_bytes();
        self.0.insert(CERTIFICATE.to_owned(), pem("CERTIFICATE", &issued.certificate));
        self.0.insert(KEY.to_owned(), pem("PRIVATE KEY", issued.key.secret_pkcs8_der()));
        Ok(self)
    }

    /// What is to be done: nothing, a new certificate, or everything anew.
    pub fn judge(&self, names: &Names, now: OffsetDateTime) -> Judgement {
        match self.ends_of_authority() {
            Ok(end) if end - now > AUTHORITY_MARGIN => {}
            Ok(_) => return Judgement::Replace("its authority ends soon".to_owned()),
            Err(error) => return Judgement::Replace(format!("{error:#}")),
        }
        match self.half_life(names, now) {
            Ok(half) if now < half => {
                Judgement::Keep(self.overlaps(now).map_or(half, |until| half.min(until)))
            }
            Ok(_) => Judgement::Renew("half of its life is over".to_owned()),
            Err(error) => Judgement::Renew(format!("{error:#}")),
        }
    }

    /// The same, believed beside those that were believed so far, as PEM in which other things may stand.
    #[must_use]
    pub fn beside(mut self, before: &str, now: OffsetDateTime) -> Self {
        let (mut kept, own) = (Vec::new(), self.certificate(AUTHORITY).ok());
        for der in CertificateDer::pem_slice_iter(before.as_bytes()).flatten() {
            if life(&der).is_ok() && own.as_ref() != Some(&der) && !kept.contains(&der) {
                kept.push(der);
            }
        }
        kept.truncate(MOST_BEFORE);
        if !kept.is_empty() {
            let text: String = kept.iter().map(|der| pem("CERTIFICATE", der)).collect();
            let until = (now + OVERLAP).unix_timestamp().to_string();
            self.0
                .extend([(BEFORE, text), (BEFORE_UNTIL, until)].map(|(k, v)| (k.to_owned(), v.into_bytes())));
        }
        self
    }

    /// Until when others are believed beside its authority; `None` where none are.
    pub fn overlaps(&self, now: OffsetDateTime) -> Option<OffsetDateTime> {
        let until = self.text(BEFORE_UNTIL).ok()?.parse().ok()?;
        OffsetDateTime::from_unix_timestamp(until).ok().filter(|until| now < *until)
    }

    /// What the API server is told to believe, as PEM: the authority, and for a while those before it.
    ///
    /// # Errors
    /// There is none.
    pub fn believed(&self, now: OffsetDateTime) -> Result<String> {
        let before = self.overlaps(now).and_then(|_| self.text(BEFORE).ok());
        Ok([self.text(AUTHORITY)?, before.unwrap_or_default()].concat())
    }

    /// The certificate and key, ready to serve.
    ///
    /// # Errors
    /// They are none, or do not belong together.
    pub fn certified(&self, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>> {
        let certificate = self.certificate(CERTIFICATE)?;
        let key = PrivateKeyDer::from_pem_slice(self.text(KEY)?.as_bytes()).context(KEY)?;
        let certified = CertifiedKey::from_der(vec![certificate], key, provider)?;
        Ok(Arc::new(certified))
    }

    fn ends_of_authority(&self) -> Result<OffsetDateTime> {
        Authority::from_pem(self.text(AUTHORITY_KEY)?, self.text(AUTHORITY)?)?;
        let (_, end) = life(&self.certificate(AUTHORITY)?)?;
        Ok(end)
    }

    /// When half of the certificate's life is over, if a client that believes the authority takes it for each name.
    fn half_life(&self, names: &Names, now: OffsetDateTime) -> Result<OffsetDateTime> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        self.certified(&provider)?;
        let certificate = self.certificate(CERTIFICATE)?;
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate(AUTHORITY)?)?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build()?;
        let seconds = u64::try_from(now.unix_timestamp()).unwrap_or(0);
        let at = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        for name in names.server_names()? {
            let taken = verifier.verify_server_cert(&certificate, &[], &name, &[], at);
            taken.with_context(|| format!("a client would not take it for {}", name.to_str()))?;
        }
        let (from, to) = life(&certificate)?;
        Ok(from + (to - from) / 2)
    }

    fn certificate(&self, field: &str) -> Result<CertificateDer<'static>> {
        CertificateDer::from_pem_slice(self.text(field)?.as_bytes()).with_context(|| field.to_owned())
    }

    fn text(&self, field: &str) -> Result<&str> {
        let bytes = self.0.get(field).with_context(|| format!("{field} is missing"))?;
        std::str::from_utf8(bytes).with_context(|| format!("{field} is no text"))
    }
}

impl Names {
    /// Those of the controller's Service in a namespace.
    pub fn of_service(service: &str, namespace: &str) -> Self {
        let name = format!("{service}.{namespace}.svc");
        Self { names: vec![format!("{name}.cluster.local"), name], addresses: Vec::new() }
    }

    fn server_names(&self) -> Result<Vec<ServerName<'static>>> {
        let names = self.names.iter().map(|name| Ok(ServerName::try_from(name.clone())?));
        names.chain(self.addresses.iter().map(|address| Ok(ServerName::from(*address)))).collect()
    }
}

fn life(certificate: &CertificateDer<'_>) -> Result<(OffsetDateTime, OffsetDateTime)> {
    let (_, parsed) = X509Certificate::from_der(certificate)?;
    let life = parsed.validity();
    Ok((life.not_before.to_datetime(), life.not_after.to_datetime()))
}

/// DER as PEM (RFC 7468).
fn pem(label: &str, der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut lines = format!("-----BEGIN {label}-----\n");
    for start in (0..text.len()).step_by(64) {
        lines.push_str(&text[start..text.len().min(start + 64)]);
        lines.push('\n');
    }
    lines + &format!("-----END {label}-----\n")
}

/// What is to be done with a Secret's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Nothing until then.
    Keep(OffsetDateTime),
    /// A new certificate below the same authority: why.
    Renew(String),
    /// Everything anew: why.
    Replace(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        let mut names = Names::of_service("weft-controller", "weft-system");
        names.addresses.push([127, 0, 0, 1].into());
        names
    }

    fn edited(material: &Material, field: &str, text: &str) -> Material {
        let mut fields = material.clone().into_secret();
        fields.insert(field.to_owned(), text.as_bytes().to_vec());
        Material::of_secret(fields)
    }

    #[test]
    fn a_new_one_is_kept_for_half_its_life_and_renewed_below_the_same_authority() {
        let now = OffsetDateTime::now_utc();
        let first = Material::generate(&names(), TTL, now).unwrap();
        let Judgement::Keep(until) = first.judge(&names(), now) else {
            panic!("{:?}", first.judge(&names(), now))
        };
        assert!(until > now + TTL / 3 && until < now + TTL);
        let later = until + Duration::from_secs(1);
        assert!(matches!(first.judge(&names(), later), Judgement::Renew(_)));
        let second = first.clone().renewed(&names(), TTL, later).unwrap();
        assert!(matches!(second.judge(&names(), later), Judgement::Keep(_)));
        assert_eq!(first.believed(now).unwrap(), second.believed(now).unwrap());
        assert_ne!(first, second);
    }

    #[test]
    fn what_a_client_would_not_take_is_renewed() {
        let now = OffsetDateTime::now_utc();
        let good = Material::generate(&names(), TTL, now).unwrap();
        let other = Names::of_service("weft-controller", "elsewhere");
        assert!(matches!(good.judge(&other, now), Judgement::Renew(_)), "another name");
        let foreign = Material::generate(&names(), TTL, now).unwrap();
        let foreign = String::from_utf8(foreign.into_secret()["tls.crt"].clone()).unwrap();
        for edited in [
            edited(&good, "tls.crt", "nonsense"),
            edited(&good, "tls.key", ""),
            edited(&good, "tls.crt", &foreign),
        ] {
            assert!(matches!(edited.judge(&names(), now), Judgement::Renew(_)));
            let mended = edited.renewed(&names(), TTL, now).unwrap();
            assert!(matches!(mended.judge(&names(), now), Judgement::Keep(_)));
        }
    }

    #[test]
    fn who_was_believed_before_is_so_for_a_while() {
        let now = OffsetDateTime::now_utc();
        let [first, second] = [(), ()].map(|()| Material::generate(&names(), TTL, now).unwrap());
        let (old, new) = (first.believed(now).unwrap(), second.believed(now).unwrap());
        let both = second.clone().beside(&format!("{old}{new}nonsense{old}"), now);
        assert_eq!(both.believed(now).unwrap(), format!("{new}{old}"));
        assert_eq!(both.judge(&names(), now), Judgement::Keep(both.overlaps(now).unwrap()));
        let later = now + OVERLAP + Duration::from_secs(1);
        assert_eq!(both.believed(later).unwrap(), new);
        assert!(matches!(both.judge(&names(), later), Judgement::Keep(until) if until > later));
        let renewed = both.renewed(&names(), TTL, now).unwrap();
        assert_eq!(renewed.believed(now).unwrap(), format!("{new}{old}"), "a renewal changes nothing of it");
        assert_eq!(second.clone().beside("", now), second, "the first of all follows none");
        let nonsense = "-----BEGIN CERTIFICATE-----\nbm9uc2Vuc2U=\n-----END CERTIFICATE-----\n";
        assert_eq!(second.clone().beside(nonsense, now), second);
    }

    #[test]
    fn a_secret_edited_into_nonsense_is_replaced() {
        let now = OffsetDateTime::now_utc();
        let good = Material::generate(&names(), TTL, now).unwrap();
        let other = Material::generate(&names(), TTL, now).unwrap();
        let other = String::from_utf8(other.into_secret()["ca.key"].clone()).unwrap();
        for nonsense in [
            Material::of_secret([]),
            Material::of_secret([("ca.crt".to_owned(), vec![0xff])]),
            edited(&good, "ca.crt", "nonsense"),
            edited(&good, "ca.key", &other),
        ] {
            assert!(matches!(nonsense.judge(&names(), now), Judgement::Replace(_)));
        }
        assert!(matches!(
            good.judge(&names(), now + Duration::from_secs(19 * 182 * 24 * 3600)),
            Judgement::Replace(_)
        ));
    }
}
