//! Who answers.

use http::{HeaderMap, HeaderValue};
use serde::Serialize;

/// Who this echo application is: what its pod's environment says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, clap::Args)]
pub struct Identity {
    /// Name of the pod; the host's name when not given
    #[arg(long, env = "POD_NAME", default_value = "", hide_default_value = true)]
    pub pod: String,
    /// Namespace of the pod
    #[arg(long, env = "POD_NAMESPACE", default_value = "", hide_default_value = true)]
    pub namespace: String,
    /// Service account of the pod
    #[arg(long, env = "SERVICE_ACCOUNT", default_value = "", hide_default_value = true)]
    pub service_account: String,
    /// Version of the application
    #[arg(long, env = "VERSION", default_value = "", hide_default_value = true)]
    pub version: String,
}

impl Identity {
    /// Fills in the host's name where the pod's is not known.
    #[must_use]
    pub fn or_hostname(mut self) -> Self {
        if self.pod.is_empty() {
            let host = nix::unistd::gethostname().ok().and_then(|h| h.into_string().ok());
            self.pod = host.unwrap_or_default();
        }
        self
    }

    /// Adds `x-echo-pod` and `x-echo-version`, for clients that count who answered without reading bodies.
    pub fn stamp(&self, headers: &mut HeaderMap) {
        for (name, value) in [("x-echo-pod", &self.pod), ("x-echo-version", &self.version)] {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        }
    }

    /// One line of JSON.
    pub fn line(&self) -> String {
        serde_json::to_string(self).unwrap_or_default() + "\n"
    }
}
