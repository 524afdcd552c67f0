//! VirtualServices.

use std::sync::Arc;

use weft_core::model::extras::Extras;
use weft_core::model::route::{RuleSource, TcpMatch};
use weft_crds::shared::Destination as WrittenDestination;
use weft_crds::virtual_service::l4::{L4Match, RouteDestination, TcpRoute};
use weft_crds::virtual_service::matching::HttpMatch as WrittenMatch;
use weft_crds::virtual_service::{HttpRoute, HttpRouteDestination, VirtualService as Written};

use super::findings::Findings;
use super::{common, http_action, http_extras, http_match};
use crate::fragment::meta::{Meta, Selector};
use crate::fragment::sidecar::host_matches;
use crate::fragment::virtual_service::{
    ClientScope, Destination, Forward, HttpAction, HttpBlock, HttpRule, Target, TcpRule, VirtualService,
    takes_every_path,
};

/// What a VirtualService means.
pub fn virtual_service(findings: &mut Findings, meta: Meta, spec: &Written) -> VirtualService {
    let namespace = meta.name.namespace.clone();
    let mesh = speaks_to_sidecars(findings, &spec.gateways);
    let hosts = hosts(findings, &meta, spec);
    if spec.http.is_empty() && spec.tcp.is_empty() && spec.tls.is_empty() {
        findings.error("spec", "has no rule; write at least one of http, tcp, tls");
    }
    common::bounded(findings, "spec.http", &spec.http);
    common::bounded(findings, "spec.tcp", &spec.tcp);
    let mut read = Reader { findings, meta: &meta, catch_all: None };
    let http = spec.http.iter().enumerate().filter_map(|(i, rule)| read.http_rule(i, rule)).collect();
    let tcp = spec.tcp.iter().enumerate().filter_map(|(i, rule)| read.tcp_rule(i, rule)).collect();
    let visibility = common::visibility(findings, "spec.exportTo", &spec.export_to, &namespace);
    VirtualService { meta, hosts, visibility, mesh, http, tcp }
}

/// Whether `gateways` names `mesh`; other gateways say nothing to sidecars.
fn speaks_to_sidecars(findings: &mut Findings, gateways: &[String]) -> bool {
    let mesh = gateways.is_empty() || gateways.iter().any(|gateway| gateway == "mesh");
    if !mesh {
        findings.warn("spec.gateways", "names no `mesh`: sidecars do not see this object");
    }
    mesh
}

fn hosts(findings: &mut Findings, meta: &Meta, spec: &Written) -> Vec<Arc<str>> {
    let namespace = &meta.name.namespace;
    common::bounded(findings, "spec.hosts", &spec.hosts);
    if spec.hosts.is_empty() {
        findings.warn(
            "spec.hosts",
            format!("missing; taken as the service `{}` of this namespace", meta.name.name),
        );
        return common::host(findings, "metadata.name", &meta.name.name, namespace).into_iter().collect();
    }
    let mut all: Vec<Arc<str>> = Vec::new();
    for (i, text) in spec.hosts.iter().enumerate() {
        let path = format!("spec.hosts[{i}]");
        let Some(host) = common::host(findings, &path, text, namespace) else { continue };
        if &*host == "*" && speaks_to_sidecars(&mut Findings::default(), &spec.gateways) {
            findings
                .error(&path, "`*` would take every service of the mesh; name hosts, or `*.` and a domain");
        } else if all.contains(&host) {
            findings.error(&path, format!("`{text}` is written twice"));
        } else if let Some(other) = all.iter().find(|other| overlap(other, &host)) {
            findings.error(
                &path,
                format!("`{text}` and `{other}` overlap; write the narrower one in another object"),
            );
        } else {
            all.push(host);
        }
    }
    all
}

/// Whether one of two different hosts is a wildcard that means the other.
fn overlap(a: &str, b: &str) -> bool {
    (a.starts_with('*') && host_matches(a, b)) || (b.starts_with('*') && host_matches(b, a))
}

/// Reads rules, and notes those that an earlier one hides.
struct Reader<'a> {
    findings: &'a mut Findings,
    meta: &'a Meta,
    /// The first rule that takes every request.
    catch_all: Option<usize>,
}

