//! Injection: from a pod, or the template of one, to the same with a sidecar. Pure.
//!
//! ```text
//! check its form -> is it selected? -> what do its annotations say? -> take out what is ours -> put it in -> mark
//! ```
//!
//! Pods stay raw JSON throughout, so that what is newer than this program comes through unharmed.

/// Reading and changing raw JSON.
mod raw;
/// Amounts of resources.
mod quantity;
/// What is wrong with settings and annotations.
mod problem;
/// What is redirected.
mod traffic;
/// What is put into pods.
pub mod settings;
/// Which pods get a sidecar.
pub mod select;
/// The annotation `proxy.istio.io/config`.
mod proxy_config;
/// Who scrapes what.
pub mod scrape;
/// What a pod's annotations say.
mod options;
/// Probes by way of the sidecar.
mod probes;
/// Containers and volumes.
pub mod parts;
/// What does not go with a sidecar.
mod conflicts;
/// What an author wrote of the sidecar itself.
mod custom;
/// Putting it all into a pod.
pub mod pod;
/// Injection into manifests.
pub mod manifest;

use std::collections::BTreeMap;

use json_patch::Patch;
use serde_json::Value;

pub use select::{Namespace, Skipped};
pub use settings::{InjectionSettings, SettingsError};

use options::Options;
use select::Claim;

/// An injector: whose, and with what.
#[derive(Clone, Debug, PartialEq)]
pub struct Injector {
    /// What it puts into pods.
    pub settings: InjectionSettings,
    /// Its revision, usually `default`.
    pub revision: String,
    /// Whether an Istio injects in this cluster too: what carries only its labels is left to it then.
    pub istio: bool,
    /// The namespace of the controller, where nothing is injected.
    pub root: String,
}

/// What a pod's annotations say of its sidecar, for those who start it by other means than a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Annotated {
    /// The arguments of `weft-proxy redirect`; `None` where nothing is redirected.
    pub redirect: Option<Vec<String>>,
    /// Variables of the sidecar's environment.
    pub env: BTreeMap<String, String>,
    /// What the pod's author should know.
    pub warnings: Vec<String>,
}

/// What becomes of a pod.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It has a sidecar.
    Injected {
        /// The pod.
        pod: Box<Value>,
        /// What its author should know.
        warnings: Vec<String>,
    },
    /// It stays as it is, but for claims of ours that it carried.
    Skipped {
        /// The pod.
        pod: Box<Value>,
        /// Why.
        why: Skipped,
    },
    /// It must not be created so.
    Refused(String),
}

/// What the webhook answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Review {
    /// From the pod that was asked about to the pod as it is to be; `None` where nothing changes.
    pub patch: Option<Patch>,
    /// For the pod's author.
    pub warnings: Vec<String>,
    /// Why the pod is refused.
    pub denied: Option<String>,
}

impl Injector {
    /// An injector of the default revision.
    pub fn new(settings: InjectionSettings) -> Self {
        let revision = select::DEFAULT_REVISION.to_owned();
        Self { settings, revision, istio: false, root: "weft-system".to_owned() }
    }

    /// Answers the webhook about a pod that is to be created in a namespace.
    pub fn review(&self, namespace: Namespace<'_>, pod: &Value) -> Review {
        let changed = |to: &Value| Some(json_patch::diff(pod, to)).filter(|patch| !patch.0.is_empty());
        match self.inject(namespace, pod) {
            Outcome::Injected { pod, warnings } => Review { patch: changed(&pod), warnings, denied: None },
            Outcome::Skipped { pod, why } => {
                let warnings = why.is_surprising().then(|| why.to_string()).into_iter().collect();
                Review { patch: changed(&pod), warnings, denied: None }
            }
            Outcome::Refused(why) => Review { patch: None, warnings: Vec::new(), denied: Some(why) },
        }
    }

    /// Puts a sidecar into a pod, or into the template of one; into one that has it already only what has changed.
    pub fn inject(&self, namespace: Namespace<'_>, pod: &Value) -> Outcome {
        match self.try_inject(namespace, pod) {
            Ok(outcome) => outcome,
            Err(why) => Outcome::Refused(format!("no sidecar can be added: {why}")),
        }
    }

    /// Whether a pod, or the pods of a template, get a sidecar.
    ///
    /// # Errors
    /// Why not.
    pub fn select(&self, namespace: Namespace<'_>, pod: &Value) -> Result<(), Skipped> {
        let claim = Claim { revision: &self.revision, istio: self.istio, root: &self.root };
        select::select(claim, namespace, pod)
    }

    /// What the annotations of a pod, or of the template of one, say of its sidecar.
    ///
    /// # Errors
    /// The annotation that cannot be read.
    pub fn annotated(&self, pod: &Value) -> Result<Annotated, SettingsError> {
        let mut warnings = Vec::new();
        let options = Options::read(&self.settings, pod, &mut warnings)?;
        let mut env = options.env;
        env.entry("WEFT_LOG".to_owned()).or_insert(options.log_level);
        Ok(Annotated { redirect: options.redirect.map(|plan| plan.args), env, warnings })
    }

    fn try_inject(&self, namespace: Namespace<'_>, pod: &Value) -> Result<Outcome, String> {
        raw::check(pod).map_err(|e| e.to_string())?;
        let mut pod = Box::new(pod.clone());
        if let Err(why) = self.select(namespace, &pod) {
            pod::forget(&mut pod);
            return Ok(Outcome::Skipped { pod, why });
        }
        let warnings = self.put_in(namespace, &mut pod)?;
        Ok(Outcome::Injected { pod, warnings })
    }

    fn put_in(&self, namespace: Namespace<'_>, pod: &mut Value) -> Result<Vec<String>, String> {
        let mut warnings = Vec::new();
        let mut options = Options::read(&self.settings, pod, &mut warnings).map_err(|e| e.to_string())?;
        // What an author wrote of the sidecar itself is in it from the first time on.
        let status = pod::status(&self.settings, &self.revision, &options);
        custom::take(pod, &mut options, &mut warnings);
        let kept = pod::take_out(pod, &status);
        conflicts::check(&pod["spec"], &self.settings).map_err(|e| e.to_string())?;
        let redirects = options.redirect.is_some();
        conflicts::warn(&pod["spec"], namespace.labels, &self.settings, redirects, &mut warnings);
        pod::put_in(pod, &self.settings, &options, kept, &mut warnings);
        pod::mark(pod, &self.settings, &self.revision, &status);
        Ok(warnings)
    }
}

#[cfg(test)]
mod tests;
