//! The certificate in the API server. Every replica serves with what the Secret `weft-webhook-<revision>` holds, and
//! takes up a new one without a restart. The leader makes it, renews it, mends it, and writes its authority into the
//! webhooks' configurations, also after somebody edited them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use arc_swap::ArcSwapOption;
use base64::Engine;
use futures_util::{StreamExt, stream};
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource};
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::time::sleep;

use super::certificate::{Judgement, Material, Names, TTL};
use super::changes::changes;

/// After a failure, and between looks at what ought to be as it is.
const RETRY: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_secs(600);
/// How long API servers may take to hear who is to be believed too, before somebody speaks in its name.
const HEARD: Duration = Duration::from_secs(2);

/// The certificate that is served, from handshake to handshake.
#[derive(Default)]
pub struct Served(ArcSwapOption<CertifiedKey>);

impl Served {
    /// TLS 1.3 for HTTP/2 and HTTP/1.1. Until there is a certificate, handshakes fail.
    ///
    /// # Errors
    /// The cryptography does not know TLS 1.3.
    pub fn server_config(self: &Arc<Self>) -> Result<Arc<ServerConfig>> {
        let builder = ServerConfig::builder_with_provider(provider());
        let builder = builder.with_protocol_versions(&[&rustls::version::TLS13])?;
        let mut config = builder.with_no_client_auth().with_cert_resolver(self.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// Whether there is a certificate.
    pub fn is_ready(&self) -> bool {
        self.0.load().is_some()
    }

    /// Serves with what a Secret holds from now on; keeps what it has where that is nonsense.
    pub fn take(&self, material: &Material) {
        match material.certified(&provider()) {
            Ok(certified) => self.0.store(Some(certified)),
            Err(error) => tracing::error!("webhooks: the Secret has no usable certificate: {error:#}"),
        }
    }
}

impl ResolvesServerCert for Served {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.load_full()
    }
}

impl std::fmt::Debug for Served {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Served").field("ready", &self.is_ready()).finish_non_exhaustive()
    }
}

/// Where the certificate is kept, and for whom it is.
#[derive(Clone)]
pub struct Keeper {
    secrets: Api<Secret>,
    injectors: Api<MutatingWebhookConfiguration>,
    validators: Api<ValidatingWebhookConfiguration>,
    revision: String,
    names: Names,
    ttl: Duration,
}

impl Keeper {
    /// For the controller of a revision in a namespace, reached under these names.
    pub fn new(client: Client, namespace: &str, revision: &str, names: Names) -> Self {
        Self {
            secrets: Api::namespaced(client.clone(), namespace),
            injectors: Api::all(client.clone()),
            validators: Api::all(client),
            revision: revision.to_owned(),
            names,
            ttl: TTL,
        }
    }

    /// With certificates of another lifetime.
    pub fn with_ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// Serves with what the Secret holds, for ever: for every replica.
    pub async fn follow(&self, served: Arc<Served>) {
        let mut changes = std::pin::pin!(changes(self.secrets.clone(), Some(&self.secret())));
        while changes.next().await.is_some() {
            match self.secrets.get_opt(&self.secret()).await {
                Ok(Some(secret)) => served.take(&material(secret)),
                Ok(None) => tracing::info!("webhooks: there is no Secret {} yet", self.secret()),
                Err(error) => tracing::warn!("webhooks: Secret {}: {error}", self.secret()),
            }
        }
    }

    /// Makes, renews and mends, for ever: for the leader.
    pub async fn keep(&self) {
        let secret = changes(self.secrets.clone(), Some(&self.secret()));
        let injector = changes(self.injectors.clone(), Some(&self.injector()));
        let validator = changes(self.validators.clone(), Some(&self.validator()));
        let mut changes = std::pin::pin!(stream::select(secret, stream::select(injector, validator)));
        loop {
            let wait = match self.ensure(OffsetDateTime::now_utc()).await {
                Ok(until) => {
                    let left = until - OffsetDateTime::now_utc();
                    Duration::try_from(left).unwrap_or_default().clamp(Duration::from_millis(100), LOOK)
                }
                Err(error) => {
                    tracing::warn!("webhooks: {error:#}");
                    RETRY
                }
            };
            tokio::select! {
                _ = changes.next() => {}
                () = sleep(wait) => {}
            }
        }
    }

    /// Brings the Secret and the configurations into order; says until when they are.
    ///
    /// # Errors
    /// The API server refuses, or the cryptography fails.
    pub async fn ensure(&self, now: OffsetDateTime) -> Result<OffsetDateTime> {
        let name = self.secret();
        let found = self.secrets.get_opt(&name).await.with_context(|| format!("Secret {name}"))?;
        let current = Material::of_secret(found.iter().flat_map(fields));
        let (next, until) = match current.judge(&self.names, now) {
            Judgement::Keep(until) => (None, until),
            Judgement::Renew(why) => {
                tracing::info!("webhooks: a new certificate: {why}");
                (Some(current.clone().renewed(&self.names, self.ttl, now)?), now)
            }
            Judgement::Replace(why) => {
                tracing::info!("webhooks: a new authority and certificate: {why}");
                let before = self.believed().await?;
                (Some(Material::generate(&self.names, self.ttl, now)?.beside(&before, now)), now)
            }
        };
        // Who is believed changes before who speaks does.
        self.publish(&next.as_ref().unwrap_or(&current).believed(now)?).await?;
        if let Some(next) = next {
            if next.overlaps(now).is_some() {
                sleep(HEARD).await;
            }
            self.write(found, next).await.with_context(|| format!("Secret {name}"))?;
        }
        Ok(until)
    }

