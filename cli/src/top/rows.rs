//! What happened between two samples, by pair of workloads. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use tokio::time::Instant;

use super::quantile::quantile;
use crate::metrics::{Series, read};

const REQUESTS: &str = "istio_requests_total";
const DURATION: &str = "istio_request_duration_milliseconds_bucket";
const OPENED: &str = "istio_tcp_connections_opened_total";
const CLOSED: &str = "istio_tcp_connections_closed_total";
const POOLED: &str = "weft_upstream_connections";

/// What sidecars had counted at one time.
#[derive(Clone, Debug)]
pub struct Sample {
    /// When they were asked.
    pub at: Instant,
    /// What each had counted, by `namespace/pod`.
    pub counted: BTreeMap<String, Counted>,
    /// How many did not answer.
    pub silent: usize,
}

/// What one sidecar has counted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counted {
    series: BTreeMap<Key, f64>,
    /// Pooled connections by cluster.
    pooled: BTreeMap<String, f64>,
}

/// One series, as far as rows tell series apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    metric: Metric,
    /// Whether the client's sidecar tells.
    by_client: bool,
    pair: Pair,
    service: String,
    version: String,
    /// `le`, as written; empty for counters.
    bound: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Metric {
    Requests(Class),
    Duration,
    Opened,
    Closed,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Good,
    Refused,
    Failed,
}

/// Who asks whom.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Pair {
    /// `namespace/workload`; `unknown` for one without a sidecar.
    pub source: String,
    /// `namespace/workload`; where no endpoint was reached, the service's host.
    pub destination: String,
}

/// What one workload asked of another between two samples.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// `namespace/workload` of who asked.
    pub source: String,
    /// `namespace/workload` of who was asked.
    pub destination: String,
    /// The services that were meant.
    pub services: BTreeSet<String>,
    /// Requests that ended.
    pub requests: f64,
    /// Of these, 4xx.
    pub refused: f64,
    /// Of these, 5xx, gRPC errors and such whose client left.
    pub failed: f64,
    /// Milliseconds; absent where nothing ended.
    pub p50: Option<f64>,
    /// Milliseconds; absent where nothing ended.
    pub p99: Option<f64>,
    /// Open connections now; absent where that cannot be told.
    pub connections: Option<f64>,
}

/// What both sides tell of one pair.
#[derive(Default)]
struct Told {
    row: Row,
    /// By bound.
    buckets: Vec<(f64, f64)>,
}

impl Counted {
    /// Reads a scrape.
    pub fn read(text: &str) -> Self {
        let wanted = |name: &str| [REQUESTS, DURATION, OPENED, CLOSED, POOLED].contains(&name);
        let mut counted = Self::default();
        for series in read(text, wanted) {
            match series.name {
                POOLED => {
                    *counted.pooled.entry(series.label("cluster").to_owned()).or_default() += series.value
                }
                _ => *counted.series.entry(Key::of(&series)).or_default() += series.value,
            }
        }
        counted
    }
}

impl Key {
    fn of(series: &Series<'_>) -> Self {
        let metric = match series.name {
            REQUESTS => Metric::Requests(Class::of(series)),
            DURATION => Metric::Duration,
            OPENED => Metric::Opened,
            _ => Metric::Closed,
        };
        Self {
            metric,
            by_client: series.label("reporter") == "source",
            pair: Pair::of(series),
            service: series.label("destination_service").to_owned(),
            version: series.label("destination_version").to_owned(),
            bound: series.label("le").to_owned(),
        }
    }
}

impl Class {
    fn of(series: &Series<'_>) -> Self {
        let grpc = series.label("grpc_response_status");
        match series.label("response_code").parse().unwrap_or(0) {
            0 | 500.. => Self::Failed,
            _ if !matches!(grpc, "" | "0") => Self::Failed,
            400..500 => Self::Refused,
            _ => Self::Good,
        }
    }
}

