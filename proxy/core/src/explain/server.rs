//! The server's side: what PeerAuthentication says, how the request is read there, which policy decides, and what the
//! application gets.

use std::net::{IpAddr, SocketAddr};

use http::request::Parts;

use crate::authz::{self, Decision, HttpFacts, NormalAuthority, RequestFacts};
use crate::detect::alpn::{self, Inside};
use crate::detect::hello::ClientHello;
use crate::detect::sniff::Detected;
use crate::http::headers::{strip_asserted, strip_lookalikes};
use crate::http::request::{authority, check};
use crate::identity::SpiffeId;
use crate::model::protocol::Protocol;
use crate::model::workload::{MtlsMode, Workload};
use crate::peer_auth::{self, Arrival};
use crate::reason::Reason;

use super::told::{EndpointTold, Refused, Sent, ServerSide, Step};
use super::{bytes, policy};

/// A request as it comes to the server's sidecar.
#[derive(Clone, Debug)]
pub struct Came {
    /// Who the client proves to be; `None` in clear.
    pub peer: Option<SpiffeId>,
    /// The server name in the ClientHello of the mesh's mTLS.
    pub sni: Option<String>,
    /// The client's address.
    pub source: IpAddr,
    /// The pod's address and port.
    pub to: SocketAddr,
    /// The request.
    pub request: Sent,
}

/// What becomes of a request to a port that the pod's annotations keep from its sidecar: the application gets it as it
/// is sent, and understands no mTLS.
pub fn passed_by(to: &EndpointTold, sent: &Sent) -> ServerSide {
    let port = to.address.port();
    let says = format!(
        "not: annotations of {} keep port {port} from its sidecar; no PeerAuthentication and no policy is in force there",
        to.pod
    );
    let mend = format!(
        "the client sends mTLS, and no sidecar is there to take it: a DestinationRule must say tls.mode: DISABLE, or a \
         PeerAuthentication must say it of the pod's port {port} (portLevelMtls), or {port} must not be excluded"
    );
    ServerSide {
        pod: format!("{}/{}", to.namespace, to.pod),
        refused: to.mtls.then(|| Refused::by(Reason::TlsHandshake, mend)),
        closed: to.mtls,
        policy: None,
        policy_rule: None,
        path: Some(sent.target.clone()).filter(|_| sent.http),
        steps: vec![Step::server("intercepted", says)],
        notes: Vec::new(),
    }
}

/// What the server's sidecar does with a request.
pub fn server(workload: &Workload, came: &Came) -> ServerSide {
    let metadata = &workload.metadata;
    let mut told = ServerSide {
        pod: format!("{}/{}", metadata.namespace, metadata.pod),
        refused: None,
        closed: false,
        policy: None,
        policy_rule: None,
        path: None,
        steps: Vec::new(),
        notes: policy::open_doors(&workload.inbound),
    };
    let visit = Visit { workload, came };
    match visit.let_in(&mut told) {
        Ok(Detected::Http1 | Detected::Http2) if !came.request.tls => visit.http(&mut told),
        Ok(Detected::Http1 | Detected::Http2) => {
            told.refused =
                Some(Refused::by(Reason::BadRequest, "TLS of the application's own on a port for HTTP"));
        }
        Ok(_) => visit.opaque(&mut told),
        Err(reason) => {
            told.closed = true;
            told.refused = Some(Refused { status: None, ..Refused::by(reason, visit.mend(reason)) });
        }
    }
    told
}

struct Visit<'a> {
    workload: &'a Workload,
    came: &'a Came,
}

