//! When an endpoint is set aside, and for how long (DestinationRule `outlierDetection`).
//!
//! Errors in a row are counted in atomics that all workers share; the one that fills a count ejects on the spot.
//! An ejection lasts the base time, times one more for each ejection before it that was not yet lived down: every
//! interval spent in health takes one off. An endpoint comes back when its time is up, and starts with clean counts:
//! what happens while it is ejected is not counted.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed, Ordering::SeqCst};
use std::time::Duration;

use crate::model::cluster::OutlierDetection;
use crate::upstream::{ClusterState, EndpointShared, EndpointState, Nanos};

/// No ejection is longer than this, unless the base time is (Envoy's `max_ejection_time`).
const LONGEST: Duration = Duration::from_secs(300);

/// How a try, or a connection, at an endpoint went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A response with this status.
    Status(u16),
    /// A gRPC response with this status, in its head or its trailers.
    Grpc(u8),
    /// A connection was made (opaque connections: their success).
    Connected,
    /// The connection could not be made.
    ConnectFailure,
    /// The connection was made, but was reset or closed before a response.
    Reset,
    /// No response in time.
    Timeout,
}

/// What a record led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The endpoint is set aside.
    Ejected {
        /// Until when.
        until: Nanos,
        /// How often in a row, in so far as it was not lived down.
        times: u32,
    },
}

/// Notes how a try went; says when that ejects the endpoint.
pub fn record(
    cluster: &ClusterState,
    endpoint: &EndpointState,
    outcome: Outcome,
    now: Nanos,
) -> Option<Event> {
    let rules = cluster.cluster.outlier.as_ref()?;
    if endpoint.ejected_until(now).is_some() {
        return None;
    }
    let full = count(rules, &endpoint.shared, outcome);
    if full { eject(cluster, rules, endpoint, now) } else { None }
}

/// The HTTP status that a gRPC status counts as (Envoy's mapping).
pub fn grpc_as_http(status: u8) -> u16 {
    match status {
        0 => 200,
        1 => 499,
        3 | 9 | 11 => 400,
        4 => 504,
        5 => 404,
        6 | 10 => 409,
        7 => 403,
        8 => 429,
        12 => 501,
        14 => 503,
        16 => 401,
        _ => 500,
    }
}

/// Brings the counts up to date; whether one is full.
fn count(rules: &OutlierDetection, counts: &EndpointShared, outcome: Outcome) -> bool {
    match outcome {
        Outcome::Status(status) => count_status(rules, counts, status),
        Outcome::Grpc(status) => count_status(rules, counts, grpc_as_http(status)),
        Outcome::Connected if rules.split => {
            clear(&counts.local_failures);
            false
        }
        Outcome::Connected => {
            clear(&counts.server_errors);
            clear(&counts.gateway_errors);
            false
        }
        _ if rules.split => add(&counts.local_failures, rules.consecutive_local_origin_failures),
        // Envoy counts these as 503 and 504, whatever statuses are errors.
        _ => {
            let server = add(&counts.server_errors, rules.consecutive_5xx);
            add(&counts.gateway_errors, rules.consecutive_gateway_errors) || server
        }
    }
}

fn count_status(rules: &OutlierDetection, counts: &EndpointShared, status: u16) -> bool {
    if rules.split {
        clear(&counts.local_failures);
    }
    let error = match rules.error_codes.is_empty() {
        true => (500..600).contains(&status),
        false => rules.error_codes.contains(&status),
    };
    let gateway = error && matches!(status, 502..=504);
    let server_full = step(&counts.server_errors, error, rules.consecutive_5xx);
    step(&counts.gateway_errors, gateway, rules.consecutive_gateway_errors) || server_full
}

fn step(count: &AtomicU32, error: bool, limit: u32) -> bool {
    if error {
        return add(count, limit);
    }
    clear(count);
    false
}

/// Counts one more; whether that makes `limit`, of which 0 is never.
fn add(count: &AtomicU32, limit: u32) -> bool {
    limit > 0 && count.fetch_add(1, Relaxed).saturating_add(1) >= limit
}

/// Writes only where there is something to write: a healthy endpoint's counts stay shared between processors.
fn clear(count: &AtomicU32) {
    if count.load(Relaxed) != 0 {
        count.store(0, Relaxed);
    }
}

/// Sets an endpoint aside, if the cluster can do without it.
///
/// The endpoint is marked first and the marks are counted after: of workers that eject at the same time, each sees
/// the others, so that the limit is never broken (they may all stand back; the next error tries again).
fn eject(
    cluster: &ClusterState,
    rules: &OutlierDetection,
    endpoint: &EndpointState,
    now: Nanos,
) -> Option<Event> {
    let state = &endpoint.shared;
    let before = state.ejected_until.load(SeqCst);
    let times = times(rules, before, state.multiplier.load(Relaxed), now);
    let until = now.saturating_add(length(rules, times)).max(now + 1);
    let marked = before <= now
        && room(cluster, rules, now, 1)
        && state.ejected_until.compare_exchange(before, until, SeqCst, SeqCst).is_ok();
    if !marked {
        return None;
    }
    cluster.shared.all_back_at.fetch_max(until, SeqCst);
    if !room(cluster, rules, now, 0) {
        let _ = state.ejected_until.compare_exchange(until, before, SeqCst, SeqCst);
        return None;
    }
    state.multiplier.store(times, Relaxed);
    cluster.shared.ejections.fetch_add(1, Relaxed);
    [&state.server_errors, &state.gateway_errors, &state.local_failures].into_iter().for_each(clear);
    Some(Event::Ejected { until, times })
}

/// Whether `more` endpoints may be ejected beside those that are: at least one, never the last healthy one, none
/// where the limit is 0 percent.
fn room(cluster: &ClusterState, rules: &OutlierDetection, now: Nanos, more: usize) -> bool {
    let all = cluster.endpoints.len();
    let ejected =
        cluster.endpoints.iter().filter(|e| now < e.shared.ejected_until.load(SeqCst)).count() + more;
    let most = match rules.max_ejection_percent {
        0 => 0,
        percent => (all * percent.min(100) as usize / 100).max(1),
    };
    ejected <= most && ejected < all
}

/// By what the base time is multiplied: one more than last time, less the intervals in health since.
fn times(rules: &OutlierDetection, back_at: Nanos, last: u32, now: Nanos) -> u32 {
    let interval = nanos(rules.interval).max(1);
    let lived_down = u32::try_from(now.saturating_sub(back_at) / interval).unwrap_or(u32::MAX);
    let most = nanos(LONGEST).div_ceil(nanos(rules.base_ejection_time).max(1)).max(1);
    let next = last.saturating_sub(lived_down).saturating_add(1);
    next.min(u32::try_from(most).unwrap_or(u32::MAX))
}

fn length(rules: &OutlierDetection, times: u32) -> Nanos {
    let base = nanos(rules.base_ejection_time);
    base.saturating_mul(u64::from(times)).min(nanos(LONGEST).max(base))
}

fn nanos(duration: Duration) -> Nanos {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
