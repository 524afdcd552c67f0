//! Ticks: something may have changed, and is looked at whole.

use std::time::Duration;

use futures_util::{Stream, StreamExt};
use kube::runtime::watcher;
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::time::sleep;

/// After a failure.
const RETRY: Duration = Duration::from_secs(2);

/// A tick whenever an object of this name, or any object, may have changed; never ends.
pub(super) fn changes<K>(api: Api<K>, name: Option<&str>) -> impl Stream<Item = ()> + use<K>
where
    K: Resource + Clone + std::fmt::Debug + DeserializeOwned + Send + 'static,
{
    let mut config = watcher::Config::default();
    if let Some(name) = name {
        config = config.fields(&format!("metadata.name={name}"));
    }
    watcher::watcher(api, config).then(|event| async {
        if let Err(error) = event {
            tracing::warn!("webhooks: watch: {error}");
            sleep(RETRY).await;
        }
    })
}
