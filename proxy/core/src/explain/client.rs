//! The client's side: what the address means, what the connection carries, the route, and where it leads.

use std::net::SocketAddr;

use http::request::Parts;

use crate::detect::Rules;
use crate::detect::sniff::Detected;
use crate::http::headers::strip_asserted;
use crate::http::request::{authority, check};
use crate::meaning;
use crate::model::address::{Address, Meaning, ServicePortRef};
use crate::model::name::{AddressKey, ClusterName, ResourceName, ServiceName};
use crate::model::route::HttpAction;
use crate::model::workload::Workload;
use crate::reason::Reason;
use crate::route::{self, ConnectionView, Matched, RequestView};
use crate::snapshot::{PortState, ServiceState, Snapshot};
use crate::upstream::Nanos;

use super::branch::{Way, branch};
use super::told::{Branch, ClientSide, EndpointTold, OwnAnswer, Refused, RouteTaken, Sent, Step};
use super::{bytes, costs, words};

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

/// What the client's sidecar does with a request.
///
/// # Errors
/// The resource that must be known first and is not.
pub fn client(snapshot: &Snapshot, asked: &Asked) -> Result<ClientSide, ResourceName> {
    let workload = snapshot.workload().ok_or(ResourceName::Workload)?;
    let address = address(snapshot, asked)?;
    let mut told = begin(workload, Some(workload.identity.to_string()));
    told.steps.push(means(asked, &address));
    let look = Look { snapshot, asked, address: &address };
    need_port(snapshot, &address)?;
    let protocol = meaning::declared(&address, snapshot);
    match bytes::detected(Rules { protocol, tls: false, may_dial: true }, &asked.request) {
        Detected::Http1 | Detected::Http2 if asked.request.tls => {
            let mend = "the port is declared HTTP, and the application sends TLS: declare it (appProtocol: https, or a name \
                        that begins with https-), or speak http://";
            told.refused = Some(Refused::by(Reason::BadRequest, mend));
        }
        Detected::Http1 | Detected::Http2 => look.http(&mut told)?,
        Detected::Tls(hello) => look.opaque(&mut told, hello.sni.as_deref())?,
        Detected::Opaque => look.opaque(&mut told, None)?,
    }
    Ok(told)
}

/// What becomes of a request that no sidecar of the client sees, and `why`: it goes to any endpoint of the service, in
/// clear.
///
/// # Errors
/// The resource that must be known first and is not.
pub fn without_sidecar(snapshot: &Snapshot, asked: &Asked, why: &str) -> Result<ClientSide, ResourceName> {
    let workload = snapshot.workload().ok_or(ResourceName::Workload)?;
    let address = address(snapshot, asked)?;
    let mut told = begin(workload, None);
    told.steps.push(means(asked, &address));
    let says =
        format!("not: {why}; no route, no mTLS, no retry: the cluster's own balancing picks any ready pod");
    told.steps.push(Step::client("intercepted", says));
    need_port(snapshot, &address)?;
    let found = match &address.meaning {
        Meaning::Service(port) => snapshot.port(port).map(|(_, port)| port.cluster.clone()),
        _ => None,
    };
    let direct = [crate::upstream::EndpointState::of_address(asked.dialled)];
    let (name, endpoints) = match &found {
        Some(Some(cluster)) => (cluster.cluster.name.clone(), &cluster.endpoints[..]),
        _ => (snapshot.passthrough().cluster.name.clone(), &direct[..]),
    };
    if let Meaning::Service(port) = &address.meaning {
        (told.service, told.port) = (Some(port.service.to_string()), Some(port.port));
    }
    told.branches.push(in_clear(&name, endpoints, &asked.request));
    Ok(told)
}

/// A side of which nothing is known yet.
pub fn unavailable(workload: &Workload, missing: &ResourceName) -> ClientSide {
    let mut told = begin(workload, Some(workload.identity.to_string()));
    let mend =
        format!("the controller must say what {missing} is: `weft check` tells whether it can be reached");
    told.refused = Some(Refused::by(Reason::ConfigUnavailable, mend));
    told
}