    /// Writes the Secret over the version that was read, so that of two writers one fails.
    async fn write(&self, found: Option<Secret>, material: Material) -> Result<()> {
        let data = material.into_secret().into_iter().map(|(key, value)| (key, ByteString(value)));
        let data: BTreeMap<String, ByteString> = data.collect();
        let parameters = PostParams::default();
        match found {
            Some(mut secret) => {
                secret.data = Some(data);
                secret.string_data = None;
                self.secrets.replace(&self.secret(), &parameters, &secret).await?;
            }
            None => {
                let mut secret =
                    Secret { data: Some(data), type_: Some("Opaque".to_owned()), ..Secret::default() };
                secret.metadata.name = Some(self.secret());
                self.secrets.create(&parameters, &secret).await?;
            }
        }
        Ok(())
    }

    async fn publish(&self, authorities: &str) -> Result<()> {
        believe(&self.injectors, &self.injector(), authorities).await?;
        believe(&self.validators, &self.validator(), authorities).await
    }

    /// All that the configurations say is to be believed.
    async fn believed(&self) -> Result<String> {
        let (injector, validator) = (self.injector(), self.validator());
        let injector = self.injectors.get_opt(&injector).await.context(injector)?;
        let validator = self.validators.get_opt(&validator).await.context(validator)?;
        let of_injector =
            injector.and_then(|i| i.webhooks).unwrap_or_default().into_iter().map(|w| w.client_config);
        let of_validator =
            validator.and_then(|v| v.webhooks).unwrap_or_default().into_iter().map(|w| w.client_config);
        let bundles = of_injector.chain(of_validator).filter_map(|client| client.ca_bundle);
        Ok(bundles.map(|bundle| String::from_utf8_lossy(&bundle.0).into_owned() + "\n").collect())
    }

    fn secret(&self) -> String {
        format!("weft-webhook-{}", self.revision)
    }

    fn injector(&self) -> String {
        format!("weft-injector-{}", self.revision)
    }

    fn validator(&self) -> String {
        format!("weft-validator-{}", self.revision)
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn fields(secret: &Secret) -> BTreeMap<String, Vec<u8>> {
    secret.data.iter().flatten().map(|(key, value)| (key.clone(), value.0.clone())).collect()
}

fn material(secret: Secret) -> Material {
    Material::of_secret(fields(&secret))
}

/// Writes the authorities into every webhook of a configuration that has another; none, if there is no such configuration.
async fn believe<K>(api: &Api<K>, name: &str, authorities: &str) -> Result<()>
where
    K: Resource + Clone + std::fmt::Debug + DeserializeOwned + serde::Serialize,
{
    let Some(found) = api.get_opt(name).await.with_context(|| name.to_owned())? else { return Ok(()) };
    let Some(patch) = belief(&serde_json::to_value(&found)?, authorities) else { return Ok(()) };
    let patch = Patch::Json::<()>(serde_json::from_value(patch)?);
    api.patch(name, &PatchParams::default(), &patch).await.with_context(|| name.to_owned())?;
    tracing::info!("webhooks: {name} believes the authority of the webhooks' certificate");
    Ok(())
}

/// The JSON Patch (RFC 6902) that makes a configuration believe an authority; `None` if it does. It fails where the
/// configuration changed since it was read.
fn belief(configuration: &Value, authority: &str) -> Option<Value> {
    let bundle = base64::engine::general_purpose::STANDARD.encode(authority);
    let webhooks = configuration["webhooks"].as_array()?.iter().enumerate();
    let other = webhooks.filter(|(_, webhook)| webhook["clientConfig"]["caBundle"] != bundle.as_str());
    let changes = other.map(|(i, _)| {
        json!({ "op": "add", "path": format!("/webhooks/{i}/clientConfig/caBundle"), "value": bundle })
    });
    let version = &configuration["metadata"]["resourceVersion"];
    let test = json!({ "op": "test", "path": "/metadata/resourceVersion", "value": version });
    let patch: Vec<Value> = std::iter::once(test).chain(changes).collect();
    (patch.len() > 1).then(|| patch.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_webhooks_that_believe_another_are_changed() {
        let bundle = base64::engine::general_purpose::STANDARD.encode("authority");
        let of = |bundles: [Option<&str>; 2]| {
            let webhook =
                |bundle: Option<&str>| json!({"clientConfig": {"caBundle": bundle, "url": "https://x"}});
            json!({"metadata": {"resourceVersion": "7"}, "webhooks": bundles.map(webhook)})
        };
        assert_eq!(belief(&of([Some(&bundle), Some(&bundle)]), "authority"), None);
        let patch = belief(&of([Some(&bundle), None]), "authority").unwrap();
        assert_eq!(patch[0], json!({"op": "test", "path": "/metadata/resourceVersion", "value": "7"}));
        assert_eq!(patch[1]["path"], "/webhooks/1/clientConfig/caBundle");
        assert_eq!(patch.as_array().unwrap().len(), 2);
        assert_eq!(belief(&json!({"metadata": {}}), "authority"), None);
    }

    #[test]
    fn nonsense_in_the_secret_leaves_what_is_served() {
        let served = Arc::new(Served::default());
        assert!(!served.is_ready());
        served.take(&Material::of_secret([]));
        assert!(!served.is_ready());
        let names = Names::of_service("weft-controller", "weft-system");
        served.take(&Material::generate(&names, TTL, OffsetDateTime::now_utc()).unwrap());
        assert!(served.is_ready());
        served.take(&Material::of_secret([("tls.crt".to_owned(), b"nonsense".to_vec())]));
        assert!(served.is_ready());
    }
}
