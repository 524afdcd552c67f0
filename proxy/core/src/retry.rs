//! Whether a request is sent again, when, and until when (`retries`, `timeout`).

use std::time::Duration;

use http::Method;

use crate::admission::Cost;
use crate::chance::Chance;
use crate::model::route::{RetryOn, RetryPolicy, is_idempotent};
use crate::upstream::Nanos;

/// How a try ended, as far as sending the request again goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TryEnd {
    /// No connection could be made: refused, unreachable, not in time, TLS or identity failed. Nothing was sent.
    ConnectFailure,
    /// HTTP/2: REFUSED_STREAM, or a GOAWAY whose last stream is below ours: not processed.
    NotProcessed,
    /// The connection was gone before a byte of the request was written on it.
    HandedBack,
    /// The peer's sidecar says that the application was not sent the request.
    NotSent,
    /// Reset or closed after the request was begun and before a response's head.
    Reset,
    /// The try's time was up before a response's head.
    Timeout,
    /// A response's head: its status, and the gRPC status where the head already has one.
    Response {
        /// The HTTP status.
        status: u16,
        /// `grpc-status` of a response without body.
        grpc: Option<u8>,
    },
    /// A limit of our own refused the try.
    Overflow,
}

/// The state of a request between two tries.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// The request's method.
    pub method: &'a Method,
    /// How many times it has been tried.
    pub tries: u32,
    /// How many endpoints there are to try.
    pub endpoints: usize,
    /// Whether the request can be sent from its first byte: its body is still whole, or was not touched.
    pub can_resend: bool,
}

/// What to do after a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Send it again, if the budget ([`crate::admission::Admission::retry`]) allows, after [`backoff`].
    Retry(Cost),
    /// Pass the response or the failure on.
    GiveUp(GiveUp),
}

/// Why there is no other try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GiveUp {
    /// The policy says nothing of such an end (or it was a success).
    NotRetriable,
    /// All tries are used.
    Exhausted,
    /// The body is gone.
    BodyGone,
}

/// Whether a request is tried again. The caller still asks the budget, and heeds the deadline.
pub fn decide(policy: &RetryPolicy, attempt: &Attempt<'_>, end: TryEnd) -> Verdict {
    if !is_retriable(&policy.on, attempt.method, end) {
        return Verdict::GiveUp(GiveUp::NotRetriable);
    }
    if attempt.tries > policy.attempts {
        return Verdict::GiveUp(GiveUp::Exhausted);
    }
    if !attempt.can_resend {
        return Verdict::GiveUp(GiveUp::BodyGone);
    }
    Verdict::Retry(cost(attempt, end))
}

/// A try of which nothing reached an application cost no application anything. Where it says nothing of other
/// endpoints it is free while there are others: a service of which nothing answers is not knocked at more than the
/// budget allows.
fn cost(attempt: &Attempt<'_>, end: TryEnd) -> Cost {
    let others = usize::try_from(attempt.tries).is_ok_and(|tries| tries < attempt.endpoints);
    match end {
        TryEnd::HandedBack | TryEnd::NotProcessed => Cost::Free,
        TryEnd::ConnectFailure | TryEnd::NotSent if others => Cost::Free,
        _ => Cost::Counted,
    }
}

/// Whether `decide` could ever answer `Retry` for this request: if not, its body need not be kept.
pub fn may_retry(policy: &RetryPolicy) -> bool {
    policy.attempts > 0 && policy.on != RetryOn::default()
}

/// The pause before the retry of this number, from 1: full jitter below `(2^n - 1) * base`, at most ten times the base.
pub fn backoff(base: Duration, retry: u32, random: u64) -> Duration {
    let factor = 2u64.saturating_pow(retry.max(1)).saturating_sub(1).min(10);
    let most = nanos(base).saturating_mul(factor);
    Duration::from_nanos(Chance::new(random).below(most))
}

/// The time at which a request's time is up: of the route's timeout and what the client's `grpc-timeout` allows, the
/// earlier; `None` is never.
pub fn deadline(now: Nanos, route: Option<Duration>, client: Option<Duration>) -> Option<Nanos> {
    route.into_iter().chain(client).min().map(|time| now.saturating_add(nanos(time)))
}

/// The time at which one try's time is up, and whether that is the try's own (`per_try_timeout`) or the request's.
pub fn try_deadline(now: Nanos, per_try: Option<Duration>, request: Option<Nanos>) -> Option<(Nanos, Limit)> {
    let own = per_try.map(|time| (now.saturating_add(nanos(time)), Limit::Try));
    let whole = request.map(|at| (at, Limit::Request));
    match (own, whole) {
        (Some(own), Some(whole)) => Some(if own.0 < whole.0 { own } else { whole }),
        (own, whole) => own.or(whole),
    }
}