fn begin(workload: &Workload, identity: Option<String>) -> ClientSide {
    let metadata = &workload.metadata;
    ClientSide {
        pod: format!("{}/{}", metadata.namespace, metadata.pod),
        identity,
        address: workload.addresses.first().copied(),
        service: None,
        port: None,
        route: None,
        answer: None,
        refused: None,
        branches: Vec::new(),
        steps: Vec::new(),
        notes: Vec::new(),
    }
}

fn address(snapshot: &Snapshot, asked: &Asked) -> Result<std::sync::Arc<Address>, ResourceName> {
    let key = AddressKey::new(asked.dialled.ip(), asked.dialled.port());
    snapshot.address(key).cloned().ok_or(ResourceName::Address(key))
}

fn need_port(snapshot: &Snapshot, address: &Address) -> Result<(), ResourceName> {
    match &address.meaning {
        Meaning::Service(port) => need(snapshot, &port.service).map(|_| ()),
        _ => Ok(()),
    }
}

fn need<'s>(
    snapshot: &'s Snapshot,
    name: &ServiceName,
) -> Result<&'s std::sync::Arc<ServiceState>, ResourceName> {
    snapshot.service(name).ok_or_else(|| ResourceName::Service(name.clone()))
}

fn means(asked: &Asked, address: &Address) -> Step {
    let dialled = asked.dialled;
    let at = if asked.host == dialled.ip().to_string() {
        dialled.to_string()
    } else {
        format!("{} is {dialled}", asked.host)
    };
    let says = match &address.meaning {
        Meaning::Service(port) => format!("{at}: port {} of Service {}", port.port, port.service),
        Meaning::Workload(pod) => {
            let (namespace, name) = (&pod.metadata.namespace, &pod.metadata.pod);
            format!("{at}: pod {namespace}/{name} itself; of its services the one that the host names")
        }
        Meaning::Shared(all) => {
            format!("{at}: an address that {} services share; the host tells them apart", all.len())
        }
        Meaning::Nothing { .. } => format!("{at}: nothing that the mesh knows"),
    };
    Step::client("address", says)
}

fn in_clear(
    name: &ClusterName,
    endpoints: &[std::sync::Arc<crate::upstream::EndpointState>],
    sent: &Sent,
) -> Branch {
    let told = |endpoint: &std::sync::Arc<crate::upstream::EndpointState>| EndpointTold {
        address: endpoint.address,
        namespace: endpoint.metadata.namespace.to_string(),
        pod: endpoint.metadata.pod.to_string(),
        takes: true,
        why: None,
        mtls: false,
        meshed: endpoint.endpoint.as_ref().is_some_and(|e| e.meshed),
        sni: None,
    };
    let none = || Refused {
        status: None,
        ..Refused::by(Reason::NoHealthyUpstream, "a ready pod must stand behind the service")
    };
    Branch {
        cluster: name.to_string(),
        service: Some(name.service.to_string()).filter(|_| name.port != 0),
        port: name.port,
        subset: None,
        share: 100.0,
        endpoints: endpoints.iter().map(told).collect(),
        refused: endpoints.is_empty().then(none),
        sent: Some(sent.clone()),
        steps: vec![Step::client("mtls", "in clear: no sidecar of the client sees it")],
    }
}

/// A request, and what its address means.
struct Look<'a> {
    snapshot: &'a Snapshot,
    asked: &'a Asked,
    address: &'a Address,
}

/// A destination before it is looked at.
struct Leads<'a> {
    name: &'a ClusterName,
    cluster: Option<&'a std::sync::Arc<crate::upstream::ClusterState>>,
    share: f64,
}

