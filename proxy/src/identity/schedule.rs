//! When a certificate is renewed and how loudly its end is announced. Time and chance are arguments.

use std::time::{Duration, SystemTime};

use super::credentials::CertificateFacts;

/// The longest pause between two tries.
const MAX_BACKOFF: Duration = Duration::from_secs(60);

/// How near the end of a certificate is, while no other can be had (hardening D13).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Alarm {
    /// Less than half of its life is over.
    None,
    /// More than half.
    Late,
    /// More than nine tenths.
    Urgent,
    /// It has ended: mTLS fails closed.
    Over,
}

/// How long to wait before renewal: half of the life, one tenth of it earlier or later by `chance` (0 to 1).
///
/// `held` is for how long the certificate has been in use by the monotonic clock: it decides where the wall clock
/// stands still.
pub fn until_renewal(facts: &CertificateFacts, now: SystemTime, held: Duration, chance: f64) -> Duration {
    let life = facts.lifetime();
    let at = life.mul_f64(0.5 + 0.1 * (chance.clamp(0.0, 1.0) - 0.5));
    let passed = now.duration_since(facts.not_before).unwrap_or_default();
    at.saturating_sub(passed.max(held))
}

/// How long to wait after `failures` tries in a row: doubles from half a second, by `chance` (0 to 1) at least half of that.
pub fn backoff(failures: u32, chance: f64) -> Duration {
    let base = Duration::from_millis(500).saturating_mul(1 << failures.saturating_sub(1).min(10));
    base.min(MAX_BACKOFF).mul_f64(0.5 + 0.5 * chance.clamp(0.0, 1.0))
}

/// How near the end of the certificate is.
pub fn alarm(facts: &CertificateFacts, now: SystemTime) -> Alarm {
    let life = facts.lifetime();
    let passed = now.duration_since(facts.not_before).unwrap_or_default();
    match passed {
        _ if now >= facts.not_after => Alarm::Over,
        p if p > life.mul_f64(0.9) => Alarm::Urgent,
        p if p > life.mul_f64(0.55) => Alarm::Late,
        _ => Alarm::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;
    use weft_core::identity::SpiffeId;

    const HOUR: Duration = Duration::from_secs(3600);

    fn facts() -> CertificateFacts {
        let identity = SpiffeId::parse("spiffe://cluster.local/ns/a/sa/b").unwrap();
        let from = UNIX_EPOCH + 1000 * HOUR;
        CertificateFacts { identity, serial: String::new(), not_before: from, not_after: from + 24 * HOUR }
    }

    fn wait(after: Duration, held: Duration, chance: f64) -> Duration {
        until_renewal(&facts(), facts().not_before + after, held, chance)
    }

    #[test]
    fn renewed_at_half_life_with_jitter() {
        assert_eq!(wait(Duration::ZERO, Duration::ZERO, 0.5), 12 * HOUR);
        assert_eq!(wait(2 * HOUR, Duration::ZERO, 0.5), 10 * HOUR);
        assert_eq!(wait(20 * HOUR, Duration::ZERO, 0.5), Duration::ZERO);
        let spread = wait(Duration::ZERO, Duration::ZERO, 1.0) - wait(Duration::ZERO, Duration::ZERO, 0.0);
        assert!(spread.abs_diff(HOUR * 24 / 10) < Duration::from_secs(1));
    }

    #[test]
    fn g1_a_wall_clock_that_stands_or_jumps_back_does_not_stop_renewal() {
        assert_eq!(wait(Duration::ZERO, 11 * HOUR, 0.5), HOUR);
        let early = until_renewal(&facts(), UNIX_EPOCH, 13 * HOUR, 0.5);
        assert_eq!(early, Duration::ZERO);
    }

    #[test]
    fn g1_a_wall_clock_far_ahead_makes_no_storm() {
        let waits: Vec<_> = (1..20).map(|failures| backoff(failures, 0.0)).collect();
        assert!(waits[0] >= Duration::from_millis(250));
        assert_eq!(*waits.last().unwrap(), MAX_BACKOFF / 2);
        assert!(waits.windows(2).all(|w| w[0] <= w[1]));
        assert!(backoff(u32::MAX, 1.0) <= MAX_BACKOFF);
    }

    #[test]
    fn d13_the_alarm_rises() {
        let at = |hours: u32| alarm(&facts(), facts().not_before + hours * HOUR);
        assert_eq!([at(1), at(14), at(22), at(24)], [Alarm::None, Alarm::Late, Alarm::Urgent, Alarm::Over]);
    }
}