impl Pair {
    fn of(series: &Series<'_>) -> Self {
        let known = |text: &str| !text.is_empty() && text != "unknown";
        let workload = |side: &str| {
            let name = series.label(&format!("{side}_workload"));
            let namespace = series.label(&format!("{side}_workload_namespace"));
            known(name)
                .then(|| if known(namespace) { format!("{namespace}/{name}") } else { name.to_owned() })
        };
        let meant = ["destination_service", "destination_service_name"].map(|label| series.label(label));
        let meant = meant.into_iter().find(|text| known(text)).unwrap_or("unknown");
        Self {
            source: workload("source").unwrap_or_else(|| "unknown".into()),
            destination: workload("destination").unwrap_or_else(|| meant.to_owned()),
        }
    }
}

/// What happened between two samples, the busiest pair first. What was counted by sidecars of one sample only is left out.
pub fn rows(before: &Sample, now: &Sample) -> Vec<Row> {
    let mut told: BTreeMap<(Pair, bool), Told> = BTreeMap::new();
    for (pod, counted) in &now.counted {
        let Some(earlier) = before.counted.get(pod) else { continue };
        for (key, value) in &counted.series {
            let grown = grown(*value, earlier.series.get(key).copied());
            told.entry((key.pair.clone(), key.by_client)).or_default().add(key, grown, *value);
        }
        pooled(counted, &mut told);
    }
    let pairs: BTreeSet<Pair> = told.keys().map(|(pair, _)| pair.clone()).collect();
    let mut rows: Vec<_> = pairs
        .into_iter()
        .filter_map(|pair| {
            // What the caller saw counts: it also knows of what never arrived.
            let side = told.remove(&(pair.clone(), true)).or_else(|| told.remove(&(pair.clone(), false)))?;
            Some(side.finished(pair))
        })
        .filter(|row| row.requests > 0.0 || row.connections.is_some_and(|open| open > 0.0))
        .collect();
    rows.sort_by(|a, b| b.requests.total_cmp(&a.requests));
    rows
}

/// A counter that is less than it was began anew.
fn grown(now: f64, before: Option<f64>) -> f64 {
    match before {
        Some(before) if before <= now => now - before,
        _ => now,
    }
}

/// Connections of a sidecar's clusters, where one leads to one workload alone.
fn pooled(counted: &Counted, told: &mut BTreeMap<(Pair, bool), Told>) {
    for (cluster, open) in counted.pooled.iter().filter(|(_, open)| **open > 0.0) {
        let mut to = counted.series.keys().filter(|key| key.by_client && leads_to(cluster, key));
        let Some(first) = to.next() else { continue };
        if to.all(|key| key.pair == first.pair) {
            let told = told.entry((first.pair.clone(), true)).or_default();
            *told.row.connections.get_or_insert(0.0) += *open;
        }
    }
}

/// Whether `outbound|PORT|SUBSET|HOST` may be where requests of a series went.
fn leads_to(cluster: &str, key: &Key) -> bool {
    let mut parts = cluster.splitn(4, '|').skip(2);
    let (subset, host) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    host == key.service && !host.is_empty() && (subset.is_empty() || subset == key.version)
}

impl Told {
    fn add(&mut self, key: &Key, grown: f64, now: f64) {
        let row = &mut self.row;
        row.services.insert(key.service.clone());
        match key.metric {
            Metric::Requests(class) => {
                row.requests += grown;
                row.refused += if class == Class::Refused { grown } else { 0.0 };
                row.failed += if class == Class::Failed { grown } else { 0.0 };
            }
            Metric::Duration => self.bucket(&key.bound, grown),
            Metric::Opened => *row.connections.get_or_insert(0.0) += now,
            Metric::Closed => *row.connections.get_or_insert(0.0) -= now,
        }
    }

    fn bucket(&mut self, bound: &str, grown: f64) {
        let Ok(bound) = bound.parse::<f64>() else { return };
        match self.buckets.iter_mut().find(|(known, _)| *known == bound) {
            Some((_, count)) => *count += grown,
            None => self.buckets.push((bound, grown)),
        }
    }

