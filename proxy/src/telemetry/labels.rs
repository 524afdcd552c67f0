//! The labels of Istio's standard metrics, borrowed while they are looked up, owned once they are kept.

use std::fmt::Write;
use std::sync::Arc;

use weft_core::identity::SpiffeId;
use weft_core::model::metadata::WorkloadMetadata;
use weft_core::model::telemetry::Sides;
use weft_core::reason::Reason;

/// Which side tells (`reporter`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reporter {
    /// The client's sidecar.
    Source,
    /// The server's sidecar.
    Destination,
}

/// `connection_security_policy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Security {
    /// What clients' sidecars report: only the server's side knows.
    Unknown,
    /// Plaintext.
    None,
    /// mTLS.
    MutualTls,
}

/// `request_protocol` of requests; connections report `tcp`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum AppProtocol {
    /// HTTP of any version.
    #[default]
    Http,
    /// gRPC.
    Grpc,
}

/// One end of an exchange, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct PeerRef<'a> {
    /// What is known of the workload; the default where nothing is.
    pub metadata: &'a Arc<WorkloadMetadata>,
    /// Its identity, where mTLS proved it.
    pub principal: Option<&'a SpiffeId>,
}

/// The service that was meant; empty parts are unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ServiceLabels {
    /// `destination_service`: the host.
    pub host: Arc<str>,
    /// `destination_service_name`.
    pub name: Arc<str>,
    /// `destination_service_namespace`.
    pub namespace: Arc<str>,
}

/// All labels that requests between two workloads share, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct ScopeRef<'a> {
    /// Which side tells.
    pub reporter: Reporter,
    /// How the connection was secured.
    pub security: Security,
    /// The client.
    pub source: PeerRef<'a>,
    /// The server.
    pub destination: PeerRef<'a>,
    /// The service that was meant.
    pub service: &'a ServiceLabels,
}

/// How one request ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Outcome {
    /// `request_protocol`.
    pub protocol: AppProtocol,
    /// `response_code`; 0 where none was sent.
    pub status: u16,
    /// `grpc_response_status`.
    pub grpc_status: Option<u8>,
    /// Why the mesh answered itself: `response_flags`.
    pub reason: Option<Reason>,
    /// Whether a fault held it up: `response_flags`.
    pub delayed: bool,
}

/// All labels that requests between two workloads share.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ScopeLabels {
    reporter: Reporter,
    security: Security,
    source: Peer,
    destination: Peer,
    service: ServiceLabels,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Peer {
    metadata: Arc<WorkloadMetadata>,
    principal: Option<SpiffeId>,
}

/// The addresses of all that a [`ScopeRef`] borrows: equal addresses mean equal labels while a scope keeps them alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct ScopeAddresses([usize; 7]);

impl Reporter {
    /// What belongs to this side.
    pub fn of<T>(self, sides: &Sides<T>) -> &T {
        match self {
            Self::Source => &sides.client,
            Self::Destination => &sides.server,
        }
    }

    /// What belongs to this side, to be changed.
    pub fn of_mut<T>(self, sides: &mut Sides<T>) -> &mut T {
        match self {
            Self::Source => &mut sides.client,
            Self::Destination => &mut sides.server,
        }
    }
}

impl ServiceLabels {
    /// The labels of a service.
    pub fn new(name: &weft_core::model::name::ServiceName, short_name: &Arc<str>) -> Self {
        Self { host: name.host.clone(), name: short_name.clone(), namespace: name.namespace.clone() }
    }

    /// The labels of traffic to no service: `PassthroughCluster`, `BlackHoleCluster`, `InboundPassthroughCluster`.
    pub fn pseudo(name: &str) -> Self {
        Self { name: name.into(), ..Self::default() }
    }
}

impl ScopeRef<'_> {
    pub(super) fn addresses(&self) -> ScopeAddresses {
        let principal = |id: Option<&SpiffeId>| id.map_or(0, |id| id.as_str().as_ptr() as usize);
        ScopeAddresses([
            (self.reporter as usize) << 8 | self.security as usize,
            Arc::as_ptr(self.source.metadata) as usize,
            principal(self.source.principal),
            Arc::as_ptr(self.destination.metadata) as usize,
            principal(self.destination.principal),
            self.service.host.as_ptr() as usize,
            self.service.name.as_ptr() as usize,
        ])
    }

    pub(super) fn to_owned(self) -> ScopeLabels {
        ScopeLabels {
            reporter: self.reporter,
            security: self.security,
            source: Peer::of(self.source),
            destination: Peer::of(self.destination),
            service: self.service.clone(),
        }
    }
}

impl Outcome {
    /// `response_flags`: Envoy's, `-` for none, `DI` first for what a fault held up.
    pub fn flags(&self) -> &'static str {
        let flag = self.reason.map_or("-", Reason::flag);
        if self.delayed { with_delay(flag) } else { flag }
    }

    /// The outcome that stands for this one where series are no longer told apart.
    pub(super) fn coarse(self) -> Self {
        Self { status: self.status / 100 * 100, grpc_status: None, reason: None, delayed: false, ..self }
    }
}

