//! The mutating webhook: what `weft inject` does, with the settings of the ConfigMap `weft-injection-<revision>`.

use std::collections::BTreeMap;

use arc_swap::ArcSwap;
use futures_util::{StreamExt, stream};
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace as KubeNamespace};
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use serde_json::Value;

use super::changes::changes;
use super::review::{Answer, Operation, Request};
use crate::inject::{InjectionSettings, Injector, Namespace, settings};

/// How Istio's injectors are labelled.
const ISTIOS: (&str, &str) = ("app", "sidecar-injector");

/// The injector as its settings are now.
pub struct Injection {
    maps: Api<ConfigMap>,
    injectors: Api<MutatingWebhookConfiguration>,
    namespaces: Api<KubeNamespace>,
    /// The namespace of the controller.
    root: String,
    revision: String,
    current: ArcSwap<Result<Injector, String>>,
}

impl Injection {
    /// For the controller of a revision in a namespace.
    pub fn new(client: Client, namespace: &str, revision: &str) -> Self {
        Self {
            maps: Api::namespaced(client.clone(), namespace),
            injectors: Api::all(client.clone()),
            namespaces: Api::all(client),
            root: namespace.to_owned(),
            revision: revision.to_owned(),
            current: ArcSwap::from_pointee(Err("the injection settings are not read yet".to_owned())),
        }
    }

    /// Follows the settings, and whether an Istio injects in this cluster too, for ever.
    pub async fn follow(&self) {
        let settings = changes(self.maps.clone(), Some(&self.map()));
        let istios = changes(self.injectors.clone(), None);
        let mut changes = std::pin::pin!(stream::select(settings, istios));
        while changes.next().await.is_some() {
            self.look().await;
        }
    }

    async fn look(&self) {
        let (name, all) = (self.map(), ListParams::default());
        let found = tokio::try_join!(self.maps.get_opt(&name), self.injectors.list(&all));
        let (map, injectors) = match found {
            Ok(found) => found,
            Err(error) => return tracing::warn!("webhooks: {}: {error}", self.map()),
        };
        let istio = injectors.iter().any(|i| i.labels().get(ISTIOS.0).is_some_and(|app| app == ISTIOS.1));
        match self.read(map, istio) {
            Ok(injector) => self.current.store(Ok(injector).into()),
            Err(why) => {
                tracing::error!("webhooks: {why}");
                if self.current.load().is_err() {
                    self.current.store(Err(why).into());
                }
            }
        }
    }

    fn read(&self, map: Option<ConfigMap>, istio: bool) -> Result<Injector, String> {
        let name = format!("ConfigMap {}/{}", self.root, self.map());
        let data = map.ok_or_else(|| format!("{name} is missing"))?.data.unwrap_or_default();
        let text =
            data.get(settings::KEY).ok_or_else(|| format!("{name}: data.{} is missing", settings::KEY))?;
        let settings = InjectionSettings::parse(text).map_err(|error| format!("{name}: {error}"))?;
        let (revision, root) = (self.revision.clone(), self.root.clone());
        Ok(Injector { settings, revision, istio, root })
    }

    /// Answers a question about a pod.
    pub async fn review(&self, request: &Request) -> Answer {
        if (request.kind.group.as_str(), request.kind.kind.as_str()) != ("", "Pod")
            || request.operation != Operation::Create
        {
            return Answer::default();
        }
        // Labels may have changed a moment ago, just before the pod was made.
        let labels = match self.namespaces.get_metadata(&request.namespace).await {
            Ok(namespace) => namespace.metadata.labels.unwrap_or_default(),
            Err(error) => {
                let why = format!("no sidecar can be added: namespace {}: {error}", request.namespace);
                return Answer::deny(why, Vec::new());
            }
        };
        match &**self.current.load() {
            Ok(injector) => inject(injector, request, &labels),
            Err(why) => Answer::deny(format!("no sidecar can be added: {why}"), Vec::new()),
        }
    }

    fn map(&self) -> String {
        format!("weft-injection-{}", self.revision)
    }
}

fn inject(injector: &Injector, request: &Request, labels: &BTreeMap<String, String>) -> Answer {
    let review = injector.review(Namespace { name: &request.namespace, labels }, &request.object);
    match review.denied {
        Some(why) => Answer::deny(why, review.warnings),
        None => {
            let patch = review.patch.and_then(|patch| serde_json::to_value(patch).ok());
            Answer { patch: patch.unwrap_or(Value::Null), ..Answer::allow(review.warnings) }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn f15_injected_once_and_never_a_broken_patch() {
        let injector = Injector::new(InjectionSettings::default());
        let enabled = BTreeMap::from([("weft.dev/injection".to_owned(), "enabled".to_owned())]);
        let ask = |object: Value| Request { namespace: "shop".into(), object, ..Request::default() };
        let pod = json!({"metadata": {"name": "a"}, "spec": {"containers": [{"name": "a", "image": "b"}]}});
        let answer = inject(&injector, &ask(pod), &enabled);
        assert_eq!(answer.denied, None);
        assert!(answer.patch.as_array().is_some_and(|patch| !patch.is_empty()));
        for nonsense in [
            json!({}),
            json!({"spec": []}),
            json!({"metadata": 3, "spec": {"containers": "x"}}),
            json!([]),
            Value::Null,
        ] {
            let answer = inject(&injector, &ask(nonsense), &enabled);
            assert!(answer.denied.is_some() || answer.patch.is_null(), "{answer:?}");
        }
    }
}
