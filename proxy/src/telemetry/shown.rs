//! Series as a Telemetry wants them shown: metrics that are off, labels that are left out or have another text. What
//! is counted stays as it is; series that are shown alike are added up.

use std::collections::BTreeMap;
use std::sync::Arc;

use weft_core::model::telemetry::{LabelOverride, Metric, Metrics, Sides};

use super::labels::label;

/// Series: their labels, and what is added up under them.
pub(super) type Series<S> = Vec<(Arc<str>, Vec<Arc<S>>)>;

/// The series of a metric, as they are shown.
pub(super) fn shown<S>(told: &Sides<Metrics>, metric: Metric, series: &Series<S>) -> Series<S> {
    let side = |labels: &str| if is_client(labels) { &told.client } else { &told.server };
    let wanted = series.iter().filter(|(labels, _)| side(labels).shows(metric));
    let lacking = lacking(metric);
    let plain = lacking.is_empty()
        && [&told.client, &told.server].iter().all(|side| side.overrides(metric).next().is_none());
    if plain {
        return wanted.cloned().collect();
    }
    let mut merged: BTreeMap<String, Vec<Arc<S>>> = BTreeMap::new();
    for (labels, shards) in wanted {
        let overrides: Vec<_> = side(labels).overrides(metric).collect();
        merged.entry(changed(labels, lacking, &overrides)).or_default().extend(shards.iter().cloned());
    }
    merged.into_iter().map(|(labels, shards)| (labels.into(), shards)).collect()
}

/// The reporter is the first label.
fn is_client(labels: &str) -> bool {
    labels.starts_with("reporter=\"source\"")
}

/// Labels of requests that a metric does not have: Istio counts messages before it knows how a request ends.
fn lacking(metric: Metric) -> &'static [&'static str] {
    match metric {
        Metric::GrpcRequestMessages | Metric::GrpcResponseMessages => &[
            "connection_security_policy",
            "request_protocol",
            "response_code",
            "grpc_response_status",
            "response_flags",
        ],
        _ => &[],
    }
}

fn changed(labels: &str, lacking: &[&str], overrides: &[&LabelOverride]) -> String {
    let mut text = String::with_capacity(labels.len());
    let of = |name: &str| overrides.iter().find(|o| *o.label == *name);
    for (name, pair) in pairs(labels) {
        if of(name).is_none() && !lacking.contains(&name) {
            if !text.is_empty() {
                text.push(',');
            }
            text.push_str(pair);
        }
    }
    for change in overrides {
        if let Some(value) = &change.value {
            label(&mut text, &change.label, value);
        }
    }
    text
}

/// The labels of a series: each name, and the pair as it is written.
fn pairs(labels: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = labels;
    std::iter::from_fn(move || {
        let (name, value) = rest.split_once("=\"")?;
        let end = value_end(value)?;
        let length = name.len() + 2 + end + 1;
        let pair = &rest[..length];
        rest = rest[length..].trim_start_matches(',');
        Some((name, pair))
    })
}

/// Where a value's closing quote stands.
fn value_end(value: &str) -> Option<usize> {
    let mut escaped = false;
    value.bytes().position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LABELS: [&str; 3] = [
        r#"reporter="source",a="1\",b=\\",b="x",response_code="200""#,
        r#"reporter="source",a="1\",b=\\",b="y",response_code="200""#,
        r#"reporter="destination",a="1",b="y",response_code="200""#,
    ];

    fn told(client: Metrics) -> Sides<Metrics> {
        Sides { client, server: Metrics::default() }
    }

    fn seen(told: &Sides<Metrics>, metric: Metric) -> Vec<(String, usize)> {
        let series = LABELS.map(|labels| (Arc::from(labels), vec![Arc::new(())])).to_vec();
        let shown = shown(told, metric, &series).into_iter();
        shown.map(|(labels, all)| (labels.to_string(), all.len())).collect()
    }

    fn without(label: &str, value: Option<&str>) -> Metrics {
        let label =
            LabelOverride { metric: Metric::RequestCount, label: label.into(), value: value.map(Into::into) };
        Metrics { labels: vec![label], ..Metrics::default() }
    }

    #[test]
    fn a_label_that_is_left_out_adds_series_up() {
        let seen = seen(&told(without("b", None)), Metric::RequestCount);
        let expected = [
            (LABELS[2].to_owned(), 1),
            (r#"reporter="source",a="1\",b=\\",response_code="200""#.to_owned(), 2),
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_label_may_have_another_text_or_be_new() {
        let seen = seen(&told(without("colour", Some("a\"b"))), Metric::RequestCount);
        assert_eq!(seen.len(), 3);
        assert!(seen[1].0.ends_with(r#",colour="a\"b""#), "{seen:?}");
    }

    #[test]
    fn other_metrics_and_the_other_side_stay_as_they_are() {
        let metrics = Metrics { disabled: vec![Metric::RequestSize], ..without("b", None) };
        assert_eq!(seen(&told(metrics.clone()), Metric::RequestDuration).len(), 3);
        assert_eq!(seen(&told(metrics), Metric::RequestSize), [(LABELS[2].to_owned(), 1)]);
    }
}