impl Reader<'_> {
    fn http_rule(&mut self, i: usize, rule: &HttpRoute) -> Option<HttpRule> {
        let path = format!("spec.http[{i}]");
        if let Some(first) = self.catch_all {
            self.findings
                .warn(&path, format!("is never reached: spec.http[{first}] takes every request before it"));
        }
        let matches = self.blocks(&path, &rule.matches);
        let elsewhere = matches.is_empty() && !rule.matches.is_empty();
        let any_client = |block: &HttpBlock| block.client == ClientScope::default();
        let everything = |block: &HttpBlock| any_client(block) && takes_every_path(&block.request);
        if !elsewhere && (matches.is_empty() || matches.iter().any(everything)) {
            self.catch_all = self.catch_all.or(Some(i));
        }
        let headers = rule.headers.as_ref();
        let request = headers.and_then(|h| h.request.as_ref());
        let response = headers.and_then(|h| h.response.as_ref());
        let made = HttpRule {
            source: self.source(&format!("http[{i}]"), &rule.name),
            matches,
            request_headers: common::request_ops(self.findings, &format!("{path}.headers"), request),
            response_headers: common::response_ops(self.findings, &format!("{path}.headers"), response),
            extras: self.extras(&path, rule),
            // Last: one look finds all that is wrong.
            action: self.action(&path, rule)?,
        };
        // Every block speaks of gateways: no sidecar has the rule.
        (!elsewhere).then_some(made)
    }

    fn extras(&mut self, path: &str, rule: &HttpRoute) -> Option<Box<Extras>> {
        let fault = rule.fault.as_ref();
        let fault = fault.and_then(|it| http_extras::fault(self.findings, &format!("{path}.fault"), it));
        let cors = rule.cors_policy.as_ref();
        let cors = cors.map(|it| http_extras::cors(self.findings, &format!("{path}.corsPolicy"), it));
        // As Envoy has it, a rule that answers by itself tells browsers nothing.
        let answers = rule.redirect.is_some() || rule.direct_response.is_some();
        Extras { fault, cors: cors.filter(|_| !answers) }.boxed()
    }

    fn source(&self, path: &str, name: &str) -> RuleSource {
        RuleSource { object: Some(self.meta.name.clone()), path: path.into(), name: name.into() }
    }

    fn blocks(&mut self, path: &str, written: &[WrittenMatch]) -> Vec<HttpBlock> {
        common::part(self.findings, &format!("{path}.match"), written.len());
        let mut all = Vec::new();
        for (i, block) in written.iter().enumerate() {
            let path = format!("{path}.match[{i}]");
            // With gateways, Istio does not look at the labels and namespace of the source.
            let (mesh, alone) = match block.gateways.as_slice() {
                [] => (true, false),
                gateways => (gateways.iter().any(|gateway| gateway == "mesh"), true),
            };
            let client = self.client(&path, block, alone);
            let request = http_match::http_match(self.findings, &path, block);
            if mesh {
                all.push(HttpBlock { client, request });
            }
        }
        all
    }

    fn client(&mut self, path: &str, block: &WrittenMatch, without_source: bool) -> ClientScope {
        let port = common::port(self.findings, &format!("{path}.port"), block.port);
        let labels = common::selector(self.findings, &format!("{path}.sourceLabels"), &block.source_labels);
        let namespace = Some(&block.source_namespace).filter(|n| !n.is_empty()).map(|n| n.as_str().into());
        match without_source {
            true => ClientScope { port, ..ClientScope::default() },
            false => ClientScope { port, labels, namespace },
        }
    }

    fn action(&mut self, path: &str, rule: &HttpRoute) -> Option<HttpAction> {
        let what = (!rule.route.is_empty(), &rule.redirect, &rule.direct_response);
        match what {
            (true, None, None) => self.forward(path, rule).map(HttpAction::Forward),
            (false, Some(redirect), None) => {
                self.alone(path, rule, "redirect");
                http_action::prefix_rewrite(self.findings, path, redirect, &rule.matches);
                http_action::redirect(self.findings, &format!("{path}.redirect"), redirect)
                    .map(HttpAction::Redirect)
            }
            (false, None, Some(response)) => {
                self.alone(path, rule, "directResponse");
                let path = format!("{path}.directResponse");
                http_action::direct_response(self.findings, &path, response).map(HttpAction::Respond)
            }
            (false, None, None) if rule.delegate.is_some() => None,
            (false, None, None) => {
                self.findings.error(path, "does nothing; write one of route, redirect, directResponse");
                None
            }
            _ => {
                self.findings
                    .error(path, "does several things; write one of route, redirect, directResponse");
                None
            }
        }
    }

    /// A rule that answers by itself neither forwards nor rewrites.
    fn alone(&mut self, path: &str, rule: &HttpRoute, what: &str) {
        if rule.rewrite.is_some() {
            self.findings.error(format!("{path}.rewrite"), format!("has no meaning beside {what}"));
        }
        if rule.fault.is_some() {
            self.findings.error(format!("{path}.fault"), format!("has no meaning beside {what}"));
        }
        let without_effect = [
            ("timeout", rule.timeout.is_some()),
            ("retries", rule.retries.is_some()),
            ("corsPolicy", rule.cors_policy.is_some()),
        ];
        for (name, written) in without_effect {
            if written {
                self.findings.warn(format!("{path}.{name}"), format!("has no effect beside {what}"));
            }
        }
    }

    fn forward(&mut self, path: &str, rule: &HttpRoute) -> Option<Forward> {
        common::part(self.findings, &format!("{path}.route"), rule.route.len());
        let weights: Vec<_> = rule.route.iter().map(|d| d.weight).collect();
        let weights = self.weights(&format!("{path}.route"), &weights);
        // One look finds all that is wrong: the rest is read, too, where weights are.
        let shares = weights.clone().unwrap_or_else(|| vec![0; rule.route.len()]);
        let destinations = rule.route.iter().zip(shares).enumerate();
        let destinations = destinations
            .filter_map(|(i, (d, weight))| self.destination(&format!("{path}.route[{i}]"), i, d, weight));
        let destinations: Vec<_> = destinations.collect();
        self.authorities(path, rule, &destinations);
        let forward = Forward {
            destinations: destinations.into_iter().filter(|d| d.weight > 0).collect(),
            rewrite: http_action::rewrite(self.findings, &format!("{path}.rewrite"), rule.rewrite.as_ref()),
            timeout: http_action::timeout(self.findings, &format!("{path}.timeout"), rule.timeout.as_ref()),
            retries: http_action::retries(self.findings, path, rule),
        };
        weights.map(|_| forward)
    }

    /// `rewrite.authority` and a header operation on Host would say two things.
    fn authorities(&mut self, path: &str, rule: &HttpRoute, destinations: &[Destination]) {
        let rewritten = rule.rewrite.as_ref().is_some_and(|rewrite| !rewrite.authority.is_empty());
        let of_rule = rule.headers.iter().filter_map(|headers| headers.request.as_ref());
        let named = |name: &String| name.eq_ignore_ascii_case("host") || name == ":authority";
        let host = of_rule.flat_map(|changes| changes.set.keys().chain(changes.add.keys())).any(named);
        let inside = |d: &Destination| {
            d.request_headers
                .set
                .iter()
                .chain(&d.request_headers.add)
                .any(|(name, _)| name == http::header::HOST)
        };
        if rewritten && (host || destinations.iter().any(inside)) {
            let reason = "says two things of the host: header operations name it too; write one of them";
            self.findings.error(format!("{path}.rewrite.authority"), reason);
        }
    }

    fn destination(
        &mut self,
        path: &str,
        index: usize,
        written: &HttpRouteDestination,
        weight: u32,
    ) -> Option<Destination> {
        let headers = written.headers.as_ref();
        let request = headers.and_then(|h| h.request.as_ref());
        let response = headers.and_then(|h| h.response.as_ref());
        let request_headers = common::request_ops(self.findings, &format!("{path}.headers"), request);
        let response_headers = common::response_ops(self.findings, &format!("{path}.headers"), response);
        let target = self.target(path, index, written.destination.as_ref())?;
        Some(Destination { target, weight, request_headers, response_headers })
    }

    fn target(&mut self, path: &str, index: usize, written: Option<&WrittenDestination>) -> Option<Target> {
        let path = format!("{path}.destination");
        let Some(written) = written else {
            self.findings.error(path, "missing; write the service that takes the traffic");
            return None;
        };
        let port = written.port.as_ref().and_then(|port| port.number);
        let port = common::port(self.findings, &format!("{path}.port.number"), port);
        let host =
            common::host(self.findings, &format!("{path}.host"), &written.host, &self.meta.name.namespace)?;
        if host.starts_with('*') {
            self.findings.error(format!("{path}.host"), "a destination is one service, `*` is many");
            return None;
        }
        let subset = Some(&written.subset).filter(|s| !s.is_empty()).map(|s| s.as_str().into());
        Some(Target { host, subset, port, index })
    }

    /// Weights that make sense together; a single destination takes everything.
    fn weights(&mut self, path: &str, written: &[Option<weft_crds::scalar::Int>]) -> Option<Vec<u32>> {
        let mut all = Vec::with_capacity(written.len());
        for (i, weight) in written.iter().enumerate() {
            let at = format!("{path}[{i}].weight");
            all.push(match weight {
                Some(weight) => self.findings.take(&at, weight.u32()),
                None => Some(0),
            });
        }
        let all = all.into_iter().collect::<Option<Vec<u32>>>()?;
        if all.len() == 1 {
            return Some(vec![1]);
        }
        let sum: u64 = all.iter().map(|w| u64::from(*w)).sum();
        if sum == 0 {
            self.findings.error(path, "all weights are zero: no destination would take anything");
            return None;
        }
        if u32::try_from(sum).is_err() {
            self.findings.error(path, format!("the weights add up to {sum}; the most is {}", u32::MAX));
            return None;
        }
        Some(all)
    }

    fn tcp_rule(&mut self, i: usize, rule: &TcpRoute) -> Option<TcpRule> {
        let path = format!("spec.tcp[{i}]");
        if rule.route.is_empty() {
            self.findings.error(&path, "does nothing; write route");
        }
        common::part(self.findings, &format!("{path}.match"), rule.matches.len());
        common::part(self.findings, &format!("{path}.route"), rule.route.len());
        let blocks = rule.matches.iter().enumerate();
        let blocks = blocks.map(|(m, block)| (block, self.tcp_block(&format!("{path}.match[{m}]"), block)));
        let blocks: Vec<_> = blocks.collect();
        let mesh = |block: &L4Match| block.gateways.is_empty() || block.gateways.iter().any(|g| g == "mesh");
        let matches: Vec<_> =
            blocks.into_iter().filter(|(written, _)| mesh(written)).map(|(_, made)| made).collect();
        let elsewhere = matches.is_empty() && !rule.matches.is_empty();
        let destinations = self.tcp_destinations(&format!("{path}.route"), &rule.route);
        let made = TcpRule { source: self.source(&format!("tcp[{i}]"), ""), matches, destinations };
        (!elsewhere).then_some(made)
    }

    fn tcp_destinations(&mut self, path: &str, written: &[RouteDestination]) -> Vec<(Target, u32)> {
        let weights: Vec<_> = written.iter().map(|d| d.weight).collect();
        let Some(weights) = self.weights(path, &weights) else { return Vec::new() };
        let all = written.iter().zip(weights).enumerate();
        let read = all.filter_map(|(i, (d, weight))| {
            Some((self.target(&format!("{path}[{i}]"), i, d.destination.as_ref())?, weight))
        });
        read.collect::<Vec<_>>().into_iter().filter(|(_, weight)| *weight > 0).collect()
    }

    fn tcp_block(&mut self, path: &str, block: &L4Match) -> (ClientScope, TcpMatch) {
        let client = ClientScope {
            port: common::port(self.findings, &format!("{path}.port"), block.port),
            labels: Selector(common::labels(&block.source_labels).to_vec()),
            namespace: Some(&block.source_namespace).filter(|n| !n.is_empty()).map(|n| n.as_str().into()),
        };
        common::part(self.findings, &format!("{path}.destinationSubnets"), block.destination_subnets.len());
        let subnets = block.destination_subnets.iter().enumerate();
        let subnets = subnets.filter_map(|(i, text)| {
            common::network(self.findings, &format!("{path}.destinationSubnets[{i}]"), text)
        });
        (client, TcpMatch { destination_subnets: subnets.collect(), sni_hosts: Vec::new() })
    }
}
