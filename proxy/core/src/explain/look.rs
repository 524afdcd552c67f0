//! A request on its way through the client's sidecar: which rule it takes, and where that leads.

use std::net::SocketAddr;
use std::sync::Arc;

use http::request::Parts;

use crate::http::headers::strip_asserted;
use crate::http::request::{authority, check};
use crate::meaning;
use crate::model::address::{Address, Meaning, ServicePortRef};
use crate::model::name::{ClusterName, ResourceName, ServiceName};
use crate::model::route::HttpAction;
use crate::reason::Reason;
use crate::route::{self, ConnectionView, Matched, RequestView};
use crate::snapshot::{PortState, ServiceState, Snapshot};
use crate::upstream::{ClusterState, Nanos};

use super::branch::{Way, branch};
use super::told::{Branch, ClientSide, OwnAnswer, Refused, RouteTaken, Sent, Step};
use super::{bytes, costs, extras, rules, words};

/// A request that is asked about.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The host as the application names it: for the words.
    pub host: String,
    /// The address that it dials.
    pub dialled: SocketAddr,
    /// The request that it sends.
    pub request: Sent,
    /// The time, on the clock of ejections.
    pub now: Nanos,
}

/// A request, and what its address means.
pub(super) struct Look<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) asked: &'a Asked,
    pub(super) address: &'a Address,
    /// Whether it came on an explicit listener for several services.
    pub(super) listed: bool,
}

/// A destination before it is looked at.
struct Leads<'a> {
    name: &'a ClusterName,
    cluster: Option<&'a Arc<ClusterState>>,
    share: f64,
}