/// Whose time is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// The try's (`per_try_timeout`): another may follow.
    Try,
    /// The request's (`timeout`): none may.
    Request,
}

/// The time left until a deadline; `None`: there is no deadline.
pub fn left(deadline: Option<Nanos>, now: Nanos) -> Option<Duration> {
    deadline.map(|at| Duration::from_nanos(at.saturating_sub(now)))
}

fn is_retriable(on: &RetryOn, method: &Method, end: TryEnd) -> bool {
    (on.safe_default && is_safe(method, end)) || is_asked_for(on, end)
}

/// Weft's default: whatever cannot have reached an application, for any method; for idempotent methods also what
/// may have had its effect.
fn is_safe(method: &Method, end: TryEnd) -> bool {
    match end {
        TryEnd::ConnectFailure | TryEnd::NotProcessed | TryEnd::HandedBack | TryEnd::NotSent => true,
        TryEnd::Reset | TryEnd::Response { status: 503, .. } => is_idempotent(method),
        TryEnd::Timeout | TryEnd::Response { .. } | TryEnd::Overflow => false,
    }
}

/// `retryOn` as written: for any method.
fn is_asked_for(on: &RetryOn, end: TryEnd) -> bool {
    let any_failure = on.server_error || on.gateway_error || on.reset;
    match end {
        TryEnd::ConnectFailure => any_failure || on.connect_failure,
        TryEnd::NotProcessed => any_failure || on.refused_stream,
        TryEnd::HandedBack => any_failure || on.connect_failure || on.reset_before_request,
        TryEnd::NotSent => {
            any_failure || on.connect_failure || on.refused_stream || on.statuses.contains(&503)
        }
        TryEnd::Reset | TryEnd::Timeout => any_failure,
        TryEnd::Response { status, grpc } => names_status(on, status) || names_grpc(on, grpc),
        TryEnd::Overflow => false,
    }
}

fn names_status(on: &RetryOn, status: u16) -> bool {
    (on.server_error && (500..600).contains(&status))
        || (on.gateway_error && matches!(status, 502..=504))
        || (on.retriable_4xx && status == 409)
        || on.statuses.contains(&status)
}

fn names_grpc(on: &RetryOn, grpc: Option<u8>) -> bool {
    grpc.is_some_and(|status| on.grpc_statuses.contains(&status))
}

