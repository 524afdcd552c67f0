//! Times in buckets that grow with them: 32 to each doubling, so that a quantile is off by 3% at most. Pure.

use std::time::Duration;

/// Buckets to each doubling, as a power of two.
const STEP_BITS: u32 = 5;
const STEPS: u64 = 1 << STEP_BITS;
/// Enough for 2^40 microseconds, twelve days.
const BUCKETS: usize = (40 << STEP_BITS) as usize;

/// Times, counted.
#[derive(Clone, Debug)]
pub struct Histogram {
    buckets: Vec<u64>,
    count: u64,
    max: Duration,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: vec![0; BUCKETS], count: 0, max: Duration::ZERO }
    }
}

impl Histogram {
    /// Counts one.
    pub fn add(&mut self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.buckets[index(micros)] += 1;
        self.count += 1;
        self.max = self.max.max(time);
    }

    /// The longest.
    pub fn max(&self) -> Duration {
        self.max
    }

    /// The time within which this share of all, 0 to 1, was done; zero when there is none.
    pub fn quantile(&self, share: f64) -> Duration {
        let wanted = ((self.count as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        let reaches = |count: &u64| {
            seen += count;
            seen >= wanted
        };
        let at = self.buckets.iter().position(reaches);
        at.map_or(Duration::ZERO, |at| Duration::from_micros(upper(at)).min(self.max))
    }
}

fn index(micros: u64) -> usize {
    if micros < STEPS {
        return micros as usize;
    }
    let doubling = micros.ilog2() - STEP_BITS;
    let step = (micros >> doubling) - STEPS;
    ((u64::from(doubling + 1) * STEPS + step) as usize).min(BUCKETS - 1)
}

/// The longest time, in microseconds, that the bucket counts.
fn upper(index: usize) -> u64 {
    let (doubling, step) = (index as u64 / STEPS, index as u64 % STEPS);
    if doubling == 0 { step } else { ((STEPS + step + 1) << (doubling - 1)) - 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_touch_and_do_not_overlap() {
        for at in 0..BUCKETS - 1 {
            assert_eq!(index(upper(at)), at);
            assert_eq!(index(upper(at) + 1), at + 1);
        }
        assert_eq!(index(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_near() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), Duration::ZERO);
        (1..=1000).for_each(|ms| histogram.add(Duration::from_millis(ms)));
        let p90 = histogram.quantile(0.9).as_millis();
        assert!((900..930).contains(&p90), "{p90}");
        assert_eq!(histogram.quantile(1.0), Duration::from_secs(1));
    }
}