impl Look<'_> {
    /// A request that the sidecar reads.
    ///
    /// # Errors
    /// The resource that must be known first and is not.
    pub(super) fn http(&self, told: &mut ClientSide) -> Result<(), ResourceName> {
        let Some(mut parts) = bytes::head(&self.asked.request) else {
            told.refused = Some(Refused::by(Reason::BadRequest, "the request can stand in no HTTP message"));
            return Ok(());
        };
        let own = self.snapshot.workload().map(|workload| &workload.inbound);
        if let Err(refusal) = check(&mut parts, route::strictness(own), |_| false) {
            let status = refusal.status.map(|status| status.as_u16());
            let by = Refused::by(refusal.reason, "write path, host and headers as RFC 9110 and RFC 3986 say");
            told.refused = Some(Refused { status: status.or(by.status), ..by });
            return Ok(());
        }
        strip_asserted(&mut parts.headers);
        self.normal(told, &parts);
        match meaning::of_request(self.address, self.listed, authority(&parts.uri, &parts.headers)) {
            Some(port) => self.by_route(told, port, &parts),
            None => {
                let closed = meaning::is_closed(self.snapshot);
                self.nowhere(told, Some(parts), self.listed && !closed);
                Ok(())
            }
        }
    }

    fn normal(&self, told: &mut ClientSide, parts: &Parts) {
        let now = bytes::target(parts);
        if now != self.asked.request.target {
            told.steps.push(Step::client("path", format!("{} is read as {now}", self.asked.request.target)));
        }
    }

    fn by_route(
        &self,
        told: &mut ClientSide,
        port: &ServicePortRef,
        parts: &Parts,
    ) -> Result<(), ResourceName> {
        let service = need(self.snapshot, &port.service)?;
        let Some(state) = self.port(told, service, port, Reason::NoCluster) else { return Ok(()) };
        let request = RequestView::of(parts);
        told.steps.extend(rules::passed_over(state, &request));
        let Some(matched) = route::find(&state.rules, &request) else {
            let mend = format!(
                "no rule matches: add one without `match` to the VirtualService of {}, or change the request",
                port.service.host
            );
            told.refused = Some(Refused::by(Reason::NoRoute, mend));
            return Ok(());
        };
        told.route = Some(rules::route_of(&matched));
        told.steps.push(Step::client("route", rules::taken(&matched)));
        extras::tell(told, &matched, parts);
        if told.answer.is_none() {
            self.act(told, state, &matched, parts);
        }
        Ok(())
    }

    fn port<'s>(
        &self,
        told: &mut ClientSide,
        service: &'s ServiceState,
        port: &ServicePortRef,
        else_: Reason,
    ) -> Option<&'s PortState> {
        (told.service, told.port) = (Some(port.service.to_string()), Some(port.port));
        let Some(state) = service.port(port.port) else {
            let ports: Vec<String> = service.ports.iter().map(|p| p.number.to_string()).collect();
            let has = if ports.is_empty() { "no port".to_owned() } else { words::listed(&ports, 6) };
            let mend = format!("{} has no port {}, but {has}", port.service.host, port.port);
            told.refused = Some(Refused::by(else_, mend));
            return None;
        };
        let name =
            if state.name.is_empty() { "without name".to_owned() } else { format!("`{}`", state.name) };
        let says = format!("port {} ({name}) is {}", state.number, words::protocol(state.protocol));
        told.steps.push(Step::client("protocol", says));
        told.notes.extend(costs::of_port(service, state));
        Some(state)
    }

    fn act(&self, told: &mut ClientSide, port: &PortState, matched: &Matched<'_>, parts: &Parts) {
        match &matched.rule.rule.action {
            HttpAction::Redirect(redirect) => {
                let location = route::redirect::redirect_location(redirect, matched, &RequestView::of(parts));
                told.steps.push(Step::client("redirect", format!("{} to {location}", redirect.status)));
                told.answer = Some(OwnAnswer {
                    reason: Reason::Redirect.name().to_owned(),
                    status: redirect.status.as_u16(),
                    location: Some(location),
                });
            }
            HttpAction::Respond(direct) => {
                told.steps
                    .push(Step::client("answer", format!("the route itself answers {}", direct.status)));
                told.answer = Some(OwnAnswer {
                    reason: Reason::DirectResponse.name().to_owned(),
                    status: direct.status.as_u16(),
                    location: None,
                });
            }
            HttpAction::Forward(forward) => {
                told.steps.push(Step::client("times", words::times(forward)));
                self.forward(told, port, matched, parts);
            }
        }
    }

    fn forward(&self, told: &mut ClientSide, port: &PortState, matched: &Matched<'_>, parts: &Parts) {
        let targets: Vec<_> = matched.rule.targets().collect();
        let shares = route::shares(&targets.iter().map(|t| t.destination.weight).collect::<Vec<_>>());
        if targets.len() > 1 {
            let all = targets.iter().zip(&shares);
            let all: Vec<String> = all
                .map(|(t, share)| format!("{share:.0}% to {}", rules::short(&t.destination.cluster)))
                .collect();
            told.steps.push(Step::client("weights", all.join(", ")));
        }
        for (target, share) in targets.iter().zip(shares) {
            let mut parts = parts.clone();
            let (name, cluster) = (&target.destination.cluster, target.cluster);
            let applied = route::apply(&mut parts, matched, target);
            let sent = applied.map(|()| bytes::sent(&parts, &self.asked.request));
            let mut one = self.branch(&Leads { name, cluster, share }, port, sent);
            if one.refused.is_none() && applied.is_none() {
                one.refused =
                    Some(Refused::by(Reason::BadPath, "the rewritten path can stand in no request"));
            }
            let rewritten = rules::rewritten(matched, target, &parts);
            one.steps.splice(0..0, rewritten);
            told.branches.push(one);
        }
    }

    fn branch(&self, leads: &Leads<'_>, port: &PortState, sent: Option<Sent>) -> Branch {
        let of_pod = matches!(self.address.meaning, Meaning::Workload(_));
        let only = leads.cluster.filter(|_| of_pod).and_then(|c| c.endpoint_at(self.asked.dialled));
        let whole = self.snapshot.cluster(&ClusterName { subset: None, ..leads.name.clone() });
        let way = Way {
            name: leads.name,
            cluster: leads.cluster,
            whole: whole.or(port.cluster.as_ref().filter(|c| c.cluster.name.service == leads.name.service)),
            only: only.cloned(),
            original: self.asked.dialled,
            share: leads.share,
            now: self.asked.now,
        };
        branch(&way, sent)
    }

    /// Where no service is meant: a listener for some services (`stays`) has no other way out.
    fn nowhere(&self, told: &mut ClientSide, parts: Option<Parts>, stays: bool) {
        if !stays {
            return self.direct(told, parts);
        }
        let Meaning::Shared(all) = &self.address.meaning else { return };
        let hosts: Vec<String> = all.iter().map(|one| one.target.service.host.to_string()).collect();
        let mend = match hosts.is_empty() {
            true => format!(
                "no Service of `egress.hosts` has port {}: a listener is for Services with a port of its own number",
                self.asked.dialled.port()
            ),
            false => format!(
                "the listener is for {}: name one of them in the Host header or the server name, or list the host in \
                 `egress.hosts`",
                words::listed(&hosts, 6)
            ),
        };
        told.refused = Some(Refused::by(Reason::NoRoute, mend));
    }

    /// Where no route speaks: to the address itself.
    fn direct(&self, told: &mut ClientSide, parts: Option<Parts>) {
        let dialled = self.asked.dialled;
        match meaning::without_service(self.snapshot, self.address, dialled) {
            Err(reason) => {
                let mend = "the outbound mode is REGISTRY_ONLY: a Service must have the address, or the mode be ALLOW_ANY";
                told.refused = Some(Refused::by(reason, mend));
            }
            Ok(endpoint) => {
                let says = format!("no service's routes: to {dialled} itself");
                told.steps.push(Step::client("route", says));
                let cluster = self.snapshot.passthrough();
                let way = Way {
                    name: &cluster.cluster.name,
                    cluster: Some(cluster),
                    whole: None,
                    only: Some(endpoint),
                    original: dialled,
                    share: 100.0,
                    now: self.asked.now,
                };
                let http = parts.map(|parts| bytes::sent(&parts, &self.asked.request));
                let sent = http.unwrap_or_else(|| self.opaque_bytes());
                told.branches.push(branch(&way, Some(sent)));
            }
        }
    }

    fn opaque_bytes(&self) -> Sent {
        Sent { http: false, ..self.asked.request.clone() }
    }

    /// Bytes that the sidecar passes on.
    ///
    /// # Errors
    /// The resource that must be known first and is not.
    pub(super) fn opaque(&self, told: &mut ClientSide, sni: Option<&str>) -> Result<(), ResourceName> {
        let says = match sni {
            Some(name) => format!("TLS of the application's own, for {name}: passed on as it is"),
            None => "the bytes are passed on as they are: rules for HTTP do not count".to_owned(),
        };
        told.steps.push(Step::client("bytes", says));
        let Some(to) = meaning::of_connection(self.address, sni, self.listed) else {
            self.nowhere(told, None, self.listed);
            return Ok(());
        };
        let service = need(self.snapshot, &to.service)?;
        let Some(port) = self.port(told, service, to, Reason::NoRoute) else { return Ok(()) };
        let view = ConnectionView { destination: self.asked.dialled.ip(), sni };
        let Some(rule) = route::find_tcp(&port.tcp, &view) else {
            told.refused = Some(Refused::by(Reason::NoRoute, "no rule for connections matches"));
            return Ok(());
        };
        let source = &rule.rule.source;
        told.route = Some(RouteTaken {
            object: source.object.as_ref().map(ToString::to_string),
            rule: source.path.to_string(),
            name: String::new(),
        });
        told.steps.push(Step::client("route", words::source(source)));
        let targets: Vec<_> = rule.targets().collect();
        let shares = route::shares(&targets.iter().map(|t| t.destination.weight).collect::<Vec<_>>());
        for (target, share) in targets.iter().zip(shares) {
            let leads = Leads { name: &target.destination.cluster, cluster: target.cluster, share };
            told.branches.push(self.branch(&leads, port, Some(self.opaque_bytes())));
        }
        Ok(())
    }
}

/// What must be known of a service.
///
/// # Errors
/// The service, where it is not known.
pub(super) fn need<'s>(
    snapshot: &'s Snapshot,
    name: &ServiceName,
) -> Result<&'s Arc<ServiceState>, ResourceName> {
    snapshot.service(name).ok_or_else(|| ResourceName::Service(name.clone()))
}