    fn finished(mut self, pair: Pair) -> Row {
        self.buckets.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        self.row.services.retain(|service| !service.is_empty() && service != "unknown");
        Row {
            p50: quantile(0.5, &self.buckets),
            p99: quantile(0.99, &self.buckets),
            source: pair.source,
            destination: pair.destination,
            ..self.row
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDS: &str = "source_workload=\"client\",source_workload_namespace=\"shop\",destination_workload=\"web\",\
        destination_workload_namespace=\"shop\",destination_service=\"web.shop\"";

    fn sample(pods: &[(&str, String)]) -> Sample {
        let counted = pods.iter().map(|(pod, text)| ((*pod).to_owned(), Counted::read(text))).collect();
        Sample { at: Instant::now(), counted, silent: 0 }
    }

    fn scrape(reporter: &str, good: u32, bad: u32) -> String {
        let all = good + bad;
        format!(
            "istio_requests_total{{reporter=\"{reporter}\",{ENDS},response_code=\"200\"}} {good}\n\
             istio_requests_total{{reporter=\"{reporter}\",{ENDS},response_code=\"503\"}} {bad}\n\
             istio_request_duration_milliseconds_bucket{{reporter=\"{reporter}\",{ENDS},le=\"1\"}} 0\n\
             istio_request_duration_milliseconds_bucket{{reporter=\"{reporter}\",{ENDS},le=\"5\"}} {all}\n\
             istio_request_duration_milliseconds_bucket{{reporter=\"{reporter}\",{ENDS},le=\"+Inf\"}} {all}\n"
        )
    }

    #[test]
    fn what_both_sides_tell_is_counted_once_as_the_caller_saw_it() {
        let before = sample(&[("c", scrape("source", 10, 0)), ("w", scrape("destination", 10, 0))]);
        let now = sample(&[("c", scrape("source", 100, 10)), ("w", scrape("destination", 95, 0))]);
        let rows = rows(&before, &now);
        assert_eq!(rows.len(), 1, "{rows:?}");
        assert_eq!((rows[0].requests, rows[0].failed), (100.0, 10.0));
        assert_eq!((&*rows[0].source, &*rows[0].destination), ("shop/client", "shop/web"));
        assert_eq!((rows[0].p50, rows[0].connections), (Some(3.0), None));
        let seen = super::rows(
            &sample(&[("w", scrape("destination", 1, 0))]),
            &sample(&[("w", scrape("destination", 4, 0))]),
        );
        assert_eq!(seen[0].requests, 3.0, "a caller without a sidecar");
    }

    #[test]
    fn counters_that_began_anew_and_sidecars_that_came_are_told_apart() {
        let before = sample(&[("c", scrape("source", 100, 0))]);
        let now = sample(&[("c", scrape("source", 7, 0)), ("d", scrape("source", 1000, 0))]);
        assert_eq!(rows(&before, &now)[0].requests, 7.0);
    }

    #[test]
    fn connections_are_told_where_they_lead_to_one_workload() {
        let tcp = format!(
            "istio_tcp_connections_opened_total{{reporter=\"source\",{ENDS}}} 5\n\
             istio_tcp_connections_closed_total{{reporter=\"source\",{ENDS}}} 2\n\
             weft_upstream_connections{{cluster=\"outbound|80||web.shop\"}} 4\n\
             weft_upstream_connections{{cluster=\"outbound|80||other.shop\"}} 9\n"
        );
        let both = sample(&[("c", tcp)]);
        assert_eq!(rows(&both, &both)[0].connections, Some(7.0));
        let labels = vec![("destination_service", "web.shop".into()), ("destination_version", "v1".into())];
        let key = Key::of(&Series { name: REQUESTS, labels, value: 0.0 });
        assert!(leads_to("outbound|80|v1|web.shop", &key) && leads_to("outbound|80||web.shop", &key));
        assert!(!leads_to("outbound|80|v2|web.shop", &key) && !leads_to("passthrough", &key));
    }

    #[test]
    fn requests_are_classed_by_status_and_grpc() {
        let class = |labels: Vec<(&'static str, &'static str)>| {
            let labels = labels.into_iter().map(|(name, value)| (name, value.into())).collect();
            Class::of(&Series { name: REQUESTS, labels, value: 1.0 })
        };
        assert_eq!(class(vec![("response_code", "200"), ("grpc_response_status", "0")]), Class::Good);
        assert_eq!(class(vec![("response_code", "200"), ("grpc_response_status", "14")]), Class::Failed);
        assert_eq!(class(vec![("response_code", "0")]), Class::Failed);
        assert_eq!(class(vec![("response_code", "404")]), Class::Refused);
    }
}