impl Look<'_> {
    fn http(&self, told: &mut ClientSide) -> Result<(), ResourceName> {
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
        match meaning::of_request(self.address, false, authority(&parts.uri, &parts.headers)) {
            Some(port) => self.by_route(told, port, &parts),
            None => {
                self.direct(told, Some(parts));
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
        told.steps.extend(passed_over(state, &request));
        let Some(matched) = route::find(&state.rules, &request) else {
            let mend = format!(
                "no rule matches: add one without `match` to the VirtualService of {}, or change the request",
                port.service.host
            );
            told.refused = Some(Refused::by(Reason::NoRoute, mend));
            return Ok(());
        };
        told.route = Some(route_of(&matched));
        told.steps.push(Step::client("route", taken(&matched)));
        self.act(told, state, &matched, parts);
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
            let all: Vec<String> =
                all.map(|(t, share)| format!("{share:.0}% to {}", short(&t.destination.cluster))).collect();
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
            let rewritten = rewritten(matched, target, &parts);
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

    fn opaque(&self, told: &mut ClientSide, sni: Option<&str>) -> Result<(), ResourceName> {
        let says = match sni {
            Some(name) => format!("TLS of the application's own, for {name}: passed on as it is"),
            None => "the bytes are passed on as they are: rules for HTTP do not count".to_owned(),
        };
        told.steps.push(Step::client("bytes", says));
        let Some(to) = meaning::of_connection(self.address, sni, false) else {
            self.direct(told, None);
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

/// The rules before the one that is taken, and what each asks that the request has not.
fn passed_over(port: &PortState, request: &RequestView<'_>) -> Vec<Step> {
    let taken = route::find(&port.rules, request).map(|matched| std::sync::Arc::as_ptr(matched.rule));
    let before = port.rules.iter().take_while(|rule| Some(std::sync::Arc::as_ptr(rule)) != taken);
    let tell = |rule: &std::sync::Arc<crate::route::RuleState>| {
        let lacks = |block: &crate::model::route::HttpMatch| {
            let failed = words::conditions(block).into_iter().filter(|(_, one)| !route::holds(one, request));
            failed.map(|(text, _)| text).collect::<Vec<_>>().join(" and ")
        };
        let lacks: Vec<String> = rule.rule.matches.iter().map(lacks).collect();
        let says =
            format!("not {}, which asks for {}", words::source(&rule.rule.source), lacks.join(", or "));
        Step::client("passed over", says)
    };
    before.map(tell).collect()
}

fn route_of(matched: &Matched<'_>) -> RouteTaken {
    let source = &matched.rule.rule.source;
    RouteTaken {
        object: source.object.as_ref().map(ToString::to_string),
        rule: source.path.to_string(),
        name: source.object.as_ref().map(|_| source.name.to_string()).unwrap_or_default(),
    }
}

fn taken(matched: &Matched<'_>) -> String {
    let source = words::source(&matched.rule.rule.source);
    match matched.by {
        Some(block) => format!("{source}, because {}", words::block(block)),
        None => source,
    }
}

/// `subset v1 of reviews.default.svc.cluster.local`.
fn short(name: &ClusterName) -> String {
    match &name.subset {
        Some(subset) => format!("subset {subset} of {}", name.service.host),
        None => format!("{} port {}", name.service.host, name.port),
    }
}

/// What the rule changes in the request.
fn rewritten(matched: &Matched<'_>, target: &route::Target<'_>, parts: &Parts) -> Vec<Step> {
    let mut steps = Vec::new();
    if target.forward.rewrite.path.is_some() {
        steps.push(Step::client("rewrite", format!("the path becomes {}", bytes::target(parts))));
    }
    if route::headers::new_authority(matched.rule, target).is_some() {
        let to = authority(&parts.uri, &parts.headers);
        steps.push(Step::client("rewrite", format!("the authority becomes {to}")));
    }
    let both = [&matched.rule.rule.request_headers, &target.destination.request_headers];
    let headers: Vec<String> = both.into_iter().filter_map(words::header_operations).collect();
    if !headers.is_empty() {
        steps.push(Step::client("headers", headers.join("; then ")));
    }
    steps
}
