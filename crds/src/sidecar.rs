//! Sidecar: what a workload's own sidecar listens on and what it may reach.
//!
//! Source of the fields: `sidecar.proto` of Istio's API, and `ServerTLSSettings` of `gateway.proto`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::destination_rule::connection_pool::ConnectionPool;
use crate::scalar::Int;
use crate::shared::Destination;

/// What the sidecars of a namespace or of some pods listen on, and which services they may reach. One
/// object applies to a pod: one that selects it, else that of the namespace, else that of the root
/// namespace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Sidecar {
    /// The pods that it applies to. Left out, all of the namespace, or of the mesh in the root namespace.
    #[serde(alias = "workload_selector", skip_serializing_if = "Option::is_none")]
    pub workload_selector: Option<WorkloadSelector>,
    /// Listeners for traffic to the workload, in place of those that follow from its Services.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ingress: Vec<IngressListener>,
    /// Listeners for traffic from the workload, and the services that can be reached through them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub egress: Vec<EgressListener>,
    /// Limits and timeouts towards the application.
    #[serde(alias = "inbound_connection_pool", skip_serializing_if = "Option::is_none")]
    pub inbound_connection_pool: Option<ConnectionPool>,
    /// What happens to traffic for destinations that the mesh does not know.
    #[serde(alias = "outbound_traffic_policy", skip_serializing_if = "Option::is_none")]
    pub outbound_traffic_policy: Option<OutboundTrafficPolicy>,
}

/// Pods by their labels.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkloadSelector {
    /// Labels that the pods carry, all of them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// A listener for traffic to the workload.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct IngressListener {
    /// The port. Required.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<SidecarPort>,
    /// The address it listens on; by default that of the pod.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub bind: String,
    /// How traffic comes to the listener.
    #[serde(alias = "capture_mode", skip_serializing_if = "Option::is_none")]
    pub capture_mode: Option<CaptureMode>,
    /// Where the application listens: `127.0.0.1:PORT`, `0.0.0.0:PORT` or `unix:///path`. By default the
    /// pod's own address and port.
    #[serde(alias = "default_endpoint", skip_serializing_if = "String::is_empty")]
    pub default_endpoint: String,
    /// TLS of the application's own that the sidecar ends. Only where PeerAuthentication says `DISABLE` for
    /// the port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<ServerTls>,
    /// Limits and timeouts towards the application on this port.
    #[serde(alias = "connection_pool", skip_serializing_if = "Option::is_none")]
    pub connection_pool: Option<ConnectionPool>,
}

/// A listener for traffic from the workload. Without a port, the setting for all traffic that no other
/// entry takes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct EgressListener {
    /// The port it listens on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<SidecarPort>,
    /// The address it listens on.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub bind: String,
    /// How traffic comes to the listener.
    #[serde(alias = "capture_mode", skip_serializing_if = "Option::is_none")]
    pub capture_mode: Option<CaptureMode>,
    /// Services that can be reached, as `namespace/name`. The namespace may be `*`, `.` (own) or `~`
    /// (none), the name `*` or start with `*.`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
}

/// A port of a listener.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SidecarPort {
    /// The number, from 1 to 65535; 0 with a Unix domain socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number: Option<Int>,
    /// What is spoken: `HTTP`, `HTTPS`, `GRPC`, `HTTP2`, `MONGO`, `TCP` or `TLS`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub protocol: String,
    /// A name for the port.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Deprecated, without effect.
    #[serde(alias = "target_port", skip_serializing_if = "Option::is_none")]
    pub target_port: Option<Int>,
}

/// How traffic comes to a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CaptureMode {
    /// As the pod is set up.
    #[serde(rename = "DEFAULT")]
    Default,
    /// By redirection.
    #[serde(rename = "IPTABLES")]
    Iptables,
    /// Clients address the listener themselves.
    #[serde(rename = "NONE")]
    None,
}

/// What happens to traffic for destinations that the mesh does not know. `mode` has to be written.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct OutboundTrafficPolicy {
    /// Whether it passes. Required.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<OutboundTrafficMode>,
    /// A service that such traffic is sent through.
    #[serde(alias = "egress_proxy", skip_serializing_if = "Option::is_none")]
    pub egress_proxy: Option<Destination>,
}

/// What happens to traffic for destinations that the mesh does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OutboundTrafficMode {
    /// It is refused.
    #[serde(rename = "REGISTRY_ONLY")]
    RegistryOnly,
    /// It goes to the address that the application meant.
    #[serde(rename = "ALLOW_ANY")]
    AllowAny,
    /// HTTP goes to the address that DNS gives for its Host, the rest as with `ALLOW_ANY`. The API takes it
    /// in mesh-wide settings only.
    #[serde(rename = "ALLOW_ANY_DYNAMIC_DNS")]
    AllowAnyDynamicDns,
}

