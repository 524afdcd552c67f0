//! What the injector puts into pods: the ConfigMap `weft-injection-<revision>`, key `config`.
//!
//! Every field has a default, so that an empty text is a whole configuration; what is not known is refused with the
//! path of the field.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::source::yaml;

use super::problem::{error, seconds};
use super::quantity;
use super::traffic::Plan;

pub use super::problem::SettingsError;
pub use super::traffic::Traffic;

/// Key of the ConfigMap.
pub const KEY: &str = "config";

/// What the injector puts into pods.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct InjectionSettings {
    /// Image of the sidecar.
    pub image: String,
    /// `Always`, `IfNotPresent` or `Never`; without it Kubernetes decides by the image's tag.
    pub image_pull_policy: Option<String>,
    /// Names of Secrets, in the pods' namespaces, that are added to the pods' `imagePullSecrets`.
    pub image_pull_secrets: Vec<String>,
    /// Where the controller is.
    pub controller: ControllerAddress,
    /// Trust domain of the certificates.
    pub trust_domain: String,
    /// The token that proves to the controller which pod asks.
    pub token: Token,
    /// ConfigMap with the root certificate, in every namespace.
    pub root_config_map: String,
    /// User and group of the sidecar; redirection knows its packets by it.
    pub uid: u32,
    /// The sidecar's ports.
    pub ports: Ports,
    /// Resources of the sidecar; annotations of a pod go before.
    pub resources: Resources,
    /// The init container that sets up redirection.
    pub redirect: Redirect,
    /// What is redirected where a pod's annotations say nothing.
    pub traffic: Traffic,
    /// What the sidecar writes.
    pub log: Log,
    /// How long connections may take to end once the sidecar is told to, as in `25s`.
    pub drain_timeout: String,
    /// How many seconds a sidecar may take to start, the time that the controller is away included, before the init
    /// container that waits for it fails.
    pub startup_seconds: u32,
    /// Whether probes go through the sidecar, so that they pass where mTLS is STRICT.
    pub rewrite_probes: bool,
    /// Whether pods without `prometheus.io/` annotations get those of the sidecar's metrics.
    pub prometheus: bool,
    /// Size limit of the memory-backed volume for the last good configuration.
    pub state_size: String,
    /// Further variables of the sidecar's environment.
    pub env: BTreeMap<String, String>,
}

/// Where the controller is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ControllerAddress {
    /// `https://HOST:PORT`.
    pub address: String,
    /// The name that its certificate must have.
    pub name: String,
}

/// The projected token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Token {
    /// For whom it is.
    pub audience: String,
    /// How long it is good, in seconds; at least 600.
    pub expiration_seconds: u64,
}

/// The sidecar's ports.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Ports {
    /// For what the application sends.
    pub outbound: u16,
    /// For what others send to the application.
    pub inbound: u16,
    /// Administration, on loopback.
    pub admin: u16,
    /// Metrics.
    pub metrics: u16,
    /// Readiness, and the application's probes.
    pub health: u16,
}

/// Requests and limits, by resource.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Resources {
    /// What is set aside.
    #[serde(deserialize_with = "quantity::amounts")]
    pub requests: BTreeMap<String, String>,
    /// What is not exceeded.
    #[serde(deserialize_with = "quantity::amounts")]
    pub limits: BTreeMap<String, String>,
}

/// The init container that sets up redirection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Redirect {
    /// By what means.
    pub mode: RedirectMode,
    /// Its image; that of the sidecar when not given.
    pub image: Option<String>,
    /// Its resources.
    pub resources: Resources,
}

/// By what means traffic is redirected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RedirectMode {
    /// One nftables transaction, sent to the kernel by the sidecar's own binary.
    #[default]
    Nftables,
    /// `iptables-restore`, for nodes without nftables; needs an image that has it.
    Iptables,
}

/// What the sidecar writes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Log {
    /// Its own log, as in `info` or `info,weft_proxy::config=debug`.
    pub level: String,
    /// The access log.
    pub access: AccessLog,
}

/// The form of the access log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AccessLog {
    /// None.
    #[default]
    Off,
    /// One JSON object a line.
    Json,
    /// Istio's default line of text.
    Text,
}

// === impl InjectionSettings ===

impl InjectionSettings {
    /// Reads the text under [`KEY`].
    ///
    /// # Errors
    /// The field that cannot be used.
    pub fn parse(text: &str) -> Result<Self, SettingsError> {
        let broken = |e: yaml::YamlError| error(KEY, format!("line {} of it: {}", e.line, e.reason));
        let document = yaml::parse(text).map_err(broken)?.into_iter().next().unwrap_or_default();
        let value = match Arc::unwrap_or_clone(document.value) {
            Value::Null => Value::Object(serde_json::Map::new()),
            value => value,
        };
        let settings: Self =
            serde_path_to_error::deserialize(value).map_err(|e| error(e.path().to_string(), e.inner()))?;
        settings.check()?;
        Ok(settings)
    }

    fn check(&self) -> Result<(), SettingsError> {
        self.check_texts()?;
        self.check_ports()?;
        for (name, resources) in
            [("resources", &self.resources), ("redirect.resources", &self.redirect.resources)]
        {
            resources.check(name)?;
        }
        if self.uid == 0 {
            return Err(error("uid", "is 0: the sidecar does not run as root; write 1337"));
        }
        if self.token.expiration_seconds < 600 {
            return Err(error(
                "token.expirationSeconds",
                "is less than 600, the least that Kubernetes gives",
            ));
        }
        Plan::of_settings(&self.traffic).map(drop)
    }

