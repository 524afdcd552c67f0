//! What a pod's sidecar tells of its traffic: the mesh's settings, then the Telemetries that hold for the pod, the
//! widest first, then the pod's own annotation.

use std::collections::BTreeMap;
use std::sync::Arc;

use weft_core::access_log::filter::Filter;
use weft_core::model::address::ServicePortRef;
use weft_core::model::telemetry::{
    AccessLog, Collector, DEFAULT_SAMPLING, LabelOverride, Metric, Metrics, Sides, Telemetry, Tracing,
};

use super::{Context, scope};
use crate::fragment::mesh::{CLUSTER_DOMAIN, Mesh};
use crate::fragment::telemetry::{self as fragment, AccessLogging, Mode, TelemetrySettings};

/// Picks one side's part of something.
type Side = fn(&Mode) -> bool;

/// What the sidecar of the client tells.
pub fn telemetry(context: Context<'_>) -> Arc<Telemetry> {
    let levels: Vec<_> = applicable(context).map(Arc::as_ref).collect();
    let both = |side: Side| {
        (tracing(context, &levels, side), logs(context, &levels, side), metrics(context, &levels, side))
    };
    let (client, server) = (both(|mode| mode.client), both(|mode| mode.server));
    Arc::new(Telemetry {
        tracing: Sides { client: client.0, server: server.0 },
        access_log: Sides { client: client.1, server: server.1 },
        metrics: Sides { client: client.2, server: server.2 },
    })
}

/// The Telemetries that hold for a pod, the widest first: the mesh's, its namespace's, the one that selects it. Of
/// several of one width the oldest.
pub fn applicable<'a>(context: Context<'a>) -> impl Iterator<Item = &'a Arc<fragment::Telemetry>> {
    let oldest = |namespace: &str, wanted: &dyn Fn(&fragment::Telemetry) -> bool| {
        let all = context.world.telemetries.of_namespace(namespace);
        all.filter(|t| !t.elsewhere && wanted(t)).min_by(|a, b| a.meta.age.cmp(&b.meta.age))
    };
    let namespace = &*context.client.meta.name.namespace;
    let whole = |t: &fragment::Telemetry| t.selector.is_none();
    let selects =
        |t: &fragment::Telemetry| t.selector.as_ref().is_some_and(|s| s.selects(&context.client.meta.labels));
    let of_mesh = scope::roots().find_map(|root| oldest(root, &whole));
    let of_namespace = (!Mesh::is_root(namespace)).then(|| oldest(namespace, &whole)).flatten();
    [of_mesh, of_namespace, oldest(namespace, &selects)].into_iter().flatten()
}

fn settings(context: Context<'_>) -> &TelemetrySettings {
    &context.world.mesh.telemetry
}

// === tracing ===

fn tracing(context: Context<'_>, levels: &[&fragment::Telemetry], side: Side) -> Tracing {
    let settings = settings(context);
    let sampling = context.client.sampling;
    let mut tracing = Tracing {
        sampling: sampling.config.or(settings.sampling).unwrap_or(DEFAULT_SAMPLING),
        report: settings.enable_tracing.unwrap_or(true),
        ..Tracing::default()
    };
    let mut provider = settings.default_tracing.as_ref();
    for entry in levels.iter().flat_map(|level| &level.tracing).filter(|entry| side(&entry.mode)) {
        provider = entry.provider.as_ref().or(provider);
        tracing.sampling = entry.sampling.unwrap_or(tracing.sampling);
        tracing.report = entry.silent.map_or(tracing.report, |silent| !silent);
        tracing.propagate = entry.isolated.map_or(tracing.propagate, |isolated| !isolated);
        tracing.istio_tags = entry.istio_tags.unwrap_or(tracing.istio_tags);
        if let Some(tags) = &entry.tags {
            tracing.tags.clone_from(tags);
        }
    }
    tracing.sampling = sampling.own.unwrap_or(tracing.sampling);
    let collector = provider.and_then(|name| settings.collector(name));
    tracing.collector = collector.map(|collector| found(context, collector));
    tracing
}