/// TLS that a listener ends.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ServerTls {
    /// Answers plain HTTP with a redirection to https.
    #[serde(alias = "https_redirect", skip_serializing_if = "std::ops::Not::not")]
    pub https_redirect: bool,
    /// Whether and how connections are secured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<ServerTlsMode>,
    /// A file with the server's certificate.
    #[serde(alias = "server_certificate", skip_serializing_if = "String::is_empty")]
    pub server_certificate: String,
    /// A file with the server's private key.
    #[serde(alias = "private_key", skip_serializing_if = "String::is_empty")]
    pub private_key: String,
    /// A file with the authorities that vouch for clients.
    #[serde(alias = "ca_certificates", skip_serializing_if = "String::is_empty")]
    pub ca_certificates: String,
    /// A file with certificates that are revoked.
    #[serde(alias = "ca_crl", skip_serializing_if = "String::is_empty")]
    pub ca_crl: String,
    /// A Secret with key and certificate, instead of files.
    #[serde(alias = "credential_name", skip_serializing_if = "String::is_empty")]
    pub credential_name: String,
    /// Several Secrets, for certificates of different kinds of keys.
    #[serde(alias = "credential_names", skip_serializing_if = "Vec::is_empty")]
    pub credential_names: Vec<String>,
    /// A Secret or ConfigMap with the authorities that vouch for clients.
    #[serde(alias = "ca_cert_credential_name", skip_serializing_if = "String::is_empty")]
    pub ca_cert_credential_name: String,
    /// Several certificates, for different kinds of keys.
    #[serde(alias = "tls_certificates", skip_serializing_if = "Vec::is_empty")]
    pub tls_certificates: Vec<TlsCertificate>,
    /// Names of which a client's certificate must carry one.
    #[serde(alias = "subject_alt_names", skip_serializing_if = "Vec::is_empty")]
    pub subject_alt_names: Vec<String>,
    /// Base64 SHA-256 hashes of public keys of which a client's certificate must carry one.
    #[serde(alias = "verify_certificate_spki", skip_serializing_if = "Vec::is_empty")]
    pub verify_certificate_spki: Vec<String>,
    /// Hexadecimal SHA-256 hashes of which a client's certificate must have one.
    #[serde(alias = "verify_certificate_hash", skip_serializing_if = "Vec::is_empty")]
    pub verify_certificate_hash: Vec<String>,
    /// The oldest version of TLS.
    #[serde(alias = "min_protocol_version", skip_serializing_if = "Option::is_none")]
    pub min_protocol_version: Option<TlsProtocol>,
    /// The newest version of TLS.
    #[serde(alias = "max_protocol_version", skip_serializing_if = "Option::is_none")]
    pub max_protocol_version: Option<TlsProtocol>,
    /// Cipher suites that are allowed.
    #[serde(alias = "cipher_suites", skip_serializing_if = "Vec::is_empty")]
    pub cipher_suites: Vec<String>,
}

/// A certificate and its key.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TlsCertificate {
    /// A file with the server's certificate.
    #[serde(alias = "server_certificate", skip_serializing_if = "String::is_empty")]
    pub server_certificate: String,
    /// A file with the server's private key.
    #[serde(alias = "private_key", skip_serializing_if = "String::is_empty")]
    pub private_key: String,
    /// A file with the authorities that vouch for clients.
    #[serde(alias = "ca_certificates", skip_serializing_if = "String::is_empty")]
    pub ca_certificates: String,
}

/// Modes of TLS that a listener ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ServerTlsMode {
    /// The connection is passed on unopened, by its server name.
    #[serde(rename = "PASSTHROUGH")]
    Passthrough,
    /// TLS without a certificate of the client.
    #[serde(rename = "SIMPLE")]
    Simple,
    /// TLS with a certificate of the client.
    #[serde(rename = "MUTUAL")]
    Mutual,
    /// Passed on unopened to the service that the server name encodes.
    #[serde(rename = "AUTO_PASSTHROUGH")]
    AutoPassthrough,
    /// TLS with the identities that the mesh gives.
    #[serde(rename = "ISTIO_MUTUAL")]
    IstioMutual,
    /// TLS with a certificate of the client if it has one.
    #[serde(rename = "OPTIONAL_MUTUAL")]
    OptionalMutual,
}

/// Versions of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TlsProtocol {
    /// What both sides know best.
    #[serde(rename = "TLS_AUTO")]
    Auto,
    /// TLS 1.0.
    #[serde(rename = "TLSV1_0")]
    V1_0,
    /// TLS 1.1.
    #[serde(rename = "TLSV1_1")]
    V1_1,
    /// TLS 1.2.
    #[serde(rename = "TLSV1_2")]
    V1_2,
    /// TLS 1.3.
    #[serde(rename = "TLSV1_3")]
    V1_3,
}
