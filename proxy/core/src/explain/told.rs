//! What an explanation says: the same for people, for programs (`-o json`) and between sidecars and the `weft` command.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::reason::Reason;

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It reaches the application.
    Forwarded,
    /// The mesh refuses it.
    Refused,
    /// A route answers it: a redirect, a direct response, a fault.
    Answered,
}

/// Whose sidecar does a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The client's.
    Client,
    /// The server's.
    Server,
}

/// One step of a request's way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Whose sidecar does it.
    pub side: Side,
    /// Which: `address`, `route`, `endpoints`, `policy`, ...
    pub step: String,
    /// What was found or decided.
    pub says: String,
}

/// The rule that a request takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteTaken {
    /// The VirtualService, `namespace/name`; `None` for the route that a service has without one.
    pub object: Option<String>,
    /// `http[1]`, `tcp[0]`; `default` without VirtualService.
    pub rule: String,
    /// The rule's `name`; empty where it has none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
}

/// Why a request is refused, and what would have to change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// The reason, as headers and logs have it.
    pub reason: String,
    /// The status of the answer; `None` where the connection is closed without one.
    pub status: Option<u16>,
    /// The policy that denies, `namespace/name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// `spec.rules[0]`; `None` where it is no single rule that denies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_rule: Option<String>,
    /// What would have to change.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mend: Vec<String>,
}

/// What the mesh answers by itself because a route says so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnAnswer {
    /// `direct_response`, `redirect`, `preflight`, `fault_injected`.
    pub reason: String,
    /// The status.
    pub status: u16,
    /// Where a redirect leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
}

/// A request as a client's sidecar sends it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// The method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// The headers, `host` among them.
    pub headers: Vec<(String, String)>,
    /// Whether the sidecar reads it as HTTP; else it passes the bytes on.
    pub http: bool,
    /// Whether the application speaks TLS by itself.
    pub tls: bool,
    /// The server name of that TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sni: Option<String>,
}

/// An endpoint, and whether it takes the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointTold {
    /// What is dialled.
    pub address: SocketAddr,
    /// The pod's namespace; empty where the address is no known pod's.
    pub namespace: String,
    /// The pod.
    pub pod: String,
    /// Whether it may be picked.
    pub takes: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Whether it is dialled with the mesh's mTLS.
    pub mtls: bool,
    /// Whether a sidecar is known to be there.
    pub meshed: bool,
    /// The name in the ClientHello of the mesh's mTLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sni: Option<String>,
}

/// One destination of a rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Branch {
    /// The cluster: `outbound|80|v1|reviews.default.svc.cluster.local`.
    pub cluster: String,
    /// The service, `namespace/host`; `None` for an address of no service.
    pub service: Option<String>,
    /// The service's port.
    pub port: u16,
    /// The subset.
    pub subset: Option<String>,
    /// The share of requests that it gets, in percent.
    pub share: f64,
    /// The endpoints of the service's port, and why some are out.
    pub endpoints: Vec<EndpointTold>,
    /// Why nothing can be sent there.
    pub refused: Option<Refused>,
    /// The request as it is sent there.
    pub sent: Option<Sent>,
    /// Steps of this destination alone.
    pub steps: Vec<Step>,
}

/// What a client's sidecar says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClientSide {
    /// The pod, `namespace/name`.
    pub pod: String,
    /// Its identity; `None` without a sidecar.
    pub identity: Option<String>,
    /// Its address, from which servers see it come.
    pub address: Option<IpAddr>,
    /// What the application dials; `None` where it dials a listener of the sidecar's own.
    #[serde(default)]
    pub dialled: Option<SocketAddr>,
    /// The service that the request is for, `namespace/host`.
    pub service: Option<String>,
    /// The service's port.
    pub port: Option<u16>,
    /// The rule.
    pub route: Option<RouteTaken>,
    /// What is done to it on purpose: `delay 7s for 100%, abort 500 for 10%`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// What the mesh answers.
    pub answer: Option<OwnAnswer>,
    /// Why the request goes nowhere.
    pub refused: Option<Refused>,
    /// Where it goes.
    pub branches: Vec<Branch>,
    /// The steps.
    pub steps: Vec<Step>,
    /// What is worth knowing, though nothing of it decides.
    pub notes: Vec<String>,
}