/// The collector, with the service that its host is.
fn found(context: Context<'_>, collector: &Arc<Collector>) -> Arc<Collector> {
    let domains = ["", CLUSTER_DOMAIN, &format!("svc.{CLUSTER_DOMAIN}")];
    let mut hosts = domains.into_iter().map(|domain| match domain {
        "" => collector.host.to_string(),
        domain => format!("{}.{domain}", collector.host),
    });
    let Some(service) = hosts.find_map(|host| context.world.service_of_host(&host)) else {
        return collector.clone();
    };
    let service = ServicePortRef { service: service.service_name(), port: collector.port };
    Arc::new(Collector {
        host: service.service.host.clone(),
        service: Some(service),
        ..(**collector).clone()
    })
}

// === access logs ===

/// A log that is wanted so far.
struct Wanted {
    provider: Arc<str>,
    disabled: bool,
    filter: Option<Filter>,
}

impl Wanted {
    fn plain(provider: &Arc<str>) -> Self {
        Self { provider: provider.clone(), disabled: false, filter: None }
    }
}

/// Names of a level take the place of those that are inherited; an entry without names is about all of them.
fn logs(context: Context<'_>, levels: &[&fragment::Telemetry], side: Side) -> Vec<AccessLog> {
    let settings = settings(context);
    let mut wanted: Vec<_> = settings.default_logs.iter().map(Wanted::plain).collect();
    for level in levels {
        let entries: Vec<_> = level.access_logging.iter().filter(|entry| side(&entry.mode)).collect();
        apply_logs(&mut wanted, &entries);
    }
    let log = |wanted: Wanted| {
        let log = settings.log(&wanted.provider)?;
        Some(AccessLog { filter: wanted.filter, ..log.clone() })
    };
    wanted.into_iter().filter(|wanted| !wanted.disabled).filter_map(log).collect()
}

fn apply_logs(wanted: &mut Vec<Wanted>, entries: &[&AccessLogging]) {
    let mut names: Vec<&Arc<str>> = Vec::new();
    for name in entries.iter().flat_map(|entry| &entry.providers) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    if !names.is_empty() {
        *wanted = names.into_iter().map(Wanted::plain).collect();
    }
    for entry in entries {
        // Who asks for a log and names no provider means the one that there always is.
        if wanted.is_empty() {
            wanted.push(Wanted::plain(&"envoy".into()));
        }
        let meant = |it: &&mut Wanted| entry.providers.is_empty() || entry.providers.contains(&it.provider);
        for log in wanted.iter_mut().filter(meant) {
            (log.disabled, log.filter) = (entry.disabled, entry.filter.clone());
        }
    }
}

// === metrics ===

fn metrics(context: Context<'_>, levels: &[&fragment::Telemetry], side: Side) -> Metrics {
    let settings = settings(context);
    let ours = |entry: &&fragment::Metrics| {
        entry.providers.is_empty() || entry.providers.iter().any(|name| settings.is_prometheus(name))
    };
    let entries = levels.iter().flat_map(|level| &level.metrics).filter(ours);
    let mut disabled: BTreeMap<Metric, bool> = BTreeMap::new();
    let mut labels: BTreeMap<(Metric, Arc<str>), Option<Arc<str>>> = BTreeMap::new();
    for change in entries.flat_map(|entry| &entry.overrides).filter(|change| side(&change.mode)) {
        let metrics = change.metric.as_ref().map_or(Metric::ALL, std::slice::from_ref);
        for metric in metrics {
            disabled.extend(change.disabled.map(|off| (*metric, off)));
            let changed = change.labels.iter().map(|(name, value)| ((*metric, name.clone()), value.clone()));
            labels.extend(changed);
        }
    }
    let label = |((metric, label), value)| LabelOverride { metric, label, value };
    Metrics {
        disabled: disabled.into_iter().filter(|(_, off)| *off).map(|(metric, _)| metric).collect(),
        labels: labels.into_iter().map(label).collect(),
    }
}

#[cfg(test)]
mod tests;
