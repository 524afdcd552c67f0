//! A bound on how often something happens: a token bucket. Pure.

use tokio::time::Instant;

/// So many at once, and so many a second after that.
#[derive(Debug)]
pub struct Bucket {
    burst: f64,
    per_second: f64,
    level: f64,
    at: Instant,
}

impl Bucket {
    /// A full bucket.
    pub fn new(burst: u32, per_second: u32, now: Instant) -> Self {
        Self { burst: burst.into(), per_second: per_second.into(), level: burst.into(), at: now }
    }

    /// Takes one, if one is left.
    pub fn take(&mut self, now: Instant) -> bool {
        let gained = now.saturating_duration_since(self.at).as_secs_f64() * self.per_second;
        self.level = self.burst.min(self.level + gained);
        self.at = self.at.max(now);
        let left = self.level >= 1.0;
        if left {
            self.level -= 1.0;
        }
        left
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_then_a_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(3, 2, start);
        let mut taken = |now| (0..10).filter(|_| bucket.take(now)).count();
        assert_eq!(taken(start), 3);
        assert_eq!(taken(start + Duration::from_millis(499)), 0);
        assert_eq!(taken(start + Duration::from_millis(1500)), 3);
        assert_eq!(taken(start), 0, "a clock that stands still gives nothing");
    }
}
