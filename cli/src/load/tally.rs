//! What a load run counts. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use http::HeaderMap;
use serde::{Deserialize, Serialize};

use crate::load::histogram::Histogram;

/// Counts by name.
pub type Counts = BTreeMap<String, u64>;

/// Everything counted so far.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    counted: Summary,
    times: Histogram,
}

/// The counts, as they are printed. A report while the run goes on has the same shape.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Summary {
    /// Whether the run is over.
    pub done: bool,
    /// Milliseconds since the start.
    pub elapsed_ms: u64,
    /// Requests that ended, answered or not.
    pub requests: u64,
    /// Answers by status.
    pub statuses: Counts,
    /// Answers by the `x-echo-version` header.
    pub versions: Counts,
    /// Answers by the `x-echo-pod` header.
    pub pods: Counts,
    /// Requests without a whole answer, by what happened.
    pub errors: Counts,
    /// Answers by the `x-weft-reason` header: those that a sidecar made.
    pub reasons: Counts,
    /// Answers by the `x-weft-policy` header: those that a policy refused.
    pub policies: Counts,
    /// Connections that were opened.
    pub connections_opened: u64,
    /// Connections that the other side closed.
    pub connections_closed: u64,
    /// Times from sending a request to the end of its answer, milliseconds.
    pub latency_ms: Latency,
}

/// Quantiles, milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Latency {
    /// Half were faster.
    pub p50: f64,
    /// Nine of ten were faster.
    pub p90: f64,
    /// All but one of a hundred were faster.
    pub p99: f64,
    /// The slowest.
    pub max: f64,
}

impl Tally {
    /// Counts an answer.
    pub fn answer(&mut self, status: u16, headers: &HeaderMap, time: Duration) {
        let counted = &mut self.counted;
        counted.requests += 1;
        count(&mut counted.statuses, &status.to_string());
        let names = [
            (&mut counted.versions, "x-echo-version"),
            (&mut counted.pods, "x-echo-pod"),
            (&mut counted.reasons, "x-weft-reason"),
            (&mut counted.policies, "x-weft-policy"),
        ];
        for (counts, header) in names {
            if let Some(value) = headers.get(header).and_then(|v| v.to_str().ok()) {
                count(counts, value);
            }
        }
        self.times.add(time);
    }

    /// Counts a request that got no answer, or not the whole of it.
    pub fn error(&mut self, kind: &str) {
        self.counted.requests += 1;
        count(&mut self.counted.errors, kind);
    }

    /// Counts a connection.
    pub fn opened(&mut self) {
        self.counted.connections_opened += 1;
    }

    /// Counts a connection that the other side closed.
    pub fn closed(&mut self) {
        self.counted.connections_closed += 1;
    }

    /// The counts at this time.
    pub fn summary(&self, elapsed: Duration, done: bool) -> Summary {
        let ms = |share| (self.times.quantile(share).as_micros() as f64) / 1000.0;
        Summary {
            done,
            elapsed_ms: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
            latency_ms: Latency {
                p50: ms(0.5),
                p90: ms(0.9),
                p99: ms(0.99),
                max: self.times.max().as_micros() as f64 / 1000.0,
            },
            ..self.counted.clone()
        }
    }
}

fn count(counts: &mut Counts, name: &str) {
    match counts.get_mut(name) {
        Some(count) => *count += 1,
        None => {
            counts.insert(name.to_owned(), 1);
        }
    }
}

impl Summary {
    /// Answers with a status from 200 to 299.
    pub fn ok(&self) -> u64 {
        self.statuses.iter().filter(|(status, _)| status.starts_with('2')).map(|(_, n)| n).sum()
    }

    /// Requests that got something else, or nothing.
    pub fn failed(&self) -> u64 {
        self.requests - self.ok()
    }

    /// What was counted after `earlier`; latencies are those of the whole run.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            done: self.done,
            elapsed_ms: self.elapsed_ms - earlier.elapsed_ms,
            requests: self.requests - earlier.requests,
            statuses: less(&self.statuses, &earlier.statuses),
            versions: less(&self.versions, &earlier.versions),
            pods: less(&self.pods, &earlier.pods),
            errors: less(&self.errors, &earlier.errors),
            reasons: less(&self.reasons, &earlier.reasons),
            policies: less(&self.policies, &earlier.policies),
            connections_opened: self.connections_opened - earlier.connections_opened,
            connections_closed: self.connections_closed - earlier.connections_closed,
            latency_ms: self.latency_ms,
        }
    }

    /// A few lines for people.
    pub fn text(&self) -> String {
        let seconds = (self.elapsed_ms as f64 / 1000.0).max(0.001);
        let rate = self.requests as f64 / seconds;
        let mut text = format!("{} requests in {seconds:.1} s, {rate:.0}/s\n", self.requests);
        let all = [
            ("status", &self.statuses),
            ("version", &self.versions),
            ("pod", &self.pods),
            ("error", &self.errors),
            ("reason", &self.reasons),
            ("policy", &self.policies),
        ];
        for (what, counts) in all.into_iter().filter(|(_, counts)| !counts.is_empty()) {
            let each: Vec<_> = counts.iter().map(|(name, n)| format!("{name}: {n}")).collect();
            text += &format!("{what:<12}{}\n", each.join(", "));
        }
        let l = self.latency_ms;
        text +=
            &format!("latency     p50 {} ms, p90 {} ms, p99 {} ms, max {} ms\n", l.p50, l.p90, l.p99, l.max);
        text + &format!(
            "connections {} opened, {} closed by the peer",
            self.connections_opened, self.connections_closed
        )
    }
}

fn less(now: &Counts, earlier: &Counts) -> Counts {
    let each = now.iter().map(|(name, n)| (name.clone(), n - earlier.get(name).unwrap_or(&0)));
    each.filter(|(_, n)| *n > 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally() -> Tally {
        let mut tally = Tally::default();
        let headers = |version: &str| {
            HeaderMap::from_iter([(
                http::HeaderName::from_static("x-echo-version"),
                version.parse().unwrap(),
            )])
        };
        tally.answer(200, &headers("v1"), Duration::from_millis(3));
        tally.answer(200, &headers("v2"), Duration::from_millis(5));
        tally.answer(503, &HeaderMap::new(), Duration::from_millis(1));
        tally.error("reset");
        tally
    }

    #[test]
    fn answers_are_counted_by_status_and_version() {
        let summary = tally().summary(Duration::from_secs(1), true);
        assert_eq!((summary.requests, summary.ok(), summary.failed()), (4, 2, 2));
        assert_eq!(summary.versions["v2"], 1);
        assert_eq!((summary.errors["reset"], summary.latency_ms.max), (1, 5.0));
    }

    #[test]
    fn differences_leave_out_what_did_not_change() {
        let mut tally = tally();
        let before = tally.summary(Duration::from_secs(1), false);
        tally.answer(200, &HeaderMap::new(), Duration::ZERO);
        let since = tally.summary(Duration::from_secs(2), false).since(&before);
        assert_eq!((since.requests, since.elapsed_ms), (1, 1000));
        assert_eq!(since.statuses, Counts::from([("200".to_owned(), 1)]));
        assert!(since.errors.is_empty() && since.versions.is_empty());
    }
}