fn nanos(duration: Duration) -> Nanos {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn after(policy: &RetryPolicy, method: &Method, end: TryEnd) -> Verdict {
        decide(policy, &Attempt { method, tries: 1, endpoints: 2, can_resend: true }, end)
    }

    fn is_retried(policy: &RetryPolicy, method: &Method, end: TryEnd) -> bool {
        matches!(after(policy, method, end), Verdict::Retry(_))
    }

    fn only(on: RetryOn) -> RetryPolicy {
        RetryPolicy { on, ..RetryPolicy::default() }
    }

    fn response(status: u16) -> TryEnd {
        TryEnd::Response { status, grpc: None }
    }

    #[test]
    fn c14_what_was_not_processed_is_sent_again_whatever_the_method() {
        let policy = RetryPolicy::default();
        for end in [TryEnd::ConnectFailure, TryEnd::NotProcessed, TryEnd::HandedBack, TryEnd::NotSent] {
            assert_eq!(after(&policy, &Method::POST, end), Verdict::Retry(Cost::Free), "{end:?}");
        }
    }

    #[test]
    fn g12_what_reached_no_application_is_free_while_there_are_others_to_try() {
        let policy = RetryPolicy { attempts: 9, ..RetryPolicy::default() };
        let cost = |tries, end| {
            let attempt = Attempt { method: &Method::GET, tries, endpoints: 2, can_resend: true };
            match decide(&policy, &attempt, end) {
                Verdict::Retry(cost) => cost,
                Verdict::GiveUp(why) => panic!("{why:?}"),
            }
        };
        for end in [TryEnd::ConnectFailure, TryEnd::NotSent] {
            assert_eq!((cost(1, end), cost(2, end)), (Cost::Free, Cost::Counted), "{end:?}");
        }
        for end in [TryEnd::HandedBack, TryEnd::NotProcessed] {
            assert_eq!((cost(1, end), cost(2, end)), (Cost::Free, Cost::Free), "{end:?}");
        }
        for end in [TryEnd::Reset, response(503)] {
            assert_eq!(cost(1, end), Cost::Counted, "{end:?}");
        }
    }

    #[test]
    fn g10_what_may_have_had_its_effect_is_sent_again_only_if_idempotent() {
        let policy = RetryPolicy::default();
        for end in [TryEnd::Reset, response(503)] {
            assert!(is_retried(&policy, &Method::GET, end));
            assert_eq!(after(&policy, &Method::POST, end), Verdict::GiveUp(GiveUp::NotRetriable));
        }
        for end in [TryEnd::Timeout, TryEnd::Overflow, response(500), response(502), response(200)] {
            assert_eq!(after(&policy, &Method::GET, end), Verdict::GiveUp(GiveUp::NotRetriable), "{end:?}");
        }
    }

    #[test]
    fn g11_a_body_that_is_gone_ends_it_and_so_does_the_count() {
        let policy = RetryPolicy::default();
        let attempt = Attempt { method: &Method::PUT, tries: 1, endpoints: 2, can_resend: false };
        assert_eq!(decide(&policy, &attempt, TryEnd::Reset), Verdict::GiveUp(GiveUp::BodyGone));
        let third = Attempt { tries: 3, can_resend: true, ..attempt };
        assert_eq!(decide(&policy, &third, TryEnd::Reset), Verdict::GiveUp(GiveUp::Exhausted));
        let none = RetryPolicy { attempts: 0, ..RetryPolicy::default() };
        assert_eq!(after(&none, &Method::GET, TryEnd::Reset), Verdict::GiveUp(GiveUp::Exhausted));
        assert!(!may_retry(&none) && may_retry(&policy));
    }

    #[test]
    fn e9_conditions_that_a_user_wrote() {
        let all = [
            TryEnd::ConnectFailure,
            TryEnd::NotProcessed,
            TryEnd::HandedBack,
            TryEnd::NotSent,
            TryEnd::Reset,
            TryEnd::Timeout,
            response(409),
            response(500),
            response(503),
            TryEnd::Response { status: 200, grpc: Some(14) },
            TryEnd::Overflow,
        ];
        let retried = |on: RetryOn| -> String {
            let policy = only(on);
            let one = |end: &TryEnd| if is_retried(&policy, &Method::POST, *end) { 'y' } else { '-' };
            all.iter().map(one).collect()
        };
        let none = RetryOn::default;
        assert_eq!(retried(none()), "-----------");
        assert_eq!(retried(RetryOn { server_error: true, ..none() }), "yyyyyy-yy--");
        assert_eq!(retried(RetryOn { gateway_error: true, ..none() }), "yyyyyy--y--");
        assert_eq!(retried(RetryOn { reset: true, ..none() }), "yyyyyy-----");
        assert_eq!(retried(RetryOn { reset_before_request: true, ..none() }), "--y--------");
        assert_eq!(retried(RetryOn { connect_failure: true, ..none() }), "y-yy-------");
        assert_eq!(retried(RetryOn { refused_stream: true, ..none() }), "-y-y-------");
        assert_eq!(retried(RetryOn { retriable_4xx: true, ..none() }), "------y----");
        assert_eq!(retried(RetryOn { statuses: vec![503], ..none() }), "---y----y--");
        assert_eq!(retried(RetryOn { grpc_statuses: vec![14], ..none() }), "---------y-");
    }

    #[test]
    fn e7_backoff_is_full_jitter_up_to_ten_times_the_base() {
        let base = Duration::from_millis(25);
        let most = |retry| (0..2000).map(|random| backoff(base, retry, random)).max().unwrap().as_millis();
        assert!((24..25).contains(&most(1)) && (73..75).contains(&most(2)) && (170..175).contains(&most(3)));
        assert!((240..250).contains(&most(4)) && (240..250).contains(&most(400)));
        assert_eq!(backoff(Duration::ZERO, 3, 9), Duration::ZERO);
    }

    #[test]
    fn e1_deadlines() {
        let ms = Duration::from_millis;
        assert_eq!(deadline(5 * MS, None, None), None);
        assert_eq!(deadline(5 * MS, Some(ms(10)), Some(ms(3))), Some(8 * MS));
        assert_eq!(deadline(5, Some(Duration::MAX), None), Some(u64::MAX));
        assert_eq!(try_deadline(5 * MS, Some(ms(2)), Some(8 * MS)), Some((7 * MS, Limit::Try)));
        assert_eq!(try_deadline(5 * MS, Some(ms(9)), Some(8 * MS)), Some((8 * MS, Limit::Request)));
        assert_eq!(try_deadline(5 * MS, None, None), None);
        assert_eq!(left(Some(8 * MS), 5 * MS), Some(ms(3)));
        assert_eq!((left(Some(1), 5), left(None, 5)), (Some(Duration::ZERO), None));
    }
}
