//! Certificate and trust, as handshakes use them; shared by all workers.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{ClientConfig, ServerConfig, SignatureScheme};
use weft_core::detect::alpn;
use weft_core::model::workload::TrustBundle;
use weft_core::transport::MutualTls;

use super::fault::TlsFault;
use super::trust::{ExpectedServer, Trust};
use crate::clock::Clock;
use crate::flow::NARROW;
use crate::identity::Credentials;

/// The most bytes of a record, its head of 5 bytes among them: the other end reads the rest at once.
const RECORD: usize = NARROW + 5;

/// What handshakes need; clones share it.
#[derive(Clone, Debug)]
pub struct Tls(Arc<Context>);

#[derive(Debug)]
struct Context {
    own: Arc<OwnCertificate>,
    trusting: ArcSwapOption<Trusting>,
    provider: Arc<CryptoProvider>,
}

/// Made anew when the trust changes.
#[derive(Debug)]
struct Trusting {
    trust: Arc<Trust>,
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

/// The sidecar's certificate as it is at the time of each handshake. One that has ended is not shown: nobody
/// would believe it.
#[derive(Debug)]
struct OwnCertificate {
    credentials: Credentials,
    clock: Clock,
}

impl Tls {
    /// Handshakes with the certificate of `credentials`. Nobody is believed before [`Tls::set_trust`].
    pub fn new(credentials: Credentials, clock: Clock) -> Self {
        Self(Arc::new(Context {
            own: Arc::new(OwnCertificate { credentials, clock }),
            trusting: ArcSwapOption::empty(),
            provider: Arc::new(rustls::crypto::aws_lc_rs::default_provider()),
        }))
    }

    /// Takes the roots of the believed trust domains. Handshakes that begin from now on use them.
    ///
    /// # Errors
    /// Where the TLS library cannot work with them: what was held before stays.
    pub fn set_trust(&self, bundles: &[TrustBundle]) -> Result<(), rustls::Error> {
        let trust = Arc::new(Trust::new(bundles, &self.0.provider));
        let trusting = Trusting::new(trust, &self.0.own, &self.0.provider)?;
        self.0.trusting.store(Some(Arc::new(trusting)));
        Ok(())
    }

    /// Whether anybody is believed yet.
    pub fn has_trust(&self) -> bool {
        self.0.trusting.load().is_some()
    }

    /// How a server shakes hands now.
    pub(super) fn server(&self) -> Result<Arc<ServerConfig>, TlsFault> {
        Ok(self.current()?.server.clone())
    }

    /// How a client shakes hands now with a server that must be one of `wanted.expected`.
    pub(super) fn client(&self, wanted: &MutualTls) -> Result<Arc<ClientConfig>, TlsFault> {
        let trusting = self.current()?;
        let mut config = ClientConfig::clone(&trusting.client);
        let verifier = ExpectedServer { trust: trusting.trust.clone(), expected: wanted.expected.clone() };
        config.dangerous().set_certificate_verifier(Arc::new(verifier));
        Ok(Arc::new(config))
    }

    fn current(&self) -> Result<Arc<Trusting>, TlsFault> {
        match (self.0.own.get(), self.0.trusting.load_full()) {
            (Some(_), Some(trusting)) => Ok(trusting),
            _ => Err(TlsFault::NoCredentials),
        }
    }
}

impl Trusting {
    fn new(
        trust: Arc<Trust>,
        own: &Arc<OwnCertificate>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, rustls::Error> {
        let mut server = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(trust.clone())
            .with_cert_resolver(own.clone());
        server.alpn_protocols = owned(alpn::SERVER);
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        server.max_early_data_size = 0;
        server.max_fragment_size = Some(RECORD);

        let nobody = ExpectedServer { trust: trust.clone(), expected: Arc::new([]) };
        let mut client = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(nobody))
            .with_client_cert_resolver(own.clone());
        client.resumption = Resumption::disabled();
        client.max_fragment_size = Some(RECORD);
        Ok(Self { trust, server: Arc::new(server), client: Arc::new(client) })
    }
}

/// Protocol names as the TLS library holds them.
pub(super) fn owned(names: &[&[u8]]) -> Vec<Vec<u8>> {
    names.iter().map(|name| name.to_vec()).collect()
}

impl OwnCertificate {
    fn get(&self) -> Option<Arc<CertifiedKey>> {
        Some(self.credentials.valid_at(self.clock.now())?.certified.clone())
    }
}

impl ResolvesServerCert for OwnCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.get()
    }
}

impl ResolvesClientCert for OwnCertificate {
    fn resolve(&self, _roots: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.get()
    }

    fn has_certs(&self) -> bool {
        self.get().is_some()
    }
}
