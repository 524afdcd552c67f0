//! TLS towards a service.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// TLS towards a service. `mode` has to be written.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ClientTls {
    /// Whether and how connections are secured. Required.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<ClientTlsMode>,
    /// A file with the client's certificate; required with `MUTUAL`.
    #[serde(alias = "client_certificate", skip_serializing_if = "String::is_empty")]
    pub client_certificate: String,
    /// A file with the client's private key; required with `MUTUAL`.
    #[serde(alias = "private_key", skip_serializing_if = "String::is_empty")]
    pub private_key: String,
    /// A file with the authorities that vouch for the server. The system's by default.
    #[serde(alias = "ca_certificates", skip_serializing_if = "String::is_empty")]
    pub ca_certificates: String,
    /// A Secret with key, certificate and authorities, instead of files.
    #[serde(alias = "credential_name", skip_serializing_if = "String::is_empty")]
    pub credential_name: String,
    /// Names of which the server's certificate must carry one.
    #[serde(alias = "subject_alt_names", skip_serializing_if = "Vec::is_empty")]
    pub subject_alt_names: Vec<String>,
    /// The server name that the client asks for.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub sni: String,
    /// Takes any certificate of the server.
    #[serde(alias = "insecure_skip_verify", skip_serializing_if = "Option::is_none")]
    pub insecure_skip_verify: Option<bool>,
    /// A file with certificates that are revoked.
    #[serde(alias = "ca_crl", skip_serializing_if = "String::is_empty")]
    pub ca_crl: String,
}

/// Modes of TLS towards a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ClientTlsMode {
    /// No TLS.
    #[serde(rename = "DISABLE")]
    Disable,
    /// TLS without a certificate of the client.
    #[serde(rename = "SIMPLE")]
    Simple,
    /// TLS with a certificate of the client from a file or Secret.
    #[serde(rename = "MUTUAL")]
    Mutual,
    /// TLS with the identity that the mesh gave the client.
    #[serde(rename = "ISTIO_MUTUAL")]
    IstioMutual,
}
