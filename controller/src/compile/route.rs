//! Route rules from VirtualServices, for one client and one port of a service.

use std::sync::Arc;

use weft_core::model::name::{ClusterName, ServiceName};
use weft_core::model::route::{self, HttpRoutes, HttpRule, TcpDestination, TcpRule};

use super::{Context, scope};
use crate::fragment::kubernetes::Service;
use crate::fragment::virtual_service::{self as fragment, ClientScope, HttpBlock, Target, VirtualService};

/// The VirtualServices that count for a client and a service, the oldest first.
pub fn applicable<'a>(
    context: Context<'a>,
    name: &ServiceName,
    service: &Service,
) -> Vec<&'a Arc<VirtualService>> {
    let counts = |o: &&Arc<VirtualService>| {
        o.mesh
            && o.visibility.includes(&context.client.meta.name.namespace)
            && scope::shapes(context, &o.meta, Some(service))
    };
    let mut groups = context.world.index.virtual_services.groups(&name.host);
    let found = groups.find_map(|group| {
        let of_group: Vec<_> = group.iter().filter(counts).collect();
        (!of_group.is_empty()).then_some(of_group)
    });
    found.unwrap_or_default()
}

/// The rules for HTTP requests to a port. Of several VirtualServices: conditional rules in the order of age, then
/// one rule for all the rest, the oldest's.
pub fn http(context: Context<'_>, objects: &[&Arc<VirtualService>], port: u16) -> HttpRoutes {
    let of_object = |object: &&Arc<VirtualService>| -> Vec<HttpRule> {
        let namespace = &object.meta.name.namespace;
        object.http.iter().filter_map(|rule| http_rule(context, rule, namespace, port)).collect()
    };
    let all: Vec<Vec<HttpRule>> = objects.iter().map(of_object).filter(|rules| !rules.is_empty()).collect();
    let rules = match all.len() {
        0 | 1 => all.into_iter().flatten().collect(),
        _ => merged(all),
    };
    HttpRoutes { rules: rules.into_iter().map(Arc::new).collect() }
}

/// The rules for opaque connections to a port.
pub fn tcp(context: Context<'_>, objects: &[&Arc<VirtualService>], port: u16) -> Vec<Arc<TcpRule>> {
    let all = objects.iter().flat_map(|object| object.tcp.iter().map(move |rule| (object, rule)));
    all.filter_map(|(object, rule)| tcp_rule(context, rule, &object.meta.name.namespace, port).map(Arc::new))
        .collect()
}

fn merged(all: Vec<Vec<HttpRule>>) -> Vec<HttpRule> {
    let (catch_all, mut rules): (Vec<_>, Vec<_>) = all.into_iter().flatten().partition(is_catch_all);
    rules.extend(catch_all.into_iter().next());
    rules
}

/// Whether a rule matches every request.
fn is_catch_all(rule: &HttpRule) -> bool {
    rule.matches.is_empty() || rule.matches.iter().any(fragment::takes_every_path)
}

fn http_rule(
    context: Context<'_>,
    rule: &fragment::HttpRule,
    namespace: &Arc<str>,
    port: u16,
) -> Option<HttpRule> {
    let for_us: Vec<&HttpBlock> =
        rule.matches.iter().filter(|b| concerns(context, &b.client, port)).collect();
    if for_us.is_empty() && !rule.matches.is_empty() {
        return None;
    }
    let everything = for_us.iter().any(|block| matches_everything(&block.request));
    let matches = if everything { Vec::new() } else { for_us.iter().map(|b| b.request.clone()).collect() };
    let action = match &rule.action {
        fragment::HttpAction::Forward(forward) => {
            route::HttpAction::Forward(Box::new(forwarded(context, forward, namespace, port)))
        }
        fragment::HttpAction::Redirect(redirect) => route::HttpAction::Redirect(Box::new(redirect.clone())),
        fragment::HttpAction::Respond(response) => route::HttpAction::Respond(response.clone()),
    };
    Some(HttpRule {
        source: rule.source.clone(),
        matches,
        action,
        request_headers: rule.request_headers.clone(),
        response_headers: rule.response_headers.clone(),
        extras: rule.extras.clone(),
    })
}

/// Whether a block says nothing. One with `prefix: /` is kept as it is, for the path it matched shapes a rewrite.
fn matches_everything(request: &route::HttpMatch) -> bool {
    *request == route::HttpMatch::default()
}

fn forwarded(
    context: Context<'_>,
    forward: &fragment::Forward,
    namespace: &Arc<str>,
    port: u16,
) -> route::Forward {
    let destination = |d: &fragment::Destination| route::Destination {
        cluster: cluster_name(context, &d.target, namespace, port),
        weight: d.weight,
        request_headers: d.request_headers.clone(),
        response_headers: d.response_headers.clone(),
    };
    route::Forward {
        destinations: forward.destinations.iter().map(destination).collect(),
        rewrite: forward.rewrite.clone(),
        timeout: forward.timeout,
        retries: forward.retries.clone(),
    }
}

fn tcp_rule(
    context: Context<'_>,
    rule: &fragment::TcpRule,
    namespace: &Arc<str>,
    port: u16,
) -> Option<TcpRule> {
    let for_us = rule.matches.iter().filter(|(client, _)| concerns(context, client, port));
    let matches: Vec<_> = for_us.map(|(_, connection)| connection.clone()).collect();
    if matches.is_empty() && !rule.matches.is_empty() {
        return None;
    }
    let destination = |(target, weight): &(Target, u32)| TcpDestination {
        cluster: cluster_name(context, target, namespace, port),
        weight: *weight,
    };
    let destinations = rule.destinations.iter().map(destination).collect();
    Some(TcpRule { source: rule.source.clone(), matches, destinations })
}

fn concerns(context: Context<'_>, client: &ClientScope, port: u16) -> bool {
    let pod = &context.client.meta;
    client.port.is_none_or(|wanted| wanted == port)
        && client.namespace.as_ref().is_none_or(|wanted| *wanted == pod.name.namespace)
        && client.labels.selects(&pod.labels)
}

/// The cluster of a destination: the port that is written, else the service's only one, else the port addressed.
fn cluster_name(context: Context<'_>, target: &Target, namespace: &Arc<str>, addressed: u16) -> ClusterName {
    let seen = scope::seen_service(context, &target.host);
    let only = seen.filter(|service| service.ports.len() == 1).map(|service| service.ports[0].number);
    ClusterName {
        service: scope::name_of_host(context.world, &target.host, namespace),
        port: target.port.or(only).unwrap_or(addressed),
        subset: target.subset.clone(),
    }
}