/// What a server's sidecar says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerSide {
    /// The pod, `namespace/name`.
    pub pod: String,
    /// Why it is not let in.
    pub refused: Option<Refused>,
    /// Whether it is not let in by closing the connection: nobody answers.
    pub closed: bool,
    /// The policy that lets it in, `namespace/name`; `None` where no ALLOW policy is there.
    pub policy: Option<String>,
    /// `spec.rules[1]`.
    pub policy_rule: Option<String>,
    /// Path and query as the application gets them; `None` for bytes.
    pub path: Option<String>,
    /// The steps.
    pub steps: Vec<Step>,
    /// What is worth knowing, though nothing of it decides.
    pub notes: Vec<String>,
}

/// What a workload lets in, and whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    /// The pod, `namespace/name`.
    pub pod: String,
    /// Its identity.
    pub identity: String,
    /// PeerAuthentication's mode on ports that `ports` does not name.
    pub mtls: String,
    /// The modes by port.
    pub ports: Vec<(u16, String)>,
    /// The policies that apply.
    pub policies: Vec<PolicyTold>,
    /// To whom it is open, in words.
    pub open_to: String,
    /// Doors that are open to everyone.
    pub notes: Vec<String>,
}

/// A policy of a workload, in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyTold {
    /// `namespace/name`.
    pub policy: String,
    /// `ALLOW`, `DENY`; `DENY (fails closed)` where it could not be understood.
    pub action: String,
    /// Whether it has no say.
    pub dry_run: bool,
    /// Its rules.
    pub rules: Vec<RuleTold>,
}

/// A rule of a policy, in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleTold {
    /// `spec.rules[0]`.
    pub rule: String,
    /// Of whom it speaks.
    pub who: String,
    /// Of what.
    pub what: String,
    /// On which conditions; empty where there are none.
    pub when: String,
    /// Whether anybody fulfils `who`: callers without a certificate too.
    pub everyone: bool,
}

/// What a sidecar is asked (`/explain?ask=` of its administration interface).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ask {
    /// What it does with a request of its own application: the answer is a [`ClientSide`].
    Client {
        /// The host that the application names.
        host: String,
        /// The port.
        port: u16,
        /// The host's address, where it is known; else the sidecar looks the name up.
        address: Option<IpAddr>,
        /// The request.
        request: Sent,
    },
    /// What becomes of a request of a pod of its namespace that no sidecar sees: the answer is a [`ClientSide`], whose pod
    /// and address are those of the sidecar that is asked.
    Outside {
        /// The host that the application names.
        host: String,
        /// The port.
        port: u16,
        /// The host's address, where it is known; else the sidecar looks the name up.
        address: Option<IpAddr>,
        /// The request.
        request: Sent,
        /// Why none sees it; `None`: the pod has none.
        #[serde(default)]
        why: Option<String>,
    },
    /// What it does with a request from outside: the answer is a [`ServerSide`].
    Server {
        /// Who the client proves to be, as a SPIFFE URI; `None` in clear.
        peer: Option<String>,
        /// The server name of the mesh's mTLS.
        sni: Option<String>,
        /// The client's address.
        source: IpAddr,
        /// The pod's address and port.
        to: SocketAddr,
        /// The request.
        request: Sent,
    },
    /// What its workload lets in: the answer is an [`Access`].
    Access,
}

impl Step {
    /// A step of a client's sidecar.
    pub fn client(step: &str, says: impl Into<String>) -> Self {
        Self { side: Side::Client, step: step.to_owned(), says: says.into() }
    }

    /// A step of a server's sidecar.
    pub fn server(step: &str, says: impl Into<String>) -> Self {
        Self { side: Side::Server, step: step.to_owned(), says: says.into() }
    }
}

impl Refused {
    /// By a reason, with the status that it has.
    pub fn by(reason: Reason, mend: impl Into<String>) -> Self {
        let status = Some(reason.status()).filter(|status| *status != 0);
        let mend = Some(mend.into()).filter(|text| !text.is_empty()).into_iter().collect();
        Self { reason: reason.name().to_owned(), status, policy: None, policy_rule: None, mend }
    }
}
