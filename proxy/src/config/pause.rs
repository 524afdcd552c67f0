//! How long to wait before the controller is tried again. Pure.

use std::ops::RangeInclusive;
use std::time::Duration;

/// The first pause after a stream broke.
const FIRST: Duration = Duration::from_millis(250);
/// Each pause is this much longer than the one before: a controller that was away for long is found again within about a
/// third of that time, and is not overrun when it comes back.
const GROWTH: f64 = 1.5;
/// A stream that was up for this long is good: the pauses begin anew.
const GOOD_STREAM: Duration = Duration::from_secs(10);
/// A controller that was there shortly before is being replaced: for this long pauses are no longer than [`SHORT`].
const RECENT: Duration = Duration::from_secs(60);
/// The longest pause while the controller was there shortly before.
const SHORT: Duration = Duration::from_secs(2);

/// A pause is multiplied by a number out of these, each time by another: sidecars that lost the controller together do not
/// come back together.
pub(super) const SPREAD: RangeInclusive<f64> = 0.7..=1.0;

/// The pause after the `last` one, at most `most`, and short while the controller has been `away` for a short time only
/// (`None`: it was never there). Begins anew after a stream that was `up` long enough.
pub(super) fn next(last: Duration, up: Duration, away: Option<Duration>, most: Duration) -> Duration {
    let most = if away.is_some_and(|away| away < RECENT) { most.min(SHORT) } else { most };
    let next = if up >= GOOD_STREAM { FIRST } else { last.mul_f64(GROWTH).max(FIRST) };
    next.min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: Duration = Duration::from_secs(15);

    /// How late a controller is found that comes after so many seconds.
    fn late(seconds: u64, was_there: bool) -> Duration {
        let comes = Duration::from_secs(seconds);
        let (mut at, mut pause) = (Duration::ZERO, Duration::ZERO);
        while at < comes {
            pause = next(pause, Duration::ZERO, was_there.then_some(at), MOST);
            at += pause;
        }
        at - comes
    }

    #[test]
    fn a_controller_that_comes_back_within_a_minute_is_found_within_two_seconds() {
        for seconds in 1..=60 {
            assert!(late(seconds, true) <= SHORT, "away for {seconds} s: {:?} late", late(seconds, true));
        }
    }

    #[test]
    fn one_that_stays_away_or_never_came_is_tried_ever_more_seldom() {
        let longest = |was_there| (61..600).map(|seconds| late(seconds, was_there)).max();
        assert!(longest(true) > Some(MOST / 2) && longest(false) > Some(MOST / 2));
        assert!((1..30).any(|seconds| late(seconds, false) > SHORT));
        let first = Some(Duration::ZERO);
        assert_eq!(
            next(MOST, Duration::ZERO, first, SHORT / 2),
            SHORT / 2,
            "no longer than the settings say"
        );
    }

    #[test]
    fn pauses_grow_to_the_most_and_begin_anew_after_a_good_stream() {
        assert_eq!(next(Duration::ZERO, Duration::ZERO, None, MOST), FIRST);
        assert_eq!(next(FIRST, Duration::ZERO, None, MOST), FIRST.mul_f64(GROWTH));
        assert_eq!(next(MOST, Duration::ZERO, None, MOST), MOST);
        assert_eq!(next(MOST, GOOD_STREAM, Some(Duration::ZERO), MOST), FIRST);
    }
}
