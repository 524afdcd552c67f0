//! The server's own certificate: signed by the root, renewed at half its life, never written to disk.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::PrivateKeyDer;
use time::OffsetDateTime;

use crate::ca::authority::Authority;

/// The names of the controller's Service.
pub const SERVER_NAMES: [&str; 2] =
    ["weft-controller.weft-system.svc", "weft-controller.weft-system.svc.cluster.local"];
/// How long a certificate of the server is valid: a day.
const TTL: Duration = Duration::from_secs(24 * 3600);
/// After a renewal that failed.
const RETRY: Duration = Duration::from_secs(60);

/// The server's certificate, in force from handshake to handshake.
pub struct ServerIdentity {
    authority: Arc<Authority>,
    names: Vec<String>,
    addresses: Vec<IpAddr>,
    provider: Arc<CryptoProvider>,
    current: ArcSwap<CertifiedKey>,
}

impl ServerIdentity {
    /// A first certificate, for [`SERVER_NAMES`], other names, and addresses.
    ///
    /// # Errors
    /// It cannot be signed, or a name is none.
    pub fn new(authority: Arc<Authority>, names: &[String], addresses: &[IpAddr]) -> Result<Arc<Self>> {
        let names: Vec<_> =
            SERVER_NAMES.iter().map(ToString::to_string).chain(names.iter().cloned()).collect();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let first = issue(&authority, &names, addresses, &provider)?;
        let current = ArcSwap::from_pointee(first);
        Ok(Arc::new(Self { authority, names, addresses: addresses.to_vec(), provider, current }))
    }

    /// Puts a new certificate in the place of the present one; connections that stand are not touched.
    ///
    /// # Errors
    /// It cannot be signed.
    pub fn renew(&self) -> Result<()> {
        let next = issue(&self.authority, &self.names, &self.addresses, &self.provider)?;
        self.current.store(Arc::new(next));
        Ok(())
    }

    /// Renews for ever.
    pub async fn keep(self: Arc<Self>) {
        let mut wait = TTL / 2;
        loop {
            tokio::time::sleep(wait).await;
            let renewed = self.renew();
            if let Err(error) = &renewed {
                tracing::error!("the server's certificate is not renewed: {error:#}");
            }
            wait = if renewed.is_ok() { TTL / 2 } else { RETRY };
        }
    }

    /// TLS 1.3, HTTP/2, no certificate asked for: who calls is known by token.
    ///
    /// # Errors
    /// The cryptography does not know TLS 1.3.
    pub fn server_config(self: &Arc<Self>) -> Result<Arc<ServerConfig>> {
        let builder = ServerConfig::builder_with_provider(self.provider.clone());
        let builder = builder.with_protocol_versions(&[&rustls::version::TLS13])?;
        let mut config = builder.with_no_client_auth().with_cert_resolver(self.clone());
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Arc::new(config))
    }
}

impl ResolvesServerCert for ServerIdentity {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

impl std::fmt::Debug for ServerIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerIdentity").field("names", &self.names).finish_non_exhaustive()
    }
}

fn issue(
    authority: &Authority,
    names: &[String],
    addresses: &[IpAddr],
    provider: &CryptoProvider,
) -> Result<CertifiedKey> {
    let issued = authority.server_certificate(names, addresses, TTL, OffsetDateTime::now_utc())?;
    let key = PrivateKeyDer::Pkcs8(issued.key);
    let chain =
        std::iter::once(issued.certificate).chain(authority.intermediates().iter().cloned()).collect();
    CertifiedKey::from_der(chain, key, provider).context("the server's own certificate")
}

#[cfg(test)]
mod tests {
    use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

    use super::*;

    #[test]
    fn it_is_for_the_service_and_the_addresses_and_a_new_one_takes_its_place() {
        let (key, root) = Authority::generate(OffsetDateTime::now_utc()).unwrap();
        let authority = Arc::new(Authority::from_pem(&key, &root).unwrap());
        let identity =
            ServerIdentity::new(authority, &["mesh.local".into()], &[[127, 0, 0, 1].into()]).unwrap();
        let first = identity.current.load_full();
        let (_, certificate) = X509Certificate::from_der(&first.cert[0]).unwrap();
        let names = &certificate.subject_alternative_name().unwrap().unwrap().value.general_names;
        for name in SERVER_NAMES.into_iter().chain(["mesh.local"]) {
            assert!(names.contains(&GeneralName::DNSName(name)), "{name}");
        }
        assert!(names.contains(&GeneralName::IPAddress(&[127, 0, 0, 1])));
        identity.renew().unwrap();
        assert_ne!(identity.current.load().cert[0], first.cert[0]);
    }
}
