//! What the API server says, as far as a check needs it.

use std::collections::BTreeSet;

use serde_json::Value;
use weft_controller::inject::{InjectionSettings, Injector, Namespace};

use crate::objects::{self, at, name};

/// What was found. What could not be asked for is absent.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The namespace of the control plane.
    pub root: String,
    /// Which of several control planes.
    pub revision: String,
    /// What `/version` answers.
    pub version: Value,
    /// What an install does that this user may not.
    pub forbidden: Vec<String>,
    /// Namespaces.
    pub namespaces: Vec<Value>,
    /// Pods.
    pub pods: Vec<Value>,
    /// The controller's Deployment.
    pub deployment: Option<Value>,
    /// The controllers' Lease.
    pub lease: Option<Value>,
    /// Every MutatingWebhookConfiguration.
    pub injectors: Vec<Value>,
    /// Every ValidatingWebhookConfiguration.
    pub validators: Vec<Value>,
    /// Names of the kinds that are installed.
    pub kinds: BTreeSet<String>,
    /// Namespaces that have the root certificate.
    pub rooted: BTreeSet<String>,
    /// The mesh's objects.
    pub objects: Vec<Value>,
}

impl Facts {
    /// Whether the chart is installed.
    pub fn installed(&self) -> bool {
        self.deployment.is_some()
    }

    /// Whether this control plane injects into a namespace's pods that say nothing themselves: the injector's word.
    pub fn claims(&self, namespace: &Value) -> bool {
        let labels = objects::labels(namespace);
        let (revision, root) = (self.revision.clone(), self.root.clone());
        let settings = InjectionSettings::default();
        let injector = Injector { settings, revision, istio: self.istio(), root };
        injector.select(Namespace { name: name(namespace), labels: &labels }, &Value::Null).is_ok()
    }

    /// Whether an Istio injects here too.
    pub fn istio(&self) -> bool {
        self.injectors.iter().any(|hook| name(hook).starts_with("istio-sidecar-injector"))
    }

    /// Pods of a namespace that are not about to go.
    pub fn pods_of(&self, namespace: &str) -> impl Iterator<Item = &Value> {
        let living = |pod: &&Value| {
            let over = matches!(at(pod, "/status/phase"), "Succeeded" | "Failed");
            pod.pointer("/metadata/deletionTimestamp").is_none() && !over
        };
        self.pods.iter().filter(move |pod| objects::namespace(pod) == namespace).filter(living)
    }
}