impl Visit<'_> {
    fn mode(&self) -> MtlsMode {
        self.workload.inbound.mtls(self.came.to.port())
    }

    fn protocol(&self) -> Protocol {
        self.workload.inbound.port(self.came.to.port()).map_or(Protocol::Auto, |port| port.protocol)
    }

    /// As far as the transport goes; what the bytes are.
    fn let_in(&self, told: &mut ServerSide) -> Result<Detected, Reason> {
        let (mode, protocol) = (self.mode(), self.protocol());
        let offered = alpn::offer(if self.came.request.http { Inside::Http1 } else { Inside::Opaque });
        let first = match self.came.peer {
            Some(_) => Detected::Tls(ClientHello {
                sni: self.came.sni.as_deref().map(Into::into),
                alpn: offered.iter().map(|name| Box::from(*name)).collect(),
            }),
            None => bytes::detected(peer_auth::rules(mode, protocol), &self.came.request),
        };
        told.steps.push(Step::server("mtls", self.arrives()));
        match (peer_auth::arrival(mode, protocol, first)?, &self.came.peer) {
            (Arrival::MeshTls, Some(peer)) => {
                peer_auth::believes(self.workload, Some(peer))?;
                let chosen = alpn::SERVER.iter().find(|name| offered.contains(name));
                let named = chosen.and_then(|name| alpn::inside(name));
                Ok(bytes::detected(peer_auth::rules_inside(protocol, named), &self.came.request))
            }
            (Arrival::MeshTls, None) | (Arrival::Plain(_), Some(_)) => Err(Reason::TlsHandshake),
            (Arrival::Plain(detected), None) => Ok(detected),
        }
    }

    fn arrives(&self) -> String {
        let mode = match self.mode() {
            MtlsMode::Disable => "DISABLE: only plaintext is let in",
            MtlsMode::Permissive => "PERMISSIVE: mTLS and plaintext are let in",
            MtlsMode::Strict => "STRICT: only mTLS is let in",
        };
        let comes = match &self.came.peer {
            Some(peer) => format!("comes as {}", peer.principal()),
            None => "comes in clear: nobody knows from whom".to_owned(),
        };
        format!("PeerAuthentication on port {} is {mode}; the request {comes}", self.came.to.port())
    }

    fn mend(&self, reason: Reason) -> String {
        match reason {
            Reason::PlaintextDenied => {
                "the client needs a sidecar and must not have tls.mode: DISABLE in a DestinationRule; \
                                        or the PeerAuthentication must say PERMISSIVE"
                    .to_owned()
            }
            Reason::PeerIdentity => {
                "the client's trust domain must be the mesh's own or among trustDomainAliases".to_owned()
            }
            Reason::TlsHandshake => {
                "the client comes with mTLS where PeerAuthentication says DISABLE: say PERMISSIVE, or \
                                     tls.mode: DISABLE in a DestinationRule"
                    .to_owned()
            }
            _ => "the bytes do not suit what the port is declared to carry".to_owned(),
        }
    }

    fn http(&self, told: &mut ServerSide) {
        let Some(mut parts) = bytes::head(&self.came.request) else {
            told.refused = Some(Refused::by(Reason::BadRequest, ""));
            return;
        };
        let inbound = &self.workload.inbound;
        let headers = authz::read_headers(&inbound.policies);
        if let Err(refusal) = check(&mut parts, authz::strictness(inbound), |name| headers.contains(name)) {
            let status = refusal.status.map(|status| status.as_u16());
            let mend = "a policy of the workload reads paths or hosts, so that ambiguous ones are refused: write it in one way";
            let by = Refused::by(refusal.reason, mend);
            told.refused = Some(Refused { status: status.or(by.status), ..by });
            return;
        }
        strip_asserted(&mut parts.headers);
        strip_lookalikes(&mut parts.headers, &headers);
        self.judge(told, Some(&parts));
        if told.refused.is_none() {
            told.path = Some(bytes::target(&parts));
            self.application(told);
        }
    }

    fn opaque(&self, told: &mut ServerSide) {
        told.steps.push(Step::server("bytes", "the bytes are passed on as they are"));
        self.judge(told, None);
        // Nobody reads the bytes: the connection is closed.
        told.closed = told.refused.is_some();
        if let Some(refused) = &mut told.refused {
            refused.status = None;
        } else {
            self.application(told);
        }
    }

    fn application(&self, told: &mut ServerSide) {
        let port = self.workload.inbound.port(self.came.to.port());
        let at = port.and_then(|port| port.application).unwrap_or(self.came.to);
        let path = told.path.as_ref().map(|path| format!("{} {path} ", self.came.request.method));
        told.steps.push(Step::server("application", format!("{}to {at}", path.unwrap_or_default())));
    }

    fn judge(&self, told: &mut ServerSide, parts: Option<&Parts>) {
        let policies = &self.workload.inbound.policies;
        let http = parts.map(|parts| HttpFacts {
            method: &parts.method,
            path: parts.uri.path(),
            authority: NormalAuthority::of(authority(&parts.uri, &parts.headers)),
            headers: &parts.headers,
        });
        let facts = RequestFacts {
            peer: self.came.peer.as_ref(),
            source_ip: self.came.source,
            remote_ip: self.came.source,
            destination_ip: self.came.to.ip(),
            destination_port: self.came.to.port(),
            sni: self.came.sni.as_deref(),
            http,
        };
        let verdict = authz::authorize(policies, &facts);
        if let Some(decision) = verdict.dry_run {
            let would = if decision.is_allow() { "let it in" } else { "deny it" };
            told.steps.push(Step::server("dry run", format!("policies on dry run would {would}")));
        }
        let Decision::Deny { reason, by } = verdict.decision else {
            self.allowed(told, &verdict.decision);
            return;
        };
        let (name, place) = (by.policy.to_string(), by.rule.map(policy::place));
        let words = policy::rule_in_words(policies, &name, by.rule);
        let says = match (&place, reason) {
            (Some(place), _) => format!("AuthorizationPolicy {name}, {place}, denies it: {words}"),
            (None, Reason::PolicyDenied) => {
                format!("AuthorizationPolicy {name} could not be understood whole: everything is denied")
            }
            (None, _) => "no rule of an ALLOW policy lets it in".to_owned(),
        };
        told.steps.push(Step::server("policy", says));
        let mend = match (reason, &place) {
            (Reason::PolicyNotAllowed, _) => policy::lacking(policies, &facts),
            (_, Some(place)) => {
                vec![format!("{place} of AuthorizationPolicy {name} must not match: {words}")]
            }
            (_, None) => vec![format!(
                "AuthorizationPolicy {name} must be mended: `weft validate` tells what is wrong"
            )],
        };
        let by = Refused::by(reason, "");
        told.refused = Some(Refused { policy: Some(name), policy_rule: place, mend, ..by });
    }

    fn allowed(&self, told: &mut ServerSide, decision: &Decision<'_>) {
        let Decision::Allow { by: Some(by) } = decision else {
            let says = match self.workload.inbound.policies.is_empty() {
                true => "there is no policy: everyone is let in",
                false => "no policy denies it, and there is no ALLOW policy",
            };
            told.steps.push(Step::server("policy", says));
            return;
        };
        let (name, place) = (by.policy.to_string(), by.rule.map(policy::place));
        let words = policy::rule_in_words(&self.workload.inbound.policies, &name, by.rule);
        let at = place.as_ref().map(|place| format!(", {place},")).unwrap_or_default();
        told.steps
            .push(Step::server("policy", format!("AuthorizationPolicy {name}{at} lets it in: {words}")));
        (told.policy, told.policy_rule) = (Some(name), place);
    }
}
