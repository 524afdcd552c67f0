//! The root in a Secret: made once, never overwritten, and put back if somebody deletes it.
//!
//! The Secret `weft-ca` holds it, under the names that Weft gives its parts or under those of Istio's `cacerts`. Where
//! there is no such Secret and one named `cacerts` is there, that one counts: who comes from Istio keeps their root.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use prometheus::IntGauge;
use time::OffsetDateTime;
use tokio::time::sleep;

use super::authority::{Authority, CaError, Part, Parts};

/// The Secret of the root.
pub const SECRET: &str = "weft-ca";
/// Istio's Secret of a root that users bring.
pub const ISTIO_SECRET: &str = "cacerts";
/// The roots, PEM.
pub const ROOT_CERTIFICATE: &str = "root-cert.pem";
/// The root's key, PEM.
pub const ROOT_KEY: &str = "root-key.pem";
/// How often the Secret is looked at.
const LOOK: Duration = Duration::from_secs(20);
/// Between attempts to reach an API server that is away.
const RETRY: Duration = Duration::from_secs(2);

/// Keys of [`ISTIO_SECRET`]: of the key, its certificate, the way to the root.
const ISTIO: [&str; 3] = ["ca-key.pem", "ca-cert.pem", "cert-chain.pem"];

/// Why there is no root.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The API server could not be asked.
    #[error("Secret {0}: {1}")]
    Api(String, #[source] kube::Error),
    /// The Secret holds no root.
    #[error("Secret {secret}: {reason}; mend it, or delete it to have a new root made")]
    Nonsense {
        /// Namespace and name.
        secret: String,
        /// What is wrong, with the key.
        reason: CaError,
    },
    /// No root could be made.
    #[error("a new root: {0}")]
    Generate(#[source] CaError),
}

/// The Secret, and what it held at the start.
pub struct RootSecret {
    secrets: Api<Secret>,
    namespace: String,
    /// Where the root is from.
    name: &'static str,
    data: BTreeMap<String, ByteString>,
    /// What signs.
    pub authority: Arc<Authority>,
}

/// Takes the root from the Secret; makes it if there is none. Waits for an API server that is away.
///
/// # Errors
/// The Secret holds nonsense, which is left as it is.
pub async fn open(client: Client, namespace: &str) -> Result<RootSecret, SecretError> {
    let secrets = Api::namespaced(client, namespace);
    loop {
        match take(&secrets, namespace).await {
            Err(error @ SecretError::Api(..)) => tracing::warn!("{error}; trying again"),
            other => return other,
        }
        sleep(RETRY).await;
    }
}

async fn take(secrets: &Api<Secret>, namespace: &str) -> Result<RootSecret, SecretError> {
    let found = match find(secrets, namespace).await? {
        Some(found) => found,
        None => create(secrets, namespace).await?,
    };
    let (name, data) = found;
    let authority = read(&data).map_err(|reason| nonsense(namespace, name, reason))?;
    let (authority, namespace) = (Arc::new(authority), namespace.to_owned());
    Ok(RootSecret { secrets: secrets.clone(), namespace, name, data, authority })
}

type Found = (&'static str, BTreeMap<String, ByteString>);

async fn find(secrets: &Api<Secret>, namespace: &str) -> Result<Option<Found>, SecretError> {
    for name in [SECRET, ISTIO_SECRET] {
        match secrets.get_opt(name).await {
            Ok(Some(secret)) => return Ok(Some((name, secret.data.unwrap_or_default()))),
            Ok(None) => {}
            // Who may not read Istio's has none to bring.
            Err(kube::Error::Api(status)) if name == ISTIO_SECRET && status.is_forbidden() => {}
            Err(error) => return Err(api(namespace, name, error)),
        }
    }
    Ok(None)
}

/// Puts a new root into the Secret, unless another replica has come first.
async fn create(secrets: &Api<Secret>, namespace: &str) -> Result<Found, SecretError> {
    let (key, certificate) = Authority::generate(OffsetDateTime::now_utc()).map_err(SecretError::Generate)?;
    let entry = |name: &str, text: String| (name.to_owned(), ByteString(text.into_bytes()));
    let data = BTreeMap::from([entry(ROOT_KEY, key), entry(ROOT_CERTIFICATE, certificate)]);
    if let Err(error) = put(secrets, data).await {
        return Err(api(namespace, SECRET, error));
    }
    // What is there counts, whoever has put it there.
    let secret = secrets.get(SECRET).await.map_err(|error| api(namespace, SECRET, error))?;
    Ok((SECRET, secret.data.unwrap_or_default()))
}

/// Creates the Secret; one that is there already is left alone.
async fn put(secrets: &Api<Secret>, data: BTreeMap<String, ByteString>) -> Result<(), kube::Error> {
    let metadata = ObjectMeta { name: Some(SECRET.to_owned()), ..ObjectMeta::default() };
    let secret = Secret { metadata, data: Some(data), type_: Some("Opaque".into()), ..Secret::default() };
    match secrets.create(&PostParams::default(), &secret).await {
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
        other => other.map(drop),
    }
}

impl RootSecret {
    /// Looks at the Secret for ever: one that is gone is put back, one that was changed is told of, and shown by `changed`.
    /// What signs stays what it was: certificates that are in use were signed by it.
    pub async fn keep(self, changed: IntGauge) {
        let mut said = None;
        loop {
            sleep(LOOK).await;
            let found = self.look().await;
            if let Ok(trouble) = &found {
                changed.set(trouble.is_some().into());
            }
            match found {
                Ok(trouble) if trouble != said => {
                    match &trouble {
                        Some(trouble) => tracing::error!("{trouble}"),
                        None => tracing::info!("Secret {}/{}: mended", self.namespace, self.name),
                    }
                    said = trouble;
                }
                Ok(_) => {}
                Err(error) => tracing::warn!("{error}"),
            }
        }
    }

    /// What is wrong with the Secret now.
    async fn look(&self) -> Result<Option<String>, SecretError> {
        let shown = format!("Secret {}/{}", self.namespace, self.name);
        let found =
            self.secrets.get_opt(self.name).await.map_err(|error| api(&self.namespace, self.name, error))?;
        let Some(secret) = found else {
            if self.name == SECRET {
                put(&self.secrets, self.data.clone())
                    .await
                    .map_err(|error| api(&self.namespace, SECRET, error))?;
            }
            return Ok(Some(format!(
                "{shown} was deleted; the root in use is put back if it was Weft's own"
            )));
        };
        let data = secret.data.unwrap_or_default();
        if data == self.data {
            return Ok(None);
        }
        Ok(Some(match read(&data) {
            Err(reason) => {
                format!("{shown} was changed into nonsense: {reason}; the root in use stays in use")
            }
            Ok(_) => {
                format!(
                    "{shown} was changed; the root in use stays in use until the controller starts again. Sidecars then \
                     believe only what root-cert.pem holds: to change roots without a break, let it hold both"
                )
            }
        }))
    }
}

/// The authority that a Secret holds.
fn read(data: &BTreeMap<String, ByteString>) -> Result<Authority, CaError> {
    let istio = data.contains_key(ISTIO[0]);
    let (key, certificate) = if istio { (ISTIO[0], ISTIO[1]) } else { (ROOT_KEY, ROOT_CERTIFICATE) };
    let chain = match data.contains_key(ISTIO[2]) && istio {
        true => text(data, ISTIO[2])?,
        false => Part { name: ISTIO[2], text: "" },
    };
    let parts = Parts {
        key: text(data, key)?,
        certificate: text(data, certificate)?,
        chain,
        roots: text(data, ROOT_CERTIFICATE)?,
    };
    let authority = Authority::of(parts)?;
    authority.verify(OffsetDateTime::now_utc())?;
    Ok(authority)
}

fn text<'a>(data: &'a BTreeMap<String, ByteString>, name: &'static str) -> Result<Part<'a>, CaError> {
    let bytes = data.get(name).ok_or_else(|| CaError::Root(format!("{name}: missing")))?;
    let text = std::str::from_utf8(&bytes.0).map_err(|error| CaError::Root(format!("{name}: {error}")))?;
    Ok(Part { name, text })
}

fn api(namespace: &str, name: &str, error: kube::Error) -> SecretError {
    SecretError::Api(format!("{namespace}/{name}"), error)
}

fn nonsense(namespace: &str, name: &str, reason: CaError) -> SecretError {
    SecretError::Nonsense { secret: format!("{namespace}/{name}"), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(entries: &[(&str, &str)]) -> BTreeMap<String, ByteString> {
        entries.iter().map(|(name, text)| ((*name).to_owned(), ByteString((*text).into()))).collect()
    }

    fn root() -> (String, String) {
        Authority::generate(OffsetDateTime::now_utc()).unwrap()
    }

    #[test]
    fn a_root_under_our_names_or_those_of_istio() {
        let (key, certificate) = root();
        let ours = data(&[(ROOT_KEY, &key), (ROOT_CERTIFICATE, &certificate)]);
        assert_eq!(read(&ours).unwrap().root_pem(), certificate);
        let istio = data(&[(ISTIO[0], &key), (ISTIO[1], &certificate), (ROOT_CERTIFICATE, &certificate)]);
        assert!(read(&istio).unwrap().intermediates().is_empty(), "the root signs itself");
    }

    #[test]
    fn the_first_of_two_roots_signs_and_both_are_believed() {
        let ((key, certificate), (_, other)) = (root(), root());
        let both = format!("{certificate}{other}");
        let authority = read(&data(&[(ROOT_KEY, &key), (ROOT_CERTIFICATE, &both)])).unwrap();
        assert_eq!(authority.roots().len(), 2);
        let swapped = format!("{other}{certificate}");
        assert!(
            read(&data(&[(ROOT_KEY, &key), (ROOT_CERTIFICATE, &swapped)])).is_err(),
            "the key is not the first's"
        );
    }

    #[test]
    fn nonsense_is_refused_and_the_key_of_it_is_named() {
        let ((key, certificate), (other, _)) = (root(), root());
        let cases: [(&[(&str, &str)], &str); 6] = [
            (&[], "root-key.pem: missing"),
            (&[(ROOT_KEY, &key)], "root-cert.pem: missing"),
            (&[(ROOT_KEY, "x"), (ROOT_CERTIFICATE, &certificate)], "root-key.pem: "),
            (&[(ROOT_KEY, &key), (ROOT_CERTIFICATE, "x")], "root-cert.pem: "),
            (&[(ROOT_KEY, &other), (ROOT_CERTIFICATE, &certificate)], "root-key.pem: the key is not"),
            (&[(ISTIO[0], &key), (ROOT_CERTIFICATE, &certificate)], "ca-cert.pem: missing"),
        ];
        for (entries, expected) in cases {
            let error = read(&data(entries)).err().unwrap().to_string();
            assert!(error.contains(expected), "{error}");
            assert!(!error.contains("BEGIN"), "no key in a log: {error}");
        }
        let binary = BTreeMap::from([(ROOT_KEY.to_owned(), ByteString(vec![0xff]))]);
        assert!(read(&binary).err().unwrap().to_string().contains("root-key.pem: "));
    }
}