/// The flag of a delay before that of what ended the request afterwards.
#[cold]
fn with_delay(flag: &'static str) -> &'static str {
    match flag {
        "DPE" => "DI,DPE",
        "FI" => "DI,FI",
        "NC" => "DI,NC",
        "NR" => "DI,NR",
        "OM" => "DI,OM",
        "UC" => "DI,UC",
        "UF" => "DI,UF",
        "UH" => "DI,UH",
        "UO" => "DI,UO",
        "UT" => "DI,UT",
        "UPE" => "DI,UPE",
        "SI" => "DI,SI",
        _ => "DI",
    }
}

impl ScopeLabels {
    /// The labels under which everything beyond the limit of series is counted.
    pub(super) fn overflow(&self) -> Self {
        Self {
            reporter: self.reporter,
            security: self.security,
            source: Peer::default(),
            destination: Peer::default(),
            service: ServiceLabels::pseudo("OverflowSeries"),
        }
    }

    /// The text between the braces of a request's series.
    pub(super) fn render_request(&self, outcome: &Outcome) -> String {
        let mut text = self.render();
        let protocol = if outcome.protocol == AppProtocol::Grpc { "grpc" } else { "http" };
        let grpc = outcome.grpc_status.map(|status| status.to_string()).unwrap_or_default();
        label(&mut text, "request_protocol", protocol);
        label(&mut text, "response_code", &outcome.status.to_string());
        label(&mut text, "grpc_response_status", &grpc);
        label(&mut text, "response_flags", outcome.flags());
        text
    }

    /// The text between the braces of a connection's series.
    pub(super) fn render_tcp(&self, reason: Option<Reason>) -> String {
        let mut text = self.render();
        label(&mut text, "request_protocol", "tcp");
        label(&mut text, "response_flags", reason.map_or("-", Reason::flag));
        text
    }

    fn render(&self) -> String {
        let mut text = String::with_capacity(1024);
        let reporter = if self.reporter == Reporter::Source { "source" } else { "destination" };
        label(&mut text, "reporter", reporter);
        self.source.render(&mut text, "source");
        self.destination.render(&mut text, "destination");
        known(&mut text, "destination_service", &self.service.host);
        known(&mut text, "destination_service_name", &self.service.name);
        known(&mut text, "destination_service_namespace", self.service_namespace());
        label(&mut text, "connection_security_policy", self.security.name());
        text
    }

    /// Which side tells.
    pub fn reporter(&self) -> Reporter {
        self.reporter
    }

    /// Namespace and name of the client's workload; empty where nothing is known.
    pub fn source_workload(&self) -> (&str, &str) {
        self.source.workload()
    }

    /// Namespace and name of the server's workload; empty where nothing is known.
    pub fn destination_workload(&self) -> (&str, &str) {
        self.destination.workload()
    }

    /// The client's identity, where mTLS proved it.
    pub fn source_principal(&self) -> Option<&str> {
        self.source.principal.as_ref().map(SpiffeId::as_str)
    }

    /// The server's identity, where mTLS proved it.
    pub fn destination_principal(&self) -> Option<&str> {
        self.destination.principal.as_ref().map(SpiffeId::as_str)
    }

    /// The host of the service that was meant; empty where there is none.
    pub fn service_host(&self) -> &str {
        &self.service.host
    }

    fn service_namespace(&self) -> &str {
        let named = &self.service.namespace;
        if named.is_empty() { &self.destination.metadata.namespace } else { named }
    }
}

impl Security {
    fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::None => "none",
            Self::MutualTls => "mutual_tls",
        }
    }
}

impl Peer {
    fn of(peer: PeerRef<'_>) -> Self {
        Self { metadata: peer.metadata.clone(), principal: peer.principal.cloned() }
    }

    fn workload(&self) -> (&str, &str) {
        (&self.metadata.namespace, &self.metadata.workload)
    }

    fn render(&self, text: &mut String, side: &str) {
        let m = &self.metadata;
        let principal = self.principal.as_ref().map_or("", |id| id.as_str());
        let parts = [
            ("workload", &*m.workload),
            ("canonical_service", &*m.canonical_service),
            ("canonical_revision", &*m.canonical_revision),
            ("workload_namespace", &*m.namespace),
            ("principal", principal),
            ("app", &*m.app),
            ("version", &*m.version),
            ("cluster", &*m.cluster),
        ];
        for (name, value) in parts {
            known(text, &format!("{side}_{name}"), value);
        }
    }
}

/// Whether labels are those of gRPC requests. No value can hold a quote of its own.
pub(super) fn is_grpc(labels: &str) -> bool {
    labels.contains(",request_protocol=\"grpc\"")
}

/// A label whose empty value is `unknown`, as in Istio.
fn known(text: &mut String, name: &str, value: &str) {
    label(text, name, if value.is_empty() { "unknown" } else { value });
}

/// Adds `name="value"`, with the value escaped as the text format asks.
pub(super) fn label(text: &mut String, name: &str, value: &str) {
    let comma = if text.is_empty() { "" } else { "," };
    let _ = write!(text, "{comma}{name}=\"");
    for c in value.chars() {
        match c {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            other => text.push(other),
        }
    }
    text.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_stands_before_every_other_flag() {
        for flag in Reason::ALL.map(Reason::flag) {
            let both = if flag == "-" { "DI".to_owned() } else { format!("DI,{flag}") };
            assert_eq!(with_delay(flag), both);
        }
    }
}