    fn check_texts(&self) -> Result<(), SettingsError> {
        let texts = [
            ("image", &self.image),
            ("controller.address", &self.controller.address),
            ("controller.name", &self.controller.name),
            ("trustDomain", &self.trust_domain),
            ("token.audience", &self.token.audience),
            ("rootConfigMap", &self.root_config_map),
        ];
        if let Some((field, _)) = texts.iter().find(|(_, text)| text.is_empty()) {
            return Err(error(*field, "is empty"));
        }
        let policy = self.image_pull_policy.as_deref();
        if policy.is_some_and(|policy| !["Always", "IfNotPresent", "Never"].contains(&policy)) {
            return Err(error("imagePullPolicy", "is none of Always, IfNotPresent, Never"));
        }
        if !self.controller.address.starts_with("https://") {
            return Err(error("controller.address", "write https://HOST:PORT"));
        }
        if seconds(&self.drain_timeout).is_none() {
            return Err(error("drainTimeout", "write a whole number and s or m, such as 25s"));
        }
        match quantity::is_quantity(&self.state_size) {
            true => Ok(()),
            false => Err(error("stateSize", "is no quantity; write one such as 64Mi")),
        }
    }

    fn check_ports(&self) -> Result<(), SettingsError> {
        let ports = self.ports.all();
        let repeated = ports
            .iter()
            .enumerate()
            .find(|(i, (_, port))| *port == 0 || ports[..*i].iter().any(|(_, other)| other == port));
        match repeated {
            Some((_, (name, port))) => {
                Err(error(format!("ports.{name}"), format!("{port} is no port, or another one's")))
            }
            None => Ok(()),
        }
    }
}

impl Ports {
    /// Names and ports.
    pub fn all(&self) -> [(&'static str, u16); 5] {
        [
            ("outbound", self.outbound),
            ("inbound", self.inbound),
            ("admin", self.admin),
            ("metrics", self.metrics),
            ("health", self.health),
        ]
    }
}

impl Resources {
    fn check(&self, at: &str) -> Result<(), SettingsError> {
        for (list, amounts) in [("requests", &self.requests), ("limits", &self.limits)] {
            if let Some((name, amount)) = amounts.iter().find(|(_, amount)| !quantity::is_quantity(amount)) {
                let reason = format!("`{amount}` is no quantity; write one such as 100m or 128Mi");
                return Err(error(format!("{at}.{list}.{name}"), reason));
            }
        }
        Ok(())
    }

    fn of(requests: [(&str, &str); 2], limits: [(&str, &str); 2]) -> Self {
        let map = |all: [(&str, &str); 2]| all.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        Self { requests: map(requests), limits: map(limits) }
    }
}

// === defaults ===

impl Default for InjectionSettings {
    fn default() -> Self {
        Self {
            image: "localhost/weft-proxy:dev".to_owned(),
            image_pull_policy: None,
            image_pull_secrets: Vec::new(),
            controller: ControllerAddress::default(),
            trust_domain: "cluster.local".to_owned(),
            token: Token::default(),
            root_config_map: "weft-root".to_owned(),
            uid: 1337,
            ports: Ports::default(),
            resources: Resources::of(
                [("cpu", "50m"), ("memory", "32Mi")],
                [("cpu", "2"), ("memory", "256Mi")],
            ),
            redirect: Redirect::default(),
            traffic: Traffic::default(),
            log: Log::default(),
            drain_timeout: "25s".to_owned(),
            startup_seconds: 600,
            rewrite_probes: true,
            prometheus: true,
            state_size: "64Mi".to_owned(),
            env: BTreeMap::new(),
        }
    }
}

impl Default for ControllerAddress {
    fn default() -> Self {
        Self {
            address: "https://weft-controller.weft-system.svc:15012".to_owned(),
            name: "weft-controller.weft-system.svc".to_owned(),
        }
    }
}

impl Default for Token {
    fn default() -> Self {
        Self { audience: "weft.dev".to_owned(), expiration_seconds: 43_200 }
    }
}

impl Default for Ports {
    fn default() -> Self {
        Self { outbound: 15001, inbound: 15006, admin: 15000, metrics: 15020, health: 15021 }
    }
}

impl Default for Redirect {
    fn default() -> Self {
        Self {
            mode: RedirectMode::default(),
            image: None,
            resources: Resources::of(
                [("cpu", "10m"), ("memory", "16Mi")],
                [("cpu", "1"), ("memory", "64Mi")],
            ),
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".to_owned(), access: AccessLog::Off }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        InjectionSettings::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn nothing_is_a_whole_configuration() {
        for text in ["", "{}", "# nothing\n"] {
            assert_eq!(InjectionSettings::parse(text).unwrap(), InjectionSettings::default());
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let settings = InjectionSettings { image: "registry/x:1".to_owned(), ..InjectionSettings::default() };
        let text = serde_json::to_string(&settings).unwrap();
        assert_eq!(InjectionSettings::parse(&text).unwrap(), settings);
    }

    #[test]
    fn refusals_name_the_field() {
        assert!(
            refusal("ports: {health: x}").starts_with("ports.health: "),
            "{}",
            refusal("ports: {health: x}")
        );
        assert!(refusal("ports: {health: 15020}").starts_with("ports.health: 15020"));
        assert!(refusal("redirect: {mode: magic}").starts_with("redirect.mode: "));
        assert!(refusal("imagee: x").contains("imagee"));
        assert!(refusal("resources: {limits: {cpu: many}}").starts_with("resources.limits.cpu: `many`"));
        assert!(
            refusal("traffic: {excludeOutboundPorts: '80,x'}").starts_with("traffic.excludeOutboundPorts: ")
        );
        assert!(refusal("image: ''").starts_with("image: "));
        assert!(refusal("a: [").starts_with("config: line 1"));
        assert!(refusal("uid: 0").starts_with("uid: "));
    }
}
