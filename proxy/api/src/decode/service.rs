//! Services.

use std::sync::Arc;

use weft_core::model::route::HttpRoutes;
use weft_core::model::service::{Location, Service, ServicePort};

use super::cluster::cluster;
use super::common::{protocol, service_name};
use super::route::{http_rule, tcp_rule};
use super::value::{
    At, Result, at_least, at_most, fail, ip, list, message, port as port_number, text, variant,
};
use crate::feature;
use crate::limits::{MAX_CLUSTERS, MAX_PORTS, MAX_REGEXES, MAX_RULES, MAX_SLICES, MAX_VALUES};
use crate::pb::config as pb;

/// Decodes a service.
pub fn service(body: &[u8]) -> Result<Service> {
    let message: pb::Service = message(body)?;
    feature::check(&message.requires)?;
    check_regexes(&message)?;
    Ok(Service {
        name: service_name(message.name.as_ref()).at("name")?,
        short_name: text(&message.short_name).at("short_name")?,
        addresses: list("addresses", &message.addresses, MAX_VALUES, |address| ip(address))?,
        location: location(message.location).at("location")?,
        ports: list("ports", &message.ports, MAX_PORTS, port)?,
        slices: at_least(1, message.slices).and_then(|slices| at_most(MAX_SLICES, slices)).at("slices")?,
        clusters: list("clusters", &message.clusters, MAX_CLUSTERS, |it| cluster(it).map(Arc::new))?,
    })
}

fn location(location: i32) -> Result<Location> {
    Ok(match variant(location)? {
        pb::Location::Unspecified | pb::Location::Internal => Location::Internal,
        pb::Location::External => Location::External,
    })
}

fn port(port: &pb::ServicePort) -> Result<ServicePort> {
    Ok(ServicePort {
        number: port_number(port.number).at("number")?,
        name: text(&port.name).at("name")?,
        protocol: protocol(port.protocol).at("protocol")?,
        http: HttpRoutes {
            rules: list("http", &port.http, MAX_RULES, |rule| http_rule(rule).map(Arc::new))?,
        },
        tcp: list("tcp", &port.tcp, MAX_RULES, |rule| tcp_rule(rule).map(Arc::new))?,
    })
}

/// Counted before any is compiled: each may take as much memory as one expression may.
fn check_regexes(service: &pb::Service) -> Result<()> {
    let count = service.ports.iter().flat_map(|port| &port.http).map(regexes).sum::<usize>();
    if count > MAX_REGEXES {
        fail(format!("{count} regular expressions, more than {MAX_REGEXES}")).at("ports")
    } else {
        Ok(())
    }
}

fn regexes(rule: &pb::HttpRule) -> usize {
    let rewrite = match &rule.action {
        Some(pb::http_rule::Action::Forward(forward)) => forward.rewrite.as_ref(),
        _ => None,
    };
    let rewrites = rewrite.is_some_and(|it| matches!(it.path, Some(pb::rewrite::Path::Regex(_))));
    let conditions = rule.matches.iter().flat_map(|it| {
        let named = it.headers.iter().chain(&it.without_headers).chain(&it.query);
        let single = [&it.uri, &it.scheme, &it.method, &it.authority].into_iter().flatten();
        single.chain(named.filter_map(|it| it.value.as_ref()))
    });
    let is_regex = |it: &&pb::StringMatch| matches!(it.kind, Some(pb::string_match::Kind::Regex(_)));
    let origins = rule.cors.iter().flat_map(|it| &it.origins);
    usize::from(rewrites) + conditions.chain(origins).filter(is_regex).count()
}
